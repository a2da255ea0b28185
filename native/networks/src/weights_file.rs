//! What a weights file holds, found out without trust in its header: nothing is allocated from a size that the file
//! claims before the claim is checked, and weights are looked at a block at a time.

use crate::lucidrains::{Layer, LayerError, PREFIX};
use crate::network::{CLASSES, Network, NetworkConfig};
use crate::parameters::Parameters;
use crate::tensor_file::{self, TensorFileError};
use half::f16;
use safetensors::Dtype;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The longest header, as in the safetensors library.
const LONGEST_HEADER: u64 = 100_000_000;
/// The most tensors.
const MOST_TENSORS: usize = 1 << 20;
/// The longest name of a tensor, in bytes.
const LONGEST_NAME: usize = 1024;
/// The most axes of a tensor.
const MOST_AXES: usize = 32;
/// How much of a file's metadata is kept: entries, and characters of each.
const KEPT_METADATA: (usize, usize) = (64, 4096);
/// Bytes of weights that are looked at together.
const BLOCK: usize = 1 << 20;

type Result<T> = std::result::Result<T, TensorFileError>;

/// The tensors that a network has: their shapes by name.
pub type Declared = BTreeMap<String, Vec<usize>>;

/// The tensors of a network or layer, without making any of them.
///
/// `class` is a class name of a `config.json`, or that of a layer of [`crate::lucidrains`].
///
/// # Errors
/// One sentence that says what is wrong with the class or the configuration.
pub fn declared(class: &str, config: &Value) -> std::result::Result<Declared, String> {
    let parameters = Parameters::declared();
    if CLASSES.contains(&class) {
        let mut config = config.clone();
        if let Some(fields) = config.as_object_mut() {
            fields.entry("_class_name").or_insert_with(|| class.into());
        }
        let config = NetworkConfig::parse(&config).map_err(|why| format!("config: {why}"))?;
        Network::new(config, parameters.clone()).map_err(|error| error.to_string())?;
    } else {
        let kind = format!("{PREFIX}{}", class.strip_prefix(PREFIX).unwrap_or(class));
        Layer::new(&kind, config, parameters.clone()).map_err(|error| match error {
            LayerError::Unsupported(why) => why,
            LayerError::Other(error) => error.to_string(),
        })?;
    }
    Ok(parameters.tensors().into_iter().map(|(name, tensor)| (name, tensor.dims().to_vec())).collect())
}

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The type of its numbers.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    start: u64,
    end: u64,
}

impl Entry {
    /// How many numbers it has.
    pub fn numbers(&self) -> u64 {
        self.shape.iter().map(|&side| side as u64).product()
    }
}

/// A safetensors file whose header holds.
pub struct WeightsFile {
    path: PathBuf,
    file: File,
    data: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// The tensors, in the order of their names.
    pub entries: Vec<Entry>,
    /// Texts by name, long ones cut.
    pub metadata: BTreeMap<String, String>,
}

