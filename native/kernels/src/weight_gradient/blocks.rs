//! The gradient of a product's weights where bf16 has tiles of its own: channels times columns, with k along the rows.
//!
//! Tasks turn the channels that they multiply to lines of 32 rows each, some runs at a time; the gradient is laid in pairs of rows
//! for all of them. Rows are added up in parts whose number depends on the shapes alone, so that threads do not change a bit.

use super::sum_of_parts;
use crate::isa::{Block, BlockTile, Isa, LINE, PANEL, PANEL_BLOCK, copy_present, multiplying, pair_rows, turn_bf16};
use crate::operands::{LEFT, Part, RIGHT};
use crate::product::{Lines, with_scratch};
use crate::runs::Runs;
use crate::simd::ask_for;
use crate::storage::{Rows, each_task, uninitialised};
use crate::taps::Taps;
use std::ops::Range;

/// Rows of k in a line.
const LANE: usize = 32;
/// Channels of a tile, and of a block.
const TILE: usize = 16;
const CHANNELS: usize = 2 * TILE;
/// Rows of a run where runs are not those of pictures.
const RUN: usize = 512;
/// Bytes of the gradient's rows between two visits of a block, which stay in the second cache for all taps.
const VISIT: usize = 256 << 10;
/// Tasks that a gradient is cut into, about; by parts of at least so many rows, which take at most so many bytes.
const TASKS: usize = 16;
const PART_ROWS: usize = 1024;
const PARTS_BYTES: usize = 3 << 20;
/// Channels of a task, which reads the whole gradient for them.
const SHARE: usize = 64;

