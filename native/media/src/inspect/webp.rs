//! WebP by its chunks.

use super::{Budget, Source, Walked, check_canvas};
use crate::{Result, canvas::Rect, webp_decode};

const FORMAT: &str = "WebP";

/// A number of 3 bytes, the least first.
fn u24(bytes: [u8; 3]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0])
}

pub(super) fn walk(source: &mut Source) -> Result<Walked> {
    source.format = FORMAT;
    source.skip(4, "the chunk RIFF")?;
    let announced = u64::from(u32::from_le_bytes(source.bytes("the chunk RIFF")?)) + 8;
    // A byte of padding at the end, which some writers forget, is not missed.
    if announced < 12 || announced > source.length() + 1 {
        let length = source.length();
        return Err(source.bad(format_args!("the chunk RIFF claims {announced} bytes, the file has {length}")));
    }
    source.set_end(announced);
    source.skip(4, "the chunk RIFF")?;
    let (mut canvas, mut animated, mut picture) = (None, false, None);
    let (mut frames, mut total) = (0u64, 0u64);
    while let Some((name, end)) = chunk(source)? {
        match &name {
            b"VP8X" if canvas.is_none() && picture.is_none() => {
                let what = "the chunk VP8X";
                animated = source.u8(what)? & 2 != 0;
                source.skip(3, what)?;
                let (width, height) = (u24(source.bytes(what)?) + 1, u24(source.bytes(what)?) + 1);
                check_canvas(FORMAT, width, height, 1)?;
                canvas = Some((width, height));
            }
            b"ANMF" if animated => {
                let what = "the chunk ANMF";
                let [x, y, width, height, delay] = [
                    u24(source.bytes(what)?) * 2,
                    u24(source.bytes(what)?) * 2,
                    u24(source.bytes(what)?) + 1,
                    u24(source.bytes(what)?) + 1,
                    u24(source.bytes(what)?),
                ];
                let (canvas_width, canvas_height) = canvas.unwrap_or_default();
                Rect { x, y, width, height }.check(FORMAT, canvas_width, canvas_height)?;
                source.skip(1, what)?;
                let mut size = None;
                while let Some((name, end)) = chunk(source)? {
                    size = size.or(picture_size(source, name)?);
                    leave(source, end)?;
                }
                if size != Some((width, height)) {
                    return Err(source.bad(format_args!("{what} of {width}x{height} holds no picture of that size")));
                }
                frames += 1;
                total += u64::from(delay);
                check_canvas(FORMAT, canvas_width, canvas_height, frames)?;
            }
            _ if !animated => picture = picture.or(picture_size(source, name)?),
            _ => {}
        }
        leave(source, end)?;
    }
    let (width, height) = match (canvas, picture) {
        (Some(canvas), _) if animated && frames > 0 => canvas,
        (None, Some(picture)) => picture,
        (Some(canvas), Some(picture)) if canvas == picture => canvas,
        (Some((w, h)), Some((width, height))) => {
            return Err(source.bad(format_args!("the chunk VP8X says {w}x{h}, the picture is {width}x{height}")));
        }
        _ => return Err(source.bad("it holds no picture: the chunk VP8, VP8L or ANMF is missing")),
    };
    check_canvas(FORMAT, width, height, frames)?;
    let duration_ms = animated.then_some(total as f64);
    Ok(Walked { format: "webp", width, height, frames: frames.max(1), duration_ms, codec: None })
}

/// The next chunk's name and the end of what contains it; the source ends with the chunk until [`leave`].
fn chunk(source: &mut Source) -> Result<Option<([u8; 4], u64)>> {
    // A last odd byte is padding.
    if source.left() < 2 {
        return Ok(None);
    }
    let name: [u8; 4] = source.bytes("a chunk")?;
    let what = name.escape_ascii();
    let length = u64::from(u32::from_le_bytes(source.bytes("a chunk")?));
    if length > source.left() {
        return Err(source.bad(format_args!("the chunk {what} claims {length} bytes where {} are left", source.left())));
    }
    let end = source.at() + length;
    Ok(Some((name, source.set_end(end))))
}

/// Passes over the rest of a chunk and its padding.
fn leave(source: &mut Source, end: u64) -> Result<()> {
    source.skip(source.left(), "a chunk")?;
    source.set_end(end);
    if source.at() % 2 == 1 && source.left() > 0 { source.skip(1, "a chunk") } else { Ok(()) }
}

/// The size of the picture in a chunk, if it is one of a picture.
fn picture_size(source: &mut Source, name: [u8; 4]) -> Result<Option<(u32, u32)>> {
    let (width, height) = match &name {
        b"VP8 " => {
            let [tag, _, _, s0, s1, s2, w0, w1, h0, h1] = source.bytes("the chunk VP8")?;
            if tag & 1 != 0 || [s0, s1, s2] != [0x9d, 0x01, 0x2a] {
                return Err(source.bad("the chunk VP8 does not begin with a key frame"));
            }
            let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
            (side(w0, w1), side(h0, h1))
        }
        b"VP8L" => {
            let [signature, b0, b1, b2, b3] = source.bytes("the chunk VP8L")?;
            if signature != 0x2f {
                return Err(source.bad("the chunk VP8L does not begin with its signature"));
            }
            let bits = u32::from_le_bytes([b0, b1, b2, b3]);
            ((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1)
        }
        _ => return Ok(None),
    };
    check_canvas(FORMAT, width, height, 1)?;
    Ok(Some((width, height)))
}

pub(super) fn decode(bytes: &[u8], budget: &mut Budget) -> Result<bool> {
    webp_decode::each_picture(bytes, &mut |width, height| budget.take(width, height))
}
