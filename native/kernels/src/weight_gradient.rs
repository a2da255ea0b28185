//! The gradient of a product's weights: the rows that went in, gathered through [`Taps`], times the rows' gradients.
//!
//! Rows are added up in parts whose number depends on the shapes alone, so that threads do not change a bit.

mod blocks;

use crate::isa::{Format, Isa, PANEL, SUMMING_ROWS, Tiles, tiles};
use crate::operands::{round, round_in_place};
use crate::product::with_scratch;
use crate::simd::ask_for;
use crate::storage::{Rows, each_chunk, each_task, uninitialised};
use crate::taps::Taps;
use std::ops::Range;

/// Rows that are added up before their sum is added to the total: long sums of f32 round less in parts.
const SUMMED: usize = 64;
/// Rows of at most so many values are read where they lie. Further apart they compete for the same lines of the first cache.
const NEAR: usize = 128;
/// The fewest and the most channels of a task, which copies columns for all of them.
const FEWEST_CHANNELS: usize = 128;
const MOST_CHANNELS: usize = 288;
/// Tasks a thread, about.
const TASKS: usize = 8;
/// The fewest rows of a part, and the most parts.
const PART_ROWS: usize = 1024;
const MOST_PARTS: usize = 16;
/// The most bytes that all parts of a gradient take.
const PARTS_BYTES: usize = 1 << 20;
/// Numbers that a task adds up over the parts.
const CHUNK: usize = 16 * 1024;

/// `[tap][channel][n]`: sum over rows of x[source(row, tap)][channel] * dy[row][n].
pub(crate) fn weight_gradient(
    isa: Isa,
    format: Format,
    x: &[f32],
    dy: &[f32],
    taps: &Taps,
    channels: usize,
    n: usize,
) -> Vec<f32> {
    if format.in_blocks() {
        return blocks::weight_gradient(isa, format == Format::Split, x, dy, taps, channels, n);
    }
    let (rows, tap_count, size) = (taps.rows(), taps.count(), taps.count() * channels * n);
    let parts = (rows / PART_ROWS).min(PARTS_BYTES / (size * size_of::<f32>()).max(1)).clamp(1, MOST_PARTS);
    let part_rows = rows.div_ceil(parts).next_multiple_of(SUMMED).max(1);
    let parts = rows.div_ceil(part_rows).max(1);
    let summing = Summing { tiles: tiles(isa, Format::F32), format, x, dy, taps, channels, n };
    // Near rows are read, or rounded, for all taps together.
    let together = if summing.near() { tap_count } else { 1 };
    let threads = rayon::current_num_threads();
    let wanted = if threads == 1 { 1 } else { (TASKS * threads).div_ceil(parts * tap_count / together) };
    let shares = wanted.clamp(channels.div_ceil(MOST_CHANNELS).max(1), channels.div_ceil(FEWEST_CHANNELS).max(1));
    let share = channels.div_ceil(shares).next_multiple_of(4).max(4);
    let mut sums = uninitialised(parts * size);
    let to = Rows::new(&mut sums);
    let shares = (0..channels).step_by(share);
    let tasks = (0..parts * tap_count).step_by(together);
    let tasks = tasks.flat_map(|at| shares.clone().map(move |channel| (at, channel)));
    each_task(tasks.collect(), |(at, first)| {
        let (part, tap) = (at / tap_count, at % tap_count);
        let some = first..channels.min(first + share);
        // SAFETY: these channels of these taps in this part are this task's; of several taps they are all channels.
        let to = unsafe { to.slice((at * channels + first) * n, together * some.len() * n) };
        summing.sum(tap..tap + together, part * part_rows..rows.min((part + 1) * part_rows), some, to);
    });
    sum_of_parts(sums, parts, size)
}

/// The parts' sum, in their order.
fn sum_of_parts(sums: Vec<f32>, parts: usize, size: usize) -> Vec<f32> {
    if parts == 1 {
        return sums;
    }
    let mut out = uninitialised(size);
    each_chunk(&mut out, CHUNK, |i, out| {
        out.copy_from_slice(&sums[i * CHUNK..][..out.len()]);
        for part in 1..parts {
            out.iter_mut().zip(&sums[part * size + i * CHUNK..]).for_each(|(sum, more)| *sum += more);
        }
    });
    out
}

