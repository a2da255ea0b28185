//! MP4 out: H.264 in one video track, the index before the data.

use std::{io::Write, panic::AssertUnwindSafe};

use rusty_h264::{Encoder, EncoderConfig, Preset, YuvFrame};

use crate::{
    Error, Frames, Progress, Result, Seconds, Timing,
    progress::Steps,
    timing::gcd,
    yuv::{Sampling, from_rgb},
};

/// The quantizer of every frame, of 0 to 51.
const QUANTIZER: u8 = 18;
/// Frames from one that can be begun at to the next.
const KEY_FRAMES: u32 = 48;
/// The longest side: H.264's level 5.2 takes up to 36,864 blocks of 16 x 16 pixels.
const MOST_SIDE: u32 = 4096;
/// The most pixels, likewise.
const MOST_PIXELS: u64 = 36_864 * 256;

/// High profile, 8 bits, 4:2:0 in BT.601 of limited range, constant quantizer, no frames out of order. An odd side gets its
/// last row or column twice, for 4:2:0 has none; transparency becomes white.
pub(crate) fn encode(frames: &Frames, timing: &Timing, writer: &mut dyn Write, progress: Progress<'_>) -> Result<()> {
    let (width, height) = (frames.width + (frames.width & 1), frames.height + (frames.height & 1));
    if width.max(height) > MOST_SIDE || u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(Error::refused(format!(
            "an MP4 has at most {MOST_PIXELS} pixels a frame and {MOST_SIDE} a side, not {width}x{height}"
        )));
    }
    let durations = timing.durations(frames.frames.len())?;
    let steps = Steps::new(frames.frames.len(), progress);
    let mut config = EncoderConfig::new(width as usize, height as usize);
    config.preset = Preset::Balanced;
    config.qp = QUANTIZER;
    config.gop_size = KEY_FRAMES;
    config.framerate = rate(&durations);
    // Without a look ahead each frame comes out when it goes in.
    config.mbtree = false;
    config.scenecut = 0;
    let failed = |why: String| Error::refused(format!("cannot encode this as H.264: {why}"));
    let mut encoder = Encoder::new(config).map_err(|e| failed(e.to_string()))?;
    let mut film = Film { sps: Vec::new(), pps: Vec::new(), samples: Vec::new(), data: Vec::new() };
    for index in 0..frames.frames.len() {
        let frame = yuv(&frames.on_white(index), frames.width as usize, frames.height as usize);
        let unit = std::panic::catch_unwind(AssertUnwindSafe(|| encoder.try_encode(&frame)))
            .map_err(|_| failed("the encoder failed".into()))?
            .map_err(|e| failed(e.to_string()))?;
        film.add(&unit).ok_or_else(|| failed("the encoder gave no frame".into()))?;
        steps.one()?;
    }
    let file = film.file(width, height, &durations, timing)?;
    writer.write_all(&file).map_err(|e| Error::io("cannot write the MP4", e))
}

/// Frames a second, about.
fn rate(durations: &[Seconds]) -> f32 {
    let seconds: f64 = durations.iter().map(|d| d.milliseconds() / 1000.0).sum();
    if seconds > 0.0 { (durations.len() as f64 / seconds).clamp(0.01, 1000.0) as f32 } else { 1.0 }
}

/// 4:2:0 planes, an odd side made even.
fn yuv(rgb: &[u8], width: usize, height: usize) -> YuvFrame {
    let (even_width, even_height) = (width + (width & 1), height + (height & 1));
    let mut even = Vec::new();
    if (width, height) != (even_width, even_height) {
        even.reserve(even_width * even_height * 3);
        for row in (0..even_height).map(|y| &rgb[y.min(height - 1) * width * 3..][..width * 3]) {
            even.extend_from_slice(row);
            even.extend_from_slice(&row[(width - 1) * 3..][..(even_width - width) * 3]);
        }
    }
    let planes = from_rgb(if even.is_empty() { rgb } else { &even }, even_width, even_height, Sampling::Quarter);
    YuvFrame { width: even_width, height: even_height, y: planes.y, u: planes.u, v: planes.v }
}

