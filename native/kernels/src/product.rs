//! The matrix product under every layer: rows gathered through [`Taps`], times packed weights.
//!
//! Sums run over k in one order for every row, so a row's result depends neither on its neighbours nor on threads.

use crate::isa::{Format, Isa, LINE, PANEL, PANEL_BLOCK, Tiles, WIDE, isa, tiles};
use crate::taps::Taps;
use rayon::prelude::*;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;

/// Packed rows kept in the second-level cache while all panels pass over them.
const ROW_BLOCK_BYTES: usize = 384 * 1024;
/// Rows of k between two visits of a weight gradient's tile.
const GRADIENT_ROWS: usize = 512;

/// Zeroed bytes aligned to a cache line.
pub(crate) struct Lines {
    data: *mut u8,
    bytes: usize,
}

unsafe impl Send for Lines {}
unsafe impl Sync for Lines {}

impl Lines {
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.max(LINE);
        let layout = Layout::from_size_align(bytes, LINE).expect("a packed buffer fits in memory");
        let data = unsafe { alloc_zeroed(layout) };
        if data.is_null() {
            handle_alloc_error(layout);
        }
        Self { data, bytes }
    }

    fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < self.bytes);
        unsafe { self.data.add(offset) }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        unsafe { dealloc(self.data, Layout::from_size_align_unchecked(self.bytes, LINE)) }
    }
}

thread_local! {
    static SCRATCH: RefCell<Lines> = RefCell::new(Lines::new(LINE));
}

/// Runs `work` with this thread's reusable buffer of at least `bytes`; its content is whatever was left there.
fn with_scratch<R>(bytes: usize, work: impl FnOnce(&Lines) -> R) -> R {
    // Taken out while in use: a nested parallel call may run another task on this thread.
    let mut lines = SCRATCH.with(|scratch| scratch.replace(Lines::new(LINE)));
    if lines.bytes < bytes {
        lines = Lines::new(bytes);
    }
    let result = work(&lines);
    SCRATCH.with(|scratch| scratch.replace(lines));
    result
}

/// Weights packed for one path: `k` rows of `n` columns in panels of 32.
pub(crate) struct Panels {
    isa: Isa,
    format: Format,
    k: usize,
    n: usize,
    blocks: usize,
    lines: Lines,
}

/// Where a weight lies: `data[tap * tap_stride + k * k_stride + n * n_stride]`.
pub(crate) struct Strides {
    pub tap: usize,
    pub k: usize,
    pub n: usize,
}

impl Panels {
    /// Packs `taps` x `k_per_tap` rows by `n` columns.
    pub fn pack(isa: Isa, format: Format, data: &[f32], taps: usize, k_per_tap: usize, n: usize, at: Strides) -> Self {
        let k = taps * k_per_tap;
        let blocks = k.div_ceil(format.lane());
        let panels = n.div_ceil(PANEL);
        let lines = Lines::new(panels * blocks * PANEL_BLOCK);
        for panel in 0..panels {
            let columns = (n - panel * PANEL).min(PANEL);
            let base = lines.at(panel * blocks * PANEL_BLOCK);
            for column in 0..columns {
                for tap in 0..taps {
                    let from = tap * at.tap + (panel * PANEL + column) * at.n;
                    for i in 0..k_per_tap {
                        let (k, value) = (tap * k_per_tap + i, data[from + i * at.k]);
                        unsafe {
                            match format {
                                Format::F32 => *base.cast::<f32>().add(k * PANEL + column) = value,
                                Format::Bf16 => {
                                    *base.cast::<u16>().add((k / 2 * PANEL + column) * 2 + k % 2) =
                                        crate::isa::to_bf16(value);
                                }
                            }
                        }
                    }
                }
            }
        }
        Self { isa, format, k, n, blocks, lines }
    }
}

