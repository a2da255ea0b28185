//! Frames one after the other, as a viewer shows them: a film need not fit into memory whole.

use crate::{
    Container, Error, Result, gif_decode, jpeg_decode, mp4_decode, orientation::Orientation, png_decode, webp_decode,
    y4m, yuv::OnPlanes,
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