/// What has been encoded.
struct Film {
    sps: Vec<u8>,
    pps: Vec<u8>,
    /// Length of each frame, and whether it can be begun at.
    samples: Vec<(u32, bool)>,
    data: Vec<u8>,
}

impl Film {
    /// Takes the NAL units of a frame, which have start codes, and puts their length before each. `None` when there is no picture.
    fn add(&mut self, unit: &[u8]) -> Option<()> {
        let start = self.data.len();
        let (mut picture, mut key) = (false, false);
        for nal in nal_units(unit) {
            match nal.first()? & 31 {
                7 => self.sps = nal.to_vec(),
                8 => self.pps = nal.to_vec(),
                kind => {
                    picture |= matches!(kind, 1 | 5);
                    key |= kind == 5;
                    self.data.extend_from_slice(&(nal.len() as u32).to_be_bytes());
                    self.data.extend_from_slice(nal);
                }
            }
        }
        self.samples.push(((self.data.len() - start) as u32, key));
        (picture && self.sps.len() >= 4 && !self.pps.is_empty()).then_some(())
    }

    fn file(&self, width: u32, height: u32, durations: &[Seconds], timing: &Timing) -> Result<Vec<u8>> {
        let (per_second, ticks) = clock(durations, timing)?;
        let total: u64 = ticks.iter().map(|&t| u64::from(t)).sum();
        let too_long = || Error::refused("the film is too long for an MP4");
        let duration = u32::try_from(total).map_err(|_| too_long())?;
        // Places and sizes are 32-bit numbers.
        u32::try_from(self.data.len() + (64 << 20)).map_err(|_| too_long())?;
        let ftyp = boxed(b"ftyp", &[b"isom\0\0\x02\0isomiso2avc1mp41"]);
        // Where the data begins depends on how long the index is, which does not depend on where.
        let index = |offset: u32| self.index(width, height, per_second, duration, &ticks, offset);
        let offset = ftyp.len() + index(0).len() + 8;
        let index = index(offset as u32);
        Ok([ftyp, index, boxed(b"mdat", &[&self.data])].concat())
    }

    fn index(&self, width: u32, height: u32, per_second: u32, duration: u32, ticks: &[u32], offset: u32) -> Vec<u8> {
        let matrix = numbers(&[0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000]);
        let mvhd =
            [numbers(&[0, 0, 0, per_second, duration, 0x1_0000, 0x100_0000, 0, 0]), matrix.clone(), numbers(&[0; 6])];
        let tkhd = [numbers(&[3, 0, 0, 1, 0, duration, 0, 0, 0, 0]), matrix, numbers(&[width << 16, height << 16])];
        // Language "und".
        let mdhd = numbers(&[0, 0, 0, per_second, duration, 0x55c4_0000]);
        let hdlr = [&numbers(&[0, 0])[..], b"vide", &[0; 12], b"video\0"].concat();
        let dref = [numbers(&[0, 1]), boxed(b"url ", &[&numbers(&[1])])].concat();
        let keys: Vec<u32> =
            self.samples.iter().enumerate().filter(|(_, (_, key))| *key).map(|(i, _)| i as u32 + 1).collect();
        let sizes: Vec<u32> = self.samples.iter().map(|(size, _)| *size).collect();
        let stbl = boxed(
            b"stbl",
            &[
                &boxed(b"stsd", &[&numbers(&[0, 1]), &self.entry(width, height)]),
                &boxed(b"stts", &[&runs(ticks)]),
                &boxed(b"stss", &[&numbers(&[0, keys.len() as u32]), &numbers(&keys)]),
                // All samples are one chunk.
                &boxed(b"stsc", &[&numbers(&[0, 1, 1, sizes.len() as u32, 1])]),
                &boxed(b"stsz", &[&numbers(&[0, 0, sizes.len() as u32]), &numbers(&sizes)]),
                &boxed(b"stco", &[&numbers(&[0, 1, offset])]),
            ],
        );
        let minf = boxed(
            b"minf",
            &[&boxed(b"vmhd", &[&numbers(&[1, 0, 0])]), &boxed(b"dinf", &[&boxed(b"dref", &[&dref])]), &stbl],
        );
        let mdia = boxed(b"mdia", &[&boxed(b"mdhd", &[&mdhd]), &boxed(b"hdlr", &[&hdlr]), &minf]);
        let trak = boxed(b"trak", &[&boxed(b"tkhd", &[&tkhd.concat()]), &mdia]);
        // The track after this one would have number 2.
        boxed(b"moov", &[&boxed(b"mvhd", &[&mvhd.concat(), &numbers(&[2])]), &trak])
    }

