//! The matrix product under every layer: rows gathered through [`Taps`], times packed weights.
//!
//! Sums run over k in one order for every row, so a row's result depends neither on its neighbours nor on threads.

use crate::blocks;
use crate::isa::{Convert, Format, GatheredTile, Isa, LINE, PANEL, PANEL_BLOCK, Turn, interleave_bf16, tiles};
use crate::operands::{round, round_in_place};
use crate::simd::vectorised;
use crate::storage::{each_chunk, each_task, sum_parts};
use crate::taps::Taps;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;

/// Packed rows kept in the second-level cache while all panels pass over them.
const ROW_BLOCK_BYTES: usize = 384 * 1024;
/// The most rows that a tile has, on any path.
pub(crate) const MOST_ROWS: usize = 32;

/// Bytes aligned to a cache line, which their owner writes before reading any of them.
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
        let data = unsafe { alloc(layout) };
        if data.is_null() {
            handle_alloc_error(layout);
        }
        Self { data, bytes }
    }

    pub fn at(&self, offset: usize) -> *mut u8 {
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
pub(crate) fn with_scratch<R>(bytes: usize, work: impl FnOnce(&Lines) -> R) -> R {
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
    pub isa: Isa,
    pub format: Format,
    pub k: usize,
    pub n: usize,
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
        let lane = format.lane();
        // In blocks of bf16 each tap fills whole lines.
        let k = taps * if format.in_blocks() { k_per_tap.next_multiple_of(lane) } else { k_per_tap };
        // Taps lie side by side in a weight: those of a block's channels are read together, unless blocks mix taps.
        let mixed = !k_per_tap.is_multiple_of(lane) && taps > 1 && !format.in_blocks();
        let (taps, rows) = if mixed { (1, k) } else { (taps, k_per_tap) };
        let per_tap = rows.div_ceil(lane);
        let turn = Turned { turn: tiles(isa, format).turn, at };
        Self::filled(isa, format, k, n, |panel, half, columns, to| {
            let mut turned = vec![[0f32; HALF]; taps * lane];
            let data = if columns > 0 { &data[(panel * PANEL + half * HALF) * turn.at.n..] } else { &[] };
            for block in 0..per_tap {
                let count = (rows - block * lane).min(lane);
                // What is left over from another block is no number of this one.
                turned[taps * count..].fill([0.0; HALF]);
                if mixed {
                    for (row, to) in turned[..count].iter_mut().enumerate() {
                        let k = block * lane + row;
                        let from = k / k_per_tap * turn.at.tap + k % k_per_tap * turn.at.k;
                        turn.rows(data, from, 1, 1, columns, std::slice::from_mut(to));
                    }
                } else {
                    turn.rows(data, block * lane * turn.at.k, count, taps, columns, &mut turned);
                }
                if format == Format::Rounded {
                    round_in_place(turned.as_flattened_mut());
                }
                for tap in 0..taps {
                    let to = unsafe { to.add((tap * per_tap + block) * PANEL_BLOCK) };
                    let line = |row: usize| turned[row * taps + tap].as_ptr();
                    match format {
                        Format::F32 | Format::Rounded => (0..lane).for_each(|row| unsafe {
                            to.add(row * 2 * LINE).copy_from_nonoverlapping(line(row).cast(), LINE);
                        }),
                        Format::Bf16 | Format::Split => (0..lane / 2).for_each(|pair| unsafe {
                            interleave_bf16(line(2 * pair), line(2 * pair + 1), to.add(pair * 2 * LINE));
                        }),
                    }
                }
            }
        })
    }

    /// Panels of `k` rows and `n` columns that `fill` writes in halves: it gets the panel, which half of its columns, how
    /// many there are in it, and where the half's part of the first line lies.
    pub fn filled(
        isa: Isa,
        format: Format,
        k: usize,
        n: usize,
        fill: impl Fn(usize, usize, usize, *mut u8) + Send + Sync,
    ) -> Self {
        let blocks = k.div_ceil(format.lane());
        let panels = n.div_ceil(PANEL);
        let lines = Lines::new(panels * blocks * PANEL_BLOCK);
        each_task((0..2 * panels).collect(), |part| {
            let (panel, half) = (part / 2, part % 2);
            let columns = n.saturating_sub(panel * PANEL + half * HALF).min(HALF);
            fill(panel, half, columns, unsafe { lines.at(panel * blocks * PANEL_BLOCK).add(half * LINE) });
        });
        Self { isa, format, k, n, blocks, lines }
    }

    /// Lines of k.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Bytes of all panels.
    pub fn bytes(&self) -> usize {
        self.n.div_ceil(PANEL) * self.blocks * PANEL_BLOCK
    }

    /// The first block of a panel.
    pub fn at(&self, panel: usize) -> *const u8 {
        self.lines.at(panel * self.blocks * PANEL_BLOCK)
    }
}

