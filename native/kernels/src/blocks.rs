//! Products of bf16 in blocks of 32 rows and 32 columns, where the processor has instructions for them.
//!
//! Rows are rounded once, into a copy with zeros around them ([`Runs`]), where the tiles of all taps are read in their places.

use crate::isa::{Block, BlockTile, Format, LINE, PANEL, convert_bf16, convert_rows, multiplying, stream_rows};
use crate::lanes::{drain, past_caches};
use crate::operands::{LEFT, Part, split_rows};
use crate::product::{Lines, Panels, pack_rows, with_scratch};
use crate::runs::Runs;
use crate::simd::ask_for_later;
use crate::storage::{Rows, each_task};
use crate::taps::Taps;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::slice::Chunks;

/// Rows of half a block.
pub(crate) const HALF: usize = 16;
/// Bytes of rows that stay in the second cache while panels pass over them: alone, and beside panels of many rows of k.
const ROWS_ALONE: usize = 1 << 20;
const ROWS_BESIDE: usize = 512 << 10;
/// Rows that are multiplied while the input of as many is asked for.
const ROWS_AHEAD: usize = 512;
/// Kernels of more bytes are read by few tasks.
const LARGE_KERNEL: usize = 1 << 20;
/// Tasks a thread, about.
const TASKS: usize = 4;

/// `out[row] = bias + sum over taps of x[source(row, tap)] * weights`.
pub(crate) fn product(x: &[f32], taps: &Taps, panels: &Panels, bias: Option<&[f32]>, out: &mut [f32]) {
    if out.is_empty() {
        return;
    }
    let parts: &[Part] = if panels.format == Format::Split { &LEFT } else { &[Part::High] };
    let channels = x.len() / taps.transposed().rows();
    let lane = panels.format.lane();
    let stream = past_caches(out, panels.n);
    let product = Product { panels, bias, stream, out: Rows::new(out) };
    match Runs::of(taps) {
        Some(runs) if parts.len() == 1 || channels.is_multiple_of(lane) => product.of_runs(x, &runs, channels, parts),
        _ if parts.len() > 1 => product.of_gathered(&split_rows(x, channels), taps, parts.len() * channels),
        _ => product.of_gathered(x, taps, channels),
    }
}

struct Product<'a> {
    panels: &'a Panels,
    bias: Option<&'a [f32]>,
    /// Whether whole blocks are written past the caches.
    stream: bool,
    out: Rows,
}

/// Sixteen rows that lie side by side.
struct Unit {
    /// Bytes from the first of all rows.
    from: usize,
    /// The output row that each becomes, if any.
    to: [Option<usize>; HALF],
}

impl Unit {
    fn new(from: usize, to: impl Fn(usize) -> Option<usize>) -> Self {
        Self { from, to: std::array::from_fn(to) }
    }

    /// The first of sixteen output rows that follow each other.
    fn whole(&self) -> Option<usize> {
        let (first, last) = (self.to[0]?, self.to[HALF - 1]?);
        (last - first == HALF - 1).then_some(first)
    }
}

