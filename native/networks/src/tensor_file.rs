//! Tensors in safetensors files: read without trust in the header, written whole or not at all.

use candle_core::{DType, Device, Storage, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TensorFileError {
    /// The file is not what it should be; the message names it.
    #[error("{0}")]
    Bad(String),
    /// Reading or writing failed.
    #[error("{message}: {source}")]
    Io {
        /// What was tried, with the path.
        message: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The caller's check said to stop.
    #[error("the work was stopped")]
    Stopped,
}

type Result<T> = std::result::Result<T, TensorFileError>;

fn io(verb: &str, path: &Path) -> impl FnOnce(std::io::Error) -> TensorFileError {
    let message = format!("cannot {verb} {}", path.display());
    move |source| TensorFileError::Io { message, source }
}

/// The tensors of a file, all as f32, and its metadata.
#[derive(Debug)]
pub struct TensorFile {
    /// By name. A lone number has the shape (1).
    pub tensors: BTreeMap<String, Tensor>,
    /// Texts by name.
    pub metadata: BTreeMap<String, String>,
}

/// Opens a file, refusing folders and devices.
///
/// # Errors
/// The path does not exist, cannot be opened, or is not a file.
pub fn open(path: &Path) -> Result<File> {
    let file = File::open(path).map_err(io("open", path))?;
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if is_file { Ok(file) } else { Err(TensorFileError::Bad(format!("{} is not a file", path.display()))) }
}

/// Reads every tensor of a file as f32. `check` is called before each and stops the reading when it is false.
///
/// # Errors
/// The file cannot be read, is no safetensors file, has a tensor of a type without an f32 form, or changed meanwhile.
pub fn read(path: &Path, check: &mut dyn FnMut(usize, usize) -> bool) -> Result<TensorFile> {
    read_numbers(path, false, check)
}

/// [`read`], for weights: numbers that are infinite or NaN are an error.
///
/// # Errors
/// As [`read`], and a number is not finite.
pub fn read_finite(path: &Path, check: &mut dyn FnMut(usize, usize) -> bool) -> Result<TensorFile> {
    read_numbers(path, true, check)
}

/// The longest header, as in the safetensors library.
const LONGEST_HEADER: u64 = 100_000_000;
/// Bytes of tensors that are read together, between two checks.
const BATCH: usize = 32 << 20;
/// Numbers that a thread reads at a time.
const PART: usize = 256 << 10;

fn read_numbers(path: &Path, finite: bool, check: &mut dyn FnMut(usize, usize) -> bool) -> Result<TensorFile> {
    let file = open(path)?;
    let (header, data) = header(&file, path)?;
    let infos: BTreeMap<String, &TensorInfo> = header.tensors().into_iter().collect();
    let count = infos.len();
    let mut tensors = BTreeMap::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for (i, (name, info)) in infos.into_iter().enumerate() {
        if !check(i, count) {
            return Err(TensorFileError::Stopped);
        }
        let loading = Loading::new(path, name, info, data)?;
        bytes += loading.values.len() * size_of::<f32>();
        batch.push(loading);
        if bytes >= BATCH || i + 1 == count {
            fill(path, &file, &mut batch, finite)?;
            for Loading { name, shape, values, .. } in batch.drain(..) {
                let tensor = Tensor::from_vec(values, shape, &Device::Cpu);
                let tensor = tensor.map_err(|error| bad(path, &name, &error.to_string()))?;
                tensors.insert(name, tensor);
            }
            bytes = 0;
        }
    }
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok(TensorFile { tensors, metadata })
}

fn bad(path: &Path, name: &str, why: &str) -> TensorFileError {
    TensorFileError::Bad(format!("{}: tensor {name:?} {why}", path.display()))
}

/// The header of a file, whose tensors cover the rest of it, and where that begins.
fn header(file: &File, path: &Path) -> Result<(Metadata, u64)> {
    let foreign =
        |why: &dyn Display| TensorFileError::Bad(format!("{}: not a valid safetensors file ({why})", path.display()));
    let bytes = file.metadata().map_err(io("read", path))?.len();
    let mut length = [0; 8];
    if bytes < 8 {
        return Err(foreign(&format_args!("it has only {bytes} bytes")));
    }
    read_at(file, &mut length, 0).map_err(changed(path))?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER.min(bytes - 8) {
        return Err(foreign(&format_args!("its header would have {length} bytes of the {bytes} of the file")));
    }
    let mut json = vec![0; length as usize];
    read_at(file, &mut json, 8).map_err(changed(path))?;
    let header: Metadata = serde_json::from_slice(&json).map_err(|error| foreign(&error))?;
    if (8 + length).checked_add(header.data_len() as u64) != Some(bytes) {
        return Err(foreign(&format_args!("its tensors have {} bytes, not the file's {bytes}", header.data_len())));
    }
    Ok((header, 8 + length))
}

/// A file that was whole when it was opened ends early when somebody shortens it.
fn changed(path: &Path) -> impl Fn(std::io::Error) -> TensorFileError {
    move |error| match error.kind() {
        ErrorKind::UnexpectedEof => TensorFileError::Bad(format!("{} was shortened while it was read", path.display())),
        _ => io("read", path)(error),
    }
}

/// A tensor whose numbers are being read.
struct Loading {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    /// Of its first number in the file.
    at: u64,
    /// Not written before they are read from the file.
    values: Vec<f32>,
}

impl Loading {
    fn new(path: &Path, name: String, info: &TensorInfo, data: u64) -> Result<Self> {
        let shape = if info.shape.is_empty() { vec![1] } else { info.shape.clone() };
        if shape.contains(&0) {
            return Err(bad(path, &name, &format!("is empty: its shape is {shape:?}")));
        }
        let cannot = || bad(path, &name, &format!("has type {:?}, which cannot be read as f32", info.dtype));
        let count = (info.data_offsets.1 - info.data_offsets.0) / number_bytes(info.dtype).ok_or_else(cannot)?;
        let mut values = Vec::new();
        values.try_reserve_exact(count).map_err(|_| bad(path, &name, "does not fit in memory"))?;
        // SAFETY: there is room, and `fill` writes every number or the values are dropped unread.
        #[allow(clippy::uninit_vec)]
        unsafe {
            values.set_len(count);
        }
        Ok(Self { name, shape, dtype: info.dtype, at: data + info.data_offsets.0 as u64, values })
    }
}

/// Reads the numbers of tensors, on all threads.
fn fill(path: &Path, file: &File, tensors: &mut [Loading], finite: bool) -> Result<()> {
    let mut parts = Vec::new();
    for Loading { name, dtype, at, values, .. } in tensors {
        let item = number_bytes(*dtype).expect("looked at before");
        let place = |(i, part)| (&*name, *dtype, item, *at + (i * PART * item) as u64, part);
        parts.extend(values.chunks_mut(PART).enumerate().map(place));
    }
    parts.into_par_iter().with_max_len(1).try_for_each(|(name, dtype, item, at, values)| {
        if dtype == Dtype::F32 && cfg!(target_endian = "little") {
            // SAFETY: any bytes are numbers, and numbers are bytes.
            let bytes = unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) };
            read_at(file, bytes, at).map_err(changed(path))?;
        } else {
            let mut bytes = vec![0; values.len() * item];
            read_at(file, &mut bytes, at).map_err(changed(path))?;
            convert(dtype, &bytes, values);
        }
        // An exponent of ones. Counted, and not looked for, so that it becomes vector code.
        let wrong = |value: &f32| u32::from(value.to_bits() & 0x7f80_0000 == 0x7f80_0000);
        match finite && values.iter().map(wrong).sum::<u32>() > 0 {
            true => Err(bad(path, name, "has numbers that are not finite")),
            false => Ok(()),
        }
    })
}

