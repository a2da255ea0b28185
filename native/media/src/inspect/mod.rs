//! What a media file is, found out without trust in what it claims.
//!
//! Each format is walked by its chunks, boxes or markers, a few bytes at a time: every size is compared with what is left
//! of the file or of what contains it. Only then are pixels decoded, a frame at a time, as long as there are not too many
//! of them; a larger picture is known by its structure alone. Y4M is only walked: its pixels are
//! stored as they are.

mod gif;
mod jpeg;
mod mp4;
mod png;
mod source;
mod webp;
mod y4m;

use std::{
    fs::{self, File},
    path::Path,
};

use crate::{Error, Result, foreign, limits};
use source::Source;

/// The longest file whose pixels are decoded, in bytes.
const MOST_BYTES: u64 = 64 << 20;
/// The largest frame that is decoded, in pixels.
const MOST_FRAME_PIXELS: u64 = 1 << 24;
/// Pixels of all frames that are decoded of a file.
const MOST_PIXELS: u64 = 1 << 25;

/// What a file is.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspected {
    /// `"png"`, `"apng"`, `"gif"`, `"webp"`, `"jpeg"`, `"mp4"` or `"y4m"`.
    pub format: &'static str,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// How many frames it has; 1 in a still.
    pub frames: u64,
    /// How long it plays, in milliseconds; `None` for a still.
    pub duration_ms: Option<f64>,
    /// How the pixels are stored, where the format leaves a choice.
    pub codec: Option<String>,
    /// Whether every pixel was decoded; if not, there are too many or this library does not decode the format.
    pub decoded: bool,
}

/// What walking a file's structure gave.
struct Walked {
    format: &'static str,
    width: u32,
    height: u32,
    frames: u64,
    duration_ms: Option<f64>,
    codec: Option<String>,
}

/// The pixels that may still be decoded, and whether to go on at all.
struct Budget<'a> {
    pixels: u64,
    check: &'a dyn Fn() -> Result<()>,
}

impl Budget<'_> {
    /// Whether a frame of this size may be decoded.
    fn take(&mut self, width: u32, height: u32) -> Result<bool> {
        (self.check)()?;
        let pixels = u64::from(width) * u64::from(height);
        if pixels > MOST_FRAME_PIXELS || pixels > self.pixels {
            return Ok(false);
        }
        self.pixels -= pixels;
        Ok(true)
    }
}

type Walk = fn(&mut Source) -> Result<Walked>;
/// Decodes all frames and drops them; `false` when the budget was too small for one.
type Decode = fn(&[u8], &mut Budget) -> Result<bool>;

/// How a file with these first bytes is walked and decoded.
fn format_of(start: &[u8]) -> Option<(Walk, Option<Decode>)> {
    Some(match start {
        [b'\x89', b'P', b'N', b'G', b'\r', b'\n', b'\x1a', b'\n', ..] => (png::walk, Some(png::decode)),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => (gif::walk, Some(gif::decode)),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => (webp::walk, Some(webp::decode)),
        [0xff, 0xd8, 0xff, ..] => (jpeg::walk, Some(jpeg::decode)),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => (mp4::walk, Some(mp4::decode)),
        _ if start.starts_with(b"YUV4MPEG2 ") || start.starts_with(b"YUV4MPEG2\n") => (y4m::walk, None),
        _ => return None,
    })
}

/// Says what a media file is. `check` is called before each frame and stops the work by failing.
///
/// # Errors
/// [`Error::BadFile`] when it is none, damaged, or larger than the [`limits`]; the message names the chunk, box or marker
/// that is wrong. [`Error::Io`] when it cannot be read.
pub fn inspect(path: &Path, check: &dyn Fn() -> Result<()>) -> Result<Inspected> {
    open(path, |source, bytes| inspect_source(source, bytes, Some(check)))
}

/// As [`inspect`], by the structure alone: no pixel is decoded.
///
/// # Errors
/// As [`inspect`].
pub fn structure(path: &Path) -> Result<Inspected> {
    open(path, |source, bytes| inspect_source(source, bytes, None))
}

fn open(path: &Path, look: impl FnOnce(Source, u64) -> Result<Inspected>) -> Result<Inspected> {
    let failed = |e| Error::io(format!("cannot read {}", path.display()), e);
    // Before it is opened: opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::bad("media", "it is not a file").of(path));
    }
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    look(Source::new(Box::new(file), bytes), bytes).map_err(|error| match error {
        Error::Io { source, .. } => failed(source),
        other => other.of(path),
    })
}

type Check<'a> = &'a dyn Fn() -> Result<()>;

