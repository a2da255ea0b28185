//! Kinds of files that are known by their first bytes and not read, so that they can be refused by name.

use crate::{Error, Result};

/// Refuses files of kinds that are known and not read.
///
/// # Errors
/// [`Error::Unsupported`] with the kind.
pub(crate) fn refuse(start: &[u8]) -> Result<()> {
    let Some(kind) = kind(start) else { return Ok(()) };
    Err(Error::unsupported(kind, "PNG, JPEG, GIF, WebP, MP4 with H.264, and Y4M are"))
}

fn kind(start: &[u8]) -> Option<&'static str> {
    let riff = |form: &[u8]| start.starts_with(b"RIFF") && start.get(8..12) == Some(form);
    let brand = start.get(8..12).filter(|_| start.get(4..8) == Some(b"ftyp"));
    Some(match brand {
        Some(b"avif" | b"avis") => "AVIF",
        Some(b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1") => "HEIF",
        Some(_) => return None,
        None if start.starts_with(b"\x1a\x45\xdf\xa3") => "Matroska or WebM",
        None if riff(b"AVI ") => "AVI",
        None if start.starts_with(b"FLV\x01") => "FLV",
        None if start.starts_with(b"OggS") => "Ogg",
        None if start.starts_with(b"\0\0\x01\xba") || start.starts_with(b"\0\0\x01\xb3") => "MPEG",
        // Packets of 188 bytes, which begin with a sync byte and, in what others write, with the same flags.
        None if start.starts_with(b"\x47\x40") => "MPEG transport stream",
        None if start.starts_with(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11") => "Windows Media",
        None if start.starts_with(b"BM") && start.get(6..10) == Some(&[0; 4]) => "BMP",
        None if start.starts_with(b"II*\0") || start.starts_with(b"MM\0*") => "TIFF",
        None if start.starts_with(b"\xff\x0a") || start.starts_with(b"\0\0\0\x0cJXL ") => "JPEG XL",
        None if start.starts_with(b"\0\0\0\x0cjP  ") => "JPEG 2000",
        None if start.starts_with(b"qoif") => "QOI",
        None => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_kinds_are_refused_by_name() {
        let files: [(&[u8], &str); 5] = [
            (include_bytes!("../../../tests/media/fixtures/foreign/vp9.webm"), "Matroska or WebM"),
            (b"RIFF\0\0\0\0AVI LIST", "AVI"),
            (b"\0\0\0\x1cftypheic\0\0\0\0", "HEIF"),
            (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
            (b"BM\x36\0\x0c\0\0\0\0\0\x36\0", "BMP"),
        ];
        for (file, name) in files {
            for error in [
                refuse(file).unwrap_err(),
                crate::stream(file, &mut |_| Ok(true)).unwrap_err(),
                crate::inspect::tests::inspect_bytes(file).unwrap_err(),
            ] {
                assert!(matches!(&error, Error::Unsupported { .. }), "{error}");
                assert!(error.to_string().contains(&format!("this {name} file")), "{error}");
            }
        }
        for known in [&b"GIF89a"[..], b"\0\0\0\x1cftypisom", b"RIFF\0\0\0\0WEBP", b"text", b""] {
            assert!(refuse(known).is_ok());
        }
    }
}
