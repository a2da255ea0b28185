use std::{
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{Error, Result};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A file that gets its name only when it is whole.
///
/// It is written as `.NAME.PID-N.partial` in the same folder (so that the rename cannot cross file systems) and
/// renamed by [`AtomicFile::finish`]; dropped before that, it is removed and an older file of that name stays.
#[derive(Debug)]
pub struct AtomicFile {
    file: Option<File>,
    partial: PathBuf,
    path: PathBuf,
}

impl AtomicFile {
    /// Opens the temporary file beside `path`.
    ///
    /// # Errors
    /// [`Error::Refused`] when `path` names no file or a folder; [`Error::Io`] when the folder is missing or read-only.
    pub fn create(path: &Path) -> Result<Self> {
        let Some(name) = path.file_name().filter(|_| !path.is_dir()) else {
            return Err(Error::refused(format!("{} is not a file name", path.display())));
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let partial =
            path.with_file_name(format!(".{}.{}-{number}.partial", name.to_string_lossy(), std::process::id()));
        let file = File::create_new(&partial).map_err(|e| Error::io(format!("cannot write {}", path.display()), e))?;
        Ok(Self { file: Some(file), partial, path: path.to_owned() })
    }

    /// Gives the file its name, replacing an older one.
    ///
    /// # Errors
    /// [`Error::Io`]; the temporary file is then gone.
    pub fn finish(mut self) -> Result<()> {
        let written = self.open().flush();
        self.file = None;
        written
            .and_then(|()| fs::rename(&self.partial, &self.path))
            .map_err(|e| Error::io(format!("cannot write {}", self.path.display()), e))
    }

    /// Where the file will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open(&mut self) -> &mut File {
        self.file.as_mut().expect("the file is open until it is finished")
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.open().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open().flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.open().seek(to)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        // After a rename there is nothing left under this name, and the error says so.
        self.file = None;
        let _ = fs::remove_file(&self.partial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = std::env::temp_dir().join(format!("kinora-atomic-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.txt");
        fs::write(&path, "old").unwrap();
        let mut dropped = AtomicFile::create(&path).unwrap();
        dropped.write_all(b"half").unwrap();
        drop(dropped);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        let mut whole = AtomicFile::create(&path).unwrap();
        whole.write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        whole.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert!(AtomicFile::create(&folder).is_err());
        assert!(AtomicFile::create(&folder.join("none/b.txt")).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
