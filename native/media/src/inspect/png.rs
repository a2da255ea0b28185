//! PNG and APNG by their chunks.

use std::io::Cursor;

use ::png::{Decoder, Limits};

use super::{Budget, Source, Walked, check_canvas};
use crate::{Error, Result, canvas::Rect, png_decode::delay};

const FORMAT: &str = "PNG";

/// Bytes that the decoder may allocate beside its output, which is a row at a time here.
const DECODER_BYTES: usize = 64 << 20;

pub(super) fn walk(source: &mut Source) -> Result<Walked> {
    source.format = FORMAT;
    source.skip(8, "the signature")?;
    let mut canvas = None;
    let (mut palette, mut data, mut announced) = (false, false, None);
    let (mut frames_here, mut total) = (0u64, 0.0);
    loop {
        if source.left() == 0 {
            return Err(source.bad("the chunk IEND is missing"));
        }
        let length = source.u32("a chunk")?;
        let name: [u8; 4] = source.bytes("a chunk")?;
        if !name.iter().all(u8::is_ascii_alphabetic) {
            return Err(source.bad(format_args!("{:?} is not the name of a chunk", name.escape_ascii().to_string())));
        }
        let chunk = format!("the chunk {}", name.escape_ascii());
        if u64::from(length) + 4 > source.left() {
            return Err(source.bad(format_args!("{chunk} claims {length} bytes where {} are left", source.left())));
        }
        let next = source.at() + u64::from(length) + 4;
        let expect = |wanted: u32| match length == wanted {
            true => Ok(()),
            false => Err(Error::bad(FORMAT, format_args!("{chunk} has {length} bytes, not {wanted}"))),
        };
        if (canvas.is_none()) != (name == *b"IHDR") {
            return Err(source.bad(format_args!("{chunk} is not where it belongs: IHDR comes first, and once")));
        }
        match &name {
            b"IHDR" => {
                expect(13)?;
                let (width, height) = (source.u32(&chunk)?, source.u32(&chunk)?);
                check_canvas(FORMAT, width, height, 1)?;
                let [depth, colour, compression, filter, interlace] = source.bytes(&chunk)?;
                let depths: &[u8] = match colour {
                    0 => &[1, 2, 4, 8, 16],
                    3 => &[1, 2, 4, 8],
                    2 | 4 | 6 => &[8, 16],
                    _ => return Err(source.bad(format_args!("{chunk} has the unknown colour type {colour}"))),
                };
                if !depths.contains(&depth) {
                    return Err(source.bad(format_args!("{chunk} has {depth} bits in colour type {colour}")));
                }
                if compression != 0 || filter != 0 || interlace > 1 {
                    return Err(source.bad(format_args!("{chunk} has an unknown compression, filter or interlace")));
                }
                canvas = Some((width, height, colour));
            }
            b"PLTE" => palette = true,
            b"acTL" => {
                expect(8)?;
                announced = Some(source.u32(&chunk)?).filter(|&frames| frames > 0);
            }
            b"fcTL" => {
                expect(26)?;
                source.skip(4, &chunk)?;
                let [width, height, x, y] =
                    [source.u32(&chunk)?, source.u32(&chunk)?, source.u32(&chunk)?, source.u32(&chunk)?];
                let (canvas_width, canvas_height, _) = canvas.unwrap_or_default();
                Rect { x, y, width, height }.check(FORMAT, canvas_width, canvas_height)?;
                let delay = delay(source.u16(&chunk)?, source.u16(&chunk)?);
                if announced.is_some_and(|announced| frames_here < u64::from(announced)) {
                    total += delay.milliseconds();
                }
                frames_here += 1;
            }
            b"IDAT" => {
                if canvas.is_some_and(|(_, _, colour)| colour == 3) && !palette {
                    return Err(source.bad("the chunk PLTE is missing before IDAT"));
                }
                data = true;
            }
            b"IEND" if !data => return Err(source.bad("the chunk IDAT is missing")),
            b"IEND" => break,
            _ => {}
        }
        source.skip(next - source.at(), &chunk)?;
    }
    let (width, height, _) = canvas.unwrap_or_default();
    let frames = announced.map_or(1, u64::from);
    check_canvas(FORMAT, width, height, frames)?;
    if announced.is_some() && frames_here < frames {
        return Err(source.bad(format_args!("the chunk acTL announces {frames} frames, there are {frames_here}")));
    }
    let duration_ms = announced.map(|_| total);
    let format = if announced.is_some() { "apng" } else { "png" };
    Ok(Walked { format, width, height, frames, duration_ms, codec: None })
}

pub(super) fn decode(bytes: &[u8], budget: &mut Budget) -> Result<bool> {
    let bad = |e: ::png::DecodingError| Error::bad(FORMAT, e);
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: DECODER_BYTES });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(bad)?;
    let animation = reader.info().animation_control().map_or(0, |control| control.num_frames);
    // A default image outside the animation comes in addition.
    let pictures = animation.max(1) + u32::from(animation > 0 && reader.info().frame_control().is_none());
    for picture in 0..pictures {
        let (mut width, mut height) = (reader.info().width, reader.info().height);
        if picture > 0 {
            let control = reader.next_frame_info().map_err(bad)?;
            (width, height) = (control.width, control.height);
        }
        if !budget.take(width, height)? {
            return Ok(false);
        }
        while reader.next_row().map_err(bad)?.is_some() {}
    }
    reader.finish().map_err(bad)?;
    Ok(true)
}
