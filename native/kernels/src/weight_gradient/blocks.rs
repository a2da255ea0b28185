//! The gradient of a product's weights where bf16 has tiles of its own: channels times columns, with k along the rows.
//!
//! Both sides are turned once: the input to lines of 32 rows for each channel, the gradient to pairs of rows. Rows are added up
//! in parts whose number depends on the shapes alone, so that threads do not change a bit.

use super::sum_of_parts;
use crate::isa::{Block, BlockTile, Isa, LINE, PANEL, PANEL_BLOCK, interleave_bf16, multiplying, turn_bf16};
use crate::product::Lines;
use crate::runs::Runs;
use crate::storage::{Rows, each_task, uninitialised};
use crate::taps::{Space, Taps};
use std::ops::Range;

/// Rows of k in a line.
const LANE: usize = 32;
/// Channels of a tile, and of a block.
const TILE: usize = 16;
const CHANNELS: usize = 2 * TILE;
/// Rows of a run where runs are not those of pictures.
const GATHERED: usize = 512;
/// Bytes of the gradient's rows between two visits of a block, which stay in the second cache for all taps.
const VISIT: usize = 256 << 10;
/// Tasks that a gradient is cut into, about; by parts of at least so many rows, which take at most so many bytes.
const TASKS: usize = 16;
const PART_ROWS: usize = 1024;
const PARTS_BYTES: usize = 3 << 20;

/// `[tap][channel][n]`: sum over rows of x[source(row, tap)][channel] * dy[row][n].
pub(super) fn weight_gradient(isa: Isa, x: &[f32], dy: &[f32], taps: &Taps, channels: usize, n: usize) -> Vec<f32> {
    let (tap_count, size) = (taps.count(), taps.count() * channels * n);
    let input = Input::turned(x, taps, channels);
    let panels = n.div_ceil(PANEL);
    let columns = pack_columns(dy, &input, n);
    let shares = channels.div_ceil(CHANNELS).max(1);
    let parts = TASKS.div_ceil(shares).min(PARTS_BYTES / (size * size_of::<f32>()).max(1));
    let parts = parts.min(taps.rows() / PART_ROWS).clamp(1, input.runs.max(1));
    let part = input.runs.div_ceil(parts).max(1);
    let parts = input.runs.div_ceil(part).max(1);
    let visit = (VISIT / (panels * input.steps * PANEL_BLOCK).max(1)).clamp(1, part);
    let mut sums = uninitialised(parts * size);
    let to = Rows::new(&mut sums);
    let tasks = (0..parts).flat_map(|part| (0..channels).step_by(CHANNELS).map(move |first| (part, first)));
    each_task(tasks.collect(), |(i, first)| {
        let runs = i * part..input.runs.min((i + 1) * part);
        let present = (channels - first).min(CHANNELS);
        multiplying(isa, |tile| {
            for from in runs.clone().step_by(visit) {
                let offsets = input.offsets((runs.end - from).min(visit));
                for (tap, panel) in (0..tap_count).flat_map(|tap| (0..panels).map(move |panel| (tap, panel))) {
                    let a = input.at(tap, from, first);
                    let b = columns.at((panel * input.runs + from) * input.steps * PANEL_BLOCK);
                    let to = to.at(i * size + (tap * channels + first) * n + panel * PANEL);
                    let sides = (present, (n - panel * PANEL).min(PANEL));
                    // SAFETY: these channels of this tap in this part are this task's.
                    unsafe { add_block(tile, &offsets, (a, input.apart), b, from > runs.start, to, n, sides) };
                }
            }
        });
    });
    sum_of_parts(sums, parts, size)
}

/// Writes a block of some rows of k, or adds it to those before: as many channels and columns as there are.
unsafe fn add_block(
    tile: BlockTile,
    offsets: &[usize],
    (a, apart): (*const u8, usize),
    b: *const u8,
    begun: bool,
    to: *mut f32,
    n: usize,
    (channels, columns): (usize, usize),
) {
    let nothing = [0f32; PANEL];
    let of = |start, start_apart, c, stride| Block {
        steps: offsets.len(),
        offsets: offsets.as_ptr(),
        a: [a, a.wrapping_add(TILE * apart)],
        apart,
        b,
        start,
        start_apart,
        c,
        stride,
    };
    let nothing = [nothing.as_ptr(); 2];
    if channels == CHANNELS && columns == PANEL {
        let c = [to, to.wrapping_add(TILE * n)];
        let (start, start_apart) = if begun { (c.map(<*mut f32>::cast_const), n) } else { (nothing, 0) };
        return unsafe { tile(&of(start, start_apart, c, n)) };
    }
    let mut sums = [[0f32; PANEL]; CHANNELS];
    let c = [0, TILE].map(|row| sums[row..].as_mut_ptr().cast());
    unsafe { tile(&of(nothing, 0, c, PANEL)) };
    for (channel, sums) in sums.iter().enumerate().take(channels) {
        let to = unsafe { std::slice::from_raw_parts_mut(to.add(channel * n), columns) };
        match begun {
            true => to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum),
            false => to.copy_from_slice(&sums[..columns]),
        }
    }
}

/// The input's channels in lines of k, in runs of output rows.
struct Input {
    lines: Lines,
    runs: usize,
    /// Output rows of a run, and lines of k for them.
    length: usize,
    steps: usize,
    /// Channels that a run has, the last of them zeros.
    kept: usize,
    /// Bytes from one channel to the next.
    apart: usize,
    /// For each tap, the bytes from a run's start to the first of its lines.
    taps: Vec<usize>,
}