    /// The sample entry `avc1`.
    fn entry(&self, width: u32, height: u32) -> Vec<u8> {
        let sets = |sets: &[u8]| [&(sets.len() as u16).to_be_bytes()[..], sets].concat();
        let mut avcc = [&[1, self.sps[1], self.sps[2], self.sps[3], 0xff, 0xe1][..], &sets(&self.sps)].concat();
        avcc.push(1);
        avcc.extend(sets(&self.pps));
        if matches!(self.sps[1], 100 | 110 | 122 | 144) {
            // 4:2:0, 8 bits.
            avcc.extend([0xfd, 0xf8, 0xf8, 0]);
        }
        // Primaries and curve of sRGB, matrix of BT.601, limited range.
        let colr = [&b"nclx"[..], &[0, 1, 0, 13, 0, 6, 0]].concat();
        let header = [
            &[0, 0, 0, 0, 0, 0, 0, 1][..],
            &[0; 16],
            &(width as u16).to_be_bytes(),
            &(height as u16).to_be_bytes(),
            &numbers(&[0x48_0000, 0x48_0000, 0]),
            &[0, 1],
            &[0; 32],
            &[0, 24, 0xff, 0xff],
        ]
        .concat();
        boxed(b"avc1", &[&header, &boxed(b"avcC", &[&avcc]), &boxed(b"colr", &[&colr])])
    }
}

/// Ticks a second, and how many each frame stays: exact where all durations have a common part that is not too small, else in
/// microseconds, the remainder carried.
fn clock(durations: &[Seconds], timing: &Timing) -> Result<(u32, Vec<u32>)> {
    let mut common = 1u64;
    for duration in durations {
        let per_second = u64::from(duration.per_second);
        common = common / gcd(common, per_second) * per_second;
        if common > 1_000_000 {
            return Ok((1_000_000, timing.parts(durations.len(), 1_000_000)?));
        }
    }
    // Players expect some fineness.
    while common < 10_000 {
        common *= 2;
    }
    let ticks = durations.iter().map(|d| (d.ticks * (common / u64::from(d.per_second))) as u32).collect();
    Ok((common as u32, ticks))
}

/// The table `stts`: how many frames in a row stay for so long.
fn runs(ticks: &[u32]) -> Vec<u8> {
    let runs: Vec<[u32; 2]> = ticks.chunk_by(|a, b| a == b).map(|run| [run.len() as u32, run[0]]).collect();
    [numbers(&[0, runs.len() as u32]), numbers(runs.as_flattened())].concat()
}

/// What lies between start codes.
fn nal_units(unit: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut starts: Vec<usize> = Vec::new();
    let mut at = 0;
    while at + 3 <= unit.len() {
        if unit[at..at + 3] == [0, 0, 1] {
            starts.push(at);
            at += 3;
        } else {
            at += 1;
        }
    }
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([unit.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| {
        let nal = &unit[start + 3..end];
        // Zeros before the next start code are not part of a NAL unit, which never ends with one.
        let long = nal.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        &nal[..long]
    })
}

fn numbers(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

fn boxed(name: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let long: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(long + 8);
    out.extend_from_slice(&(long as u32 + 8).to_be_bytes());
    out.extend_from_slice(name);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}