impl Product<'_> {
    fn of_runs(&self, x: &[f32], runs: &Runs, channels: usize, parts: &[Part]) {
        let rounded = Rounded::new(x, runs, channels, parts);
        let (count, panels) = (runs.count(), self.panels.n.div_ceil(PANEL));
        let threads = rayon::current_num_threads();
        let wanted = if threads == 1 { 1 } else { TASKS * threads };
        let large = self.panels.bytes() > LARGE_KERNEL;
        let fitting = (if large { ROWS_BESIDE } else { ROWS_ALONE } / rounded.lines_apart).max(1);
        let band = if large { fitting } else { fitting.min(count.div_ceil(wanted)) }.min(count);
        let bands: Vec<_> = (0..count).step_by(band).map(|first| first..count.min(first + band)).collect();
        // Where bands are few, each is read by several tasks.
        let shares = if large { wanted.div_ceil(bands.len()).min(panels) } else { 1 };
        if shares > 1 {
            let lines = runs.lines(0..count);
            let share = panels.div_ceil(shares);
            let shares = (0..panels).step_by(share).map(|first| first..panels.min(first + share));
            let tasks: Vec<_> = shares.flat_map(|share| bands.iter().map(move |band| (band, share.clone()))).collect();
            rounded.with_copy(lines.len(), |copy| {
                each_task(lines.collect(), |line| rounded.round(line, copy, 0));
                each_task(tasks, |(band, share)| {
                    self.multiply(copy, &rounded.rows, &rounded.units(band.clone(), 0), share, &[]);
                });
            });
            return;
        }
        // Some runs at a time, while the input of the next ones is on its way.
        let some = (ROWS_AHEAD / runs.length).max(1);
        each_task(bands, |band| {
            let lines = runs.lines(band.clone());
            rounded.with_copy(lines.len(), |copy| {
                let mut done = lines.start;
                for first in band.clone().step_by(some) {
                    let now = first..band.end.min(first + some);
                    let next = now.end..band.end.min(now.end + some);
                    let (needed, later) = (runs.lines(now.clone()).end, runs.lines(next).end);
                    (done..needed).for_each(|line| rounded.round(line, copy, lines.start));
                    done = needed;
                    let ahead = rounded.input(needed..later.max(needed));
                    self.multiply(copy, &rounded.rows, &rounded.units(now, lines.start), 0..panels, ahead);
                }
            });
        });
    }

    /// Rows of all taps side by side, a copy for each tap.
    fn of_gathered(&self, x: &[f32], taps: &Taps, channels: usize) {
        let (rows, blocks) = (taps.rows(), self.panels.blocks());
        let row_bytes = blocks * LINE;
        let threads = rayon::current_num_threads();
        let fair = rows.div_ceil(threads * if threads > 1 { TASKS } else { 1 });
        let band = (ROWS_BESIDE / row_bytes).min(fair).next_multiple_of(2 * HALF).max(2 * HALF);
        let side_by_side = RowBytes { apart: row_bytes, offsets: (0..blocks).map(|block| block * LINE).collect() };
        each_task((0..rows).step_by(band).collect(), |first| {
            let count = (rows - first).min(band);
            let held = count.next_multiple_of(HALF);
            with_scratch(held * row_bytes, |copy| {
                let line_of = |row: usize| copy.at(row * row_bytes);
                // SAFETY: there is room for them.
                (count..held).for_each(|row| unsafe { line_of(row).write_bytes(0, row_bytes) });
                pack_rows(x, taps, channels, first, count, self.panels, convert_bf16, line_of);
                let unit = |row| Unit::new(row * row_bytes, |i| (row + i < count).then_some(first + row + i));
                let units = (0..count).step_by(HALF).map(unit);
                let panels = 0..self.panels.n.div_ceil(PANEL);
                self.multiply(copy, &side_by_side, &units.collect::<Vec<_>>(), panels, &[]);
            });
        });
    }

    /// Multiplies units with some panels, and asks for what is read next.
    fn multiply(&self, copy: &Lines, rows: &RowBytes, units: &[Unit], panels: Range<usize>, ahead: &[f32]) {
        let share = ahead.len().div_ceil((units.len().div_ceil(2) * panels.len()).max(1)).max(1);
        let mut ahead = ahead.chunks(share);
        multiplying(self.panels.isa, |tile| {
            for panel in panels {
                self.multiply_panel(tile, copy, rows, units, panel, &mut ahead);
            }
        });
        drain();
    }

    fn multiply_panel(
        &self,
        tile: BlockTile,
        copy: &Lines,
        rows: &RowBytes,
        units: &[Unit],
        panel: usize,
        ahead: &mut Chunks<f32>,
    ) {
        let n = self.panels.n;
        let columns = (n - panel * PANEL).min(PANEL);
        let mut start = [0f32; PANEL];
        if let Some(bias) = self.bias {
            start[..columns].copy_from_slice(&bias[panel * PANEL..][..columns]);
        }
        for pair in units.chunks(2) {
            ahead.next().into_iter().for_each(ask_for_later);
            let [first, second] = [&pair[0], pair.last().expect("a chunk is not empty")];
            let block = |c, stride| Block {
                steps: rows.offsets.len(),
                offsets: rows.offsets.as_ptr(),
                a: [first.from, second.from].map(|from| copy.at(from).cast_const()),
                apart: rows.apart,
                b: self.panels.at(panel),
                start: [start.as_ptr(); 2],
                start_apart: 0,
                c,
                stride,
            };
            let whole = if columns == PANEL { first.whole().zip(pair.get(1).and_then(Unit::whole)) } else { None };
            if let Some((first, second)) = whole
                && !self.stream
            {
                let to = [first, second].map(|row| self.out.at(row * n + panel * PANEL));
                // SAFETY: as many rows lie there, and these rows of these columns are this task's.
                unsafe { tile(&block(to, n)) };
                continue;
            }
            let mut sums = MaybeUninit::<[[f32; PANEL]; 2 * HALF]>::uninit();
            let to = [0, HALF].map(|row| sums.as_mut_ptr().cast::<f32>().wrapping_add(row * PANEL));
            // SAFETY: what lies behind a unit's rows is within the copy, and is dropped; all sums are written.
            let sums = unsafe {
                tile(&block(to, PANEL));
                sums.assume_init_ref()
            };
            for (unit, sums) in pair.iter().zip(sums.chunks(HALF)) {
                if let (Some(first), true) = (unit.whole(), self.stream && columns == PANEL) {
                    // SAFETY: as above.
                    unsafe { stream_rows(sums, self.out.at(first * n + panel * PANEL), n) };
                    continue;
                }
                for (row, sums) in unit.to.iter().zip(sums) {
                    if let Some(row) = row {
                        // SAFETY: as above.
                        let to = unsafe { self.out.slice(row * n + panel * PANEL, columns) };
                        match <&mut [f32; PANEL]>::try_from(&mut *to) {
                            Ok(to) => *to = *sums,
                            Err(_) => to.copy_from_slice(&sums[..columns]),
                        }
                    }
                }
            }
        }
    }
}