/// Fills `to` with what a file has from `at` on.
#[cfg(unix)]
fn read_at(file: &File, to: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, to, at)
}

/// Fills `to` with what a file has from `at` on.
#[cfg(windows)]
fn read_at(file: &File, mut to: &mut [u8], mut at: u64) -> std::io::Result<()> {
    while !to.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, to, at) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => (to, at) = (&mut to[count..], at + count as u64),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes of a number on disk; `None` for a type without an f32 form.
fn number_bytes(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::U8 | Dtype::I8 | Dtype::BOOL => Some(1),
        Dtype::F16 | Dtype::BF16 | Dtype::U16 | Dtype::I16 => Some(2),
        Dtype::F32 | Dtype::U32 | Dtype::I32 => Some(4),
        Dtype::F64 | Dtype::U64 | Dtype::I64 => Some(8),
        _ => None,
    }
}

/// The numbers of a tensor on disk as f32; `None` for a type without an f32 form, or when memory runs out.
pub fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let count = bytes.len() / number_bytes(dtype)?;
    let mut values = Vec::new();
    values.try_reserve_exact(count).ok()?;
    values.resize(count, 0.0);
    convert(dtype, bytes, &mut values);
    Some(values)
}

/// As many numbers of a type with an f32 form as there are.
fn convert(dtype: Dtype, bytes: &[u8], to: &mut [f32]) {
    fn all<const N: usize>(bytes: &[u8], to: &mut [f32], number: impl Fn([u8; N]) -> f32) {
        to.iter_mut().zip(bytes.as_chunks::<N>().0).for_each(|(to, &b)| *to = number(b));
    }
    match dtype {
        Dtype::F32 => all(bytes, to, f32::from_le_bytes),
        Dtype::F16 => {
            // A block at a time, for which `half` takes the processor's instruction.
            let mut halves = [f16::ZERO; 1024];
            for (to, bytes) in to.chunks_mut(1024).zip(bytes.chunks(2048)) {
                halves.iter_mut().zip(bytes.as_chunks().0).for_each(|(half, &b)| *half = f16::from_le_bytes(b));
                halves[..to.len()].convert_to_f32_slice(to);
            }
        }
        Dtype::BF16 => all(bytes, to, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F64 => all(bytes, to, |b| f64::from_le_bytes(b) as f32),
        Dtype::U8 | Dtype::BOOL => all(bytes, to, |[b]| f32::from(b)),
        Dtype::I8 => all(bytes, to, |b| f32::from(i8::from_le_bytes(b))),
        Dtype::U16 => all(bytes, to, |b| f32::from(u16::from_le_bytes(b))),
        Dtype::I16 => all(bytes, to, |b| f32::from(i16::from_le_bytes(b))),
        Dtype::U32 => all(bytes, to, |b| u32::from_le_bytes(b) as f32),
        Dtype::I32 => all(bytes, to, |b| i32::from_le_bytes(b) as f32),
        Dtype::U64 => all(bytes, to, |b| u64::from_le_bytes(b) as f32),
        Dtype::I64 => all(bytes, to, |b| i64::from_le_bytes(b) as f32),
        other => unreachable!("{other:?} has no f32 form"),
    }
}

/// The type that numbers have on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredAs {
    /// 32 bits.
    F32,
    /// 16 bits with a large fraction: published weights. Numbers beyond ±65,504 are refused.
    F16,
    /// 16 bits with f32's range.
    Bf16,
}

