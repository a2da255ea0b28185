//! How long frames stay, said exactly.

use crate::{Error, Result, Seconds};

/// How long the frames stay.
#[derive(Debug, Clone, PartialEq)]
pub enum Timing {
    /// A steady rate in frames a second, 0.01..=1000 (in a GIF at most 100). What a format cannot say exactly (GIF counts hundredths
    /// of a second) is carried to the next frame, so that the whole keeps time.
    Fps(f64),
    /// A duration for each frame, at most a minute.
    Each(Vec<Seconds>),
}

impl Timing {
    /// The slowest rate, in frames a second.
    pub const MIN_FPS: f64 = 0.01;
    /// The fastest rate, in frames a second.
    pub const MAX_FPS: f64 = 1000.0;
    /// The longest duration of a frame that is given for itself, in milliseconds.
    pub const LONGEST_MS: f64 = 60_000.0;

    /// Checks the timing of so many frames.
    ///
    /// # Errors
    /// [`Error::Refused`] when the rate or a duration is out of range, or there are not as many durations as frames.
    pub fn check(&self, frames: usize) -> Result<()> {
        match self {
            Self::Fps(fps) if !(Self::MIN_FPS..=Self::MAX_FPS).contains(fps) => {
                let (least, most) = (Self::MIN_FPS, Self::MAX_FPS);
                Err(Error::refused(format!("fps must be from {least} to {most}, not {fps}")))
            }
            Self::Each(each) if each.len() != frames => {
                Err(Error::refused(format!("there are {} durations for {frames} frames", each.len())))
            }
            Self::Each(each) => match each.iter().find(|d| d.milliseconds() > Self::LONGEST_MS) {
                Some(long) => Err(Error::refused(format!(
                    "a frame may stay at most {} ms, not {}",
                    Self::LONGEST_MS,
                    long.milliseconds()
                ))),
                None => Ok(()),
            },
            Self::Fps(_) => Ok(()),
        }
    }

    /// The duration of each frame as a fraction: a rate is the nearest simple one, so that 29.97 is 30000/1001.
    pub(crate) fn durations(&self, frames: usize) -> Result<Vec<Seconds>> {
        self.check(frames)?;
        Ok(match self {
            Self::Fps(fps) => {
                let (rate, seconds) = rate(*fps);
                vec![Seconds::new(seconds.into(), rate); frames]
            }
            Self::Each(each) => each.clone(),
        })
    }

    /// Frames in so many seconds, for a format that knows one rate only.
    pub(crate) fn steady_rate(&self, format: &str) -> Result<(u32, u32)> {
        match self {
            Self::Fps(fps) => {
                self.check(0)?;
                Ok(rate(*fps))
            }
            Self::Each(each) => {
                self.check(each.len())?;
                let first = each.first().copied().unwrap_or(Seconds::NONE);
                let same = |d: &Seconds| {
                    u128::from(d.ticks) * u128::from(first.per_second)
                        == u128::from(first.ticks) * u128::from(d.per_second)
                };
                if !each.iter().all(same) {
                    let why =
                        "has one rate for all frames, and these stay for different times: resample them to a rate";
                    return Err(Error::refused(format!("a file of {format} {why}")));
                }
                let divisor = gcd(first.ticks, first.per_second.into()).max(1);
                match u32::try_from(first.ticks / divisor) {
                    // Without a duration, as in a still, a frame a second.
                    Ok(0) => Ok((1, 1)),
                    Ok(seconds) => Ok(((u64::from(first.per_second) / divisor) as u32, seconds)),
                    Err(_) => Err(Error::refused(format!("a file of {format} cannot say this rate"))),
                }
            }
        }
    }

    /// Each frame's delay in whole parts of a second, the remainder carried: 8 fps in hundredths is 12, 13, 12, 13.
    pub(crate) fn parts(&self, frames: usize, per_second: u32) -> Result<Vec<u32>> {
        let mut elapsed = Elapsed::default();
        let mut before = 0;
        Ok(self
            .durations(frames)?
            .into_iter()
            .map(|duration| {
                elapsed.add(duration);
                let whole = elapsed.times(per_second.into(), 1).0;
                let delay = whole - before;
                before = whole;
                u32::try_from(delay).unwrap_or(u32::MAX)
            })
            .collect())
    }

    /// As [`Timing::parts`], in the hundredths that a GIF counts.
    pub(crate) fn hundredths(&self, frames: usize) -> Result<Vec<u16>> {
        if let Self::Fps(fps) = self
            && *fps > 100.0
            && frames > 1
        {
            return Err(Error::refused(format!("fps must be at most 100 in a GIF, not {fps}")));
        }
        Ok(self.parts(frames, 100)?.into_iter().map(|delay| u16::try_from(delay).unwrap_or(u16::MAX)).collect())
    }
}