/// A gradient whose operands are multiplied in f32.
struct Summing<'a> {
    tiles: Tiles,
    format: Format,
    x: &'a [f32],
    dy: &'a [f32],
    taps: &'a Taps,
    channels: usize,
    n: usize,
}

impl Summing<'_> {
    /// Writes `[tap][channel][n]` of some taps and channels: the sum over some rows.
    fn sum(&self, taps: Range<usize>, rows: Range<usize>, channels: Range<usize>, out: &mut [f32]) {
        let &Self { tiles: Tiles { summing, .. }, n, .. } = self;
        let count = channels.len();
        let width = count.next_multiple_of(16) + 16;
        let held = (SUMMED + self.taps.count()) * width;
        let values = held + SUMMED * NEAR;
        let nothing = vec![0f32; self.channels];
        let mut edge = [0f32; SUMMING_ROWS[0] * PANEL];
        out.fill(0.0);
        with_scratch(values * size_of::<f32>(), |scratch| {
            // SAFETY: the scratch is this task's, and as large as asked for.
            let scratch = unsafe { std::slice::from_raw_parts_mut(scratch.at(0).cast::<f32>(), values) };
            let (copied, columns) = scratch.split_at_mut(held);
            for first in rows.clone().step_by(SUMMED) {
                let steps = (rows.end - first).min(SUMMED);
                // Rows that are copied are read one after the other, which the processor foresees.
                let next = if self.near() { first + steps..rows.end.min(first + steps + SUMMED) } else { 0..0 };
                let (mut tile, all) = (0, taps.len() * n.div_ceil(PANEL) * count.div_ceil(SUMMING_ROWS[0]));
                for (tap, out) in taps.clone().zip(out.chunks_exact_mut(count * n)) {
                    let is_first = tap == taps.start;
                    let lines = self.lines(tap, is_first, first, steps, &channels, &nothing, copied, width);
                    for at in (0..n).step_by(PANEL) {
                        let present = (n - at).min(PANEL);
                        let (b, apart) = self.columns(first, steps, at, is_first, columns);
                        let mut row = 0;
                        while row < count {
                            let left = count - row;
                            let rows = tile_rows(left);
                            // What the next rows read is asked for while these are multiplied.
                            let share = next.len() * tile / all..next.len() * (tile + 1) / all;
                            self.ask_for(next.start + share.start..next.end.min(next.start + share.end));
                            tile += 1;
                            let to = &mut out[row * n + at..];
                            if rows <= left && present == PANEL {
                                let to = &mut to[..(rows - 1) * n + PANEL];
                                // SAFETY: as many rows and steps lie there.
                                unsafe { summing(row, rows, steps, lines.as_ptr(), b, apart, to.as_mut_ptr(), n) };
                            } else {
                                edge.fill(0.0);
                                let to_edge = edge.as_mut_ptr();
                                // SAFETY: as above.
                                unsafe { summing(row, rows, steps, lines.as_ptr(), b, apart, to_edge, PANEL) };
                                for (to, edge) in to.chunks_mut(n).zip(edge.chunks(PANEL)).take(rows.min(left)) {
                                    to.iter_mut().zip(&edge[..present]).for_each(|(to, edge)| *to += edge);
                                }
                            }
                            row += rows;
                        }
                    }
                }
            }
        });
    }

    /// Whether rows of both sides are near each other, and whole.
    fn near(&self) -> bool {
        let near = |width: usize, of: usize| width <= NEAR && width.is_multiple_of(of);
        near(self.channels, 4) && near(self.n, PANEL)
    }

    fn ask_for(&self, rows: Range<usize>) {
        for row in rows {
            ask_for(&self.dy[row * self.n..][..self.n]);
            // With taps it is about there.
            if let Some(row) = self.x.get(row * self.channels..(row + 1) * self.channels) {
                ask_for(row);
            }
        }
    }

    /// Where some channels of `steps` gathered rows from `first` on lie: in their place, or copied to rows of `width`, for
    /// all taps by the first of them where that is possible. A multiple of four can be read there.
    fn lines(
        &self,
        tap: usize,
        is_first: bool,
        first: usize,
        steps: usize,
        channels: &Range<usize>,
        nothing: &[f32],
        copied: &mut [f32],
        width: usize,
    ) -> [*const f32; SUMMED] {
        let mut sources = [-1i32; SUMMED];
        self.taps.fill(first, tap, &mut sources[..steps]);
        let row = |source: i32| match usize::try_from(source) {
            Ok(source) => &self.x[source * self.channels..][channels.clone()],
            Err(_) => &nothing[channels.clone()],
        };
        if self.near() && self.format == Format::F32 {
            return sources.map(|source| row(source).as_ptr());
        }
        if self.near()
            && let Some(around) = self.taps.around(first, steps)
        {
            let of = |rows: Range<usize>| rows.start * self.channels..rows.end * self.channels;
            if is_first {
                round(&self.x[of(around.clone())], &mut copied[of(0..around.len())]);
            }
            return sources.map(|source| match usize::try_from(source) {
                Ok(source) => copied[of(source - around.start..source - around.start + 1)].as_ptr(),
                Err(_) => nothing.as_ptr(),
            });
        }
        for (copied, &source) in copied.chunks_exact_mut(width).zip(&sources[..steps]) {
            let (to, rest) = copied.split_at_mut(channels.len());
            match self.format {
                Format::Rounded => round(row(source), to),
                _ => to.copy_from_slice(row(source)),
            }
            // What is multiplied with it is dropped, but it is read.
            rest.fill(0.0);
        }
        std::array::from_fn(|step| copied[step * width..].as_ptr())
    }

    /// Where a panel's columns from `at` on of `steps` rows of `dy` from `first` on lie, and how far apart: in their place,
    /// or copied, if rows are near by the first tap for all.
    fn columns(
        &self,
        first: usize,
        steps: usize,
        at: usize,
        is_first: bool,
        copied: &mut [f32],
    ) -> (*const f32, usize) {
        let (n, present) = (self.n, (self.n - at).min(PANEL));
        let from = &self.dy[first * n + at..][..(steps - 1) * n + present];
        if self.near() {
            if self.format == Format::F32 {
                return (from.as_ptr(), n);
            }
            // All panels together.
            if at == 0 && is_first {
                round(&self.dy[first * n..][..steps * n], &mut copied[..steps * n]);
            }
            return (copied[at..].as_ptr(), n);
        }
        for (to, from) in copied.as_chunks_mut::<PANEL>().0.iter_mut().zip(from.chunks(n)) {
            match <&[f32; PANEL]>::try_from(&from[..present]) {
                Ok(from) => *to = *from,
                Err(_) => {
                    to[..present].copy_from_slice(&from[..present]);
                    to[present..].fill(0.0);
                }
            }
        }
        if self.format == Format::Rounded {
            round_in_place(&mut copied[..steps * PANEL]);
        }
        (copied.as_ptr(), PANEL)
    }
}

