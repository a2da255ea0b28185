//! Y4M (YUV4MPEG2), in and out.

use std::io::Write;

use crate::{
    Error, Frames, Progress, Result, Timing, limits,
    progress::Steps,
    stream::{OnPicture, Picture, Seconds},
    yuv::{Colours, OnPlanes, Planes, Sampling, ToRgb, from_rgb},
};

pub(crate) const FORMAT: &str = "Y4M";

/// The longest line, in bytes.
pub(crate) const LONGEST_LINE: usize = 4096;

/// What the first line says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Header {
    pub width: u32,
    pub height: u32,
    /// Frames in so many seconds; `None` where it is not said.
    pub rate: Option<(u32, u32)>,
    /// For example `420jpeg`.
    pub colour: String,
    full_range: bool,
    space: Space,
}

/// Where samples are, of what depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Space {
    /// Pixels of a chroma sample across and down; `None` in a grey picture.
    chroma: Option<(u32, u32)>,
    alpha: bool,
    depth: u32,
}

impl Header {
    /// Reads the first line, without its end.
    pub(crate) fn parse(line: &[u8]) -> Result<Self> {
        let bad = |what: std::fmt::Arguments<'_>| Error::bad(FORMAT, what);
        let (mut width, mut height, mut rate, mut colour, mut full_range) = (None, None, None, "420jpeg", false);
        let line = String::from_utf8_lossy(line);
        for parameter in line.split(' ').skip(1).filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_at(parameter.chars().next().map_or(0, char::len_utf8));
            let side = || match value.parse::<u32>() {
                Ok(side) => Ok(Some(side)),
                Err(_) => Err(bad(format_args!("the header's {parameter:?} is not a size"))),
            };
            match name {
                "W" => width = side()?,
                "H" => height = side()?,
                "F" => {
                    let parts =
                        value.split_once(':').and_then(|(n, d)| Some((n.parse::<u32>().ok()?, d.parse::<u32>().ok()?)));
                    match parts {
                        Some((frames, seconds)) if frames > 0 && seconds > 0 => rate = Some((frames, seconds)),
                        _ => return Err(bad(format_args!("the header's {parameter:?} is not a frame rate"))),
                    }
                }
                "C" => colour = value,
                "X" if value == "COLORRANGE=FULL" => full_range = true,
                _ => {}
            }
        }
        let (Some(width), Some(height)) = (width, height) else {
            return Err(bad(format_args!("the header has no width W or no height H")));
        };
        limits::check(FORMAT, width, height, 1)?;
        let Some(space) = Space::of(colour) else {
            return Err(bad(format_args!("the header's colours C{colour} are not known")));
        };
        Ok(Self { width, height, rate, colour: colour.to_owned(), full_range, space })
    }

    /// Bytes of a frame.
    pub(crate) fn frame_bytes(&self) -> u64 {
        self.space.frame_bytes(self.width.into(), self.height.into())
    }
}

impl Space {
    /// Of a name such as `420jpeg`, `422p10` or `mono`.
    fn of(colour: &str) -> Option<Self> {
        let (space, depth) = match colour.split_once('p') {
            Some((space, depth)) if !depth.is_empty() && depth.bytes().all(|digit| digit.is_ascii_digit()) => {
                (space, depth.parse().ok()?)
            }
            _ => match colour.strip_prefix("mono") {
                Some(depth) if !depth.is_empty() => ("mono", depth.parse().ok()?),
                _ => (colour, 8),
            },
        };
        if !(8..=16).contains(&depth) {
            return None;
        }
        let chroma = match space {
            "mono" => None,
            "420" | "420jpeg" | "420mpeg2" | "420paldv" => Some((2, 2)),
            "411" => Some((4, 1)),
            "422" => Some((2, 1)),
            "444" | "444alpha" => Some((1, 1)),
            _ => return None,
        };
        Some(Self { chroma, alpha: space == "444alpha", depth })
    }

