//! MP4 in: H.264 of the profiles Baseline, Main and High, 8 bits, 4:2:0.

use std::{collections::BTreeMap, panic::AssertUnwindSafe};

use rusty_h264::{DecodeError, Decoder, YuvFrame};

use crate::{
    Error, Orientation, Result, h264, limits,
    mp4_demux::{FORMAT, Track},
    stream::{OnPicture, Picture, Seconds},
    yuv::{Colours, OnPlanes, Planes, ToRgb},
};

/// Pictures that are held until those before them are decoded; the standard allows 16.
const MOST_HELD: usize = 32;

/// The planes of each frame, as they are stored.
pub(crate) fn planes(bytes: &[u8], on_planes: OnPlanes<'_>) -> Result<()> {
    let track = Track::parse(bytes)?;
    let order = Order::of(&track)?;
    let mut decoder = Decoder::new();
    let mut unit = Vec::new();
    let mut colours = None;
    for set in &track.sets {
        put(set, &mut unit, &mut colours)?;
    }
    decode(&mut decoder, &unit)?;
    let mut held: BTreeMap<usize, Option<YuvFrame>> = BTreeMap::new();
    let mut next = 0;
    for (index, sample) in track.samples.iter().enumerate() {
        unit.clear();
        split(&bytes[sample.offset..sample.offset + sample.size], track.length_size, &mut |nal| {
            put(nal, &mut unit, &mut colours)
        })?;
        let frame = decode(&mut decoder, &unit)?;
        if held.len() >= MOST_HELD {
            return Err(Error::bad(FORMAT, "its pictures are too far from the order they are shown in"));
        }
        held.insert(order.rank[index], frame);
        while let Some(frame) = held.remove(&next) {
            let shown = order.durations[next];
            next += 1;
            let (Some(frame), Some(ticks)) = (frame, shown) else { continue };
            let planes = planes_of(frame)?;
            // The bitstream knows better than the container.
            let colours = colours.filter(|c| *c != Colours::USUAL).or(track.colours).unwrap_or(Colours::USUAL);
            if !on_planes(&planes, colours, Seconds::new(ticks, track.per_second))? {
                return Ok(());
            }
        }
    }
    Ok(())
}

pub(crate) fn stream(bytes: &[u8], on_picture: OnPicture<'_>) -> Result<()> {
    let mut rgba = Vec::new();
    let mut to_rgb: Option<(Colours, ToRgb)> = None;
    planes(bytes, &mut |planes, colours, duration| {
        if to_rgb.as_ref().is_none_or(|(before, _)| *before != colours) {
            to_rgb = Some((colours, ToRgb::new(colours)));
        }
        if let Some((_, to_rgb)) = &to_rgb {
            to_rgb.rgba(planes, &mut rgba);
        }
        on_picture(Picture { width: planes.width as u32, height: planes.height as u32, rgba: &rgba, duration })
    })
}

/// Decodes every picture and drops it, until `take`, which gets its size first, says no; whether it never did.
pub(crate) fn each_picture(bytes: &[u8], take: &mut dyn FnMut(u32, u32) -> Result<bool>) -> Result<bool> {
    let track = Track::parse(bytes)?;
    // Whatever is not decoded is found out before the first picture is.
    let Some(sps) = track.sets.iter().find(|set| set.first().is_some_and(|header| header & 31 == 7)) else {
        return Err(Error::unsupported(FORMAT, "its parameter sets are not in the box avcC"));
    };
    let sps = h264::Sps::parse(sps)?;
    sps.check()?;
    if !take(sps.width, sps.height)? {
        return Ok(false);
    }
    let mut all = true;
    planes(bytes, &mut |planes, _, _| {
        all = take(planes.width as u32, planes.height as u32)?;
        Ok(all)
    })?;
    Ok(all)
}

/// How the film is turned to be shown; [`Orientation::UPRIGHT`] where it cannot be told.
pub(crate) fn orientation(bytes: &[u8]) -> Orientation {
    Track::parse(bytes).map_or(Orientation::UPRIGHT, |track| track.orientation)
}

