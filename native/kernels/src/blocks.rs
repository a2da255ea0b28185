//! Products of bf16 in blocks of 32 rows and 32 columns, where the processor has instructions for them.
//!
//! Rows are rounded once, into a copy with zeros around them ([`Runs`]), where the tiles of all taps are read in their places.

use crate::isa::{Block, BlockTile, Format, LINE, PANEL, convert_bf16, multiplying, stream_rows};
use crate::lanes::{drain, past_caches};
use crate::product::{Lines, Panels, pack_rows, with_scratch};
use crate::runs::Runs;
use crate::storage::{Rows, each_task};
use crate::taps::Taps;
use std::ops::Range;

/// Rows of half a block.
pub(crate) const HALF: usize = 16;
/// Bytes of rows that stay in the second cache while panels pass over them: alone, and beside panels of many rows of k.
const ROWS_ALONE: usize = 1 << 20;
const ROWS_BESIDE: usize = 512 << 10;
/// Kernels of more bytes are read by few tasks.
const LARGE_KERNEL: usize = 1 << 20;
/// Tasks a thread, about.
const TASKS: usize = 4;

/// `out[row] = bias + sum over taps of x[source(row, tap)] * weights`.
pub(crate) fn product(x: &[f32], taps: &Taps, panels: &Panels, bias: Option<&[f32]>, out: &mut [f32]) {
    if out.is_empty() {
        return;
    }
    let channels = panels.k / taps.count();
    let lane = Format::Bf16.lane();
    let stream = past_caches(out, panels.n);
    let product = Product { panels, bias, stream, out: Rows::new(out) };
    match Runs::of(taps) {
        Some(runs) if channels.is_multiple_of(lane) => product.of_runs(x, &runs, channels),
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

/// Up to sixteen rows that lie side by side.
struct Unit {
    /// Bytes from the first of all rows.
    from: usize,
    /// The first output row.
    to: usize,
    rows: usize,
}

impl Product<'_> {
    fn of_runs(&self, x: &[f32], runs: &Runs, channels: usize) {
        let row_bytes = channels * 2;
        let line_bytes = runs.apart * row_bytes;
        let (count, panels) = (runs.count(), self.panels.n.div_ceil(PANEL));
        let threads = rayon::current_num_threads();
        let wanted = if threads == 1 { 1 } else { TASKS * threads };
        let large = self.panels.bytes() > LARGE_KERNEL;
        let fitting = (if large { ROWS_BESIDE } else { ROWS_ALONE } / line_bytes).max(1);
        let band = if large { fitting } else { fitting.min(count.div_ceil(wanted)) }.min(count);
        let bands: Vec<_> = (0..count).step_by(band).map(|first| first..count.min(first + band)).collect();
        // Where bands are few, each is read by several tasks.
        let shares = if large { wanted.div_ceil(bands.len()).min(panels) } else { 1 };
        let share = panels.div_ceil(shares);
        let offsets: Vec<usize> = (runs.taps.iter())
            .flat_map(|row| (0..row_bytes).step_by(LINE).map(move |at| row * row_bytes + at))
            .collect();
        let multiply = |copy: &Lines, first_line: usize, runs_of: Range<usize>, panels: Range<usize>| {
            let units = runs_of.flat_map(|run| {
                let output = runs.output(run);
                let end = output.end;
                output.step_by(HALF).enumerate().map(move |(i, to)| {
                    let from = (run - first_line) * line_bytes + i * HALF * row_bytes;
                    Unit { from, to, rows: (end - to).min(HALF) }
                })
            });
            self.multiply(copy, row_bytes, &offsets, &units.collect::<Vec<_>>(), panels);
        };
        // A unit's last rows may lie behind all lines.
        let with_copy = |lines: usize, work: &dyn Fn(&Lines)| {
            with_scratch(lines * line_bytes + HALF * row_bytes, |copy| {
                // SAFETY: there is room for them.
                unsafe { copy.at(lines * line_bytes).write_bytes(0, HALF * row_bytes) };
                work(copy);
            });
        };
        if shares == 1 {
            each_task(bands, |band| {
                let lines = runs.lines(band.clone());
                with_copy(lines.len(), &|copy| {
                    let round = |line| round_line(x, runs, line, channels, copy.at((line - lines.start) * line_bytes));
                    lines.clone().for_each(round);
                    multiply(copy, lines.start, band.clone(), 0..panels);
                });
            });
            return;
        }
        let lines = runs.lines(0..count);
        with_copy(lines.len(), &|copy| {
            each_task(lines.clone().collect(), |line| round_line(x, runs, line, channels, copy.at(line * line_bytes)));
            let shares = (0..panels).step_by(share).map(|first| first..panels.min(first + share));
            let tasks = shares.flat_map(|share| bands.iter().map(move |band| (band.clone(), share.clone())));
            each_task(tasks.collect(), |(band, share)| multiply(copy, 0, band, share));
        });
    }

    /// Rows of all taps side by side, a copy for each tap.
    fn of_gathered(&self, x: &[f32], taps: &Taps, channels: usize) {
        let (rows, blocks) = (taps.rows(), self.panels.blocks());
        let row_bytes = blocks * LINE;
        let threads = rayon::current_num_threads();
        let fair = rows.div_ceil(threads * if threads > 1 { TASKS } else { 1 });
        let band = (ROWS_BESIDE / row_bytes).min(fair).next_multiple_of(2 * HALF).max(2 * HALF);
        let offsets: Vec<_> = (0..blocks).map(|block| block * LINE).collect();
        each_task((0..rows).step_by(band).collect(), |first| {
            let count = (rows - first).min(band);
            let held = count.next_multiple_of(HALF);
            with_scratch(held * row_bytes, |copy| {
                let line_of = |row: usize| copy.at(row * row_bytes);
                // SAFETY: there is room for them.
                (count..held).for_each(|row| unsafe { line_of(row).write_bytes(0, row_bytes) });
                pack_rows(x, taps, channels, first, count, self.panels, convert_bf16, line_of);
                let units = (0..count).step_by(HALF).map(|row| Unit {
                    from: row * row_bytes,
                    to: first + row,
                    rows: (count - row).min(HALF),
                });
                self.multiply(copy, row_bytes, &offsets, &units.collect::<Vec<_>>(), 0..self.panels.n.div_ceil(PANEL));
            });
        });
    }

    /// Multiplies units with some panels.
    fn multiply(&self, copy: &Lines, row_bytes: usize, offsets: &[usize], units: &[Unit], panels: Range<usize>) {
        multiplying(self.panels.isa, |tile| {
            for panel in panels {
                self.multiply_panel(tile, copy, row_bytes, offsets, units, panel);
            }
        });
        drain();
    }

    fn multiply_panel(
        &self,
        tile: BlockTile,
        copy: &Lines,
        row_bytes: usize,
        offsets: &[usize],
        units: &[Unit],
        panel: usize,
    ) {
        let n = self.panels.n;
        let columns = (n - panel * PANEL).min(PANEL);
        let mut start = [0f32; PANEL];
        if let Some(bias) = self.bias {
            start[..columns].copy_from_slice(&bias[panel * PANEL..][..columns]);
        }
        for pair in units.chunks(2) {
            let [first, second] = [&pair[0], pair.last().expect("a chunk is not empty")];
            let block = |c, stride| Block {
                steps: offsets.len(),
                offsets: offsets.as_ptr(),
                a: [first.from, second.from].map(|from| copy.at(from).cast_const()),
                apart: row_bytes,
                b: self.panels.at(panel),
                start: [start.as_ptr(); 2],
                start_apart: 0,
                c,
                stride,
            };
            let whole = pair.len() == 2 && first.rows == HALF && second.rows == HALF && columns == PANEL;
            if whole && !self.stream {
                let to = [first, second].map(|unit| self.out.at(unit.to * n + panel * PANEL));
                // SAFETY: as many rows lie there, and these rows of these columns are this task's.
                unsafe { tile(&block(to, n)) };
                continue;
            }
            let mut sums = [[0f32; PANEL]; 2 * HALF];
            let to = [0, HALF].map(|row| sums[row].as_mut_ptr());
            // SAFETY: what lies behind a unit's rows is within the copy, and is dropped.
            unsafe { tile(&block(to, PANEL)) };
            for (unit, sums) in pair.iter().zip(sums.chunks(HALF)) {
                if whole {
                    // SAFETY: as above.
                    unsafe { stream_rows(sums, self.out.at(unit.to * n + panel * PANEL), n) };
                    continue;
                }
                for (row, sums) in sums.iter().take(unit.rows).enumerate() {
                    // SAFETY: as above.
                    let to = unsafe { self.out.slice((unit.to + row) * n + panel * PANEL, columns) };
                    to.copy_from_slice(&sums[..columns]);
                }
            }
        }
    }
}

/// Rounds a line of the input, with zeros around it.
fn round_line(x: &[f32], runs: &Runs, line: usize, channels: usize, to: *mut u8) {
    let row_bytes = channels * 2;
    let (input, before) = runs.input(line);
    let behind = before + input.len();
    // SAFETY: the line has room for as many rows.
    unsafe {
        to.write_bytes(0, before * row_bytes);
        convert_bf16(input.len() * row_bytes / LINE, x[input.start * channels..].as_ptr(), to.add(before * row_bytes));
        to.add(behind * row_bytes).write_bytes(0, (runs.apart - behind) * row_bytes);
    }
}
