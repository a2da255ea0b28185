//! The samples of an MP4's video track (ISO/IEC 14496-12 and -15). Nothing is allocated from a count that its box has no
//! room for, and every sample lies within the file.

use crate::{Container, Error, Orientation, Result, h264::matrix, mp4_fragments, yuv::Colours};

pub(crate) const FORMAT: &str = "MP4";

/// The most samples: 38 hours at 30 frames a second.
pub(crate) const MOST_SAMPLES: usize = 1 << 22;

/// One coded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub offset: usize,
    pub size: usize,
    /// When it is shown, in ticks, and how long as far as its decoding time says.
    pub shown: i64,
    pub ticks: u32,
}

/// The first video track.
#[derive(Debug)]
pub(crate) struct Track<'a> {
    /// Sequence and picture parameter sets, with their header bytes.
    pub sets: Vec<&'a [u8]>,
    /// Bytes of the length before each NAL unit: 1 to 4.
    pub length_size: usize,
    /// Ticks a second.
    pub per_second: u32,
    /// In decoding order.
    pub samples: Vec<Sample>,
    /// From when on and until when samples are shown, in ticks.
    pub shown: (i64, i64),
    /// What the container says of the colours.
    pub colours: Option<Colours>,
    pub orientation: Orientation,
}

pub(crate) fn bad(what: impl std::fmt::Display) -> Error {
    Error::bad(FORMAT, what)
}

/// A run of bytes that is read from the front.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a>(pub(crate) &'a [u8]);

impl<'a> Part<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| bad("a box is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }

    /// The next box: its name and what is in it.
    pub(crate) fn next_box(&mut self) -> Result<Option<([u8; 4], Part<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (whole, before) = (self.0, self.0.len());
        let size = self.u32()?;
        let name = self.take(4)?;
        let name = [name[0], name[1], name[2], name[3]];
        let size = match size {
            0 => before as u64,
            1 => self.u64()?,
            size => size.into(),
        };
        let header = before - self.0.len();
        let size = usize::try_from(size).ok().filter(|&size| size >= header && size <= before);
        let size = size.ok_or_else(|| bad(format_args!("the box {} has no sound size", name.escape_ascii())))?;
        self.0 = &whole[size..];
        Ok(Some((name, Part(&whole[header..size]))))
    }

    /// The first box of a name.
    pub(crate) fn find(mut self, wanted: &[u8; 4]) -> Result<Option<Part<'a>>> {
        while let Some((name, part)) = self.next_box()? {
            if name == *wanted {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }

    pub(crate) fn need(self, wanted: &[u8; 4]) -> Result<Part<'a>> {
        self.find(wanted)?.ok_or_else(|| bad(format_args!("the box {} is missing", wanted.escape_ascii())))
    }

    /// The number of entries of a table after its version and flags, all of which are there.
    fn entries(&mut self, size: usize) -> Result<usize> {
        self.take(4)?;
        let count = self.u32()? as usize;
        match count.checked_mul(size) {
            Some(bytes) if bytes <= self.0.len() => Ok(count),
            _ => Err(bad(format_args!("a table claims {count} entries, more than it has room for"))),
        }
    }
}

impl<'a> Track<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self> {
        debug_assert_eq!(Container::of(bytes), Some(Container::Mp4));
        let file = Part(bytes);
        let movie = file.need(b"moov")?;
        let mut rest = movie;
        while let Some((name, track)) = rest.next_box()? {
            if name != *b"trak" {
                continue;
            }
            let media = track.need(b"mdia")?;
            let mut handler = media.need(b"hdlr")?;
            handler.take(8)?;
            if handler.take(4)? == b"vide" {
                return Self::of(file, movie, track, media);
            }
        }
        Err(bad("it has no video track"))
    }

    fn of(file: Part<'a>, movie: Part<'a>, track: Part<'a>, media: Part<'a>) -> Result<Self> {
        let (per_second, _) = timescale(media.need(b"mdhd")?)?;
        let tables = media.need(b"minf")?.need(b"stbl")?;
        let mut entry = tables.need(b"stsd")?;
        if entry.entries(8)? == 0 {
            return Err(bad("the box stsd has no entry"));
        }
        let Some((codec, mut entry)) = entry.next_box()? else {
            return Err(bad("the box stsd has no entry"));
        };
        if !matches!(&codec, b"avc1" | b"avc3") {
            let name = match &codec {
                b"hvc1" | b"hev1" => "HEVC",
                b"av01" => "AV1",
                b"vp08" | b"vp09" => "VP8 or VP9",
                b"mp4v" => "MPEG-4 Part 2",
                b"apch" | b"apcn" | b"apcs" | b"apco" | b"ap4h" => "ProRes",
                b"encv" => "encrypted",
                _ => "another",
            };
            let why = format!("its codec is {name} ({}); H.264 (avc1) is", codec.escape_ascii());
            return Err(Error::unsupported(FORMAT, why));
        }
        entry.take(78)?;
        let (sets, length_size) = parameter_sets(entry.need(b"avcC")?)?;
        let fragmented = movie.find(b"mvex")?.is_some();
        let mut samples = samples(tables, file.0.len(), fragmented)?;
        if fragmented {
            mp4_fragments::append(file, movie, number(track.need(b"tkhd")?)?, &mut samples)?;
        }
        if samples.is_empty() {
            return Err(bad("it has no samples"));
        }
        Ok(Self {
            sets,
            length_size,
            per_second,
            shown: edit(movie, track, per_second)?,
            samples,
            colours: entry.find(b"colr")?.and_then(|colours| nclx(colours).ok().flatten()),
            orientation: rotation(track.need(b"tkhd")?)?,
        })
    }
}