/// Rows of the next tile where so many are left.
fn tile_rows(left: usize) -> usize {
    match left {
        // Twice eight, and not twelve and four.
        13..=16 => 8,
        0..=4 => 4,
        5..=8 => 8,
        _ => 12,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{from_bf16, to_bf16};
    use crate::philox::normal as values;

    fn expected(x: &[f32], dy: &[f32], taps: &Taps, channels: usize, n: usize, taken: impl Fn(f32) -> f64) -> Vec<f64> {
        let mut sums = vec![0f64; taps.count() * channels * n];
        for (tap, sums) in sums.chunks_mut(channels * n).enumerate() {
            let mut sources = vec![0; taps.rows()];
            taps.fill(0, tap, &mut sources);
            for (dy, source) in dy.chunks(n).zip(sources) {
                let Ok(source) = usize::try_from(source) else { continue };
                for (x, sums) in x[source * channels..][..channels].iter().zip(sums.chunks_mut(n)) {
                    sums.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += taken(*x) * taken(*dy));
                }
            }
        }
        sums
    }

    /// In place and copied, with tails of rows, channels and columns, in one part and in several.
    fn shapes() -> Vec<(Taps, usize, usize)> {
        let space =
            Taps::Space(crate::taps::Space { height: 9, width: 10, images: 3, kernel: (3, 3), stride: 2, padding: 1 });
        vec![
            (Taps::Dense { rows: 1 }, 4, 32),
            (Taps::Dense { rows: 4133 }, 20, 64),
            (Taps::Dense { rows: 3001 }, 52, 33),
            (Taps::Dense { rows: 130 }, 300, 160),
            (Taps::Dense { rows: 65 }, 129, 7),
            (Taps::Time { rows: 7 * 450, frames: 7, kernel: 3 }, 8, 32),
            (Taps::Time { rows: 7 * 450, frames: 7, kernel: 3 }, 3, 5),
            (space, 36, 96),
            (space, 13, 40),
        ]
    }

    #[test]
    fn gradients_are_those_of_plain_loops_on_every_path() {
        for isa in Isa::tested() {
            for format in [Format::F32, Format::Rounded, Format::Bf16] {
                if format == Format::Bf16 && !isa.fast_bf16() {
                    continue;
                }
                for (case, (taps, channels, n)) in shapes().into_iter().enumerate() {
                    let (inputs, seed) = (taps.transposed().rows(), 10 * case as u64);
                    let (x, dy) = (values(inputs * channels, seed), values(taps.rows() * n, seed + 1));
                    let found = weight_gradient(isa, format, &x, &dy, &taps, channels, n);
                    let taken = |value: f32| match format {
                        Format::F32 => f64::from(value),
                        _ => f64::from(from_bf16(to_bf16(value))),
                    };
                    let expected = expected(&x, &dy, &taps, channels, n, taken);
                    let square = |of: &mut dyn Iterator<Item = f64>| of.map(|value| value * value).sum::<f64>();
                    let error = square(&mut found.iter().zip(&expected).map(|(found, e)| f64::from(*found) - e));
                    let relative = (error / square(&mut expected.iter().copied())).sqrt();
                    let most = if format == Format::Bf16 { 2e-6 } else { 5e-7 };
                    assert!(relative < most, "{isa:?} {format:?} case {case}: {relative:e}");
                }
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let of = |threads: usize, isa: Isa, format: Format, (taps, channels, n): (Taps, usize, usize)| {
            let (x, dy) = (values(taps.transposed().rows() * channels, 1), values(taps.rows() * n, 2));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| weight_gradient(isa, format, &x, &dy, &taps, channels, n))
        };
        let in_blocks = Isa::tested().filter(|isa| isa.fast_bf16()).map(|isa| (isa, Format::Bf16));
        let ways = [Format::F32, Format::Rounded].map(|format| (crate::isa(), format)).into_iter().chain(in_blocks);
        for (isa, format) in ways {
            for shape in shapes() {
                let one = of(1, isa, format, shape);
                for threads in [2, 3] {
                    let more = of(threads, isa, format, shape);
                    assert!(more.iter().zip(&one).all(|(a, b)| a.to_bits() == b.to_bits()), "{isa:?} {shape:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_reaches_its_channel_and_column() {
        let (rows, channels, n) = (200, 20, 40);
        for bad in [f32::NAN, f32::INFINITY] {
            for format in [Format::F32, Format::Rounded] {
                let (mut x, dy) = (values(rows * channels, 3), values(rows * n, 4));
                x[150 * channels + 17] = bad;
                let found = weight_gradient(crate::isa(), format, &x, &dy, &Taps::Dense { rows }, channels, n);
                for (channel, found) in found.chunks(n).enumerate() {
                    assert!(found.iter().all(|value| value.is_finite() != (channel == 17)), "{bad}: channel {channel}");
                }
            }
        }
    }
}