/// `out[row] = bias + sum over taps of x[source(row, tap)] * weights`, rows of `x` having k / taps channels.
pub(crate) fn product(x: &[f32], taps: &Taps, panels: &Panels, bias: Option<&[f32]>) -> Vec<f32> {
    let (rows, n) = (taps.rows(), panels.n);
    let channels = panels.k / taps.count();
    let tiles = tiles(panels.isa, panels.format);
    let mut out = crate::storage::uninitialised(rows * n);
    let line_rows = ROW_BLOCK_BYTES / (panels.blocks * LINE);
    let threads = rayon::current_num_threads();
    let fair = rows.div_ceil(threads * if threads > 1 { 4 } else { 1 });
    let block_rows = (line_rows.min(192).min(fair) / tiles.rows).max(1) * tiles.rows;
    let work = |block: usize, out: &mut [f32]| {
        with_scratch(block_rows * panels.blocks * LINE, |packed| {
            let first = block * block_rows;
            let count = out.len() / n;
            pack_rows(x, taps, channels, first, count, panels, &tiles, packed);
            let mut sums = [0f32; 32 * PANEL];
            for panel in 0..n.div_ceil(PANEL) {
                let columns = (n - panel * PANEL).min(PANEL);
                let bias = bias.map(|bias| &bias[panel * PANEL..panel * PANEL + columns]);
                let b = panels.lines.at(panel * panels.blocks * PANEL_BLOCK);
                for tile in 0..count.div_ceil(tiles.rows) {
                    let a = packed.at(tile * tiles.rows * panels.blocks * LINE);
                    unsafe { (tiles.tile)(panels.blocks, a, b, sums.as_mut_ptr()) };
                    for row in 0..(count - tile * tiles.rows).min(tiles.rows) {
                        let at = (tile * tiles.rows + row) * n + panel * PANEL;
                        let (to, from) = (&mut out[at..at + columns], &sums[row * PANEL..row * PANEL + columns]);
                        match bias {
                            Some(bias) => {
                                for ((to, from), bias) in to.iter_mut().zip(from).zip(bias) {
                                    *to = from + bias;
                                }
                            }
                            None => to.copy_from_slice(from),
                        }
                    }
                }
            }
        });
    };
    if threads == 1 {
        out.chunks_mut(block_rows * n).enumerate().for_each(|(block, out)| work(block, out));
    } else {
        out.par_chunks_mut(block_rows * n).enumerate().for_each(|(block, out)| work(block, out));
    }
    out
}

/// Packs `count` gathered rows in tiles of lines.
fn pack_rows(
    x: &[f32],
    taps: &Taps,
    channels: usize,
    first: usize,
    count: usize,
    panels: &Panels,
    tiles: &Tiles,
    packed: &Lines,
) {
    let lane = panels.format.lane();
    let stride = tiles.rows * LINE;
    let line_of = |row: usize| packed.at((row / tiles.rows * tiles.rows * panels.blocks + row % tiles.rows) * LINE);
    let padded = count.div_ceil(tiles.rows) * tiles.rows;
    for row in count..padded {
        zero_lines(line_of(row), panels.blocks, stride);
    }
    let mut sources = vec![0i32; count];
    if channels.is_multiple_of(lane) {
        let lines = channels / lane;
        for tap in 0..taps.count() {
            taps.fill(first, tap, &mut sources);
            for (row, &source) in sources.iter().enumerate() {
                let to = unsafe { line_of(row).add(tap * lines * stride) };
                match usize::try_from(source) {
                    Ok(source) => {
                        let from = &x[source * channels..(source + 1) * channels];
                        unsafe { (tiles.convert)(lines, from.as_ptr(), to, stride) };
                    }
                    Err(_) => zero_lines(to, lines, stride),
                }
            }
        }
        return;
    }
    let mut all = vec![0i32; count * taps.count()];
    for (tap, sources) in all.chunks_mut(count).enumerate() {
        taps.fill(first, tap, sources);
    }
    let mut gathered = vec![0f32; panels.blocks * lane];
    for row in 0..count {
        for tap in 0..taps.count() {
            let to = &mut gathered[tap * channels..(tap + 1) * channels];
            match usize::try_from(all[tap * count + row]) {
                Ok(source) => to.copy_from_slice(&x[source * channels..(source + 1) * channels]),
                Err(_) => to.fill(0.0),
            }
        }
        unsafe { (tiles.convert)(panels.blocks, gathered.as_ptr(), line_of(row), stride) };
    }
}

fn zero_lines(to: *mut u8, lines: usize, stride: usize) {
    for line in 0..lines {
        unsafe { to.add(line * stride).write_bytes(0, LINE) };
    }
}