/// When samples are shown.
struct Order {
    /// For each sample in decoding order, which one it is of those shown.
    rank: Vec<usize>,
    /// For each in the order shown, how long; `None` where an edit leaves it out.
    durations: Vec<Option<u64>>,
}

impl Order {
    fn of(track: &Track<'_>) -> Result<Self> {
        let samples = &track.samples;
        let mut shown: Vec<usize> = (0..samples.len()).collect();
        shown.sort_by_key(|&i| samples[i].shown);
        let mut rank = vec![0; samples.len()];
        let (start, end) = track.shown;
        let mut durations = Vec::with_capacity(samples.len());
        for (place, &i) in shown.iter().enumerate() {
            rank[i] = place;
            let from = samples[i].shown;
            let to = match shown.get(place + 1) {
                Some(&next) => samples[next].shown,
                None => from.saturating_add(samples[i].ticks.into()),
            };
            // A picture that is shown for no time is part of the film all the same.
            let kept = from < end && (to > start || from >= start);
            durations.push(kept.then(|| to.saturating_sub(from.max(start)).max(0) as u64));
        }
        if durations.iter().all(Option::is_none) {
            return Err(Error::bad(FORMAT, "its edit list leaves nothing to be shown"));
        }
        Ok(Self { rank, durations })
    }
}

