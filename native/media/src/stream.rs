//! Frames one after the other, as a viewer shows them: a film need not fit into memory whole.

use crate::{
    Container, Error, Result, foreign, gif_decode, jpeg_decode, mp4_decode, orientation::Orientation, png_decode,
    webp_decode, y4m, yuv::OnPlanes,
};

/// A time in seconds as a fraction, which is how files give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds {
    /// How many parts.
    pub ticks: u64,
    /// Parts of a second, at least 1.
    pub per_second: u32,
}

impl Seconds {
    /// No time: what a still has.
    pub const NONE: Self = Self { ticks: 0, per_second: 1000 };

    /// A fraction; of a denominator of 0 is made 1.
    #[must_use]
    pub fn new(ticks: u64, per_second: u32) -> Self {
        Self { ticks, per_second: per_second.max(1) }
    }

    /// In milliseconds.
    #[must_use]
    pub fn milliseconds(self) -> f64 {
        self.ticks as f64 * 1000.0 / f64::from(self.per_second)
    }
}

/// One whole picture of a stream.
pub struct Picture<'a> {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `width * height` pixels of straight RGBA, rows from the top.
    pub rgba: &'a [u8],
    /// How long it stays, exactly as the file says; [`Seconds::NONE`] in a still.
    pub duration: Seconds,
}

/// Gets each picture in the order they are shown, and says whether it wants another.
pub type OnPicture<'a> = &'a mut dyn FnMut(Picture<'_>) -> Result<bool>;

/// Decodes the frames of a file in the order they are shown, each composited to the full canvas (blending and disposal
/// done) and turned as its EXIF orientation says. Besides the bytes, a few frames at most are held at a time.
///
/// # Errors
/// [`Error::BadFile`] when the bytes are no known format, are damaged, or a frame is larger than the
/// [`limits`](crate::limits); [`Error::Unsupported`] when they are whole and of a kind that is not decoded; whatever
/// `on_picture` returns.
pub fn stream(bytes: &[u8], on_picture: OnPicture<'_>) -> Result<()> {
    foreign::refuse(bytes)?;
    let Some(container) = Container::of(bytes) else {
        let what = if bytes.is_empty() { "it is empty" } else { "it is not a PNG, JPEG, GIF, WebP, MP4 or Y4M file" };
        return Err(Error::bad("picture", what));
    };
    let orientation = Orientation::of(container, bytes);
    let mut turned = Vec::new();
    let mut on_picture = |picture: Picture<'_>| {
        if orientation == Orientation::UPRIGHT {
            return on_picture(picture);
        }
        let (width, height) = orientation.turn(picture.rgba, (picture.width, picture.height), &mut turned);
        on_picture(Picture { width, height, rgba: &turned, duration: picture.duration })
    };
    match container {
        Container::Png => png_decode::stream(bytes, &mut on_picture),
        Container::Gif => gif_decode::stream(bytes, &mut on_picture),
        Container::WebP => webp_decode::stream(bytes, &mut on_picture),
        Container::Jpeg => jpeg_decode::stream(bytes, &mut on_picture),
        Container::Y4m => y4m::stream(bytes, &mut on_picture),
        Container::Mp4 => mp4_decode::stream(bytes, &mut on_picture),
    }
}

/// The planes of each frame of an MP4 or Y4M file as they are stored, in 8 bits: neither turned nor converted.
///
/// # Errors
/// As [`stream`]; [`Error::Unsupported`] for a format that has no planes.
pub fn planes(bytes: &[u8], on_planes: OnPlanes<'_>) -> Result<()> {
    match Container::of(bytes) {
        Some(Container::Y4m) => y4m::planes(bytes, on_planes),
        Some(Container::Mp4) => mp4_decode::planes(bytes, on_planes),
        Some(_) => Err(Error::unsupported("media", "it has no planes; MP4 and Y4M have")),
        None => Err(Error::bad("media", "it is not an MP4 or Y4M file")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/media/fixtures");

    fn all(bytes: &[u8]) -> Result<u64> {
        let mut sum = 0;
        stream(bytes, &mut |picture| {
            assert_eq!(picture.rgba.len(), picture.width as usize * picture.height as usize * 4);
            sum += u64::from(picture.rgba[0]) + 1;
            Ok(true)
        })?;
        Ok(sum)
    }

    /// Cut anywhere and with bits turned over, by numbers from a seed: an error or a picture, never a panic.
    #[test]
    fn damage_of_other_programs_files_is_never_a_panic() {
        for name in
            ["jpeg.jpg", "jpeg_progressive_420.jpg", "y4m.y4m", "gif_delays.gif", "gif_transparent_disposal2.gif"]
                .into_iter()
                .chain(["jpeg_420_restart.jpg", "jpeg_440_progressive.jpg", "jpeg_cmyk.jpg", "fragmented/no_base.mp4"])
                .chain(["apng_alpha_disposal.png", "png_palette.png", "webp_lossy.webp", "webp_lossless_alpha.webp"])
        {
            let file = std::fs::read(Path::new(FIXTURES).join(name)).unwrap();
            assert!(all(&file).unwrap() > 0, "{name}");
            for end in (0..file.len()).step_by(file.len() / 100 + 1) {
                let _ = all(&file[..end]);
            }
            let mut seed = 1u64;
            for _ in 0..300 {
                let mut damaged = file.clone();
                for _ in 0..=seed % 4 {
                    // Knuth's generator; its high bits are good.
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let at = (seed >> 33) as usize % damaged.len();
                    damaged[at] ^= 1 << (seed >> 61);
                }
                let _ = all(&damaged);
                let _ = crate::inspect::tests::inspect_bytes(&damaged);
            }
        }
    }

    #[test]
    fn a_reader_that_has_enough_is_not_given_more() {
        let file = std::fs::read(Path::new(FIXTURES).join("gif_delays.gif")).unwrap();
        let mut count = 0;
        stream(&file, &mut |_| {
            count += 1;
            Ok(count < 2)
        })
        .unwrap();
        assert_eq!(count, 2);
        let failed = stream(&file, &mut |_| Err(Error::Cancelled));
        assert!(matches!(failed, Err(Error::Cancelled)));
    }
}