    fn frame_bytes(self, width: u64, height: u64) -> u64 {
        let chroma = self.chroma.map_or(0, |(x, y)| width.div_ceil(x.into()) * height.div_ceil(y.into()));
        let samples = width * height * if self.alpha { 2 } else { 1 } + 2 * chroma;
        if self.depth > 8 { 2 * samples } else { samples }
    }
}

/// The planes of each frame, in 8 bits: deeper ones are rounded. Fields of interlaced films stay woven.
pub(crate) fn planes(bytes: &[u8], on_planes: OnPlanes<'_>) -> Result<()> {
    let (line, mut rest) = split_line(bytes, "the header")?;
    let header = Header::parse(line)?;
    let size = header.frame_bytes() as usize;
    let colours = Colours { full_range: header.full_range, ..Colours::USUAL };
    let duration = header.rate.map_or(Seconds::NONE, |(frames, seconds)| Seconds::new(seconds.into(), frames));
    let (width, height) = (header.width as usize, header.height as usize);
    let (chroma_width, chroma_height) =
        header.space.chroma.map_or((0, 0), |(x, y)| (width.div_ceil(x as usize), height.div_ceil(y as usize)));
    if rest.is_empty() {
        return Err(Error::bad(FORMAT, "it has no FRAME"));
    }
    while !rest.is_empty() {
        if !rest.starts_with(b"FRAME") {
            return Err(Error::bad(FORMAT, "something else stands where a FRAME should"));
        }
        let (_, after) = split_line(rest, "a FRAME")?;
        let Some((mut frame, after)) = after.split_at_checked(size) else {
            return Err(Error::bad(FORMAT, "a FRAME is cut short"));
        };
        rest = after;
        let mut plane = |samples: usize| -> Vec<u8> {
            if header.space.depth == 8 {
                let (plane, after) = frame.split_at(samples);
                frame = after;
                return plane.to_vec();
            }
            let (plane, after) = frame.split_at(samples * 2);
            frame = after;
            let shift = header.space.depth - 8;
            let half = (1u32 << shift) >> 1;
            plane
                .chunks_exact(2)
                .map(|v| ((u32::from(u16::from_le_bytes([v[0], v[1]])) + half) >> shift).min(255) as u8)
                .collect()
        };
        let (y, u, v) =
            (plane(width * height), plane(chroma_width * chroma_height), plane(chroma_width * chroma_height));
        let alpha = if header.space.alpha { plane(width * height) } else { Vec::new() };
        let planes = Planes { width, height, chroma_width, chroma_height, y, u, v, alpha };
        if !on_planes(&planes, colours, duration)? {
            break;
        }
    }
    Ok(())
}

/// A line, without its end, and what follows it.
fn split_line<'a>(bytes: &'a [u8], what: &str) -> Result<(&'a [u8], &'a [u8])> {
    match bytes.iter().take(LONGEST_LINE + 1).position(|&byte| byte == b'\n') {
        Some(end) => Ok((&bytes[..end], &bytes[end + 1..])),
        None => Err(Error::bad(FORMAT, format!("the line of {what} does not end"))),
    }
}

pub(crate) fn stream(bytes: &[u8], on_picture: OnPicture<'_>) -> Result<()> {
    let mut rgba = Vec::new();
    let mut to_rgb: Option<ToRgb> = None;
    planes(bytes, &mut |planes, colours, duration| {
        to_rgb.get_or_insert_with(|| ToRgb::new(colours)).rgba(planes, &mut rgba);
        on_picture(Picture { width: planes.width as u32, height: planes.height as u32, rgba: &rgba, duration })
    })
}

