//! A file that is read a few bytes at a time.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use crate::{Error, Result};

/// What a [`Source`] reads from.
pub(super) trait Stream: Read + Seek {}

impl<T: Read + Seek> Stream for T {}

/// A file and a place in it; nothing is read past `end`.
pub(super) struct Source {
    stream: BufReader<Box<dyn Stream>>,
    at: u64,
    end: u64,
    length: u64,
    /// The format that messages name.
    pub format: &'static str,
}

fn io(source: io::Error) -> Error {
    Error::io("cannot read the file", source)
}

impl Source {
    pub fn new(stream: Box<dyn Stream>, length: u64) -> Self {
        Self { stream: BufReader::with_capacity(1 << 16, stream), at: 0, end: length, length, format: "media" }
    }

    /// Where the next byte is read.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Length of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes from here to the end.
    pub fn left(&self) -> u64 {
        self.end - self.at
    }

    /// Puts the end nearer or farther, and gives the old one; what lies behind it is not read.
    pub fn set_end(&mut self, end: u64) -> u64 {
        std::mem::replace(&mut self.end, end.min(self.length))
    }

    pub fn bad(&self, reason: impl std::fmt::Display) -> Error {
        Error::bad(self.format, reason)
    }

    /// The first bytes of the file, 16 at most; they are read again afterwards.
    pub fn start(&mut self) -> Result<Vec<u8>> {
        let mut start = Vec::with_capacity(16);
        self.stream.by_ref().take(16).read_to_end(&mut start).map_err(io)?;
        self.stream.seek(SeekFrom::Start(0)).map_err(io)?;
        Ok(start)
    }

    /// The next bytes, which belong to `what`.
    pub fn bytes<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        if self.left() < N as u64 {
            return Err(self.bad(format_args!("{what} is cut short")));
        }
        self.stream.read_exact(&mut bytes).map_err(io)?;
        self.at += N as u64;
        Ok(bytes)
    }

    pub fn u8(&mut self, what: &str) -> Result<u8> {
        Ok(self.bytes::<1>(what)?[0])
    }

    /// A big-endian number.
    pub fn u16(&mut self, what: &str) -> Result<u16> {
        self.bytes(what).map(u16::from_be_bytes)
    }

    /// A big-endian number.
    pub fn u32(&mut self, what: &str) -> Result<u32> {
        self.bytes(what).map(u32::from_be_bytes)
    }

    /// A big-endian number.
    pub fn u64(&mut self, what: &str) -> Result<u64> {
        self.bytes(what).map(u64::from_be_bytes)
    }

    /// Leaves out bytes that belong to `what`.
    pub fn skip(&mut self, count: u64, what: &str) -> Result<()> {
        if self.left() < count {
            return Err(self.bad(format_args!("{what} claims {count} bytes where {} are left", self.left())));
        }
        // No file is so long that this fails.
        self.stream.seek_relative(count as i64).map_err(io)?;
        self.at += count;
        Ok(())
    }

    /// The next two bytes, which are read again; `None` when there are not two.
    pub fn peek(&mut self) -> Result<Option<[u8; 2]>> {
        if self.left() < 2 {
            return Ok(None);
        }
        let bytes = self.bytes("a marker")?;
        self.stream.seek_relative(-2).map_err(io)?;
        self.at -= 2;
        Ok(Some(bytes))
    }

    /// Bytes until `stop` is met or the end is; `stop` gets each run of bytes and says how many of it to pass over, and
    /// whether that was all.
    pub fn pass(&mut self, mut stop: impl FnMut(&[u8]) -> (usize, bool)) -> Result<bool> {
        while self.left() > 0 {
            let bytes = self.stream.fill_buf().map_err(io)?;
            if bytes.is_empty() {
                return Err(Error::bad(self.format, "it became shorter while it was read"));
            }
            let within = bytes.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
            let (count, found) = stop(&bytes[..within]);
            self.stream.consume(count);
            self.at += count as u64;
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The whole file, of which the caller has checked the length.
    pub fn whole(&mut self) -> Result<Vec<u8>> {
        self.stream.seek(SeekFrom::Start(0)).map_err(io)?;
        let mut bytes = Vec::with_capacity(self.length as usize);
        self.stream.by_ref().take(self.length).read_to_end(&mut bytes).map_err(io)?;
        Ok(bytes)
    }
}