/// Columns of half a panel: a line of f32.
pub(crate) const HALF: usize = 16;

/// Rows of k out of a weight.
pub(crate) struct Turned {
    pub turn: Turn,
    pub at: Strides,
}

impl Turned {
    /// `to[row * taps + tap][column] = data[from + row * at.k + tap * at.tap + column * at.n]`, and 0 beyond `columns`.
    pub fn rows(&self, data: &[f32], from: usize, count: usize, taps: usize, columns: usize, to: &mut [[f32; HALF]]) {
        let Self { turn, at } = self;
        let to = &mut to[..count * taps];
        if columns == 0 || to.is_empty() {
            return to.fill([0.0; HALF]);
        }
        assert!(columns <= HALF);
        assert!(from + (count - 1) * at.k + (taps - 1) * at.tap + (columns - 1) * at.n < data.len());
        let turn = |from: usize, to: &mut [[f32; HALF]]| {
            let data = data[from..].as_ptr();
            if let [to] = to {
                if at.n == 1 {
                    to[columns..].fill(0.0);
                    // SAFETY: what is read lies within `data`, by the assertion.
                    return to[..columns].copy_from_slice(unsafe { std::slice::from_raw_parts(data, columns) });
                }
                for (column, to) in to.iter_mut().enumerate() {
                    // SAFETY: as above.
                    *to = if column < columns { unsafe { *data.add(column * at.n) } } else { 0.0 };
                }
                return;
            }
            let column = |column: usize| match column < columns {
                true => data.wrapping_add(column * at.n),
                false => std::ptr::null(),
            };
            // SAFETY: as above.
            unsafe { turn(&std::array::from_fn(column), to.len(), to.as_mut_ptr().cast(), HALF) };
        };
        // Taps, and rows, are read together where they lie side by side.
        let near = at.tap == 1 || taps == 1;
        if near && at.k == taps {
            return turn(from, to);
        }
        for (row, to) in to.chunks_exact_mut(taps).enumerate() {
            let from = from + row * at.k;
            match near {
                true => turn(from, to),
                false => to.chunks_exact_mut(1).enumerate().for_each(|(tap, to)| turn(from + tap * at.tap, to)),
            }
        }
    }
}

/// `out[row] = bias + sum over taps of x[source(row, tap)] * weights`; what multiplies in blocks splits rows and fills lines itself,
/// otherwise rows of `x` have k / taps channels.
pub(crate) fn product(x: &[f32], taps: &Taps, panels: &Panels, bias: Option<&[f32]>) -> Vec<f32> {
    let (rows, n) = (taps.rows(), panels.n);
    let mut out = crate::storage::uninitialised(rows * n);
    if panels.format.in_blocks() {
        blocks::product(x, taps, panels, bias, &mut out);
        return out;
    }
    let channels = panels.k / taps.count();
    let tiles = tiles(panels.isa, panels.format);
    let line_rows = ROW_BLOCK_BYTES / (panels.blocks * LINE);
    let threads = rayon::current_num_threads();
    let fair = rows.div_ceil(threads * if threads > 1 { 4 } else { 1 });
    let block_rows = (line_rows.min(192).min(fair) / tiles.rows).max(1) * tiles.rows;
    each_chunk(&mut out, block_rows * n, |block, out| {
        let (first, count) = (block * block_rows, out.len() / n);
        let (count_taps, bytes) = (taps.count(), channels * STEP);
        let nothing = vec![0u8; bytes];
        // Every row is read where it lies, for all taps.
        if panels.format == Format::F32 {
            let base = Base { rows: x.as_ptr().cast(), first: 0 };
            let sources = pointers(taps, first, count, tiles.rows, bytes, base, &nothing);
            multiply_gathered(tiles.tile, tiles.rows, count_taps, channels, &sources, |_| None, panels, bias, out);
            return;
        }
        // Rows that lie together are rounded once for all taps, before the tile that is the first to read them; that tile
        // asks for what is rounded for the next one.
        if let Some(around) = taps.around(first, count) {
            return with_scratch(around.len() * bytes, |rounded| {
                let to = rounded.at(0).cast::<f32>();
                let base = Base { rows: to.cast(), first: around.start };
                let sources = pointers(taps, first, count, tiles.rows, bytes, base, &nothing);
                let (mut done, mut next) = (0, vec![std::ptr::null(); count_taps * tiles.rows]);
                let ready = |rows: usize| {
                    let end = taps.around(first, rows).map_or(0, |around| around.end * channels);
                    let from = &x[around.start * channels + done..end];
                    // SAFETY: the scratch is this task's, as large as asked for, and nobody reads these yet.
                    round(from, unsafe { std::slice::from_raw_parts_mut(to.add(done), from.len()) });
                    done += from.len();
                    let at = |row: usize| x.as_ptr().wrapping_add(end + row * channels).cast();
                    next.iter_mut().enumerate().for_each(|(i, to)| *to = at(i % tiles.rows));
                    Some(next.as_ptr())
                };
                multiply_gathered(tiles.tile, tiles.rows, count_taps, channels, &sources, ready, panels, bias, out);
            });
        }
        with_scratch(count * panels.blocks * LINE, |packed| {
            let line_of = |row: usize| packed.at(row * panels.blocks * LINE);
            pack_rows(x, taps, channels, first, count, panels, tiles.convert, line_of);
            let tiles_of_rows = count.div_ceil(tiles.rows) * tiles.rows;
            let sources: Vec<_> = (0..tiles_of_rows).map(|row| line_of(row.min(count - 1)).cast_const()).collect();
            multiply_gathered(
                tiles.tile,
                tiles.rows,
                1,
                panels.blocks * LINE / STEP,
                &sources,
                |_| None,
                panels,
                bias,
                out,
            );
        });
    });
    out
}