impl StoredAs {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    fn push(self, value: f32, out: &mut Vec<u8>) -> bool {
        match self {
            Self::F32 => out.extend(value.to_le_bytes()),
            Self::Bf16 => out.extend(bf16::from_f32(value).to_le_bytes()),
            Self::F16 => {
                let half = f16::from_f32(value);
                out.extend(half.to_le_bytes());
                return half.is_finite() || !value.is_finite();
            }
        }
        true
    }
}

/// Writes tensors in the order of their names, so that the same tensors give the same bytes, and gives the file's
/// length. `check` as in [`read`].
///
/// # Errors
/// The file cannot be written, or a number does not fit the type.
pub fn write(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    stored: StoredAs,
    metadata: &BTreeMap<String, String>,
    check: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<usize> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    let mut end = 0;
    for (name, tensor) in tensors {
        let start = end;
        end += tensor.elem_count() * stored.bytes();
        let entry = json!({ "dtype": stored.name(), "shape": tensor.dims(), "data_offsets": [start, end] });
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    write_atomically(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io("write", path))?;
        file.write_all(&header).map_err(io("write", path))?;
        for (i, (name, tensor)) in tensors.iter().enumerate() {
            if !check(i, tensors.len()) {
                return Err(TensorFileError::Stopped);
            }
            let bad = |why: String| TensorFileError::Bad(format!("tensor {name:?} {why}"));
            let plain = tensor
                .to_device(&Device::Cpu)
                .and_then(|t| t.to_dtype(DType::F32))
                .and_then(|t| t.contiguous())
                .map_err(|error| bad(error.to_string()))?;
            let (storage, layout) = plain.storage_and_layout();
            let Storage::Cpu(storage) = &*storage else { return Err(bad("is not in main memory".into())) };
            let values = storage.as_slice::<f32>().map_err(|error| bad(error.to_string()))?;
            for block in values[layout.start_offset()..][..plain.elem_count()].chunks(1 << 16) {
                let mut bytes = Vec::with_capacity(block.len() * stored.bytes());
                if !block.iter().all(|&value| stored.push(value, &mut bytes)) {
                    return Err(bad(format!("has numbers that {} cannot hold", stored.name())));
                }
                file.write_all(&bytes).map_err(io("write", path))?;
            }
        }
        Ok(())
    })?;
    Ok(8 + header.len() + end)
}