/// The NAL units of a sample.
fn split<'a>(mut sample: &'a [u8], length_size: usize, on_nal: &mut dyn FnMut(&'a [u8]) -> Result<()>) -> Result<()> {
    while !sample.is_empty() {
        let cut = || Error::bad(FORMAT, "a sample is cut short");
        let (length, rest) = sample.split_at_checked(length_size).ok_or_else(cut)?;
        let length = length.iter().fold(0usize, |sum, &byte| sum << 8 | usize::from(byte));
        let (nal, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        sample = rest;
        on_nal(nal)?;
    }
    Ok(())
}

/// Adds a NAL unit to what is decoded next; a sequence parameter set is looked at first.
fn put(nal: &[u8], unit: &mut Vec<u8>, colours: &mut Option<Colours>) -> Result<()> {
    let Some(&header) = nal.first() else { return Ok(()) };
    if header & 31 == 7 {
        let sps = h264::Sps::parse(nal)?;
        limits::check(h264::FORMAT, sps.width, sps.height, 1)?;
        sps.check()?;
        *colours = Some(sps.colours);
    }
    unit.extend_from_slice(&[0, 0, 0, 1]);
    unit.extend_from_slice(nal);
    Ok(())
}

fn decode(decoder: &mut Decoder, unit: &[u8]) -> Result<Option<YuvFrame>> {
    // The decoder is safe code; should it panic on damage, that is the file's fault and not the end of the process.
    let decoded = std::panic::catch_unwind(AssertUnwindSafe(|| decoder.decode(unit)));
    match decoded {
        Ok(Ok(frame)) => Ok(frame),
        Ok(Err(DecodeError::Unsupported(what))) => Err(Error::unsupported(h264::FORMAT, what)),
        Ok(Err(error)) => Err(Error::bad(h264::FORMAT, error)),
        Err(_) => Err(Error::bad(h264::FORMAT, "a picture is damaged")),
    }
}

fn planes_of(frame: YuvFrame) -> Result<Planes> {
    let YuvFrame { width, height, y, u, v } = frame;
    let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
    let chroma = chroma_width * chroma_height;
    if width == 0 || height == 0 || y.len() < width * height || u.len() < chroma || v.len() < chroma {
        return Err(Error::bad(h264::FORMAT, "a picture has no sound size"));
    }
    limits::check(h264::FORMAT, width as u32, height as u32, 1)?;
    Ok(Planes { width, height, chroma_width, chroma_height, y, u, v, alpha: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASELINE: &[u8] = include_bytes!("../../../tests/media/fixtures/mp4_baseline.mp4");
    const HIGH: &[u8] = include_bytes!("../../../tests/media/fixtures/mp4_high_bframes.mp4");

    fn frames(bytes: &[u8]) -> Result<Vec<(u32, u32, Seconds)>> {
        let mut frames = Vec::new();
        crate::stream(bytes, &mut |picture| {
            frames.push((picture.width, picture.height, picture.duration));
            Ok(true)
        })?;
        Ok(frames)
    }

    #[test]
    fn frames_come_in_the_order_they_are_shown_with_their_durations() {
        let baseline = frames(BASELINE).unwrap();
        assert_eq!(baseline.len(), 8);
        assert!(baseline.iter().all(|&(w, h, d)| (w, h, d.milliseconds()) == (64, 48, 125.0)));
        let high = frames(HIGH).unwrap();
        assert_eq!(high.len(), 12);
        assert!(high.iter().all(|&(w, h, d)| (w, h) == (80, 64) && d.ticks * 24 == u64::from(d.per_second)));
    }

    #[test]
    fn fragments_have_the_frames_of_the_whole_film() {
        let all = |bytes: &[u8]| {
            let mut all = Vec::new();
            crate::stream(bytes, &mut |picture| {
                all.push((picture.duration.milliseconds(), picture.rgba.to_vec()));
                Ok(true)
            })
            .unwrap();
            all
        };
        let whole = all(HIGH);
        for name in ["default_base", "no_base", "index_too"] {
            let path = format!("{}/../../tests/media/fixtures/fragmented/{name}.mp4", env!("CARGO_MANIFEST_DIR"));
            let file = std::fs::read(path).unwrap();
            assert!(file.windows(4).any(|window| window == b"moof"));
            assert!(all(&file) == whole, "{name}");
            for end in (0..file.len()).step_by(31) {
                let _ = frames(&file[..end]);
            }
            let samples = changed(&file, b"trun", 4, &u32::MAX.to_be_bytes());
            assert!(frames(&samples).unwrap_err().to_string().contains("trun claims"));
        }
    }

    /// With another number in the first box of a name.
    fn changed(file: &[u8], name: &[u8; 4], at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut file = file.to_vec();
        let start = file.windows(4).position(|window| window == name).unwrap() + 4 + at;
        file[start..start + bytes.len()].copy_from_slice(bytes);
        file
    }

    #[test]
    fn what_is_not_decoded_is_named() {
        let at = HIGH.windows(4).rposition(|window| window == b"avc1").unwrap();
        let mut hevc = HIGH.to_vec();
        hevc[at..at + 4].copy_from_slice(b"hvc1");
        let error = frames(&hevc).unwrap_err();
        assert!(matches!(&error, Error::Unsupported { .. }) && error.to_string().contains("HEVC (hvc1)"), "{error}");
        // The first sequence parameter set follows 8 bytes into avcC, its profile a byte later.
        for (profile, name) in [(122, "High 4:2:2"), (244, "High 4:4:4 Predictive"), (88, "Extended")] {
            let error = frames(&changed(HIGH, b"avcC", 9, &[profile])).unwrap_err();
            assert!(matches!(&error, Error::Unsupported { .. }), "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn a_turned_film_is_turned() {
        // The matrix of tkhd, version 0, stands after 40 bytes: a quarter to the right.
        let one = 0x1_0000i32;
        let matrix: Vec<u8> = [0, one, 0, -one, 0].iter().flat_map(|v: &i32| v.to_be_bytes()).collect();
        let turned = changed(HIGH, b"tkhd", 40, &matrix);
        assert_eq!(frames(&turned).unwrap()[0].0, 64);
        let (mut upright, mut stored) = (Vec::new(), Vec::new());
        for (file, pixels) in [(&turned[..], &mut upright), (HIGH, &mut stored)] {
            crate::stream(file, &mut |picture| {
                pixels.extend_from_slice(picture.rgba);
                Ok(false)
            })
            .unwrap();
        }
        // The top left corner of what is stored comes to the top right.
        assert_eq!(upright[63 * 4..64 * 4], stored[..4]);
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        for file in [BASELINE, HIGH] {
            for end in (0..file.len()).step_by(7) {
                assert!(frames(&file[..end]).is_err());
            }
            let mut seed = 7u32;
            for _ in 0..400 {
                let mut file = file.to_vec();
                for _ in 0..3 {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let at = (seed >> 8) as usize % file.len();
                    file[at] ^= 1 << (seed % 8);
                }
                let _ = frames(&file);
            }
        }
    }
}