/// Bytes of a number of k.
const STEP: usize = 4;

/// Rows for tasks that only read, and the number of the first of them.
#[derive(Clone, Copy)]
struct Base {
    rows: *const u8,
    first: usize,
}

unsafe impl Send for Base {}
unsafe impl Sync for Base {}

/// For each tile and tap, where the tile's rows lie. Rows beyond `count` stand for the first one.
fn pointers(
    taps: &Taps,
    first: usize,
    count: usize,
    tile_rows: usize,
    row_bytes: usize,
    base: Base,
    nothing: &[u8],
) -> Vec<*const u8> {
    let tap_count = taps.count();
    let mut all = vec![base.rows; count.div_ceil(tile_rows) * tile_rows * tap_count];
    let mut sources = vec![0i32; count];
    for tap in 0..tap_count {
        taps.fill(first, tap, &mut sources);
        for (tile, sources) in sources.chunks(tile_rows).enumerate() {
            let to = &mut all[(tile * tap_count + tap) * tile_rows..][..sources.len()];
            for (to, &source) in to.iter_mut().zip(sources) {
                *to = match usize::try_from(source) {
                    Ok(source) => unsafe { base.rows.add((source - base.first) * row_bytes) },
                    Err(_) => nothing.as_ptr(),
                };
            }
        }
    }
    all
}

/// Multiplies a block of rows, given by their pointers, with every panel. Before they are first read, `ready` is called with
/// how many of them will have been; it may say what a tile asks for meanwhile.
fn multiply_gathered(
    tile: GatheredTile,
    tile_rows: usize,
    taps: usize,
    steps: usize,
    sources: &[*const u8],
    mut ready: impl FnMut(usize) -> Option<*const *const u8>,
    panels: &Panels,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let n = panels.n;
    let count = out.len() / n;
    let mut sums = [0f32; MOST_ROWS * PANEL];
    for panel in 0..n.div_ceil(PANEL) {
        let columns = (n - panel * PANEL).min(PANEL);
        let bias = bias.map(|bias| &bias[panel * PANEL..panel * PANEL + columns]);
        let b = panels.at(panel);
        for (i, rows) in sources.chunks_exact(taps * tile_rows).enumerate() {
            let present = (count - i * tile_rows).min(tile_rows);
            // The next tile's, or those of the first, with which the next panel begins.
            let next = sources.get((i + 1) * rows.len()..).filter(|next| !next.is_empty()).unwrap_or(sources);
            let next = if panel == 0 { ready(i * tile_rows + present) } else { None }.unwrap_or(next.as_ptr());
            let rows = rows.as_ptr();
            let at = i * tile_rows * n + panel * PANEL;
            if present == tile_rows && columns == PANEL {
                let bias = bias.map_or(std::ptr::null(), <[f32]>::as_ptr);
                let to = &mut out[at..at + (tile_rows - 1) * n + PANEL];
                unsafe { tile(taps, steps, rows, next, b, bias, to.as_mut_ptr(), n) };
            } else {
                let to = sums.as_mut_ptr();
                unsafe { tile(taps, steps, rows, next, b, std::ptr::null(), to, PANEL) };
                store_sums(&sums, present, columns, bias, &mut out[at..], n);
            }
        }
    }
}