/// Writes a file under a temporary name beside its own, then renames it: readers see the old file or the whole new
/// one, and a failure leaves the old one.
///
/// # Errors
/// Whatever `write` gives, and what the system says about the files.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let Some(name) = path.file_name() else {
        return Err(TensorFileError::Bad(format!("path must name a file, which {} does not", path.display())));
    };
    if path.is_dir() {
        return Err(TensorFileError::Bad(format!("path must name a file, {} is a folder", path.display())));
    }
    // The counter keeps two threads apart, the process id two processes.
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary: PathBuf =
        path.with_file_name(format!(".{}.{}-{count}.partial", name.to_string_lossy(), std::process::id()));
    let written = (|| {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&temporary).map_err(io("write", path))?);
        write(&mut file)?;
        let file = file.into_inner().map_err(|error| io("write", path)(error.into_error()))?;
        file.sync_all().map_err(io("write", path))?;
        drop(file);
        fs::rename(&temporary, path).map_err(io("write", path))
    })();
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = std::env::temp_dir().join(format!("kinora-tensor-file-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.safetensors");
        let tensor = Tensor::new(&[[1f32, -2.5], [0.0, 65504.0]], &Device::Cpu).unwrap();
        let tensors = BTreeMap::from([("x".to_string(), tensor.clone()), ("a.b".to_string(), tensor)]);
        let metadata = BTreeMap::from([("step".to_string(), "7".to_string())]);
        for stored in [StoredAs::F32, StoredAs::F16, StoredAs::Bf16] {
            let bytes = write(&path, &tensors, stored, &metadata, &mut |_, _| true).unwrap();
            assert_eq!(bytes as u64, fs::metadata(&path).unwrap().len());
            let file = read(&path, &mut |_, _| true).unwrap();
            assert_eq!(file.metadata, metadata);
            let values = file.tensors["a.b"].to_vec2::<f32>().unwrap();
            let largest = if stored == StoredAs::Bf16 { 65536.0 } else { 65504.0 };
            assert_eq!(values, [[1.0, -2.5], [0.0, largest]]);
        }
        let large = BTreeMap::from([("x".to_string(), Tensor::new(&[1e6f32], &Device::Cpu).unwrap())]);
        let old = fs::read(&path).unwrap();
        let error = write(&path, &large, StoredAs::F16, &metadata, &mut |_, _| true).unwrap_err().to_string();
        assert!(error.contains("\"x\" has numbers that F16 cannot hold"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), old);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert!(matches!(read(&path, &mut |_, _| false), Err(TensorFileError::Stopped)));
        fs::remove_dir_all(folder).unwrap();
    }

    /// A file of one tensor, and its path.
    fn file_of(name: &str, dtype: &str, count: usize, bytes: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("kinora-tensor-file-{name}-{}", std::process::id()));
        let header = json!({ "x": { "dtype": dtype, "shape": [count], "data_offsets": [0, bytes.len()] } }).to_string();
        let length = (header.len() as u64).to_le_bytes();
        fs::write(&path, [&length, header.as_bytes(), bytes].concat()).unwrap();
        path
    }

    #[test]
    fn numbers_of_every_type_are_read_in_all_parts() {
        let count = 2 * PART + 1029;
        let numbers: Vec<f32> = (0..count).map(|i| (i % 127) as f32).collect();
        let bytes = |of: &dyn Fn(f32) -> Vec<u8>| numbers.iter().flat_map(|&number| of(number)).collect::<Vec<_>>();
        for (dtype, bytes) in [
            ("F32", bytes(&|x| x.to_le_bytes().into())),
            ("F16", bytes(&|x| f16::from_f32(x).to_le_bytes().into())),
            ("BF16", bytes(&|x| bf16::from_f32(x).to_le_bytes().into())),
            ("F64", bytes(&|x| f64::from(x).to_le_bytes().into())),
            ("U8", bytes(&|x| vec![x as u8])),
            ("I8", bytes(&|x| vec![x as u8])),
            ("U16", bytes(&|x| (x as u16).to_le_bytes().into())),
            ("I32", bytes(&|x| (x as i32).to_le_bytes().into())),
            ("I64", bytes(&|x| (x as i64).to_le_bytes().into())),
        ] {
            let path = file_of(dtype, dtype, count, &bytes);
            let read = read_finite(&path, &mut |_, _| true).unwrap();
            assert_eq!(read.tensors["x"].to_vec1::<f32>().unwrap(), numbers, "{dtype}");
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_not_what_it_should_be_is_an_error() {
        let bad = |path: &Path, check: &mut dyn FnMut(usize, usize) -> bool| match read_finite(path, check) {
            Err(TensorFileError::Bad(why)) => why,
            other => panic!("{other:?}"),
        };
        let good = vec![0; 4 * (PART + 3)];
        let path = file_of("whole", "F32", PART + 3, &good);
        let whole = fs::read(&path).unwrap();
        for length in (0..200).chain([whole.len() / 2, whole.len() - 1]) {
            fs::write(&path, &whole[..length]).unwrap();
            let why = bad(&path, &mut |_, _| true);
            assert!(why.contains("not a valid safetensors file"), "{length}: {why}");
        }
        for more in [&whole[..], &[0; 1]] {
            fs::write(&path, [&whole[..], more].concat()).unwrap();
            assert!(bad(&path, &mut |_, _| true).contains("not a valid safetensors file"));
        }
        // Shortened after the header was read, before the numbers are.
        fs::write(&path, &whole).unwrap();
        let shorten = |_, _| File::options().write(true).open(&path).unwrap().set_len(2000).is_ok();
        assert!(bad(&path, &mut { shorten }).contains("was shortened while it was read"));
        fs::remove_file(path).unwrap();
        let mut numbers = vec![0f32; PART + 3];
        numbers[PART + 1] = f32::NEG_INFINITY;
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let path = file_of("infinite", "F32", PART + 3, &bytes);
        assert!(bad(&path, &mut |_, _| true).contains("tensor \"x\" has numbers that are not finite"));
        assert!(read(&path, &mut |_, _| true).is_ok());
        fs::remove_file(path).unwrap();
        let path = file_of("other", "F8_E5M2", 4, &[0; 4]);
        assert!(bad(&path, &mut |_, _| true).contains("cannot be read as f32"));
        fs::remove_file(path).unwrap();
    }
}
