//! MP4 by its boxes (ISO/IEC 14496-12).

use super::{Budget, Source, Walked, check_canvas};
use crate::{Error, Result, mp4_decode};

const FORMAT: &str = "MP4";

/// The deepest that boxes lie in boxes; the tables of a track are at 5.
const DEEPEST: u32 = 8;
/// The most boxes.
const MOST_BOXES: u32 = 1 << 20;

/// What the boxes of one track say.
#[derive(Default)]
struct Track {
    video: bool,
    /// The number that fragments call it by.
    id: u32,
    codec: Option<[u8; 4]>,
    width: u32,
    height: u32,
    timescale: u32,
    duration: u64,
    /// Samples by their durations, and by their sizes.
    timed: Option<u64>,
    sized: Option<u64>,
    /// Whether the table of each is there: samples to chunks, places of chunks.
    chunked: bool,
    placed: bool,
}

#[derive(Default)]
struct Found {
    boxes: u32,
    movie: bool,
    data: bool,
    /// Whether the film is in fragments, and the tracks' numbers and samples in them.
    fragmented: bool,
    fragment: u32,
    samples: Vec<(u32, u64)>,
    tracks: Vec<Track>,
}

pub(super) fn walk(source: &mut Source) -> Result<Walked> {
    source.format = FORMAT;
    let mut found = Found::default();
    boxes(source, &mut found, 0)?;
    if !found.movie {
        return Err(source.bad("the box moov is missing"));
    }
    let Some(track) = found.tracks.iter().find(|track| track.video) else {
        return Err(source.bad("the box moov has no video track"));
    };
    // Where a film is in fragments, the tables may be empty.
    let whole = !found.fragmented;
    let missing = [
        ("mdhd", track.timescale == 0),
        ("stsd", track.codec.is_none()),
        ("stts", track.timed.is_none()),
        ("stsc", whole && !track.chunked),
        ("stsz", track.sized.is_none()),
        ("stco", whole && !track.placed),
    ];
    if let Some((name, _)) = missing.iter().find(|(_, missing)| *missing) {
        return Err(source.bad(format_args!("the box {name} of the video track is missing or empty")));
    }
    let (timed, sized) = (track.timed.unwrap_or(0), track.sized.unwrap_or(0));
    if timed != sized {
        return Err(source.bad(format_args!("the box stts has {timed} samples, the box stsz {sized}")));
    }
    let own = found.samples.iter().filter(|(id, _)| *id == track.id);
    let frames = own.fold(sized, |sum, (_, samples)| sum.saturating_add(*samples));
    if frames == 0 {
        return Err(source.bad("the box stsz has no sample"));
    }
    if !found.data {
        return Err(source.bad("the box mdat is missing"));
    }
    check_canvas(FORMAT, track.width, track.height, 1)?;
    let duration = track.duration as f64 * 1000.0 / f64::from(track.timescale.max(1));
    Ok(Walked {
        format: "mp4",
        width: track.width,
        height: track.height,
        frames,
        // Fragments have their durations in them, and the index may say nothing.
        duration_ms: (whole || duration > 0.0).then_some(duration),
        codec: track.codec.map(|codec| codec.escape_ascii().to_string()),
    })
}

/// Walks the boxes up to the source's end.
fn boxes(source: &mut Source, found: &mut Found, depth: u32) -> Result<()> {
    while source.left() > 0 {
        found.boxes += 1;
        if found.boxes > MOST_BOXES || depth > DEEPEST {
            return Err(source.bad("there are too many boxes, or too deep in one another"));
        }
        let start = source.at();
        let size = u64::from(source.u32("a box")?);
        let name: [u8; 4] = source.bytes("a box")?;
        let what = format!("the box {}", name.escape_ascii());
        let size = match size {
            0 if depth == 0 => source.left() + 8,
            1 => source.u64(&what)?,
            size => size,
        };
        let header = source.at() - start;
        if size < header || size - header > source.left() {
            let most = source.left() + header;
            return Err(source.bad(format_args!("{what} claims {size} bytes, not {header} to {most}")));
        }
        if start == 0 && name != *b"ftyp" {
            return Err(source.bad(format_args!("{what} stands where ftyp should")));
        }
        let end = source.at() + (size - header);
        let outer = source.set_end(end);
        contents(source, found, depth, name, &what)?;
        source.skip(source.left(), &what)?;
        source.set_end(outer);
    }
    Ok(())
}

