//! The gradient of a product's weights where bf16 has tiles of its own: sums over pairs of rows.
//!
//! Sums run over the rows in one order, so that threads do not change a bit.

use crate::isa::{Format, Isa, LINE, PANEL, PANEL_BLOCK, WIDE, interleave, tiles};
use crate::product::{Lines, with_scratch};
use crate::storage::{each_task, uninitialised};
use crate::taps::Taps;
use rayon::prelude::*;

/// The most rows of k between two visits of a tile.
const ROWS: usize = 512;
/// Rows of a pair's line.
const LANE: usize = 32;
/// Tasks a thread, about.
const TASKS: usize = 8;
/// Rows of k that a task packs.
const PACKED_ROWS: usize = 2048;

/// `[tap][channel][n]`: sum over rows of x[source(row, tap)][channel] * dy[row][n].
pub(super) fn weight_gradient(isa: Isa, x: &[f32], dy: &[f32], taps: &Taps, channels: usize, n: usize) -> Vec<f32> {
    let (rows, tap_count) = (taps.rows(), taps.count());
    let tiles = tiles(isa, Format::Bf16);
    let blocks = rows.div_ceil(LANE);
    let panels = n.div_ceil(PANEL);
    let columns = pack_columns(dy, rows, n);
    const CHUNK: usize = ROWS / LANE;
    let source = Source::new(x, channels, taps);
    let mut out = uninitialised(tap_count * channels * n);
    // Channels a task, in groups of sixteen: a 1x1 kernel has one tap for all threads, and nine are no even number.
    let threads = rayon::current_num_threads();
    let wanted = if threads == 1 { 1 } else { (TASKS * threads).div_ceil(tap_count) };
    let groups_a_task = channels.div_ceil(WIDE).div_ceil(wanted);
    let work = |tap: usize, first_group: usize, out: &mut [f32]| {
        let groups = (out.len() / n).div_ceil(WIDE);
        let mut sums = vec![0f32; groups * panels * WIDE * PANEL];
        let mut sources = [0i32; ROWS];
        let mut lines = [std::ptr::null(); ROWS];
        with_scratch(CHUNK * 16 * LINE, |packed| {
            for first in (0..blocks).step_by(CHUNK) {
                let count = (blocks - first).min(CHUNK);
                let present = (rows - first * LANE).min(count * LANE);
                taps.fill(first * LANE, tap, &mut sources[..present]);
                sources[present..count * LANE].fill(-1);
                for group in 0..groups {
                    source.lines(first_group + group, &sources[..count * LANE], packed, &mut lines[..count * 16]);
                    for panel in 0..panels {
                        let sums = &mut sums[(group * panels + panel) * WIDE * PANEL..][..WIDE * PANEL];
                        let b = columns.at((panel * blocks + first) * PANEL_BLOCK);
                        // Operands in bf16 round more than the sum, however long.
                        unsafe { (tiles.wide)(count, lines.as_ptr(), b, sums.as_mut_ptr()) };
                    }
                }
            }
        });
        for (channel, out) in out.chunks_mut(n).enumerate() {
            for (panel, out) in out.chunks_mut(PANEL).enumerate() {
                let at = ((channel / WIDE * panels + panel) * WIDE + channel % WIDE) * PANEL;
                out.copy_from_slice(&sums[at..at + out.len()]);
            }
        }
    };
    let tasks: Vec<_> = out
        .chunks_mut((channels * n).max(1))
        .enumerate()
        .flat_map(|(tap, out)| {
            let parts = out.chunks_mut((groups_a_task * WIDE * n).max(1)).enumerate();
            parts.map(move |(part, out)| (tap, part * groups_a_task, out))
        })
        .collect();
    each_task(tasks, |(tap, group, out)| work(tap, group, out));
    out
}

/// Where the lines of sixteen channels of a pair of rows come from.
enum Source<'a> {
    /// Made once for all taps: [group][pair].
    Paired { pairs: usize, lines: Lines },
    /// Made for each tap.
    Copied { x: &'a [f32], channels: usize },
}