impl WeightsFile {
    /// Opens a file and checks its header: that it is JSON of the right form, that types, shapes and places of the tensors
    /// agree, and that the tensors cover the rest of the file without gaps.
    ///
    /// # Errors
    /// The file cannot be read or is not such a file; the message names the tensor that is wrong.
    pub fn open(path: &Path) -> Result<Self> {
        let foreign = |why: &str| TensorFileError::Bad(format!("{} is not a safetensors file: {why}", path.display()));
        let mut file = tensor_file::open(path)?;
        let read = |source| TensorFileError::Io { message: format!("cannot read {}", path.display()), source };
        let bytes = file.metadata().map_err(read)?.len();
        let mut start = Vec::with_capacity(16);
        file.by_ref().take(16).read_to_end(&mut start).map_err(read)?;
        if let Some(other) = other_format(&start) {
            return Err(foreign(other));
        }
        let Some(length) = start.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)) else {
            return Err(foreign(&format!("it has only {bytes} bytes")));
        };
        if !(2..=LONGEST_HEADER).contains(&length) {
            return Err(foreign(&format!("its header would have {length} bytes, not 2 to {LONGEST_HEADER}")));
        }
        if length > bytes - 8 {
            return Err(foreign(&format!("its header would have {length} bytes of the {bytes} of the file")));
        }
        file.seek(SeekFrom::Start(8)).map_err(read)?;
        let mut header = Header::default();
        let mut json =
            serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 16, file.by_ref().take(length)));
        HeaderSeed(&mut header).deserialize(&mut json).and_then(|()| json.end()).map_err(|error| {
            foreign(&match &header.within {
                Some(name) => format!("its header is wrong at {name:?}: {error}"),
                None => format!("its header is not the JSON it should be: {error}"),
            })
        })?;
        drop(json);
        let Header { mut entries, metadata, .. } = header;
        let data = 8 + length;
        covers(&mut entries, bytes - data).map_err(|why| foreign(&why))?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(foreign(&format!("the tensor {:?} is there twice", pair[0].name)));
        }
        Ok(Self { path: path.to_owned(), file, data, bytes, entries, metadata })
    }

    /// Checks that the tensors are those of a network: each is there, in its shape, in floating point and finite, and no
    /// other is. `check` is called between blocks and stops the work when it is false.
    ///
    /// # Errors
    /// They are not; the message names the tensor.
    pub fn fits(&mut self, network: &Declared, check: &mut dyn FnMut() -> bool) -> Result<()> {
        let path = self.path.display().to_string();
        let bad = |name: &str, why: String| TensorFileError::Bad(format!("{path}: the tensor {name:?} {why}"));
        // Unknown tensors last: where one is missing and one unknown, the missing one says more.
        for (name, shape) in network {
            let Ok(at) = self.entries.binary_search_by(|entry| entry.name.cmp(name)) else {
                return Err(bad(name, format!("is missing; the network needs it in the shape {shape:?}")));
            };
            let entry = &self.entries[at];
            if entry.shape != *shape {
                return Err(bad(name, format!("has the shape {:?} where the network needs {shape:?}", entry.shape)));
            }
            if !matches!(entry.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64) {
                return Err(bad(name, format!("is {} where the network needs F16, BF16, F32 or F64", entry.dtype)));
            }
        }
        if let Some(unknown) = self.entries.iter().find(|entry| !network.contains_key(&entry.name)) {
            return Err(bad(&unknown.name, "has no place in the network".into()));
        }
        let mut block = vec![0; BLOCK];
        for entry in &self.entries {
            let read = |source| TensorFileError::Io { message: format!("cannot read {path}"), source };
            self.file.seek(SeekFrom::Start(self.data + entry.start)).map_err(read)?;
            let mut left = entry.end - entry.start;
            while left > 0 {
                if !check() {
                    return Err(TensorFileError::Stopped);
                }
                let size = left.min(BLOCK as u64) as usize;
                self.file.read_exact(&mut block[..size]).map_err(read)?;
                if !all_finite(entry.dtype, &block[..size]) {
                    return Err(bad(&entry.name, "has numbers that are not finite".into()));
                }
                left -= size as u64;
            }
        }
        Ok(())
    }
}

/// What a file is instead, by its first bytes.
fn other_format(start: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 8] = [
        (b"\x80\x02", "it is a Python pickle, as old PyTorch checkpoints are"),
        (b"\x80\x04", "it is a Python pickle"),
        (b"PK\x03\x04", "it is a zip archive, as PyTorch checkpoints are"),
        (b"GGUF", "it is a GGUF file"),
        (b"\x89HDF\r\n", "it is an HDF5 file"),
        (b"version https://", "it is a Git LFS pointer: the file itself was not downloaded"),
        (b"<!DOCTYPE", "it is a web page"),
        (b"<html", "it is a web page"),
    ];
    KNOWN.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, what)| *what)
}

/// Checks that tensors follow one another from the first byte of the data to the last.
fn covers(entries: &mut [Entry], bytes: u64) -> std::result::Result<(), String> {
    entries.sort_unstable_by_key(|entry| (entry.start, entry.end));
    let mut at = 0;
    for Entry { name, start, end, .. } in &*entries {
        if *start != at {
            let how = if *start < at { "overlaps the one before it" } else { "leaves a gap before it" };
            return Err(format!("the tensor {name:?} {how}: it begins at byte {start} of the data, not {at}"));
        }
        if *end > bytes {
            return Err(format!("the tensor {name:?} ends at byte {end} of the data, of which there are {bytes}"));
        }
        at = *end;
    }
    if at == bytes { Ok(()) } else { Err(format!("{} bytes after the last tensor belong to none", bytes - at)) }
}