/// A sum of durations, as a fraction of seconds and so without rounding.
#[derive(Debug, Clone, Copy)]
struct Elapsed {
    ticks: u128,
    per_second: u64,
}

impl Default for Elapsed {
    fn default() -> Self {
        Self { ticks: 0, per_second: 1 }
    }
}

impl Elapsed {
    fn add(&mut self, duration: Seconds) {
        let by = u64::from(duration.per_second);
        let common = u128::from(self.per_second / gcd(self.per_second, by)) * u128::from(by);
        // Where the fractions are so many that they have no common part of a size to reckon with, nanoseconds must do.
        let common = if common < 1 << 40 { common as u64 } else { 1_000_000_000 };
        let to = |ticks: u128, from: u64| ticks.saturating_mul(common.into()) / u128::from(from);
        self.ticks = to(self.ticks, self.per_second).saturating_add(to(duration.ticks.into(), by));
        self.per_second = common;
    }

    /// The time multiplied by a fraction: the whole part, and whether something is left over.
    fn times(self, by: u64, over: u64) -> (u128, bool) {
        let product = self.ticks.saturating_mul(by.into());
        let divisor = u128::from(self.per_second) * u128::from(over);
        (product / divisor, !product.is_multiple_of(divisor))
    }
}

/// Brings frames to a steady rate: at each instant `k / fps` the frame is taken that is shown then. A frame of an
/// animation that has no duration counts as a tenth of a second, as browsers show it.
#[derive(Debug)]
pub struct Pace {
    rate: (u32, u32),
    elapsed: Elapsed,
    frames: u64,
    shown: u64,
}

impl Pace {
    /// What counts where a file says that a frame stays no time.
    const NO_TIME: Seconds = Seconds { ticks: 1, per_second: 10 };

    /// For a rate in frames a second.
    ///
    /// # Errors
    /// [`Error::Refused`] as [`Timing::check`].
    pub fn new(fps: f64) -> Result<Self> {
        Timing::Fps(fps).check(0)?;
        Ok(Self { rate: rate(fps), elapsed: Elapsed::default(), frames: 0, shown: 0 })
    }

    /// How long each frame stays at the new rate.
    #[must_use]
    pub fn duration(&self) -> Seconds {
        Seconds::new(self.rate.1.into(), self.rate.0)
    }

    /// How often the next frame is taken: 0 where it is skipped, more than 1 where it is repeated.
    pub fn take(&mut self, duration: Seconds) -> u64 {
        self.elapsed.add(if duration.ticks == 0 { Self::NO_TIME } else { duration });
        self.frames += 1;
        let (whole, more) = self.elapsed.times(self.rate.0.into(), self.rate.1.into());
        let end = u64::try_from(whole).unwrap_or(u64::MAX).saturating_add(more.into());
        let count = end.saturating_sub(self.shown);
        self.shown = end.max(self.shown);
        count
    }

    /// How many frames there are in the end: the whole duration to the nearest frame, and at least one. What was taken beyond
    /// is to be dropped.
    #[must_use]
    pub fn frames(&self) -> u64 {
        let (twice, _) = self.elapsed.times(2 * u64::from(self.rate.0), self.rate.1.into());
        u64::try_from(twice.div_ceil(2)).unwrap_or(u64::MAX).clamp(1, self.shown.max(1))
    }
}

/// A rate as frames in so many seconds. Close to a multiple of 1000/1001, as television has them, it is that.
pub(crate) fn rate(fps: f64) -> (u32, u32) {
    if fps.fract() == 0.0 {
        return (fps as u32, 1);
    }
    let ntsc = fps * 1.001;
    if (ntsc - ntsc.round()).abs() < 5e-4 && ntsc.round() >= 1.0 {
        return (ntsc.round() as u32 * 1000, 1001);
    }
    // Continued fractions: the first approximation that is good enough.
    let (mut before, mut now) = ((0u64, 1u64), (1u64, 0u64));
    let mut rest = fps;
    loop {
        let whole = rest.floor();
        let next = (whole as u64 * now.0 + before.0, whole as u64 * now.1 + before.1);
        if next.0 > 1_000_000 || next.1 > 1_000_000 {
            return (now.0.max(1) as u32, now.1.max(1) as u32);
        }
        (before, now) = (now, next);
        if (now.0 as f64 / now.1 as f64 - fps).abs() <= fps * 1e-9 || rest - whole < 1e-12 {
            return (now.0.max(1) as u32, now.1.max(1) as u32);
        }
        rest = 1.0 / (rest - whole);
    }
}

