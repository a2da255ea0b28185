//! JPEG by its markers.

use super::{Budget, Source, Walked, check_canvas};
use crate::{Error, Result, jpeg_decode};

const FORMAT: &str = "JPEG";

pub(super) fn walk(source: &mut Source) -> Result<Walked> {
    source.format = FORMAT;
    source.skip(2, "the marker SOI")?;
    let (mut frame, mut scans) = (None, 0u32);
    loop {
        if source.u8("the list of markers")? != 0xff {
            return Err(source.bad("a segment is not followed by a marker"));
        }
        let marker = loop {
            match source.u8("a marker")? {
                0xff => {}
                marker => break marker,
            }
        };
        let what = format!("the segment of marker {marker:#04x}");
        match marker {
            0xd9 => break,
            0x01 | 0xd0..=0xd7 => continue,
            0x00 | 0xd8 => return Err(source.bad(format_args!("the marker {marker:#04x} is not where it belongs"))),
            _ => {}
        }
        let length = u64::from(source.u16(&what)?);
        if length < 2 || length - 2 > source.left() {
            let left = source.left();
            return Err(source.bad(format_args!("{what} claims {length} bytes where {left} are left")));
        }
        let end = source.at() + length - 2;
        match marker {
            // All frame headers but those of other tables between them.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let bits = source.u8(&what)?;
                let (height, width) = (source.u16(&what)?.into(), source.u16(&what)?.into());
                let components = source.u8(&what)?;
                if frame.is_some() {
                    return Err(source.bad("it has two frame headers"));
                }
                check_canvas(FORMAT, width, height, 1)?;
                if !matches!(bits, 8 | 12 | 16)
                    || !(1..=4).contains(&components)
                    || length != 8 + 3 * u64::from(components)
                {
                    return Err(source.bad(format_args!("{what} has {components} components of {bits} bits")));
                }
                frame = Some((width, height, marker));
            }
            0xda if frame.is_none() => return Err(source.bad("a scan comes before the frame header")),
            0xda => scans += 1,
            _ => {}
        }
        if source.at() > end {
            return Err(source.bad(format_args!("{what} is cut short")));
        }
        source.skip(end - source.at(), &what)?;
        if marker == 0xda && !scan(source)? {
            return Err(source.bad("the scan does not end: the marker EOI is missing"));
        }
    }
    let Some((width, height, marker)) = frame.filter(|_| scans > 0) else {
        return Err(source.bad("it holds no picture: the frame header or the scan is missing"));
    };
    let codec = match marker {
        0xc0 | 0xc1 => "baseline",
        0xc2 => "progressive",
        _ => "another process",
    };
    Ok(Walked { format: "jpeg", width, height, frames: 1, duration_ms: None, codec: Some(codec.into()) })
}

/// Passes over a scan's data up to the marker after it; restart markers and stuffed zeros belong to the data.
fn scan(source: &mut Source) -> Result<bool> {
    loop {
        let found = source.pass(|bytes| match bytes.iter().position(|&byte| byte == 0xff) {
            Some(at) => (at, true),
            None => (bytes.len(), false),
        })?;
        if !found {
            return Ok(false);
        }
        match source.peek()? {
            None => return Ok(false),
            Some([_, 0x00 | 0xd0..=0xd7]) => source.skip(2, "a scan")?,
            Some([_, 0xff]) => source.skip(1, "a scan")?,
            Some(_) => return Ok(true),
        }
    }
}

/// What this library does not decode is known by its structure alone.
pub(super) fn decode(bytes: &[u8], budget: &mut Budget) -> Result<bool> {
    let (width, height) = match jpeg_decode::size(bytes) {
        Err(Error::Unsupported { .. }) => return Ok(false),
        size => size?,
    };
    if !budget.take(width, height)? {
        return Ok(false);
    }
    jpeg_decode::stream(bytes, &mut |_| Ok(true))?;
    Ok(true)
}
