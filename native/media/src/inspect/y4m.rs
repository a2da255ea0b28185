//! Y4M (YUV4MPEG2) by its header and frames.

use super::{Source, Walked, check_canvas};
use crate::Result;

const FORMAT: &str = "Y4M";

/// The most frames: a week of them.
const MOST_FRAMES: u64 = 1 << 24;
/// The longest line, in bytes.
const LONGEST_LINE: usize = 4096;

pub(super) fn walk(source: &mut Source) -> Result<Walked> {
    source.format = FORMAT;
    let header = line(source, "the header")?;
    let (mut width, mut height, mut rate, mut colour) = (None, None, None, "420jpeg");
    let header = String::from_utf8_lossy(&header);
    for parameter in header.split(' ').skip(1).filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_at(parameter.chars().next().map_or(0, char::len_utf8));
        let side = || match value.parse::<u32>() {
            Ok(side) => Ok(Some(side)),
            Err(_) => Err(source.bad(format_args!("the header's {parameter:?} is not a size"))),
        };
        match name {
            "W" => width = side()?,
            "H" => height = side()?,
            "F" => {
                let parts =
                    value.split_once(':').and_then(|(n, d)| Some((n.parse::<u32>().ok()?, d.parse::<u32>().ok()?)));
                match parts {
                    Some((frames, seconds)) if frames > 0 && seconds > 0 => rate = Some((frames, seconds)),
                    _ => return Err(source.bad(format_args!("the header's {parameter:?} is not a frame rate"))),
                }
            }
            "C" => colour = value,
            _ => {}
        }
    }
    let (Some(width), Some(height)) = (width, height) else {
        return Err(source.bad("the header has no width W or no height H"));
    };
    check_canvas(FORMAT, width, height, 1)?;
    let Some(size) = frame_bytes(width.into(), height.into(), colour) else {
        return Err(source.bad(format_args!("the header's colours C{colour} are not known")));
    };
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
    let codec = Some(format!("yuv {colour}"));
    let duration_ms = rate.map(|(count, seconds)| frames as f64 * 1000.0 * f64::from(seconds) / f64::from(count));
    Ok(Walked { format: "y4m", width, height, frames, duration_ms, codec })
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

/// Bytes of a frame in a colour space such as `420jpeg`, `422p10` or `mono`.
fn frame_bytes(width: u64, height: u64, colour: &str) -> Option<u64> {
    let (space, depth) = match colour.split_once('p') {
        Some((space, depth)) if depth.bytes().all(|digit| digit.is_ascii_digit()) => (space, depth.parse().ok()?),
        _ => match colour.strip_prefix("mono") {
            Some(depth) if !depth.is_empty() => ("mono", depth.parse().ok()?),
            _ => (colour, 8),
        },
    };
    if !(8..=16).contains(&depth) {
        return None;
    }
    let chroma = match space {
        "mono" => 0,
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => width.div_ceil(2) * height.div_ceil(2),
        "411" => width.div_ceil(4) * height,
        "422" => width.div_ceil(2) * height,
        "444" => width * height,
        "444alpha" => width * height * 3 / 2,
        _ => return None,
    };
    let samples = width * height + 2 * chroma;
    Some(if depth > 8 { 2 * samples } else { samples })
}

#[cfg(test)]
mod tests {
    use super::frame_bytes;

    #[test]
    fn frames_have_the_size_of_their_planes() {
        assert_eq!(frame_bytes(6, 5, "420jpeg"), Some(30 + 2 * 9));
        assert_eq!(frame_bytes(6, 5, "420p10"), Some(2 * (30 + 2 * 9)));
        assert_eq!(frame_bytes(6, 5, "420paldv"), Some(30 + 2 * 9));
        assert_eq!(frame_bytes(6, 5, "422"), Some(30 + 2 * 15));
        assert_eq!(frame_bytes(6, 5, "mono"), Some(30));
        assert_eq!(frame_bytes(6, 5, "mono16"), Some(60));
        assert_eq!(frame_bytes(6, 5, "444alpha"), Some(30 * 4));
        for unknown in ["", "421", "420p99", "monox"] {
            assert_eq!(frame_bytes(6, 5, unknown), None, "{unknown}");
        }
    }
}