/// Ticks a second, and the duration in them, of the box `mdhd` or `mvhd`.
fn timescale(mut part: Part<'_>) -> Result<(u32, u64)> {
    let wide = part.u8()? == 1;
    part.take(if wide { 19 } else { 11 })?;
    let per_second = part.u32()?;
    if per_second == 0 {
        return Err(bad("it has 0 ticks a second"));
    }
    Ok((per_second, if wide { part.u64()? } else { part.u32()?.into() }))
}

fn parameter_sets(mut part: Part<'_>) -> Result<(Vec<&[u8]>, usize)> {
    part.take(4)?;
    let length_size = usize::from(part.u8()? & 3) + 1;
    let mut sets = Vec::new();
    let sequences = part.u8()? & 31;
    for _ in 0..sequences {
        let long = part.u16()?;
        sets.push(part.take(long.into())?);
    }
    let pictures = part.u8()?;
    for _ in 0..pictures {
        let long = part.u16()?;
        sets.push(part.take(long.into())?);
    }
    Ok((sets, length_size))
}

/// The colours of a box `colr`, if it is of the kind that names a matrix.
fn nclx(mut part: Part<'_>) -> Result<Option<Colours>> {
    let kind = part.take(4)?;
    if kind != b"nclx" && kind != b"nclc" {
        return Ok(None);
    }
    part.take(4)?;
    let matrix = matrix(part.u16()?.into());
    let full_range = kind == b"nclx" && part.u8()? & 0x80 != 0;
    Ok(Some(Colours { matrix, full_range }))
}

/// How a track's matrix turns it; other matrices than quarter turns leave it.
fn rotation(mut part: Part<'_>) -> Result<Orientation> {
    let wide = part.u8()? == 1;
    part.take(if wide { 35 } else { 23 } + 16)?;
    let mut matrix = [0i32; 5];
    for value in &mut matrix {
        *value = part.u32()? as i32;
    }
    let [a, b, _, c, d] = matrix.map(|v| v.signum());
    Ok(match [a, b, c, d] {
        [0, 1, -1, 0] => Orientation::QUARTER_RIGHT,
        [-1, 0, 0, -1] => Orientation::HALF,
        [0, -1, 1, 0] => Orientation::QUARTER_LEFT,
        _ => Orientation::UPRIGHT,
    })
}

/// From when on and until when a track is shown. One edit is followed, after pauses; where there are several, all is shown.
fn edit(movie: Part<'_>, track: Part<'_>, per_second: u32) -> Result<(i64, i64)> {
    let all = (i64::MIN, i64::MAX);
    let Some(mut list) = track.find(b"edts")?.map(|edits| edits.find(b"elst")).transpose()?.flatten() else {
        return Ok(all);
    };
    let wide = list.0.first() == Some(&1);
    let mut found = None;
    for _ in 0..list.entries(if wide { 20 } else { 12 })? {
        let (long, start) = match wide {
            true => (list.u64()?, list.u64()? as i64),
            false => (list.u32()?.into(), i64::from(list.u32()? as i32)),
        };
        list.take(4)?;
        match (start, found) {
            (-1, None) => {}
            (0.., None) => found = Some((long, start)),
            _ => return Ok(all),
        }
    }
    let Some((long, start)) = found else { return Ok(all) };
    let (movie_per_second, _) = timescale(movie.need(b"mvhd")?)?;
    let long = u128::from(long) * u128::from(per_second) / u128::from(movie_per_second);
    let end = if long == 0 { i64::MAX } else { start.saturating_add(i64::try_from(long).unwrap_or(i64::MAX)) };
    Ok((start, end))
}