impl<'a> Source<'a> {
    fn new(x: &'a [f32], channels: usize, taps: &Taps) -> Self {
        let whole = channels.is_multiple_of(WIDE);
        match taps {
            // With an even number of images, both rows of a pair move to the same pair of another pixel.
            Taps::Space(space) if whole && space.images.is_multiple_of(2) => {
                let (groups, pairs) = (channels / WIDE, x.len() / channels / 2);
                let lines = Lines::new(groups * pairs * LINE);
                let pair_up = |(pair, rows): (usize, &[f32])| {
                    let (even, odd) = rows.split_at(channels);
                    for (group, (even, odd)) in even.chunks_exact(WIDE).zip(odd.chunks_exact(WIDE)).enumerate() {
                        let to = lines.at((group * pairs + pair) * LINE);
                        unsafe { interleave(even.as_ptr(), odd.as_ptr(), to) };
                    }
                };
                if rayon::current_num_threads() == 1 {
                    x.chunks_exact(2 * channels).enumerate().for_each(pair_up);
                } else {
                    x.par_chunks_exact(2 * channels).with_min_len(64).enumerate().for_each(pair_up);
                }
                Self::Paired { pairs, lines }
            }
            _ => Self::Copied { x, channels },
        }
    }

    /// Points `to` at the lines of a group of sixteen channels of `sources`; `packed` takes what has to be copied.
    fn lines(&self, group: usize, sources: &[i32], packed: &Lines, to: &mut [*const u8]) {
        static NOTHING: [f32; WIDE] = [0.0; WIDE];
        match *self {
            Self::Paired { pairs, ref lines } => {
                for (to, pair) in to.iter_mut().zip(sources.chunks_exact(2)) {
                    *to = match usize::try_from(pair[0]) {
                        Ok(source) => lines.at((group * pairs + source / 2) * LINE),
                        Err(_) => NOTHING.as_ptr().cast(),
                    };
                }
            }
            Self::Copied { x, channels } => {
                pack_group(x, channels, group, sources, packed);
                for (k, to) in to.iter_mut().enumerate() {
                    *to = packed.at(k * LINE);
                }
            }
        }
    }
}

/// Rows of `dy` as panels whose k runs over rows.
fn pack_columns(dy: &[f32], rows: usize, n: usize) -> Lines {
    let blocks = rows.div_ceil(LANE);
    let lines = Lines::new(n.div_ceil(PANEL) * blocks * PANEL_BLOCK);
    let parts = (0..n.div_ceil(PANEL)).flat_map(|panel| (0..rows).step_by(PACKED_ROWS).map(move |row| (panel, row)));
    each_task(parts.collect(), |(panel, first)| {
        let base = lines.at((panel * blocks + first / LANE) * PANEL_BLOCK);
        // The last block is filled up with nothing.
        let count = ((rows - first).div_ceil(LANE) * LANE).min(PACKED_ROWS);
        pack_panel(dy, first, count, n, panel, base);
    });
    lines
}

/// `count` rows of one panel, from `first` on.
fn pack_panel(dy: &[f32], first: usize, count: usize, n: usize, panel: usize, base: *mut u8) {
    let nothing = [0f32; PANEL];
    let columns = (n - panel * PANEL).min(PANEL);
    let mut edge = [[0f32; PANEL]; 2];
    for k in 0..count / 2 {
        let mut pair = [nothing.as_ptr(); 2];
        for (i, from) in pair.iter_mut().enumerate() {
            let row = first + 2 * k + i;
            if row * n >= dy.len() {
                continue;
            }
            let values = &dy[row * n + panel * PANEL..row * n + panel * PANEL + columns];
            *from = if columns == PANEL {
                values.as_ptr()
            } else {
                edge[i][..columns].copy_from_slice(values);
                edge[i].as_ptr()
            };
        }
        unsafe {
            let to = base.add(k * 2 * LINE);
            interleave(pair[0], pair[1], to);
            interleave(pair[0].add(16), pair[1].add(16), to.add(LINE));
        }
    }
}

/// Sixteen channels of gathered rows in bf16, one line for each pair of rows.
fn pack_group(x: &[f32], channels: usize, group: usize, sources: &[i32], packed: &Lines) {
    let first = group * WIDE;
    let present = (channels - first).min(WIDE);
    let nothing = [0f32; WIDE];
    let mut edge = [[0f32; WIDE]; 2];
    let mut row = |i: usize, source: i32| -> *const f32 {
        match usize::try_from(source) {
            Err(_) => nothing.as_ptr(),
            Ok(source) => {
                let values = &x[source * channels + first..source * channels + first + present];
                if present == WIDE {
                    return values.as_ptr();
                }
                edge[i][..present].copy_from_slice(values);
                edge[i].as_ptr()
            }
        }
    };
    for (k, pair) in sources.chunks_exact(2).enumerate() {
        let (even, odd) = (row(0, pair[0]), row(1, pair[1]));
        unsafe { interleave(even, odd, packed.at(k * LINE)) };
    }
}