fn store_sums(sums: &[f32], rows: usize, columns: usize, bias: Option<&[f32]>, out: &mut [f32], n: usize) {
    for row in 0..rows {
        let (to, from) = (&mut out[row * n..row * n + columns], &sums[row * PANEL..row * PANEL + columns]);
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

/// Packs `count` gathered rows, with all taps of a row side by side: row i from `line_of(i)` on.
pub(crate) fn pack_rows(
    x: &[f32],
    taps: &Taps,
    channels: usize,
    first: usize,
    count: usize,
    panels: &Panels,
    convert: Convert,
    line_of: impl Fn(usize) -> *mut u8,
) {
    let lane = panels.format.lane();
    let mut sources = vec![0i32; count];
    if channels.is_multiple_of(lane) {
        let lines = channels / lane;
        for tap in 0..taps.count() {
            taps.fill(first, tap, &mut sources);
            for (row, &source) in sources.iter().enumerate() {
                let to = unsafe { line_of(row).add(tap * lines * LINE) };
                match usize::try_from(source) {
                    Ok(source) => {
                        let from = &x[source * channels..(source + 1) * channels];
                        unsafe { convert(lines, from.as_ptr(), to) };
                    }
                    Err(_) => unsafe { to.write_bytes(0, lines * LINE) },
                }
            }
        }
        return;
    }
    let mut all = vec![0i32; count * taps.count()];
    for (tap, sources) in all.chunks_mut(count).enumerate() {
        taps.fill(first, tap, sources);
    }
    let apart = if panels.format.in_blocks() { channels.next_multiple_of(lane) } else { channels };
    let mut gathered = vec![0f32; panels.blocks * lane];
    for row in 0..count {
        for tap in 0..taps.count() {
            let to = &mut gathered[tap * apart..][..channels];
            match usize::try_from(all[tap * count + row]) {
                Ok(source) => to.copy_from_slice(&x[source * channels..(source + 1) * channels]),
                Err(_) => to.fill(0.0),
            }
        }
        unsafe { convert(panels.blocks, gathered.as_ptr(), line_of(row)) };
    }
}

/// Rows that are added up before their sum is added to the total: long sums of f32 round less in parts.
pub(crate) const SUMMED_ROWS: usize = 32;

vectorised! {
    /// Adds rows of as many numbers to their sums.
    fn add_rows(rows: &[f32], sums: &mut [f64]) {
        for row in rows.chunks_exact(sums.len()) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += f64::from(*value);
            }
        }
    }
}

/// The sum of the rows of `dy`: the gradient of a bias. In f64, which costs little beside reading the rows.
pub(crate) fn column_sums(dy: &[f32], n: usize) -> Vec<f32> {
    let part = 4096 * n.max(1);
    let sums = sum_parts(dy.len().div_ceil(part), n, |i, sums| {
        let rows = &dy[i * part..];
        add_rows(&rows[..rows.len().min(part)], sums);
    });
    sums.into_iter().map(|sum| sum as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::taps::Space;
    use crate::weight_gradient::weight_gradient;

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
            Format::Rounded | Format::Bf16 | Format::Split => crate::isa::from_bf16(crate::isa::to_bf16(value)),
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

    #[test]
    fn products_match_f64_on_every_path() {
        for isa in Isa::tested() {
            for format in [Format::F32, Format::Rounded, Format::Bf16] {
                if format == Format::Bf16 && !isa.fast_bf16() {
                    continue;
                }
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
    fn rows_of_a_weight_are_turned_on_every_path() {
        let sizes = [(9, 1, 9), (9, 1, 9 * 5), (1, 7, 1), (3, 21, 3), (49, 1, 49), (1, 1, 40), (2, 40, 2), (4, 3, 12)];
        for isa in Isa::tested() {
            for (taps, n, k) in sizes {
                for (count, columns) in [(1, 16), (16, 16), (5, 16), (32, 3), (17, 1), (4, 0)] {
                    for tap in [1, 1000] {
                        let turned = || Turned { turn: tiles(isa, Format::F32).turn, at: Strides { tap, k, n } };
                        let last = (count - 1) * k + (taps - 1) * tap + columns.max(1) * n - n;
                        let data = values(last + 3, 4);
                        let mut found = vec![[7f32; HALF]; count * taps];
                        turned().rows(&data, 2, count, taps, columns, &mut found);
                        for (at, found) in found.iter().enumerate() {
                            let from = 2 + at / taps * k + at % taps * tap;
                            let of = |column| if column < columns { data[from + column * n] } else { 0.0 };
                            assert_eq!(*found, std::array::from_fn(of), "{isa:?} {taps} {n} {k} {count} {columns}");
                        }
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
        for isa in Isa::tested() {
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
