//! How large a picture may be. Checked from the header, before anything is allocated.

use crate::{Error, Result};

/// The longest side of a picture, in pixels.
pub const MAX_SIDE: u32 = 8192;
/// The most bytes all frames of one file may take as RGBA: 1 GiB.
pub const MAX_BYTES: u64 = 1 << 30;
/// The longest file that is read, in bytes: 1 GiB.
pub const MAX_FILE: u64 = 1 << 30;

/// Refuses a canvas that is empty, too long on a side, or too large in all its frames.
///
/// `format` is the name that the message gives the file.
///
/// # Errors
/// [`Error::BadFile`] with the size found and the size accepted.
pub fn check(format: &'static str, width: u32, height: u32, frames: u64) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::bad(format, format!("its size is {width}x{height}")));
    }
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(Error::bad(
            format,
            format!("its size is {width}x{height}; a side may be at most {MAX_SIDE} pixels"),
        ));
    }
    let bytes = u64::from(width) * u64::from(height) * 4;
    if bytes.checked_mul(frames).is_none_or(|all| all > MAX_BYTES) {
        return Err(Error::bad(
            format,
            format!("{frames} frames of {width}x{height} take more than {} MiB", MAX_BYTES >> 20),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert!(check("PNG", 8192, 8192, 4).is_ok());
        assert!(check("PNG", 8192, 8192, 5).is_err());
        assert!(check("PNG", 8193, 1, 1).is_err());
        assert!(check("PNG", 0, 1, 1).is_err());
        assert!(check("PNG", 64, 64, u64::MAX).is_err());
    }
}
