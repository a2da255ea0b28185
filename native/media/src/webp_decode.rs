//! WebP in. The still decoder is `image-webp`; the animation is walked here, because disposal and
//! opaque frames are not composited right by its own animation reader (0.2.4).

use std::io::Cursor;

use image_webp::WebPDecoder;

use crate::{
    Error, Result,
    canvas::{Blend, Canvas, Rect},
    limits,
    stream::{OnPicture, Picture, Seconds},
};

const FORMAT: &str = "WebP";

/// One `ANMF` chunk: where it goes, how long it stays and its picture as a WebP file of its own.
struct Shown<'a> {
    rect: Rect,
    delay_ms: u32,
    blend: Blend,
    dispose: bool,
    payload: &'a [u8],
}

/// What the container says, before any pixel is decoded.
struct Layout<'a> {
    /// Canvas size and frames of an animation; `None` for a still.
    animation: Option<(u32, u32, Vec<Shown<'a>>)>,
}

/// How many frames a WebP file shows (1 for a still), from its chunk headers alone.
pub(crate) fn frame_count(bytes: &[u8]) -> Result<usize> {
    Ok(layout(bytes)?.animation.map_or(1, |(_, _, frames)| frames.len()))
}

/// The frames in order, composited; a still has no duration.
pub(crate) fn stream(bytes: &[u8], on_picture: OnPicture<'_>) -> Result<()> {
    let Some((width, height, shown)) = layout(bytes)?.animation else {
        let (width, height, pixels) = still(bytes, None)?;
        on_picture(Picture { width, height, rgba: &pixels, duration: Seconds::NONE })?;
        return Ok(());
    };
    let mut canvas = Canvas::new(width, height);
    for frame in &shown {
        let (_, _, pixels) = still(&alone(frame), Some((frame.rect.width, frame.rect.height)))?;
        canvas.draw(frame.rect, &pixels, frame.blend);
        let duration = Seconds::new(frame.delay_ms.into(), 1000);
        if !on_picture(Picture { width, height, rgba: &canvas.pixels, duration })? {
            return Ok(());
        }
        if frame.dispose {
            canvas.clear(frame.rect);
        }
    }
    Ok(())
}

/// Decodes every picture and drops it, until `take`, which gets its size first, says no; whether it never did.
pub(crate) fn each_picture(bytes: &[u8], take: &mut dyn FnMut(u32, u32) -> Result<bool>) -> Result<bool> {
    let Some((_, _, shown)) = layout(bytes)?.animation else {
        let (width, height) = WebPDecoder::new(Cursor::new(bytes)).map_err(|e| Error::bad(FORMAT, e))?.dimensions();
        if !take(width, height)? {
            return Ok(false);
        }
        still(bytes, None)?;
        return Ok(true);
    };
    for frame in &shown {
        if !take(frame.rect.width, frame.rect.height)? {
            return Ok(false);
        }
        still(&alone(frame), Some((frame.rect.width, frame.rect.height)))?;
    }
    Ok(true)
}

/// Decodes a file that holds one picture; with `expected`, of that size and no other.
fn still(bytes: &[u8], expected: Option<(u32, u32)>) -> Result<(u32, u32, Vec<u8>)> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|e| Error::bad(FORMAT, e))?;
    let (width, height) = decoder.dimensions();
    limits::check(FORMAT, width, height, 1)?;
    if let Some((w, h)) = expected
        && (w, h) != (width, height)
    {
        return Err(Error::bad(FORMAT, format!("a frame is {width}x{height} where {w}x{h} was announced")));
    }
    decoder.set_memory_limit(limits::MAX_BYTES as usize);
    let alpha = decoder.has_alpha();
    let mut pixels = vec![0; width as usize * height as usize * if alpha { 4 } else { 3 }];
    decoder.read_image(&mut pixels).map_err(|e| Error::bad(FORMAT, e))?;
    if !alpha {
        pixels = pixels.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    }
    Ok((width, height, pixels))
}

/// Wraps a frame's chunks into a WebP file of its own.
fn alone(frame: &Shown<'_>) -> Vec<u8> {
    let extended = frame.payload.starts_with(b"ALPH");
    let body = 4 + if extended { 18 } else { 0 } + frame.payload.len();
    let mut file = Vec::with_capacity(8 + body);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(body as u32).to_le_bytes());
    file.extend_from_slice(b"WEBP");
    if extended {
        file.extend_from_slice(b"VP8X\x0a\0\0\0\x10\0\0\0");
        file.extend_from_slice(&(frame.rect.width - 1).to_le_bytes()[..3]);
        file.extend_from_slice(&(frame.rect.height - 1).to_le_bytes()[..3]);
    }
    file.extend_from_slice(frame.payload);
    file
}

fn layout(bytes: &[u8]) -> Result<Layout<'_>> {
    if bytes.len() < 20 || !bytes.starts_with(b"RIFF") || &bytes[8..12] != b"WEBP" {
        return Err(Error::bad(FORMAT, "it does not start with a RIFF WEBP header"));
    }
    let announced = u64::from(u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])) + 8;
    // A byte of padding at the end, which some writers forget, is not missed.
    if announced > bytes.len() as u64 + 1 {
        return Err(Error::bad(FORMAT, format!("it has {} bytes where {announced} were announced", bytes.len())));
    }
    let mut chunks = Chunks { bytes, at: 12 };
    let Some((name, header)) = chunks.next()? else {
        return Err(Error::bad(FORMAT, "it holds no picture"));
    };
    if name != *b"VP8X" || header.first().is_none_or(|flags| flags & 2 == 0) {
        return Ok(Layout { animation: None });
    }
    if header.len() < 10 {
        return Err(Error::bad(FORMAT, "its VP8X header is cut short"));
    }
    let (width, height) = (u24(&header[4..]) + 1, u24(&header[7..]) + 1);
    limits::check(FORMAT, width, height, 1)?;
    let mut shown = Vec::new();
    while let Some((name, chunk)) = chunks.next()? {
        if name != *b"ANMF" {
            continue;
        }
        if chunk.len() < 24 {
            return Err(Error::bad(FORMAT, "a frame is cut short"));
        }
        let rect = Rect {
            x: u24(chunk) * 2,
            y: u24(&chunk[3..]) * 2,
            width: u24(&chunk[6..]) + 1,
            height: u24(&chunk[9..]) + 1,
        };
        rect.check(FORMAT, width, height)?;
        shown.push(Shown {
            rect,
            delay_ms: u24(&chunk[12..]),
            blend: if chunk[15] & 2 == 0 { Blend::Over } else { Blend::Source },
            dispose: chunk[15] & 1 != 0,
            payload: &chunk[16..],
        });
    }
    if shown.is_empty() {
        return Err(Error::bad(FORMAT, "it is an animation without frames"));
    }
    Ok(Layout { animation: Some((width, height, shown)) })
}

/// RIFF chunks with their padding; a chunk that runs past the end of the file is an error.
struct Chunks<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Chunks<'a> {
    fn next(&mut self) -> Result<Option<([u8; 4], &'a [u8])>> {
        let Some(header) = self.bytes.get(self.at..self.at + 8) else {
            return Ok(None);
        };
        let name = [header[0], header[1], header[2], header[3]];
        let long = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let start = self.at + 8;
        let chunk = start
            .checked_add(long)
            .and_then(|end| self.bytes.get(start..end))
            .ok_or_else(|| Error::bad(FORMAT, "a chunk runs past the end of the file"))?;
        self.at = start + long + (long & 1);
        Ok(Some((name, chunk)))
    }
}

fn u24(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0])
}
