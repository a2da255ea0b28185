//! GIF by its blocks.

use ::gif::{ColorOutput, DecodeOptions};

use super::{Budget, Source, Walked, check_canvas};
use crate::{Error, Result, canvas::Rect};

const FORMAT: &str = "GIF";

pub(super) fn walk(source: &mut Source) -> Result<Walked> {
    source.format = FORMAT;
    source.skip(6, "the signature")?;
    let screen = "the screen descriptor";
    let [w0, w1, h0, h1, flags, _, _] = source.bytes(screen)?;
    let (width, height) = (u16::from_le_bytes([w0, w1]).into(), u16::from_le_bytes([h0, h1]).into());
    check_canvas(FORMAT, width, height, 1)?;
    colours(source, flags)?;
    let (mut frames, mut delay, mut total) = (0u64, 0, 0u64);
    loop {
        match source.u8("the list of blocks")? {
            0x2c => {
                let image = "an image descriptor";
                let [x0, x1, y0, y1, w0, w1, h0, h1] = source.bytes(image)?;
                let side = |low, high| u16::from_le_bytes([low, high]).into();
                let rect = Rect { x: side(x0, x1), y: side(y0, y1), width: side(w0, w1), height: side(h0, h1) };
                rect.check(FORMAT, width, height)?;
                let flags = source.u8(image)?;
                colours(source, flags)?;
                let bits = source.u8("an image")?;
                if !(1..=11).contains(&bits) {
                    return Err(source.bad(format_args!("an image has codes of {bits} bits")));
                }
                blocks(source, "an image")?;
                frames += 1;
                check_canvas(FORMAT, width, height, frames)?;
                total += std::mem::take(&mut delay);
            }
            0x21 => match source.u8("an extension")? {
                0xf9 => {
                    let control = "a graphic control extension";
                    let size = source.u8(control)?;
                    if size != 4 {
                        return Err(source.bad(format_args!("{control} has {size} bytes, not 4")));
                    }
                    let [_, low, high, _] = source.bytes(control)?;
                    delay = u64::from(u16::from_le_bytes([low, high])) * 10;
                    blocks(source, control)?;
                }
                label => blocks(source, &format!("the extension {label:#04x}"))?,
            },
            0x3b => break,
            other => return Err(source.bad(format_args!("{other:#04x} is not the beginning of a block"))),
        }
    }
    if frames == 0 {
        return Err(source.bad("it holds no image"));
    }
    let duration_ms = (frames > 1).then_some(total as f64);
    Ok(Walked { format: "gif", width, height, frames, duration_ms, codec: None })
}

/// Passes over a table of colours, if the flags of its descriptor say that there is one.
fn colours(source: &mut Source, flags: u8) -> Result<()> {
    if flags & 0x80 == 0 { Ok(()) } else { source.skip(3 << ((flags & 7) + 1), "a table of colours") }
}

/// Passes over blocks up to the empty one.
fn blocks(source: &mut Source, what: &str) -> Result<()> {
    loop {
        match source.u8(what)? {
            0 => return Ok(()),
            size => source.skip(size.into(), what)?,
        }
    }
}

pub(super) fn decode(bytes: &[u8], budget: &mut Budget) -> Result<bool> {
    let bad = |e: ::gif::DecodingError| Error::bad(FORMAT, e);
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.check_frame_consistency(true);
    let mut decoder = options.read_info(bytes).map_err(bad)?;
    let mut part = vec![0; 1 << 16];
    while let Some(frame) = decoder.next_frame_info().map_err(bad)? {
        let (width, height) = (frame.width.into(), frame.height.into());
        if !budget.take(width, height)? {
            return Ok(false);
        }
        let mut left = u64::from(width) * u64::from(height);
        while left > 0 {
            let size = left.min(part.len() as u64) as usize;
            if !decoder.fill_buffer(&mut part[..size]).map_err(bad)? {
                return Err(Error::bad(FORMAT, "an image is cut short"));
            }
            left -= size as u64;
        }
    }
    Ok(true)
}
