//! The samples of an MP4 in fragments (ISO/IEC 14496-12, 8.8), as recorders and streams write them: the index in `moov` is
//! short or empty, and each `moof` has the samples that follow it.

use crate::{
    Result,
    mp4_demux::{MOST_SAMPLES, Part, Sample, bad},
};

/// What samples are, where their run does not say.
#[derive(Debug, Clone, Copy, Default)]
struct Defaults {
    ticks: u32,
    size: u32,
}

/// Adds the samples of a track's fragments to those of its index, in decoding order.
pub(crate) fn append(file: Part<'_>, movie: Part<'_>, track: u32, samples: &mut Vec<Sample>) -> Result<()> {
    let usual = usual(movie, track)?;
    let length = file.0.len();
    // Fragments without a time of their own go on where those before them end.
    let mut time: i64 = samples.iter().map(|sample| i64::from(sample.ticks)).sum();
    let mut rest = file;
    loop {
        let start = length - rest.0.len();
        let Some((name, moof)) = rest.next_box()? else { return Ok(()) };
        if name != *b"moof" {
            continue;
        }
        let (mut boxes, mut end) = (moof, start as u64);
        while let Some((name, fragment)) = boxes.next_box()? {
            if name == *b"traf" {
                let own = Fragment { start: start as u64, before: end, usual, track, length };
                end = own.read(fragment, &mut time, samples)?;
            }
        }
    }
}

/// What `mvex` says of a track.
fn usual(movie: Part<'_>, track: u32) -> Result<Defaults> {
    let Some(mut extends) = movie.find(b"mvex")? else { return Ok(Defaults::default()) };
    while let Some((name, mut part)) = extends.next_box()? {
        if name != *b"trex" {
            continue;
        }
        part.take(4)?;
        if part.u32()? == track {
            part.take(4)?;
            return Ok(Defaults { ticks: part.u32()?, size: part.u32()? });
        }
    }
    Ok(Defaults::default())
}

/// Where a fragment of a track stands.
struct Fragment {
    /// Where its `moof` starts, and where the data of the fragment before it end.
    start: u64,
    before: u64,
    usual: Defaults,
    track: u32,
    /// Bytes of the file.
    length: usize,
}

impl Fragment {
    /// Reads the runs, of whichever track they are, and gives where their data end.
    fn read(&self, fragment: Part<'_>, time: &mut i64, samples: &mut Vec<Sample>) -> Result<u64> {
        let mut header = fragment.need(b"tfhd")?;
        let flags = header.u32()?;
        let own = header.u32()? == self.track;
        let base = match flags {
            flags if flags & 1 != 0 => header.u64()?,
            flags if flags & 0x2_0000 != 0 => self.start,
            _ => self.before,
        };
        if flags & 2 != 0 {
            header.take(4)?;
        }
        let mut usual = self.usual;
        if flags & 8 != 0 {
            usual.ticks = header.u32()?;
        }
        if flags & 0x10 != 0 {
            usual.size = header.u32()?;
        }
        if let Some(mut part) = fragment.find(b"tfdt")?.filter(|_| own) {
            let wide = part.u32()? >> 24 == 1;
            let from = if wide { part.u64()? } else { part.u32()?.into() };
            *time = i64::try_from(from).map_err(|_| bad("the box tfdt has no sound time"))?;
        }
        let (mut boxes, mut at) = (fragment, base);
        while let Some((name, run)) = boxes.next_box()? {
            if name == *b"trun" {
                at = self.run(run, (base, at), usual, own.then_some((&mut *time, &mut *samples)))?;
            }
        }
        Ok(at)
    }

    /// Reads one run that follows byte `at` unless it says otherwise, and gives where it ends. Its samples are kept where
    /// there is somewhere to keep them.
    fn run(
        &self,
        mut run: Part<'_>,
        (base, mut at): (u64, u64),
        usual: Defaults,
        mut kept: Option<(&mut i64, &mut Vec<Sample>)>,
    ) -> Result<u64> {
        let flags = run.u32()?;
        let count = run.u32()? as usize;
        if flags & 1 != 0 {
            let offset = i64::from(run.u32()? as i32);
            at = base.checked_add_signed(offset).ok_or_else(|| bad("the box trun starts before the file"))?;
        }
        if flags & 4 != 0 {
            run.take(4)?;
        }
        let each = 4 * (flags & 0xf00).count_ones() as usize;
        let before = kept.as_ref().map_or(0, |(_, samples)| samples.len());
        if count > MOST_SAMPLES.saturating_sub(before) || each * count > run.0.len() {
            return Err(bad(format_args!(
                "the box trun claims {count} samples, more than it or this reader has room for"
            )));
        }
        // What belongs to other tracks is only measured, and not sample by sample where all are of one size.
        if kept.is_none() && flags & 0x200 == 0 {
            return Ok(at.saturating_add(count as u64 * u64::from(usual.size)));
        }
        for _ in 0..count {
            let ticks = if flags & 0x100 != 0 { run.u32()? } else { usual.ticks };
            let size = if flags & 0x200 != 0 { run.u32()? } else { usual.size };
            if flags & 0x400 != 0 {
                run.take(4)?;
            }
            let shift = if flags & 0x800 != 0 { run.u32()? as i32 } else { 0 };
            let end = at.saturating_add(size.into());
            if end > self.length as u64 {
                return Err(bad(format_args!("a sample ends at byte {end}, the file has {}", self.length)));
            }
            if let Some((time, samples)) = &mut kept {
                let shown = time.saturating_add(shift.into());
                samples.push(Sample { offset: at as usize, size: size as usize, shown, ticks });
                **time = time.saturating_add(ticks.into());
            }
            at = end;
        }
        Ok(at)
    }
}