fn inspect_source(mut source: Source, bytes: u64, check: Option<Check<'_>>) -> Result<Inspected> {
    let start = source.start()?;
    foreign::refuse(&start)?;
    let Some((walk, decode)) = format_of(&start) else {
        let what = if bytes == 0 { "it is empty" } else { "it is not a PNG, GIF, WebP, JPEG, MP4 or Y4M file" };
        return Err(Error::bad("media", what));
    };
    let Walked { format, width, height, frames, duration_ms, codec } = walk(&mut source)?;
    let decoded = match (decode, check) {
        (Some(decode), Some(check)) if bytes <= MOST_BYTES => {
            let mut budget = Budget { pixels: MOST_PIXELS, check };
            decode(&source.whole()?, &mut budget)?
        }
        _ => false,
    };
    Ok(Inspected { format, bytes, width, height, frames, duration_ms, codec, decoded })
}

/// Refuses a canvas past the [`limits`], all frames of it taken together.
fn check_canvas(format: &'static str, width: u32, height: u32, frames: u64) -> Result<()> {
    limits::check(format, width, height, frames.max(1))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{Format, Frames, Timing};

    pub(crate) fn inspect_bytes(bytes: &[u8]) -> Result<Inspected> {
        let length = bytes.len() as u64;
        inspect_source(Source::new(Box::new(Cursor::new(bytes.to_vec())), length), length, Some(&|| Ok(())))
    }

    fn encoded(format: Format, frames: usize) -> Vec<u8> {
        let pictures: Vec<Vec<u8>> = (0..frames).map(|i| vec![(i * 40) as u8; 7 * 5 * 3]).collect();
        let frames = Frames::from_rgb(7, 5, &pictures).unwrap();
        let mut bytes = Vec::new();
        crate::encode(&frames, format, &Timing::Fps(10.0), &mut bytes, &|_, _| Ok(())).unwrap();
        bytes
    }

    fn webp() -> Vec<u8> {
        let mut bytes = Vec::new();
        let encoder = image_webp::WebPEncoder::new(&mut bytes);
        encoder.encode(&[9; 7 * 5 * 4], 7, 5, image_webp::ColorType::Rgba8).unwrap();
        bytes
    }

    fn y4m() -> Vec<u8> {
        let mut bytes = b"YUV4MPEG2 W6 H5 F8:1 Ip A1:1 C420jpeg\n".to_vec();
        for _ in 0..3 {
            bytes.extend(b"FRAME\n");
            bytes.extend([7; 6 * 5 + 2 * 3 * 3]);
        }
        bytes
    }

    #[test]
    fn good_files_are_described() {
        let of = |bytes: &[u8]| {
            let found = inspect_bytes(bytes).unwrap();
            assert_eq!((found.bytes, found.width), (bytes.len() as u64, if found.format == "y4m" { 6 } else { 7 }));
            (found.format, found.height, found.frames, found.duration_ms, found.decoded)
        };
        assert_eq!(of(&encoded(Format::Png, 1)), ("png", 5, 1, None, true));
        assert_eq!(of(&encoded(Format::Png, 3)), ("apng", 5, 3, Some(300.0), true));
        assert_eq!(of(&encoded(Format::Gif, 3)), ("gif", 5, 3, Some(300.0), true));
        assert_eq!(of(&webp()), ("webp", 5, 1, None, true));
        assert_eq!(of(&y4m()), ("y4m", 5, 3, Some(375.0), false));
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        for file in [encoded(Format::Png, 2), encoded(Format::Gif, 2), webp(), y4m(), mp4::tests::file()] {
            assert!(inspect_bytes(&file).is_ok());
            for end in 0..file.len() {
                assert!(inspect_bytes(&file[..end]).is_err() || file.starts_with(b"YUV"), "{end} of {}", file.len());
            }
            for at in 0..file.len() {
                for change in [0x01, 0x80, 0xff] {
                    let mut file = file.clone();
                    file[at] ^= change;
                    let _ = inspect_bytes(&file);
                }
            }
        }
        for other in [&b""[..], b"G", b"text", &[0; 64], b"RIFF\0\0\0\0WAVE"] {
            assert!(matches!(inspect_bytes(other), Err(Error::BadFile { .. })));
        }
    }

    #[test]
    fn a_picture_past_the_budget_is_not_decoded() {
        let mut budget = Budget { pixels: 40, check: &|| Ok(()) };
        assert!(png::decode(&encoded(Format::Png, 1), &mut budget).unwrap());
        assert!(!png::decode(&encoded(Format::Png, 1), &mut budget).unwrap());
        assert!(!gif::decode(&encoded(Format::Gif, 1), &mut budget).unwrap());
        assert!(!webp::decode(&webp(), &mut budget).unwrap());
    }
}