impl Input {
    fn turned(x: &[f32], taps: &Taps, channels: usize) -> Self {
        match (taps, Runs::of(taps)) {
            (Taps::Space(space), Some(runs)) => Self::of_lines(x, space, &runs, channels),
            _ => Self::of_taps(x, taps, channels),
        }
    }

    /// Once for all taps: those to the side are some rows further along a line, those above and below other lines.
    fn of_lines(x: &[f32], space: &Space, runs: &Runs, channels: usize) -> Self {
        let steps = runs.length.div_ceil(LANE);
        let aside = (space.kernel.1 - 1) * space.images;
        let rows = runs.apart.max(aside + steps * LANE).next_multiple_of(LANE);
        let lines = runs.lines(0..runs.count()).len();
        let (kept, apart) = (channels.next_multiple_of(CHANNELS), 2 * rows);
        let tap = |row: &usize| row / runs.apart * kept * apart + row % runs.apart * 2;
        let taps = runs.taps.iter().map(tap).collect();
        let lines = turned(x, channels, lines, rows, |line, sources| {
            let (input, before) = runs.input(line);
            let some = &mut sources[before..before + input.len()];
            some.iter_mut().zip(input).for_each(|(to, row)| *to = row as i32);
        });
        Self { lines, runs: runs.count(), length: runs.length, steps, kept, apart, taps }
    }

    /// Once for each tap.
    fn of_taps(x: &[f32], taps: &Taps, channels: usize) -> Self {
        let rows = taps.rows();
        let length = GATHERED.min(rows.next_multiple_of(LANE)).max(LANE);
        let runs = rows.div_ceil(length);
        let (kept, apart) = (channels.next_multiple_of(CHANNELS), 2 * length);
        let lines = turned(x, channels, taps.count() * runs, length, |line, sources| {
            let (tap, first) = (line / runs, line % runs * length);
            taps.fill(first, tap, &mut sources[..(rows - first).min(length)]);
        });
        let taps = (0..taps.count()).map(|tap| tap * runs * kept * apart).collect();
        Self { lines, runs, length, steps: length / LANE, kept, apart, taps }
    }

    fn at(&self, tap: usize, run: usize, channel: usize) -> *const u8 {
        self.lines.at(self.taps[tap] + (run * self.kept + channel) * self.apart)
    }

    /// Where the lines of so many runs lie from the first one on.
    fn offsets(&self, runs: usize) -> Vec<usize> {
        let of_run = |run: usize| (0..self.steps).map(move |step| run * self.kept * self.apart + step * LINE);
        (0..runs).flat_map(of_run).collect()
    }
}

/// `lines` lines of `rows` rows turned around, channel by channel, where `fill` says which row of `x` each is: -1 for none.
fn turned(x: &[f32], channels: usize, lines: usize, rows: usize, fill: impl Fn(usize, &mut [i32]) + Sync) -> Lines {
    let (kept, apart) = (channels.next_multiple_of(CHANNELS), 2 * rows);
    let all = Lines::new(lines * kept * apart);
    each_task((0..lines).collect(), |line| {
        let mut sources = vec![-1i32; rows];
        fill(line, &mut sources);
        let to = |channel: usize| all.at((line * kept + channel) * apart);
        for (i, sources) in sources.as_chunks::<LANE>().0.iter().enumerate() {
            for first in (0..channels).step_by(TILE) {
                let rows = sources.map(|source| match usize::try_from(source) {
                    Ok(source) => x[source * channels + first..].as_ptr(),
                    Err(_) => std::ptr::null(),
                });
                // SAFETY: as many channels are left in every row, and lines are this task's.
                unsafe { turn_bf16(&rows, (channels - first).min(TILE), to(first).add(i * LINE), apart) };
            }
        }
        // SAFETY: as above.
        (channels..kept).for_each(|channel| unsafe { to(channel).write_bytes(0, apart) });
    });
    all
}

/// The gradient's rows in pairs: for each panel of columns and each run, its lines of k.
fn pack_columns(dy: &[f32], input: &Input, n: usize) -> Lines {
    let rows = dy.len() / n.max(1);
    let bytes = input.steps * PANEL_BLOCK;
    let lines = Lines::new(n.div_ceil(PANEL) * input.runs * bytes);
    let tasks = (0..input.runs).flat_map(|run| (0..n.div_ceil(PANEL)).map(move |panel| (run, panel)));
    each_task(tasks.collect(), |(run, panel)| {
        let first = run * input.length;
        let some = first..rows.min(first + input.length);
        pack_panel(dy, some, n, panel, input.steps, lines.at((panel * input.runs + run) * bytes));
    });
    lines
}

/// Rows of one panel in pairs, and zeros behind them.
fn pack_panel(dy: &[f32], rows: Range<usize>, n: usize, panel: usize, steps: usize, base: *mut u8) {
    let columns = (n - panel * PANEL).min(PANEL);
    let mut edge = [[0f32; PANEL]; 2];
    for pair in 0..steps * LANE / 2 {
        let first = rows.start + 2 * pair;
        if columns < PANEL || first + 1 >= rows.end {
            for (edge, row) in edge.iter_mut().zip([first, first + 1]) {
                match row < rows.end {
                    true => edge[..columns].copy_from_slice(&dy[row * n + panel * PANEL..][..columns]),
                    false => edge.fill(0.0),
                }
            }
        }
        let row = |i: usize| match columns < PANEL || first + 1 >= rows.end {
            true => edge[i].as_ptr(),
            false => dy[(first + i) * n + panel * PANEL..][..PANEL].as_ptr(),
        };
        // SAFETY: a pair takes two lines.
        unsafe {
            let to = base.add(pair * 2 * LINE);
            interleave_bf16(row(0), row(1), to);
            interleave_bf16(row(0).add(TILE), row(1).add(TILE), to.add(LINE));
        }
    }
}
