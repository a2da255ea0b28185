//! Y4M (YUV4MPEG2) by its header and frames.

use super::{Source, Walked};
use crate::{
    Result,
    y4m::{FORMAT, Header, LONGEST_LINE},
};

/// The most frames: a week of them.
const MOST_FRAMES: u64 = 1 << 24;

pub(super) fn walk(source: &mut Source) -> Result<Walked> {
    source.format = FORMAT;
    let header = line(source, "the header")?;
    let header = Header::parse(&header)?;
    let size = header.frame_bytes();
    let mut frames = 0u64;
    while source.left() > 0 {
        let start: [u8; 5] = source.bytes("a FRAME")?;
        if start != *b"FRAME" {
            return Err(source.bad(format_args!("{:?} stands where a FRAME should", start.escape_ascii().to_string())));
        }
        line(source, "a FRAME")?;
        source.skip(size, "a FRAME")?;
        frames += 1;
        if frames > MOST_FRAMES {
            return Err(source.bad(format_args!("it has more than {MOST_FRAMES} frames")));
        }
    }
    if frames == 0 {
        return Err(source.bad("it has no FRAME"));
    }
    let codec = Some(format!("yuv {}", header.colour));
    let duration_ms =
        header.rate.map(|(count, seconds)| frames as f64 * 1000.0 * f64::from(seconds) / f64::from(count));
    Ok(Walked { format: "y4m", width: header.width, height: header.height, frames, duration_ms, codec })
}

/// The rest of a line, without its end.
fn line(source: &mut Source, what: &str) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    let ended = source.pass(|bytes| {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len()).min(LONGEST_LINE + 1)]);
        (end.map_or(bytes.len(), |end| end + 1), end.is_some() || line.len() > LONGEST_LINE)
    })?;
    match ended && line.len() <= LONGEST_LINE {
        true => Ok(line),
        false => Err(source.bad(format_args!("the line of {what} does not end"))),
    }
}