/// `[tap][channel][n]`: sum over rows of x[source(row, tap)][channel] * dy[row][n].
pub(super) fn weight_gradient(
    isa: Isa,
    split: bool,
    x: &[f32],
    dy: &[f32],
    taps: &Taps,
    channels: usize,
    n: usize,
) -> Vec<f32> {
    let input = Input::new(x, split, taps, channels);
    let terms = LEFT.into_iter().zip(RIGHT).take(if split { LEFT.len() } else { 1 });
    let (tap_count, size, panels) = (taps.count(), taps.count() * channels * n, n.div_ceil(PANEL));
    let columns = pack_columns(dy, &input, n, false);
    let rest = split.then(|| pack_columns(dy, &input, n, true));
    let parts = TASKS.div_ceil(channels.div_ceil(SHARE).max(1)).min(PARTS_BYTES / (size * size_of::<f32>()).max(1));
    let parts = parts.min(taps.rows() / PART_ROWS).clamp(1, input.runs.max(1));
    let part = input.runs.div_ceil(parts).max(1);
    let parts = input.runs.div_ceil(part).max(1);
    let share = if parts * channels.div_ceil(SHARE) < TASKS { CHANNELS } else { SHARE };
    let visit = (VISIT / (panels * input.steps * PANEL_BLOCK).max(1)).clamp(1, part);
    let mut sums = uninitialised(parts * size);
    let to = Rows::new(&mut sums);
    let tasks = (0..parts).flat_map(|part| (0..channels).step_by(share).map(move |first| (part, first)));
    each_task(tasks.collect(), |(i, first)| {
        let runs = i * part..input.runs.min((i + 1) * part);
        let share = first..channels.min(first + share);
        let blocks = || (first..share.end).step_by(CHANNELS);
        input.turning(share.clone(), visit, |turned| {
            for from in runs.clone().step_by(visit) {
                let some = from..runs.end.min(from + visit);
                turned.turn(some.clone());
                let of = |columns: &Lines, panel| columns.at((panel * input.runs + from) * input.steps * PANEL_BLOCK);
                multiplying(isa, |tile| {
                    let taps = (0..tap_count).flat_map(|tap| terms.clone().map(move |term| (tap, term)));
                    for (tap, (left, right)) in taps {
                        let offsets = turned.offsets(tap, left, some.clone());
                        let columns = if right == Part::Low { rest.as_ref().expect("split") } else { &columns };
                        let begun = from > runs.start || left == Part::Low || right == Part::Low;
                        for (channel, panel) in
                            blocks().flat_map(|channel| (0..panels).map(move |panel| (channel, panel)))
                        {
                            let to = to.at(i * size + (tap * channels + channel) * n + panel * PANEL);
                            let sides = ((share.end - channel).min(CHANNELS), (n - panel * PANEL).min(PANEL));
                            let a = (turned.channel(channel), input.apart);
                            // SAFETY: these channels of this tap in this part are this task's.
                            unsafe { add_block(tile, &offsets, a, of(columns, panel), begun, to, n, sides) };
                        }
                    }
                });
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

/// The input in runs of output rows, whose channels are turned to lines of k.
struct Input<'a> {
    x: &'a [f32],
    /// Whether what rounding leaves is turned as well, to planes behind the others.
    split: bool,
    channels: usize,
    taps: &'a Taps,
    kind: Kind,
    runs: usize,
    /// Output rows of a run, and lines of k for them.
    length: usize,
    steps: usize,
    /// Bytes from one channel of a line to the next.
    apart: usize,
}

/// How the lines that a run reads are made.
enum Kind {
    /// Lines of pictures, for all taps: those to the side are some rows further along a line, those above and below are other
    /// lines. A copy for each of the places in a cache line where rows of a tap begin, in bytes.
    Pictures(Runs, Vec<usize>),
    /// Clips, once for each tap: others are the middle one, some rows along.
    Clips,
    /// Once for each tap.
    Taps,
}

impl<'a> Input<'a> {
    fn new(x: &'a [f32], split: bool, taps: &'a Taps, channels: usize) -> Self {
        let of = |kind, runs, length: usize, rows: usize| {
            let steps = length.div_ceil(LANE);
            let apart = 2 * rows.max(steps * LANE).next_multiple_of(LANE);
            Self { x, split, channels, taps, kind, runs, length, steps, apart }
        };
        let rows = taps.rows();
        match (taps, Runs::of(taps)) {
            (Taps::Space(space), Some(runs)) => {
                let aside = (space.kernel.1 - 1) * space.images;
                let (count, length) = (runs.count(), runs.length);
                let rows = runs.apart.max(aside + length.next_multiple_of(LANE));
                let mut places: Vec<_> = (0..space.kernel.1).map(|i| 2 * i * space.images % LINE).collect();
                places.sort();
                places.dedup();
                of(Kind::Pictures(runs, places), count, length, rows)
            }
            (Taps::Time { frames, .. }, _) => {
                let length = (RUN / frames).max(1) * frames;
                of(Kind::Clips, rows.div_ceil(length), length, length)
            }
            _ => {
                let length = RUN.min(rows.next_multiple_of(LANE)).max(LANE);
                of(Kind::Taps, rows.div_ceil(length), length, length)
            }
        }
    }

    /// Runs `work` with room for the lines of some channels that so many runs read.
    fn turning(&self, share: Range<usize>, runs: usize, work: impl FnOnce(&mut Turned)) {
        let kept = share.len().next_multiple_of(CHANNELS);
        let (slots, planes) = match &self.kind {
            Kind::Pictures(lines, places) => (lines.lines(0..runs).len(), places.len()),
            Kind::Clips | Kind::Taps => (runs, self.taps.count()),
        };
        let parts = if self.split { 2 } else { 1 };
        with_scratch(slots * parts * planes * kept * self.apart, |lines| {
            work(&mut Turned { input: self, share, kept, slots, parts, planes, done: 0, lines });
        });
    }
}

/// Lines of some channels of an input.
struct Turned<'a> {
    input: &'a Input<'a>,
    share: Range<usize>,
    /// Channels that a plane has, the last of them zeros.
    kept: usize,
    /// Lines that are held, line i in slot i modulo their number; parts of each, and planes of a part.
    slots: usize,
    parts: usize,
    planes: usize,
    /// The lines before this one are turned.
    done: usize,
    lines: &'a Lines,
}

impl Turned<'_> {
    /// Turns the lines that some runs read.
    fn turn(&mut self, runs: Range<usize>) {
        let lines = match &self.input.kind {
            Kind::Pictures(lines, _) => lines.lines(runs),
            Kind::Clips | Kind::Taps => runs,
        };
        for line in self.done.max(lines.start)..lines.end {
            (0..self.parts).for_each(|part| self.turn_line(line, part));
        }
        self.done = lines.end;
    }

    fn turn_line(&self, line: usize, part: usize) {
        let &Input { taps, ref kind, length, apart, .. } = self.input;
        let mut sources = vec![-1i32; apart / 2];
        let of = |plane| part * self.planes + plane;
        let (first, count) = (line * length, length.min(taps.rows().saturating_sub(line * length)));
        match kind {
            Kind::Pictures(lines, places) => {
                let (input, before) = lines.input(line);
                let some = &mut sources[before..before + input.len()];
                some.iter_mut().zip(input).for_each(|(to, row)| *to = row as i32);
                self.turn_rows(&sources, line, of(0));
                for (plane, place) in places.iter().enumerate().skip(1) {
                    let mut present = vec![u32::MAX; apart / LINE];
                    present[apart / LINE - 1] >>= place / 2;
                    // SAFETY: as many bytes less lie there.
                    let copy = |channel| unsafe {
                        let from = self.at(line, of(0), channel).wrapping_add(*place);
                        copy_present(from, &present, self.at(line, of(plane), channel));
                    };
                    (0..self.kept).for_each(copy);
                }
            }
            Kind::Clips => {
                let middle = self.planes / 2;
                taps.fill(first, middle, &mut sources[..count]);
                self.turn_rows(&sources, line, of(middle));
                for tap in (0..self.planes).filter(|tap| *tap != middle) {
                    taps.fill(first, tap, &mut sources[..count]);
                    let present = |rows: &[i32; LANE]| (0..LANE).map(|i| u32::from(rows[i] >= 0) << i).sum();
                    let present: Vec<u32> = sources.as_chunks().0.iter().map(present).collect();
                    for channel in 0..self.kept {
                        let from = self.at(line, of(middle), channel).wrapping_add(2 * tap).wrapping_sub(2 * middle);
                        // SAFETY: what is present lies in the middle's line.
                        unsafe { copy_present(from, &present, self.at(line, of(tap), channel)) };
                    }
                }
            }
            Kind::Taps => {
                for tap in 0..self.planes {
                    taps.fill(first, tap, &mut sources[..count]);
                    self.turn_rows(&sources, line, of(tap));
                }
            }
        }
    }

    /// Turns rows, of which -1 are zeros, to a plane of a line, counted over all parts.
    fn turn_rows(&self, sources: &[i32], line: usize, plane: usize) {
        let &Input { x, channels, apart, .. } = self.input;
        let sources = sources.as_chunks::<LANE>().0;
        let row = |source: i32| Some(usize::try_from(source).ok()? * channels);
        for (i, rows) in sources.iter().enumerate() {
            for from in sources.get(i + 1).into_iter().flatten().filter_map(|source| row(*source)) {
                ask_for(&x[from + self.share.start..from + self.share.end]);
            }
            for first in self.share.clone().step_by(TILE) {
                let rows = rows.map(|source| row(source).map_or(std::ptr::null(), |from| x[from + first..].as_ptr()));
                let to = self.at(line, plane, first - self.share.start);
                // SAFETY: as many channels are left in every row, and lines are this task's.
                unsafe {
                    turn_bf16(&rows, (self.share.end - first).min(TILE), to.add(i * LINE), apart, plane >= self.planes)
                };
            }
        }
        // SAFETY: as above.
        let clear = |channel| unsafe { self.at(line, plane, channel).write_bytes(0, apart) };
        (self.share.len()..self.kept).for_each(clear);
    }

    fn at(&self, line: usize, plane: usize, channel: usize) -> *mut u8 {
        self.lines.at(((line % self.slots * self.parts * self.planes + plane) * self.kept + channel) * self.input.apart)
    }

    /// Where a channel of the first plane lies.
    fn channel(&self, channel: usize) -> *const u8 {
        self.at(0, 0, channel - self.share.start)
    }

    /// Where the lines of k of a part of a tap in some runs lie from there on.
    fn offsets(&self, tap: usize, part: Part, runs: Range<usize>) -> Vec<usize> {
        let plane_bytes = self.kept * self.input.apart;
        let part = if part == Part::Low { self.planes } else { 0 };
        let (above, aside, plane) = match &self.input.kind {
            Kind::Pictures(lines, places) => {
                let (above, aside) = (lines.taps[tap] / lines.apart, 2 * (lines.taps[tap] % lines.apart));
                let plane = places.iter().position(|place| *place == aside % LINE).expect("every tap has a place");
                (above, aside / LINE * LINE, plane)
            }
            Kind::Clips | Kind::Taps => (0, 0, tap),
        };
        let of_run = |run: usize| {
            let line = (run + above) % self.slots * self.parts * self.planes;
            let from = (line + part + plane) * plane_bytes + aside;
            (0..self.input.steps).map(move |step| from + step * LINE)
        };
        runs.flat_map(of_run).collect()
    }
}

/// The gradient's rows in pairs, or what rounding leaves of them: for each panel of columns and each run, its lines of k.
fn pack_columns(dy: &[f32], input: &Input, n: usize, rest: bool) -> Lines {
    let rows = dy.len() / n.max(1);
    let bytes = input.steps * PANEL_BLOCK;
    let lines = Lines::new(n.div_ceil(PANEL) * input.runs * bytes);
    let tasks = (0..input.runs).flat_map(|run| (0..n.div_ceil(PANEL)).map(move |panel| (run, panel)));
    each_task(tasks.collect(), |(run, panel)| {
        let first = run * input.length;
        let some = first..rows.min(first + input.length);
        pack_panel(dy, some, n, panel, rest, input.steps, lines.at((panel * input.runs + run) * bytes));
    });
    lines
}

/// Rows of one panel in pairs, and zeros behind them.
fn pack_panel(dy: &[f32], rows: Range<usize>, n: usize, panel: usize, rest: bool, steps: usize, to: *mut u8) {
    let columns = (n - panel * PANEL).min(PANEL);
    let whole = if columns == PANEL { rows.len() / 2 } else { 0 };
    let from = |row: usize| &dy[row * n + panel * PANEL..][..columns];
    if whole > 0 {
        // SAFETY: as many rows have as many columns, and a pair takes two lines.
        unsafe { pair_rows(from(rows.start).as_ptr(), n, whole, to, rest) };
    }
    for pair in whole..steps * LANE / 2 {
        let mut edge = [[0f32; PANEL]; 2];
        for (edge, row) in edge.iter_mut().zip(rows.start + 2 * pair..rows.end) {
            edge[..columns].copy_from_slice(from(row));
        }
        // SAFETY: as above.
        unsafe { pair_rows(edge.as_ptr().cast(), PANEL, 1, to.add(pair * 2 * LINE), rest) };
    }
}
