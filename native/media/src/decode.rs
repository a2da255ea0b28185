use std::{fs, path::Path};

use crate::{Error, Frames, Result, limits, stream};

/// What kind of file some bytes are, by their first bytes (never by a name).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// PNG, still or animated (APNG).
    Png,
    /// GIF.
    Gif,
    /// WebP, still or animated.
    WebP,
    /// JPEG.
    Jpeg,
    /// Y4M.
    Y4m,
    /// MP4 and QuickTime.
    Mp4,
}

impl Container {
    /// In one word: `"png"`, `"gif"`, `"webp"`, `"jpeg"`, `"y4m"` or `"mp4"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Gif => "gif",
            Self::WebP => "webp",
            Self::Jpeg => "jpeg",
            Self::Y4m => "y4m",
            Self::Mp4 => "mp4",
        }
    }

    /// Looks at the magic bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
            Some(Self::Gif)
        } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            Some(Self::WebP)
        } else if bytes.starts_with(b"\xff\xd8\xff") {
            Some(Self::Jpeg)
        } else if bytes.starts_with(b"YUV4MPEG2 ") || bytes.starts_with(b"YUV4MPEG2\n") {
            Some(Self::Y4m)
        } else if bytes.get(4..8) == Some(b"ftyp") {
            Some(Self::Mp4)
        } else {
            None
        }
    }
}

/// Reads a file that is to be decoded.
///
/// # Errors
/// [`Error::Io`] with the path; [`Error::BadFile`] when it is a folder, or longer than [`limits::MAX_FILE`].
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::io(format!("cannot read {}", path.display()), e);
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::bad("picture", "it is not a file").of(path));
    }
    if metadata.len() > limits::MAX_FILE {
        return Err(Error::bad("picture", "it is larger than 1 GiB").of(path));
    }
    fs::read(path).map_err(failed)
}

/// Decodes all frames of a file that [`stream`] reads, and holds them.
///
/// # Errors
/// As [`stream`]; [`Error::BadFile`] also when all frames together are larger than the [`limits`](crate::limits).
pub fn decode(bytes: &[u8]) -> Result<Frames> {
    let mut all = Frames { width: 0, height: 0, frames: Vec::new(), delays_ms: Vec::new(), alpha: false };
    stream(bytes, &mut |picture| {
        (all.width, all.height) = (picture.width, picture.height);
        limits::check("picture", picture.width, picture.height, all.frames.len() as u64 + 1)?;
        all.frames.push(picture.rgba.to_vec());
        all.delays_ms.push(picture.duration.milliseconds().round() as u32);
        Ok(true)
    })?;
    all.alpha = Frames::find_alpha(&all.frames);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use image_webp::{ColorType, WebPEncoder};

    use super::*;
    use crate::webp_decode;

    fn webp(rgba: [u8; 4], side: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let pixels = rgba.repeat((side * side) as usize);
        WebPEncoder::new(&mut bytes).encode(&pixels, side, side, ColorType::Rgba8).unwrap();
        bytes
    }

    /// An animation of 2-pixel squares on a 4 x 4 canvas: (x, y, flags, colour), flags 1 to dispose, 2 to replace.
    fn animation(frames: &[(u8, u8, u8, [u8; 4])]) -> Vec<u8> {
        let mut body = b"WEBPVP8X\x0a\0\0\0\x12\0\0\0\x03\0\0\x03\0\0".to_vec();
        body.extend(b"ANIM\x06\0\0\0\0\0\0\0\0\0");
        for &(x, y, flags, colour) in frames {
            let picture = &webp(colour, 2)[12..];
            body.extend(b"ANMF");
            body.extend((16 + picture.len() as u32).to_le_bytes());
            body.extend([x / 2, 0, 0, y / 2, 0, 0, 1, 0, 0, 1, 0, 0, 42, 0, 0, flags]);
            body.extend(picture);
        }
        [&b"RIFF"[..], &(body.len() as u32).to_le_bytes(), &body].concat()
    }

    #[test]
    fn webp_animations_are_composited() {
        let (red, green, glass) = ([255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 0, 0]);
        let file = animation(&[(0, 0, 1, red), (2, 2, 0, green), (2, 2, 0, glass), (2, 2, 2, glass)]);
        let clip = decode(&file).unwrap();
        assert_eq!((clip.width, clip.height, clip.delays_ms.as_slice()), (4, 4, &[42; 4][..]));
        let corners =
            |frame: &[u8]| -> [[u8; 4]; 2] { [frame[..4].try_into().unwrap(), frame[60..].try_into().unwrap()] };
        let shown: Vec<_> = clip.frames.iter().map(|frame| corners(frame)).collect();
        // The first frame is disposed of; glass over green leaves it, in its place it does not.
        assert_eq!(shown, [[red, glass], [glass, green], [glass, green], [glass, glass]]);
        assert_eq!(webp_decode::frame_count(&file).unwrap(), 4);
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let mut png = Vec::new();
        let frames = Frames::from_rgb(4, 4, &[vec![9; 48], vec![99; 48]]).unwrap();
        let timing = crate::Timing::Fps(8.0);
        crate::encode(&frames, crate::Format::Png, &timing, &mut png, &|_, _| Ok(())).unwrap();
        let mut gif = Vec::new();
        crate::encode(&frames, crate::Format::Gif, &timing, &mut gif, &|_, _| Ok(())).unwrap();
        for file in [png, gif, webp([1, 2, 3, 4], 4), animation(&[(0, 0, 0, [7; 4]), (2, 0, 0, [8; 4])])] {
            assert!(decode(&file).is_ok());
            for end in 0..file.len() {
                let _ = decode(&file[..end]);
            }
            for at in 0..file.len() {
                for change in [0x01, 0x80, 0xff] {
                    let mut file = file.clone();
                    file[at] ^= change;
                    let _ = decode(&file);
                }
            }
        }
        assert!(matches!(decode(b""), Err(Error::BadFile { .. })));
        assert!(matches!(decode(b"text"), Err(Error::BadFile { .. })));
    }

    #[test]
    fn unreadable_files_are_named() {
        let folder = std::env::temp_dir();
        assert!(read(&folder).unwrap_err().to_string().contains(&folder.display().to_string()));
        assert!(matches!(read(&folder.join("kinora-none")), Err(Error::Io { .. })));
    }
}