/// What fragments call a track, of the box `tkhd`.
fn number(mut part: Part<'_>) -> Result<u32> {
    let wide = part.u8()? == 1;
    part.take(if wide { 19 } else { 11 })?;
    part.u32()
}

/// The samples of the index, which may have none where fragments follow.
fn samples(tables: Part<'_>, file: usize, fragmented: bool) -> Result<Vec<Sample>> {
    let mut sizes = tables.need(b"stsz")?;
    sizes.take(4)?;
    let each = sizes.u32()? as usize;
    let count = sizes.u32()? as usize;
    if count == 0 && fragmented {
        return Ok(Vec::new());
    }
    if count == 0 || count > MOST_SAMPLES || (each == 0 && count > sizes.0.len() / 4) || each > file {
        return Err(bad(format_args!("the box stsz claims {count} samples, more than it or this reader has room for")));
    }
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let size = if each == 0 { sizes.u32()? as usize } else { each };
        samples.push(Sample { offset: 0, size, shown: 0, ticks: 0 });
    }
    times(tables, &mut samples)?;
    places(tables, &mut samples, file)?;
    Ok(samples)
}

fn times(tables: Part<'_>, samples: &mut [Sample]) -> Result<()> {
    let mut decoded = tables.need(b"stts")?;
    let (mut at, mut time) = (0usize, 0i64);
    for _ in 0..decoded.entries(8)? {
        let (count, ticks) = (decoded.u32()? as usize, decoded.u32()?);
        let end = at.checked_add(count).filter(|&end| end <= samples.len());
        for sample in &mut samples[at..end.ok_or_else(|| bad("the box stts has more samples than stsz"))?] {
            (sample.shown, sample.ticks) = (time, ticks);
            time += i64::from(ticks);
        }
        at += count;
    }
    if at != samples.len() {
        return Err(bad("the box stts has fewer samples than stsz"));
    }
    let Some(mut shifts) = tables.find(b"ctts")? else { return Ok(()) };
    at = 0;
    for _ in 0..shifts.entries(8)? {
        // Version 0 has no sign, but is written with one.
        let (count, shift) = (shifts.u32()? as usize, shifts.u32()? as i32);
        let end = at.checked_add(count).filter(|&end| end <= samples.len());
        for sample in &mut samples[at..end.ok_or_else(|| bad("the box ctts has more samples than stsz"))?] {
            sample.shown += i64::from(shift);
        }
        at += count;
    }
    Ok(())
}

fn places(tables: Part<'_>, samples: &mut [Sample], file: usize) -> Result<()> {
    let (mut chunks, wide) = match tables.find(b"stco")? {
        Some(chunks) => (chunks, false),
        None => (tables.need(b"co64")?, true),
    };
    let chunk_count = chunks.entries(if wide { 8 } else { 4 })?;
    let mut runs = tables.need(b"stsc")?;
    let run_count = runs.entries(12)?;
    let mut run = |left: &mut usize| -> Result<Option<(usize, usize)>> {
        if *left == 0 {
            return Ok(None);
        }
        *left -= 1;
        let (first, samples) = (runs.u32()? as usize, runs.u32()? as usize);
        runs.take(4)?;
        Ok(Some((first, samples)))
    };
    let mut left = run_count;
    let (mut at, mut per_chunk) = (0, 0);
    let mut next = run(&mut left)?;
    for chunk in 1..=chunk_count {
        if let Some((first, samples)) = next
            && first <= chunk
        {
            per_chunk = samples;
            next = run(&mut left)?;
        }
        let mut offset = if wide { chunks.u64()? } else { chunks.u32()?.into() };
        for sample in samples[at..].iter_mut().take(per_chunk) {
            let end = offset.saturating_add(sample.size as u64);
            if end > file as u64 {
                return Err(bad(format_args!("a sample ends at byte {end}, the file has {file}")));
            }
            sample.offset = offset as usize;
            offset = end;
            at += 1;
        }
    }
    if at != samples.len() {
        return Err(bad("the boxes stsc and stco place fewer samples than stsz has"));
    }
    Ok(())
}