fn all_finite(dtype: Dtype, bytes: &[u8]) -> bool {
    // A half's exponent is all ones where it is not finite, and so is that of a bf16, which is the upper half of an f32.
    match dtype {
        Dtype::F16 => bytes.as_chunks().0.iter().all(|&b| f16::from_le_bytes(b).is_finite()),
        Dtype::BF16 => bytes.as_chunks().0.iter().all(|&b| u16::from_le_bytes(b) & 0x7f80 != 0x7f80),
        Dtype::F32 => bytes.as_chunks().0.iter().all(|&b| f32::from_le_bytes(b).is_finite()),
        _ => bytes.as_chunks().0.iter().all(|&b| f64::from_le_bytes(b).is_finite()),
    }
}

/// What has been read of a header.
#[derive(Default)]
struct Header {
    entries: Vec<Entry>,
    metadata: BTreeMap<String, String>,
    /// The key whose value is being read.
    within: Option<String>,
}

struct HeaderSeed<'a>(&'a mut Header);

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let header = self.0;
        while let Some(name) = map.next_key::<String>()? {
            if name.len() > LONGEST_NAME {
                return Err(A::Error::custom(format_args!(
                    "a name has {} bytes, not {LONGEST_NAME} at most",
                    name.len()
                )));
            }
            header.within = Some(name.clone());
            if name == "__metadata__" {
                map.next_value_seed(MetadataSeed(&mut header.metadata))?;
            } else {
                if header.entries.len() == MOST_TENSORS {
                    return Err(A::Error::custom(format_args!("there are more than {MOST_TENSORS} tensors")));
                }
                let Place { dtype, shape, data_offsets: [start, end] } = map.next_value::<Placed>()?.0;
                let bytes = shape.0.iter().try_fold(1u64, |product, &side| product.checked_mul(side));
                let bits = bytes.and_then(|numbers| numbers.checked_mul(dtype.bitsize() as u64));
                let Some(bits) = bits.filter(|bits| bits % 8 == 0) else {
                    return Err(A::Error::custom(format_args!("the shape {:?} of {dtype} has no size", shape.0)));
                };
                if end.checked_sub(start) != Some(bits / 8) {
                    return Err(A::Error::custom(format_args!(
                        "the shape {:?} of {dtype} takes {} bytes, not those from {start} to {end}",
                        shape.0,
                        bits / 8
                    )));
                }
                let shape = shape.0.iter().map(|&side| side as usize).collect();
                header.entries.push(Entry { name, dtype, shape, start, end });
            }
            header.within = None;
        }
        Ok(())
    }
}

struct MetadataSeed<'a>(&'a mut BTreeMap<String, String>);

impl<'de> DeserializeSeed<'de> for MetadataSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let (most, longest) = KEPT_METADATA;
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if self.0.len() < most {
                let cut = |text: String| if text.len() > longest { text.chars().take(longest).collect() } else { text };
                self.0.insert(cut(key), cut(value));
            }
        }
        Ok(())
    }
}

/// A header's entry, which must be an object: serde would also take a list of its fields.
struct Placed(Place);

#[derive(Deserialize)]
struct Place {
    dtype: Dtype,
    shape: Sides,
    data_offsets: [u64; 2],
}

struct Sides(Vec<u64>);