/// Rows in a copy, in bytes.
struct RowBytes {
    /// From one row to the next.
    apart: usize,
    /// From a row to each line of k of the row that it is made of.
    offsets: Vec<usize>,
}

/// An input in runs, to be rounded.
struct Rounded<'a> {
    x: &'a [f32],
    runs: &'a Runs,
    channels: usize,
    rows: RowBytes,
    /// Whether each line is followed by what rounding it leaves.
    split: bool,
    line_bytes: usize,
    lines_apart: usize,
}

impl<'a> Rounded<'a> {
    fn new(x: &'a [f32], runs: &'a Runs, channels: usize, parts: &[Part]) -> Self {
        let (apart, split) = (channels.div_ceil(LINE / 2) * LINE, parts.contains(&Part::Low));
        let line_bytes = runs.apart * apart;
        let lines_apart = if split { 2 * line_bytes } else { line_bytes };
        let of_tap = |tap: &usize| {
            let first = tap / runs.apart * lines_apart + tap % runs.apart * apart;
            let of_part = move |part: &Part| {
                let from = first + if *part == Part::Low { line_bytes } else { 0 };
                (from..from + apart).step_by(LINE)
            };
            parts.iter().flat_map(of_part)
        };
        let rows = RowBytes { apart, offsets: runs.taps.iter().flat_map(of_tap).collect() };
        Self { x, runs, channels, rows, split, line_bytes, lines_apart }
    }

    /// Room for some lines; a unit's last rows may lie behind all of them.
    fn with_copy(&self, lines: usize, work: impl FnOnce(&Lines)) {
        let behind = HALF * self.rows.apart;
        with_scratch(lines * self.lines_apart + behind, |copy| {
            // SAFETY: there is room for them.
            unsafe { copy.at(lines * self.lines_apart).write_bytes(0, behind) };
            work(copy);
        });
    }

    /// Rounds a line, with zeros around it, into a copy that begins with another one.
    fn round(&self, line: usize, copy: &Lines, first: usize) {
        let to = copy.at((line - first) * self.lines_apart);
        let (input, before) = self.runs.input(line);
        let behind = before + input.len();
        let bytes = |rows: usize| rows * self.rows.apart;
        let x = &self.x[input.start * self.channels..input.end * self.channels];
        for rest in [false, true].into_iter().take(if self.split { 2 } else { 1 }) {
            let to = if rest { to.wrapping_add(self.line_bytes) } else { to };
            // SAFETY: the line has room for as many rows.
            unsafe {
                to.write_bytes(0, bytes(before));
                convert_rows(input.len(), self.channels, x.as_ptr(), to.add(bytes(before)), rest);
                to.add(bytes(behind)).write_bytes(0, bytes(self.runs.apart - behind));
            }
        }
    }

    /// The input of some lines.
    fn input(&self, lines: Range<usize>) -> &[f32] {
        let at = |line| self.runs.input(line).0.start * self.channels;
        &self.x[at(lines.start)..at(lines.end)]
    }

