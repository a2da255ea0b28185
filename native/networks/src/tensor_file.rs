//! Tensors in safetensors files: read without trust in the header, written whole or not at all.

use candle_core::{DType, Device, Storage, Tensor};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
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
/// The file cannot be read, is no safetensors file, or has a tensor of a type without an f32 form.
pub fn read(path: &Path, check: &mut dyn FnMut(usize, usize) -> bool) -> Result<TensorFile> {
    open(path)?;
    let bytes = fs::read(path).map_err(io("read", path))?;
    let named = |error: safetensors::SafeTensorError| {
        TensorFileError::Bad(format!("{}: not a valid safetensors file ({error})", path.display()))
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(named)?;
    let file = SafeTensors::deserialize(&bytes).map_err(named)?;
    let views: BTreeMap<_, _> = file.iter().collect();
    let count = views.len();
    let mut tensors = BTreeMap::new();
    for (i, (name, view)) in views.into_iter().enumerate() {
        if !check(i, count) {
            return Err(TensorFileError::Stopped);
        }
        let bad = |why: String| TensorFileError::Bad(format!("{}: tensor {name:?} {why}", path.display()));
        let shape = if view.shape().is_empty() { vec![1] } else { view.shape().to_vec() };
        if shape.contains(&0) {
            return Err(bad(format!("is empty: its shape is {shape:?}")));
        }
        let values = to_f32(view.dtype(), view.data())
            .ok_or_else(|| bad(format!("has type {:?}, which cannot be read as f32", view.dtype())))?;
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).map_err(|error| bad(error.to_string()))?;
        tensors.insert(name.to_owned(), tensor);
    }
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok(TensorFile { tensors, metadata })
}

/// The numbers of a tensor on disk as f32; `None` for a type without an f32 form, or when memory runs out.
pub fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    fn all<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Option<Vec<f32>> {
        let mut values = Vec::new();
        values.try_reserve_exact(bytes.len() / N).ok()?;
        values.extend(bytes.as_chunks::<N>().0.iter().map(|&b| number(b)));
        Some(values)
    }
    match dtype {
        Dtype::F32 => all(bytes, f32::from_le_bytes),
        Dtype::F16 => all(bytes, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => all(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F64 => all(bytes, |b| f64::from_le_bytes(b) as f32),
        Dtype::U8 | Dtype::BOOL => all(bytes, |[b]| f32::from(b)),
        Dtype::I8 => all(bytes, |b| f32::from(i8::from_le_bytes(b))),
        Dtype::U16 => all(bytes, |b| f32::from(u16::from_le_bytes(b))),
        Dtype::I16 => all(bytes, |b| f32::from(i16::from_le_bytes(b))),
        Dtype::U32 => all(bytes, |b| u32::from_le_bytes(b) as f32),
        Dtype::I32 => all(bytes, |b| i32::from_le_bytes(b) as f32),
        Dtype::U64 => all(bytes, |b| u64::from_le_bytes(b) as f32),
        Dtype::I64 => all(bytes, |b| i64::from_le_bytes(b) as f32),
        _ => None,
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
            let plain =
                tensor.to_dtype(DType::F32).and_then(|t| t.contiguous()).map_err(|error| bad(error.to_string()))?;
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
        fs::write(&path, b"not a file").unwrap();
        assert!(matches!(read(&path, &mut |_, _| true), Err(TensorFileError::Bad(_))));
        fs::remove_dir_all(folder).unwrap();
    }
}
