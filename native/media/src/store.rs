//! Writing picture stores: safetensors files of one `U8` tensor of shape `[N, S, S, 3]`, to be memory mapped.

use std::{
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::Mutex,
};

use crate::{AtomicFile, Error, Result};

/// A store being written, row by row in any order and from any thread. It gets its name in [`StoreWriter::finish`].
#[derive(Debug)]
pub struct StoreWriter {
    file: Mutex<AtomicFile>,
    data_at: u64,
    row_bytes: usize,
    rows: usize,
}

impl StoreWriter {
    /// Opens a store of `rows` pictures of `side` x `side` RGB under the tensor name `name`.
    ///
    /// The data starts at a multiple of 64 bytes, so that rows of a mapped file are aligned.
    ///
    /// # Errors
    /// [`Error::Refused`] for a size of 0 or a name that is not plain ASCII; [`Error::Io`].
    pub fn create(path: &Path, name: &str, rows: usize, side: usize) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if rows == 0 || side == 0 || name.is_empty() || !name.chars().all(plain) {
            return Err(Error::refused(format!("a store cannot hold {rows} pictures of {side} pixels as \"{name}\"")));
        }
        let row_bytes = side * side * 3;
        let mut header = format!(
            "{{\"__metadata__\":{{\"format\":\"kinora-pictures\",\"pixels\":\"RGB\"}},\
             \"{name}\":{{\"dtype\":\"U8\",\"shape\":[{rows},{side},{side},3],\"data_offsets\":[0,{}]}}}}",
            rows * row_bytes
        );
        while !(header.len() + 8).is_multiple_of(64) {
            header.push(' ');
        }
        let mut file = AtomicFile::create(path)?;
        let failed = |e| Error::io(format!("cannot write {}", path.display()), e);
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
        file.write_all(header.as_bytes()).map_err(failed)?;
        Ok(Self { file: Mutex::new(file), data_at: header.len() as u64 + 8, row_bytes, rows })
    }

    /// Writes picture `row`.
    ///
    /// # Errors
    /// [`Error::Refused`] for a row or a length outside the store; [`Error::Io`].
    pub fn write(&self, row: usize, rgb: &[u8]) -> Result<()> {
        if row >= self.rows || rgb.len() != self.row_bytes {
            return Err(Error::refused(format!("row {row} of {} bytes does not belong in the store", rgb.len())));
        }
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.data_at + row as u64 * self.row_bytes as u64))
            .and_then(|_| file.write_all(rgb))
            .map_err(|e| Error::io(format!("cannot write {}", file.path().display()), e))
    }

    /// Gives the file its name. Every row must have been written.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(self) -> Result<()> {
        self.file.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).finish()
    }
}