/// Writes 4:4:4 in BT.601, limited range: no chroma is lost. Transparency becomes white.
pub(crate) fn encode(frames: &Frames, timing: &Timing, writer: &mut dyn Write, progress: Progress<'_>) -> Result<()> {
    let (rate, seconds) = timing.steady_rate("Y4M")?;
    let failed = |e| Error::io("cannot write the Y4M", e);
    let steps = Steps::new(frames.frames.len(), progress);
    let (width, height) = (frames.width, frames.height);
    writeln!(writer, "YUV4MPEG2 W{width} H{height} F{rate}:{seconds} Ip A1:1 C444 XCOLORRANGE=LIMITED")
        .map_err(failed)?;
    for index in 0..frames.frames.len() {
        let planes = from_rgb(&frames.on_white(index), width as usize, height as usize, Sampling::Full);
        writer.write_all(b"FRAME\n").map_err(failed)?;
        for plane in [&planes.y, &planes.u, &planes.v] {
            writer.write_all(plane).map_err(failed)?;
        }
        steps.one()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_size_of_their_planes() {
        let bytes = |colour: &str| Space::of(colour).map(|space| space.frame_bytes(6, 5));
        assert_eq!(bytes("420jpeg"), Some(30 + 2 * 9));
        assert_eq!(bytes("420p10"), Some(2 * (30 + 2 * 9)));
        assert_eq!(bytes("420paldv"), Some(30 + 2 * 9));
        assert_eq!(bytes("411"), Some(30 + 2 * 10));
        assert_eq!(bytes("422"), Some(30 + 2 * 15));
        assert_eq!(bytes("mono"), Some(30));
        assert_eq!(bytes("mono16"), Some(60));
        assert_eq!(bytes("444alpha"), Some(30 * 4));
        for unknown in ["", "421", "420p99", "monox", "420p"] {
            assert_eq!(bytes(unknown), None, "{unknown}");
        }
    }

    fn frames(bytes: &[u8]) -> Vec<(Vec<u8>, f64)> {
        let mut all = Vec::new();
        stream(bytes, &mut |picture| {
            all.push((picture.rgba.to_vec(), picture.duration.milliseconds()));
            Ok(true)
        })
        .unwrap();
        all
    }

    #[test]
    fn every_sampling_depth_and_range_is_read() {
        // Red, in whatever sampling: all chroma samples are the same.
        for (colour, depth) in [
            ("420jpeg", 8),
            ("420p10", 10),
            ("411", 8),
            ("422", 8),
            ("422p12", 12),
            ("444", 8),
            ("444p16", 16),
            ("444alpha", 8),
            ("mono", 8),
            ("mono10", 10),
        ] {
            let space = Space::of(colour).unwrap();
            let chroma = space.chroma.map_or(0, |(x, y)| 5usize.div_ceil(x as usize) * 3usize.div_ceil(y as usize));
            let mut file = format!("YUV4MPEG2 W5 H3 F30000:1001 C{colour}\nFRAME\n").into_bytes();
            let mut put = |level: u32, count: usize| {
                for _ in 0..count {
                    match depth {
                        8 => file.push(level as u8),
                        depth => file.extend((level << (depth - 8)).to_le_bytes()[..2].iter()),
                    }
                }
            };
            put(81, 15);
            put(90, chroma);
            put(240, chroma);
            if space.alpha {
                put(77, 15);
            }
            let shown = frames(&file);
            assert_eq!(shown.len(), 1);
            assert!((shown[0].1 - 1001.0 / 30.0).abs() < 1e-9);
            for pixel in shown[0].0.chunks_exact(4) {
                let wanted = match (space.chroma, space.alpha) {
                    (None, _) => [76, 76, 76, 255],
                    (_, alpha) => [254, 0, 0, if alpha { 77 } else { 255 }],
                };
                assert_eq!(pixel, wanted, "{colour}");
            }
        }
        let full = b"YUV4MPEG2 W1 H1 F1:1 Cmono XCOLORRANGE=FULL\nFRAME\n\x07";
        assert_eq!(frames(full)[0].0, [7, 7, 7, 255]);
    }
}