impl<'de> Deserialize<'de> for Placed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Placed;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object with dtype, shape and data_offsets")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Placed, A::Error> {
                Place::deserialize(MapAccessDeserializer::new(map)).map(Placed)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'de> Deserialize<'de> for Sides {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Sides;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of whole numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Sides, A::Error> {
                let mut sides = Vec::new();
                while sides.len() < MOST_AXES {
                    match list.next_element()? {
                        Some(side) => sides.push(side),
                        None => return Ok(Sides(sides)),
                    }
                }
                match list.next_element::<IgnoredAny>()? {
                    Some(_) => Err(A::Error::custom(format_args!("a shape has at most {MOST_AXES} axes"))),
                    None => Ok(Sides(sides)),
                }
            }
        }
        deserializer.deserialize_seq(List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn open(name: &str, header: &[u8], data: &[u8]) -> std::result::Result<WeightsFile, String> {
        let path = std::env::temp_dir().join(format!("kinora-weights-{name}-{}", std::process::id()));
        let length = header.len() as u64;
        std::fs::write(&path, [&length.to_le_bytes()[..], header, data].concat()).unwrap();
        let opened = WeightsFile::open(&path).map_err(|error| error.to_string());
        std::fs::remove_file(&path).unwrap();
        opened
    }

    #[test]
    fn what_a_header_claims_is_checked_by_name() {
        let refused = |header: &str, message: &str| {
            let error = open("header", header.as_bytes(), &[0; 24]).err().unwrap_or_else(|| panic!("{header}"));
            assert!(error.contains(message), "{header}: {error}");
        };
        let good = r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;
        assert_eq!(open("good", good.as_bytes(), &[0; 24]).unwrap().entries[0].numbers(), 6);
        assert!(open("none", b"{}", b"").unwrap().entries.is_empty());
        refused(&good.replace("[2,3]", "[2,4]"), "\"a\": the shape [2, 4] of F32 takes 32 bytes");
        refused(&good.replace("[2,3]", "[4294967296,4294967296]"), "\"a\": the shape");
        refused(&good.replace("[2,3]", "[9223372036854775808,2]"), "\"a\": the shape");
        refused(&good.replace("[2,3]", "[-2,-3]"), "\"a\": invalid value");
        refused(&good.replace("[2,3]", &format!("[{}1]", "1,".repeat(40))), "at most 32 axes");
        refused(&good.replace("F32", "F7"), "\"a\": unknown variant");
        refused(&good.replace(r#""dtype":"F32","#, ""), "\"a\": missing field `dtype`");
        refused(&good.replace("[0,24]", "[24,0]"), "\"a\"");
        refused(&good.replace("[0,24]", "[8,32]"), "leaves a gap");
        refused(r#"{"a":["F32",[2,3],[0,24]]}"#, "\"a\": invalid type: sequence");
        refused(r#"{"a":null}"#, "\"a\": invalid type: null");
        refused(&format!("{}{}", &good[..good.len() - 1], &good.replace('{', ",")[..good.len() - 1]), "\"a\"");
        refused(&format!("{good}x"), "not the JSON");
        refused(r#"{"__metadata__":{"k":1}}"#, "__metadata__");
        refused(&format!("{{\"__metadata__\":{}", "[".repeat(100_000)), "__metadata__");
        refused(&format!("{{\"a\":{}", "[".repeat(100_000)), "\"a\"");
        refused("[1]", "not the JSON");
    }

    #[test]
    fn tensors_are_compared_with_those_of_the_network() {
        let config = json!({ "dim": 4, "dim_out": 6 });
        let network = declared("PseudoConv3d", &config).unwrap();
        assert_eq!(network, declared("lucidrains.PseudoConv3d", &config).unwrap());
        assert_eq!(network["temporal_conv.weight"], [6, 6, 3]);
        assert!(declared("PseudoConv9d", &config).unwrap_err().contains("PseudoConv9d"));
        assert!(declared("PseudoConv3d", &json!({ "dim": 0 })).unwrap_err().contains("dim"));
        let prior = crate::prior::PriorConfig::default();
        let seeded = Network::new(NetworkConfig::Prior(prior.clone()), Parameters::seeded(1, false)).unwrap();
        let shapes: Declared =
            seeded.parameters().tensors().into_iter().map(|(name, tensor)| (name, tensor.dims().to_vec())).collect();
        let mut config = serde_json::to_value(prior).unwrap();
        config.as_object_mut().unwrap().remove("_class_name");
        assert_eq!(declared("PriorTransformer", &config).unwrap(), shapes);
    }

    #[test]
    fn numbers_that_are_not_finite_are_found() {
        for (dtype, bad, good) in [
            (Dtype::F16, vec![0x00, 0x7c], vec![0xff, 0x7b]),
            (Dtype::BF16, vec![0x80, 0xff], vec![0x7f, 0xff]),
            (Dtype::F32, f32::NAN.to_le_bytes().to_vec(), f32::MAX.to_le_bytes().to_vec()),
            (Dtype::F64, f64::INFINITY.to_le_bytes().to_vec(), 1e300f64.to_le_bytes().to_vec()),
        ] {
            assert!(all_finite(dtype, &good) && !all_finite(dtype, &[good, bad].concat()), "{dtype}");
        }
    }
}