/// The gradient of the weights, `[tap][channel][n]`: sum over rows of x[source(row, tap)][channel] * dy[row][n].
pub(crate) fn weight_gradient(
    isa: Isa,
    format: Format,
    x: &[f32],
    dy: &[f32],
    taps: &Taps,
    channels: usize,
    n: usize,
) -> Vec<f32> {
    let (rows, tap_count) = (taps.rows(), taps.count());
    let tiles = tiles(isa, format);
    let lane = format.lane();
    let blocks = rows.div_ceil(lane);
    let panels = n.div_ceil(PANEL);
    let columns = pack_columns(dy, rows, n, format, &tiles);
    let groups = channels.div_ceil(WIDE);
    let mut out = vec![0f32; tap_count * channels * n];
    let chunk_blocks = GRADIENT_ROWS / lane;
    let work = |tap: usize, out: &mut [f32]| {
        let mut sums = vec![0f32; groups * panels * WIDE * PANEL];
        let mut sources = [0i32; GRADIENT_ROWS];
        with_scratch(chunk_blocks * 16 * LINE, |packed| {
            for first in (0..blocks).step_by(chunk_blocks) {
                let count = (blocks - first).min(chunk_blocks);
                let present = (rows - first * lane).min(count * lane);
                taps.fill(first * lane, tap, &mut sources[..present]);
                sources[present..count * lane].fill(-1);
                for group in 0..groups {
                    pack_group(x, channels, group, &sources[..count * lane], format, &tiles, packed);
                    for panel in 0..panels {
                        let sums = sums[(group * panels + panel) * WIDE * PANEL..].as_mut_ptr();
                        let b = columns.at((panel * blocks + first) * PANEL_BLOCK);
                        unsafe { (tiles.wide)(count, packed.at(0), b, sums) };
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
    if rayon::current_num_threads() == 1 {
        out.chunks_mut(channels * n).enumerate().for_each(|(tap, out)| work(tap, out));
    } else {
        out.par_chunks_mut(channels * n).enumerate().for_each(|(tap, out)| work(tap, out));
    }
    out
}

/// Rows of `dy` as panels whose k runs over rows.
fn pack_columns(dy: &[f32], rows: usize, n: usize, format: Format, tiles: &Tiles) -> Lines {
    let lane = format.lane();
    let blocks = rows.div_ceil(lane);
    let step = lane / 16;
    let lines = Lines::new(n.div_ceil(PANEL) * blocks * PANEL_BLOCK);
    let nothing = [0f32; PANEL];
    for panel in 0..n.div_ceil(PANEL) {
        let columns = (n - panel * PANEL).min(PANEL);
        let base = lines.at(panel * blocks * PANEL_BLOCK);
        let mut edge = [[0f32; PANEL]; 2];
        for k in 0..rows.div_ceil(step) {
            let mut pair = [nothing.as_ptr(); 2];
            for (i, from) in pair.iter_mut().enumerate().take(step) {
                let row = k * step + i;
                if row >= rows {
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
                match format {
                    Format::F32 => to.copy_from_nonoverlapping(pair[0].cast(), 2 * LINE),
                    Format::Bf16 => {
                        (tiles.interleave)(pair[0], pair[1], to);
                        (tiles.interleave)(pair[0].add(16), pair[1].add(16), to.add(LINE));
                    }
                }
            }
        }
    }
    lines
}

/// Sixteen channels of gathered rows, one line for each row (f32) or pair of rows (bf16).
fn pack_group(
    x: &[f32],
    channels: usize,
    group: usize,
    sources: &[i32],
    format: Format,
    tiles: &Tiles,
    packed: &Lines,
) {
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
    match format {
        Format::F32 => {
            for (k, &source) in sources.iter().enumerate() {
                let from = row(0, source);
                unsafe { packed.at(k * LINE).copy_from_nonoverlapping(from.cast(), LINE) };
            }
        }
        Format::Bf16 => {
            for (k, pair) in sources.chunks_exact(2).enumerate() {
                let (even, odd) = (row(0, pair[0]), row(1, pair[1]));
                unsafe { (tiles.interleave)(even, odd, packed.at(k * LINE)) };
            }
        }
    }
}

/// The sum of the rows of `dy`: the gradient of a bias.
pub(crate) fn column_sums(dy: &[f32], n: usize) -> Vec<f32> {
    let mut sums = vec![0f32; n];
    for row in dy.chunks_exact(n) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
    sums
}

/// The path and format for a precision on this machine.
pub(crate) fn path(precision: crate::Precision) -> (Isa, Format) {
    match precision {
        crate::Precision::F32 => (isa(), Format::F32),
        crate::Precision::Bf16 => (isa(), Format::Bf16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::taps::Space;
    use std::io::Write;

    fn values(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn rounded(format: Format, value: f32) -> f64 {
        f64::from(match format {
            Format::F32 => value,
            Format::Bf16 => crate::isa::from_bf16(crate::isa::to_bf16(value)),
        })
    }

    fn shapes() -> Vec<(Taps, usize, usize)> {
        let space = |height, width, images, kernel, stride, padding| {
            Taps::Space(Space { height, width, images, kernel, stride, padding })
        };
        vec![
            (Taps::Dense { rows: 37 }, 50, 33),
            (Taps::Dense { rows: 1 }, 3, 1),
            (Taps::Dense { rows: 700 }, 64, 96),
            (space(7, 5, 3, (3, 3), 1, 1), 32, 40),
            (space(8, 6, 2, (3, 3), 2, 1), 7, 5),
            (space(9, 9, 1, (7, 7), 1, 3), 3, 16),
            (Taps::Time { rows: 6 * 19, frames: 19, kernel: 3 }, 48, 17),
        ]
    }

    /// The paths of this machine; the others (AMX on most machines) are named past the harness, which hides output.
    fn paths() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| {
            if !isa.available() {
                let _ = writeln!(std::io::stderr(), "not tested: this machine has no {}", isa.name());
            }
            isa.available()
        })
    }

    #[test]
    fn products_match_f64_on_every_path() {
        for isa in paths() {
            for format in [Format::F32, Format::Bf16] {
                for (case, (taps, channels, n)) in shapes().into_iter().enumerate() {
                    let inputs = taps.transposed().rows();
                    let x = values(inputs * channels, case as u32);
                    let w = values(taps.count() * channels * n, 7 + case as u32);
                    let bias = values(n, 99);
                    let at = Strides { tap: channels * n, k: n, n: 1 };
                    let panels = Panels::pack(isa, format, &w, taps.count(), channels, n, at);
                    let y = product(&x, &taps, &panels, Some(&bias));
                    let dy = values(taps.rows() * n, 3);
                    let dw = weight_gradient(isa, format, &x, &dy, &taps, channels, n);
                    let mut expected = vec![0f64; taps.rows() * n];
                    let mut expected_dw = vec![0f64; w.len()];
                    for tap in 0..taps.count() {
                        let mut sources = vec![0; taps.rows()];
                        taps.fill(0, tap, &mut sources);
                        for (row, &source) in sources.iter().enumerate() {
                            let Ok(source) = usize::try_from(source) else { continue };
                            for c in 0..channels {
                                for j in 0..n {
                                    let at = (tap * channels + c) * n + j;
                                    let xv = rounded(format, x[source * channels + c]);
                                    expected[row * n + j] += xv * rounded(format, w[at]);
                                    expected_dw[at] += xv * rounded(format, dy[row * n + j]);
                                }
                            }
                        }
                    }
                    for (i, (y, e)) in y.iter().zip(&expected).enumerate() {
                        let e = e + f64::from(bias[i % n]);
                        assert!((f64::from(*y) - e).abs() < 2e-4, "{isa:?} {format:?} case {case} at {i}: {y} {e}");
                    }
                    for (i, (y, e)) in dw.iter().zip(&expected_dw).enumerate() {
                        assert!((f64::from(*y) - e).abs() < 5e-4, "{isa:?} {format:?} dw {case} at {i}: {y} {e}");
                    }
                }
            }
        }
    }

    #[test]
    fn rows_do_not_depend_on_their_neighbours() {
        let (channels, n) = (40, 24);
        let w = values(channels * n, 5);
        let at = || Strides { tap: 0, k: n, n: 1 };
        for isa in paths() {
            let panels = Panels::pack(isa, Format::F32, &w, 1, channels, n, at());
            let x = values(101 * channels, 6);
            let all = product(&x, &Taps::Dense { rows: 101 }, &panels, None);
            for row in [0, 13, 100] {
                let one = product(&x[row * channels..(row + 1) * channels], &Taps::Dense { rows: 1 }, &panels, None);
                assert_eq!(one, all[row * n..(row + 1) * n]);
            }
        }
    }
}
