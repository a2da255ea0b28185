//! Runs: output rows whose source rows lie side by side for every tap, in a copy of the input with zeros around it.

use crate::taps::{Space, Taps};
use std::ops::Range;

/// Rows of a run where all rows are one.
const DENSE: usize = 512;
/// Fewer rows than this are no run: of a picture's line, and of a clip.
const SHORTEST_LINE: usize = 16;
const SHORTEST_CLIP: usize = 4;

/// The runs of [`Taps`] that have any. The copy is made of lines of `apart` rows: a line of the input between `side` rows of
/// zeros, with `above` lines of zeros before the first and behind the last one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Runs {
    /// Output rows.
    pub rows: usize,
    /// Output rows of a run; the last one may have fewer.
    pub length: usize,
    /// Rows of the copy from one run to the next: run i begins with line i.
    pub apart: usize,
    /// For each tap, the rows of the copy from a run's first to the first one it reads.
    pub taps: Vec<usize>,
    /// Rows of the input.
    inputs: usize,
    /// Rows of the input in a line.
    copied: usize,
    side: usize,
    above: usize,
}

impl Runs {
    pub fn of(taps: &Taps) -> Option<Self> {
        match *taps {
            Taps::Dense { rows } => Some(Self::within(rows, DENSE, 1, false)),
            Taps::Time { rows, frames, kernel } => Self::within(rows, frames, kernel, false).long(SHORTEST_CLIP),
            Taps::TimeTransposed { rows, frames, kernel } => {
                Self::within(rows, frames, kernel, true).long(SHORTEST_CLIP)
            }
            Taps::Space(space) => {
                let (height, width) = (space.height, space.width);
                Self::around(space, (height, width), space.output(), (space.padding, space.padding), false)
            }
            Taps::SpaceTransposed(space) => {
                let pad = |kernel: usize| (kernel - 1).checked_sub(space.padding);
                let padding = (pad(space.kernel.0)?, pad(space.kernel.1)?);
                Self::around(space, space.output(), (space.height, space.width), padding, true)
            }
        }
    }

    fn long(self, shortest: usize) -> Option<Self> {
        (self.length >= shortest).then_some(self)
    }

    /// Runs of `length` neighbours, each on its own.
    fn within(rows: usize, length: usize, kernel: usize, back: bool) -> Self {
        let side = kernel / 2;
        let taps = (0..kernel).map(|tap| if back { kernel - 1 - tap } else { tap }).collect();
        Self { rows, length, apart: length + 2 * side, taps, inputs: rows, copied: length, side, above: 0 }
    }

    /// The lines of pictures, from sides `from` to sides `to`.
    fn around(
        space: Space,
        from: (usize, usize),
        to: (usize, usize),
        padding: (usize, usize),
        back: bool,
    ) -> Option<Self> {
        if space.stride != 1 {
            return None;
        }
        let (images, (kh, kw)) = (space.images, space.kernel);
        let (copied, side) = (from.1 * images, padding.1 * images);
        let apart = copied + 2 * side;
        let tap = |tap: usize| tap / kw * apart + tap % kw * images;
        let taps = (0..kh * kw).map(|i| tap(if back { kh * kw - 1 - i } else { i })).collect();
        let (rows, inputs) = (to.0 * to.1 * images, from.0 * from.1 * images);
        Self { rows, length: to.1 * images, apart, taps, inputs, copied, side, above: padding.0 }.long(SHORTEST_LINE)
    }

    /// How many runs there are.
    pub fn count(&self) -> usize {
        self.rows.div_ceil(self.length)
    }

    /// The output rows of a run.
    pub fn output(&self, run: usize) -> Range<usize> {
        run * self.length..self.rows.min((run + 1) * self.length)
    }

    /// Whether each run reads a line of its own.
    pub fn apart(&self) -> bool {
        self.taps.iter().all(|row| *row < self.apart)
    }

    /// The lines of the copy that some runs read.
    pub fn lines(&self, runs: Range<usize>) -> Range<usize> {
        runs.start..runs.end + self.taps.iter().max().map_or(0, |most| most / self.apart)
    }

    /// The rows of the input in a line, and the rows of zeros before them.
    pub fn input(&self, line: usize) -> (Range<usize>, usize) {
        let first = line.checked_sub(self.above).map_or(self.inputs, |line| line * self.copied).min(self.inputs);
        (first..self.inputs.min(first + self.copied), self.side)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_read_what_taps_say() {
        let space = |height, width, images, kernel, padding| {
            Taps::Space(Space { height, width, images, kernel, stride: 1, padding })
        };
        for taps in [
            Taps::Dense { rows: 2 * DENSE + 7 },
            Taps::Time { rows: 3 * 17, frames: 17, kernel: 3 },
            Taps::Time { rows: 2 * 20, frames: 20, kernel: 5 },
            Taps::Time { rows: 5 * 6, frames: 6, kernel: 3 },
            space(5, 6, 4, (3, 3), 1),
            space(6, 8, 3, (3, 5), 2),
            space(4, 40, 1, (3, 3), 0),
        ] {
            for taps in [taps, taps.transposed()] {
                let Some(runs) = Runs::of(&taps) else { continue };
                assert_eq!((runs.rows, runs.taps.len()), (taps.rows(), taps.count()));
                let lines = runs.lines(0..runs.count());
                let mut copy = vec![-1i32; lines.len() * runs.apart];
                for line in lines {
                    let (input, before) = runs.input(line);
                    for (at, row) in input.enumerate() {
                        copy[line * runs.apart + before + at] = row as i32;
                    }
                }
                for (tap, offset) in runs.taps.iter().enumerate() {
                    for run in 0..runs.count() {
                        let output = runs.output(run);
                        let mut expected = vec![0; output.len()];
                        taps.fill(output.start, tap, &mut expected);
                        let found = &copy[run * runs.apart + offset..][..output.len()];
                        assert_eq!(found, expected, "{taps:?}: tap {tap}, run {run}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_has_no_runs_is_told() {
        let space = Space { height: 8, width: 8, images: 16, kernel: (3, 3), stride: 2, padding: 1 };
        let narrow = Space { height: 8, width: 5, images: 3, stride: 1, ..space };
        for taps in [
            Taps::Space(space),
            Taps::SpaceTransposed(space),
            Taps::Space(narrow),
            Taps::Time { rows: 60, frames: 3, kernel: 3 },
        ] {
            assert_eq!(Runs::of(&taps), None);
        }
    }
}