    /// The rows of some runs, in a copy that begins with the line of another one.
    fn units(&self, runs: Range<usize>, first: usize) -> Vec<Unit> {
        let &Runs { length, apart, rows, .. } = self.runs;
        let bytes = self.rows.apart;
        // Clips that fill no tiles are taken together with the rows between them, which become nothing.
        if self.runs.apart() && !self.split && apart < length.next_multiple_of(HALF) {
            let to = |at: usize| {
                let (run, row) = (runs.start + at / apart, at % apart);
                (run < runs.end && row < length).then_some(run * length + row).filter(|row| *row < rows)
            };
            let from = (runs.start - first) * apart;
            let unit = |at| Unit::new((from + at) * bytes, |i| to(at + i));
            return (0..runs.len() * apart).step_by(HALF).map(unit).collect();
        }
        let of_run = |run: usize| {
            let (output, from) = (self.runs.output(run), (run - first) * self.lines_apart);
            let (first, count) = (output.start, output.len());
            let unit = move |row| Unit::new(from + row * bytes, |i| (row + i < count).then_some(first + row + i));
            (0..count).step_by(HALF).map(unit)
        };
        runs.flat_map(of_run).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::philox::normal as values;
    use crate::product::{Strides, product};
    use crate::taps::Space;
    use crate::weight_gradient::weight_gradient;

    /// Taps of any kind, and channels that go in and come out.
    fn shape(mut below: impl FnMut(usize) -> usize) -> (Taps, usize, usize) {
        let (images, frames) = (1 + below(18), 1 + below(40));
        let taps = match below(5) {
            0 => Taps::Dense { rows: 1 + below(1200) },
            1 | 2 => Taps::Time { rows: frames * (1 + below(30)), frames, kernel: [1, 3, 5][below(3)] },
            _ => {
                let kernel = (1 + below(3), 1 + below(4));
                let (height, width) = (kernel.0 + below(7), kernel.1 + below(7));
                let padding = below(3);
                Taps::Space(Space { height, width, images, kernel, stride: 1 + below(4) / 3, padding })
            }
        };
        let channels = if below(2) == 0 { 32 * (1 + below(4)) } else { 1 + below(100) };
        (taps, channels, 1 + below(100))
    }

    /// What rounded numbers make in blocks, and in tiles of f32.
    #[test]
    fn blocks_of_any_shape_make_what_tiles_make() {
        let mut state = 7u64;
        let mut below = |end: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % end
        };
        for case in 0..48 {
            let (taps, channels, n) = shape(&mut below);
            let (back, count) = (taps.transposed(), taps.count());
            let weight = values(count * channels * n, 3 * case);
            let x = values(back.rows() * channels, 3 * case + 1);
            let dy = values(taps.rows() * n, 3 * case + 2);
            let of = |isa, format| {
                let forward = Strides { tap: channels * n, k: n, n: 1 };
                let backward = Strides { tap: channels * n, k: 1, n };
                let panels = Panels::pack(isa, format, &weight, count, channels, n, forward);
                let transposed = Panels::pack(isa, format, &weight, count, n, channels, backward);
                let y = product(&x, &taps, &panels, Some(&weight[..n]));
                let dx = product(&dy, &back, &transposed, None);
                [y, dx, weight_gradient(isa, format, &x, &dy, &taps, channels, n)]
            };
            let expected = of(Isa::Portable, Format::Rounded);
            for isa in Isa::tested().filter(|isa| isa.fast_bf16()) {
                for (found, expected) in of(isa, Format::Bf16).iter().zip(&expected) {
                    assert_eq!(found.len(), expected.len());
                    let most = expected.iter().fold(1f32, |most, value| most.max(value.abs()));
                    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
                        let error = (found - expected).abs();
                        assert!(
                            error < 1e-5 * most,
                            "{isa:?} {taps:?} {channels} {n}: {found}, not {expected} at {at}"
                        );
                    }
                }
            }
        }
    }

    /// Written past the caches or not, and by any number of threads.
    #[test]
    fn large_results_have_the_bits_of_small_ones() {
        let (rows, channels, n) = ((16 << 20) / 256 + 40, 40, 64);
        let (x, weight) = (values(rows * channels, 1), values(channels * n, 2));
        for isa in Isa::tested().filter(|isa| isa.fast_bf16()) {
            let panels = Panels::pack(isa, Format::Bf16, &weight, 1, channels, n, Strides { tap: 0, k: n, n: 1 });
            let small = x
                .chunks(1000 * channels)
                .flat_map(|x| product(x, &Taps::Dense { rows: x.len() / channels }, &panels, Some(&weight[..n])));
            let small: Vec<_> = small.collect();
            for threads in [1, 3] {
                let mut room = vec![f32::NAN; rows * n + 16];
                let first = room.as_ptr().align_offset(64);
                let large = &mut room[first..][..rows * n];
                assert!(past_caches(large, n) || !cfg!(target_arch = "x86_64"));
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| super::product(&x, &Taps::Dense { rows }, &panels, Some(&weight[..n]), large));
                assert!(large.iter().zip(&small).all(|(a, b)| a.to_bits() == b.to_bits()), "{isa:?} {threads}");
            }
        }
    }
}