pub(crate) fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(each: &[u64]) -> Timing {
        Timing::Each(each.iter().map(|&ms| Seconds::new(ms, 1000)).collect())
    }

    #[test]
    fn hundredths_keep_time() {
        assert_eq!(Timing::Fps(8.0).hundredths(4).unwrap(), [12, 13, 12, 13]);
        assert_eq!(Timing::Fps(10.0).hundredths(3).unwrap(), [10, 10, 10]);
        for fps in [3.0, 7.0, 12.0, 24.0, 29.97, 30.0] {
            let sum: u32 = Timing::Fps(fps).hundredths(300).unwrap().iter().map(|&d| u32::from(d)).sum();
            assert!((f64::from(sum) - 30_000.0 / fps).abs() < 1.0, "{fps}: {sum}");
        }
        assert_eq!(ms(&[42; 3]).hundredths(3).unwrap(), [4, 4, 4]);
        assert_eq!(ms(&[15, 15]).hundredths(2).unwrap(), [1, 2]);
        assert!(Timing::Fps(f64::NAN).check(1).is_err());
        assert!(Timing::Fps(0.0).check(1).is_err());
        assert!(ms(&[1]).check(2).is_err());
    }

    #[test]
    fn rates_are_the_fractions_that_people_mean() {
        for (fps, fraction) in [
            (8.0, (8, 1)),
            (12.5, (25, 2)),
            (29.97, (30_000, 1001)),
            (23.976, (24_000, 1001)),
            (59.94, (60_000, 1001)),
            (30_000.0 / 1001.0, (30_000, 1001)),
            (25.0 / 3.0, (25, 3)),
            (0.01, (1, 100)),
            (0.5, (1, 2)),
        ] {
            assert_eq!(rate(fps), fraction, "{fps}");
        }
        let steady = Timing::Each(vec![Seconds::new(40, 1000), Seconds::new(1, 25)]);
        assert_eq!(steady.steady_rate("Y4M").unwrap(), (25, 1));
        assert!(ms(&[40, 41]).steady_rate("Y4M").unwrap_err().to_string().contains("Y4M"));
        assert!(ms(&[60_001]).check(1).is_err());
    }

    #[test]
    fn unequal_fractions_are_carried_exactly() {
        let thirds = Timing::Each([Seconds::new(1, 3), Seconds::new(1, 7)].repeat(21));
        assert_eq!(thirds.parts(42, 1000).unwrap().iter().sum::<u32>(), 10_000);
        assert_eq!(Timing::Fps(29.97).parts(30_000, 100).unwrap().iter().sum::<u32>(), 100_100);
    }

    /// The numbers of the frames that are taken.
    fn paced(fps: f64, durations: &[Seconds]) -> Vec<usize> {
        let mut pace = Pace::new(fps).unwrap();
        let taken = durations.iter().enumerate().flat_map(|(i, &d)| vec![i; pace.take(d) as usize]).collect::<Vec<_>>();
        taken[..pace.frames() as usize].to_vec()
    }

    #[test]
    fn frames_are_taken_at_the_instants_of_the_new_rate() {
        let at = |fps: u32, count: usize| vec![Seconds::new(1, fps); count];
        assert_eq!(paced(8.0, &at(8, 4)), [0, 1, 2, 3]);
        assert_eq!(paced(8.0, &at(24, 12)), [0, 3, 6, 9]);
        assert_eq!(paced(24.0, &at(8, 2)), [0, 0, 0, 1, 1, 1]);
        assert_eq!(paced(10.0, &at(25, 5)), [0, 2]);
        // 0 to 0.1, 0.1 to 0.5, 0.5 to 0.6 s.
        let uneven = [10, 40, 10].map(|hundredths| Seconds::new(hundredths, 100));
        assert_eq!(paced(10.0, &uneven), [0, 1, 1, 1, 1, 2]);
        assert_eq!(paced(2.0, &uneven), [0]);
        assert_eq!(paced(4.0, &uneven), [0, 1]);
        assert_eq!(paced(20.0, &[Seconds::new(0, 100); 2]), [0, 0, 1, 1]);
        assert_eq!(paced(1.0, &[Seconds::new(1, 100)]), [0]);
        assert_eq!(paced(30.0, &vec![Seconds::new(1001, 30_000); 90]).len(), 90);
        assert_eq!(paced(29.97, &vec![Seconds::new(1001, 30_000); 90]), (0..90).collect::<Vec<_>>());
    }
}