/// Reads what is in a box, which ends where the source does.
fn contents(source: &mut Source, found: &mut Found, depth: u32, name: [u8; 4], what: &str) -> Result<()> {
    match (&name, depth) {
        (b"moov", 0) if found.movie => return Err(source.bad("there are two boxes moov")),
        (b"moov", 0) => {
            found.movie = true;
            return boxes(source, found, depth + 1);
        }
        (b"mdat", 0) => found.data = true,
        (b"moof", 0) => {
            found.fragmented = true;
            return boxes(source, found, depth + 1);
        }
        (b"traf", 1) => {
            found.fragment = 0;
            return boxes(source, found, depth + 1);
        }
        (b"tfhd", 2) => {
            source.skip(4, what)?;
            found.fragment = source.u32(what)?;
        }
        (b"trun", 2) => {
            source.skip(4, what)?;
            let samples = u64::from(source.u32(what)?);
            let (id, room) = (found.fragment, found.samples.len() < found.tracks.len());
            match found.samples.iter_mut().find(|(known, _)| *known == id) {
                Some((_, sum)) => *sum = sum.saturating_add(samples),
                None if room => found.samples.push((id, samples)),
                None => {}
            }
        }
        (b"trak", 1) => {
            found.tracks.push(Track::default());
            return boxes(source, found, depth + 1);
        }
        (b"mdia", 2) | (b"minf", 3) | (b"stbl", 4) => return boxes(source, found, depth + 1),
        _ => {}
    }
    let length = source.length();
    let Some(track) = found.tracks.last_mut() else { return Ok(()) };
    match (&name, depth) {
        (b"tkhd", 2) => {
            let version = source.u8(what)?;
            source.skip(if version == 1 { 19 } else { 11 }, what)?;
            track.id = source.u32(what)?;
        }
        (b"mdhd", 3) => {
            let version = source.u8(what)?;
            source.skip(if version == 1 { 19 } else { 11 }, what)?;
            track.timescale = source.u32(what)?;
            track.duration = if version == 1 { source.u64(what)? } else { source.u32(what)?.into() };
            if track.timescale == 0 {
                return Err(source.bad(format_args!("{what} has 0 units a second")));
            }
        }
        (b"hdlr", 3) => {
            source.skip(8, what)?;
            track.video = source.bytes(what)? == *b"vide";
        }
        (b"stsd", 5) => {
            source.skip(4, what)?;
            if source.u32(what)? == 0 {
                return Err(source.bad(format_args!("{what} has no entry")));
            }
            let size = u64::from(source.u32(what)?);
            let codec: [u8; 4] = source.bytes(what)?;
            let entry = format!("the box {}", codec.escape_ascii());
            if size < 8 || size - 8 > source.left() {
                let left = source.left();
                return Err(source.bad(format_args!("{entry} claims {size} bytes where {left} are left in stsd")));
            }
            if track.video {
                source.skip(24, &entry)?;
                (track.width, track.height) = (source.u16(&entry)?.into(), source.u16(&entry)?.into());
                check_canvas(FORMAT, track.width, track.height, 1)?;
            }
            track.codec = Some(codec);
        }
        (b"stts", 5) => {
            let mut samples = 0u64;
            for _ in 0..entries(source, what, 8)? {
                samples = samples.saturating_add(source.u32(what)?.into());
                source.skip(4, what)?;
            }
            track.timed = Some(samples);
        }
        (b"stsc", 5) => {
            let mut before = 0;
            for _ in 0..entries(source, what, 12)? {
                let [first, samples, _] = [source.u32(what)?, source.u32(what)?, source.u32(what)?];
                if first <= before || samples == 0 {
                    return Err(source.bad(format_args!("{what} is not in order at chunk {first}")));
                }
                before = first;
                track.chunked = true;
            }
        }
        (b"stsz", 5) => {
            source.skip(4, what)?;
            let each = source.u32(what)?;
            let count = source.u32(what)?;
            if each == 0 && u64::from(count) * 4 > source.left() {
                return Err(too_many(source, what, count));
            }
            let mut total = u64::from(each) * u64::from(count);
            for _ in 0..if each == 0 { count } else { 0 } {
                total += u64::from(source.u32(what)?);
            }
            if total > length {
                return Err(source.bad(format_args!("{what} has samples of {total} bytes, the file has {length}")));
            }
            track.sized = Some(count.into());
        }
        (b"stco" | b"co64", 5) => {
            let wide = name == *b"co64";
            for _ in 0..entries(source, what, if wide { 8 } else { 4 })? {
                let place = if wide { source.u64(what)? } else { source.u32(what)?.into() };
                if place >= length {
                    return Err(
                        source.bad(format_args!("{what} places a chunk at {place}, the file has {length} bytes"))
                    );
                }
                track.placed = true;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The number of entries of a table, all of which are within its box.
fn entries(source: &mut Source, what: &str, size: u64) -> Result<u32> {
    source.skip(4, what)?;
    let count = source.u32(what)?;
    if u64::from(count) * size > source.left() { Err(too_many(source, what, count)) } else { Ok(count) }
}

fn too_many(source: &Source, what: &str, count: u32) -> crate::Error {
    source.bad(format_args!("{what} claims {count} entries, more than it has room for"))
}

/// What this library does not decode is known by its structure alone.
pub(super) fn decode(bytes: &[u8], budget: &mut Budget) -> Result<bool> {
    match mp4_decode::each_picture(bytes, &mut |width, height| budget.take(width, height)) {
        Err(Error::Unsupported { .. }) => Ok(false),
        done => done,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::inspect_bytes;

    fn boxed(name: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        [&(body.len() as u32 + 8).to_be_bytes()[..], name, &body].concat()
    }

    fn numbers(values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_be_bytes()).collect()
    }

    /// A file of two samples of 3 bytes, of a codec that is not decoded.
    pub(in super::super) fn file() -> Vec<u8> {
        let entry = boxed(b"mp4v", &[&[0; 24], &[0, 7, 0, 5], &[0; 50]]);
        let tables = boxed(
            b"stbl",
            &[
                &boxed(b"stsd", &[&numbers(&[0, 1]), &entry]),
                &boxed(b"stts", &[&numbers(&[0, 1, 2, 100])]),
                &boxed(b"stsc", &[&numbers(&[0, 1, 1, 2, 1])]),
                &boxed(b"stsz", &[&numbers(&[0, 0, 2, 3, 3])]),
                &boxed(b"stco", &[&numbers(&[0, 1, 16])]),
            ],
        );
        let media = boxed(
            b"mdia",
            &[
                &boxed(b"mdhd", &[&numbers(&[0, 0, 0, 1000, 200, 0])]),
                &boxed(b"hdlr", &[&numbers(&[0, 0]), b"vide", &[0; 13]]),
                &boxed(b"minf", &[&tables]),
            ],
        );
        [boxed(b"ftyp", &[b"isom"]), boxed(b"mdat", &[&[7; 6]]), boxed(b"moov", &[&boxed(b"trak", &[&media])])].concat()
    }

    #[test]
    fn tables_are_checked_by_name() {
        let found = inspect_bytes(&file()).unwrap();
        assert_eq!((found.width, found.height, found.frames, found.duration_ms), (7, 5, 2, Some(200.0)));
        assert_eq!(found.codec.as_deref(), Some("mp4v"));
        for (name, at, message) in [
            (b"stts", 12, "stts claims"),
            (b"stsc", 12, "stsc claims"),
            (b"stsz", 16, "stsz claims"),
            (b"stco", 12, "stco claims"),
            (b"stco", 16, "stco places"),
            (b"trak", 0, "trak claims 4294967295 bytes"),
            (b"mdia", 0, "mdia claims 4294967295 bytes"),
        ] {
            let mut file = file();
            let start = file.windows(4).position(|window| window == name).unwrap() - 4;
            file[start + at..][..4].copy_from_slice(&u32::MAX.to_be_bytes());
            let error = inspect_bytes(&file).unwrap_err().to_string();
            assert!(error.contains(message), "{}: {error}", name.escape_ascii());
        }
    }
}
