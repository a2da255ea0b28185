//! 3x3 convolutions by minimal filtering: 16 multiplications where four neighbouring pixels take 36.
//!
//! Winograd's F(2x2, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016): a patch of 4x4
//! pixels is added up to 16 sums, each is multiplied with a kernel of its own, and the 16 products are added up to the 2x2
//! pixels in the patch's middle. It is true f32, and rounds about twice as much as nine taps in turn.
//!
//! A pixel's result depends on its own image alone, and sums run over channels in one order, whatever the threads.

use crate::isa::{Format, Isa, LINE, PANEL, tiles};
use crate::operands::{nearest, round_in_place};
use crate::product::{HALF, MOST_ROWS, Panels, SUMMED_ROWS, Strides, Turned, with_scratch};
use crate::simd::vectorised;
use crate::storage::{Rows, each_task, uninitialised};
use crate::taps::{Space, Taps};
use std::mem::MaybeUninit;

/// Sums of a patch, and products with them.
pub(crate) const SUMS: usize = 16;
/// Fewer channels fill no column of a product.
const NARROW: usize = 16;
/// Sums of patches that are kept in the second-level cache while all panels pass over them.
const BLOCK_BYTES: usize = 768 * 1024;
const MOST_PATCHES: usize = 96;
/// Sums of patches and gradients of products that are added up before others are made: they stay in the third-level cache.
const GRADIENT_BYTES: usize = 16 << 20;
/// Patches that a task transforms there.
const TASK_PATCHES: usize = 64;
/// Kernels that are packed together: their taps lie in the first cache.
const KERNELS: usize = 16;
/// Values that one step of a transformation takes: its 32 lines lie in the first cache.
const CHUNK: usize = 8 * PANEL;

/// The convolution, if it can be done this way. It depends on the layer alone, and not on its inputs, so that a network
/// grown by input channels gives the same bits.
pub(crate) fn suited(taps: &Taps, outputs: usize, format: Format) -> Option<Space> {
    match *taps {
        Taps::Space(space) if !format.in_blocks() && outputs >= NARROW => {
            (space.kernel == (3, 3) && space.stride == 1 && space.padding == 1).then_some(space)
        }
        _ => None,
    }
}

/// The kernels of the 16 products, packed as those of [`SUMS`] taps, of a weight (out, in, 3, 3): from in (k) to out (n)
/// channels, or `transposed`.
pub(crate) fn pack(
    isa: Isa,
    format: Format,
    weight: &[f32],
    outputs: usize,
    inputs: usize,
    transposed: bool,
) -> Panels {
    let (n, k) = if transposed { (inputs, outputs) } else { (outputs, inputs) };
    let at = match transposed {
        true => Strides { tap: 1, k: inputs * 9, n: 9 },
        false => Strides { tap: 1, k: 9, n: inputs * 9 },
    };
    let turn = Turned { turn: tiles(isa, format).turn, at };
    Panels::filled(isa, format, SUMS * k, n, |panel, half, columns, to| {
        let data = if columns > 0 { &weight[(panel * PANEL + half * HALF) * turn.at.n..] } else { &[] };
        let mut taps = [[0f32; HALF]; 9 * KERNELS];
        for first in (0..k).step_by(KERNELS) {
            let count = (k - first).min(KERNELS);
            turn.rows(data, first * turn.at.k, count, 9, columns, &mut taps);
            if format == Format::Rounded {
                round_in_place(taps[..9 * count].as_flattened_mut());
            }
            // SAFETY: the half of a panel is this task's.
            let to = unsafe { to.add(first * 2 * LINE) };
            spread_kernels(&taps.as_chunks::<9>().0[..count], transposed, to, k * 2 * LINE);
        }
    })
}

vectorised! {
    /// G g Gᵀ of sixteen kernels a row, turned around where they are `transposed`: 16 lines a row, `apart` bytes from each
    /// other.
    fn spread_kernels(kernels: &[[[f32; HALF]; 9]], transposed: bool, to: *mut u8, apart: usize) {
        for (row, g) in kernels.iter().enumerate() {
            // SAFETY: the caller has room for 16 lines of each row there.
            let to = unsafe { to.add(row * 2 * LINE) };
            let [a, b, c, d, e, f, g, h, i] = g;
            let (a, c, g, i) = if transposed { (i, g, c, a) } else { (a, c, g, i) };
            let (b, d, f, h) = if transposed { (h, f, d, b) } else { (b, d, f, h) };
            let (left, middle, right) = (four_of(a, d, g), four_of(b, e, h), four_of(c, f, i));
            for i in 0..4 {
                let four = four_of(&left[i], &middle[i], &right[i]);
                for (j, values) in four.iter().enumerate() {
                    // SAFETY: as above.
                    unsafe { to.add((4 * i + j) * apart).cast::<[f32; HALF]>().write_unaligned(*values) };
                }
            }
        }
    }
}

/// What makes four numbers of a kernel's three: G g.
#[inline(always)]
fn four_of(a: &[f32; HALF], b: &[f32; HALF], c: &[f32; HALF]) -> [[f32; HALF]; 4] {
    let mut four = [*a, [0.0; HALF], [0.0; HALF], *c];
    for i in 0..HALF {
        four[1][i] = 0.5 * (a[i] + c[i] + b[i]);
        four[2][i] = 0.5 * (a[i] + c[i] - b[i]);
    }
    four
}

/// Four numbers of a patch's row or column, as they are `taken`, added up: Bᵀ d.
#[inline(always)]
fn sums_of(
    a: &[f32],
    b: &[f32],
    c: &[f32],
    d: &[f32],
    p: &mut [f32],
    q: &mut [f32],
    r: &mut [f32],
    s: &mut [f32],
    taken: impl Fn(f32) -> f32,
) {
    let len = a.len();
    let (b, c, d) = (&b[..len], &c[..len], &d[..len]);
    let (p, q, r, s) = (&mut p[..len], &mut q[..len], &mut r[..len], &mut s[..len]);
    for i in 0..len {
        let (a, b, c, d) = (taken(a[i]), taken(b[i]), taken(c[i]), taken(d[i]));
        p[i] = a - c;
        q[i] = b + c;
        r[i] = c - b;
        s[i] = b - d;
    }
}

/// Four products of a row or column added up to two pixels: Aᵀ m.
#[inline(always)]
fn pixels_of(a: &[f32], b: &[f32], c: &[f32], d: &[f32], p: &mut [f32], q: &mut [f32]) {
    let len = a.len();
    let (b, c, d) = (&b[..len], &c[..len], &d[..len]);
    let (p, q) = (&mut p[..len], &mut q[..len]);
    for i in 0..len {
        p[i] = a[i] + b[i] + c[i];
        q[i] = b[i] - c[i] - d[i];
    }
}

/// The transpose of [`pixels_of`]: A y.
#[inline(always)]
fn products_of(
    a: &[f32],
    b: &[f32],
    p: &mut [f32],
    q: &mut [f32],
    r: &mut [f32],
    s: &mut [f32],
    taken: impl Fn(f32) -> f32,
) {
    let len = a.len();
    let b = &b[..len];
    let (p, q, r, s) = (&mut p[..len], &mut q[..len], &mut r[..len], &mut s[..len]);
    for i in 0..len {
        let (a, b) = (taken(a[i]), taken(b[i]));
        p[i] = a;
        q[i] = a + b;
        r[i] = a - b;
        s[i] = -b;
    }
}

/// The transpose of what makes four numbers of a kernel's three: Gᵀ u.
#[inline(always)]
fn taps_of(a: &[f32], b: &[f32], c: &[f32], d: &[f32], p: &mut [f32], q: &mut [f32], r: &mut [f32]) {
    let len = a.len();
    let (b, c, d) = (&b[..len], &c[..len], &d[..len]);
    let (p, q, r) = (&mut p[..len], &mut q[..len], &mut r[..len]);
    for i in 0..len {
        let half = 0.5 * (b[i] + c[i]);
        p[i] = a[i] + half;
        q[i] = 0.5 * (b[i] - c[i]);
        r[i] = half + d[i];
    }
}

vectorised! {
    /// The sums of patches: `patch` holds their 16 pixels, row by row, `to` 16 arrays `apart` values from each other.
    fn spread_patch(patch: &[&[f32]; SUMS], rounded: bool, to: &Rows, at: usize, apart: usize) {
        let len = patch[0].len();
        let mut columns = MaybeUninit::<[[f32; CHUNK]; SUMS]>::uninit();
        // SAFETY: of every row as many numbers are written as are read.
        let columns = unsafe { columns.assume_init_mut() };
        let [p, q, r, s] = columns.as_chunks_mut::<4>().0 else { unreachable!("four rows of four") };
        for j in 0..4 {
            let (a, b, c, d) = (patch[j], patch[4 + j], patch[8 + j], patch[12 + j]);
            let (p, q, r, s) = (&mut p[j][..len], &mut q[j][..len], &mut r[j][..len], &mut s[j][..len]);
            match rounded {
                true => sums_of(a, b, c, d, p, q, r, s, nearest),
                false => sums_of(a, b, c, d, p, q, r, s, |x| x),
            }
        }
        for (i, [a, b, c, d]) in columns.as_chunks::<4>().0.iter().enumerate() {
            // SAFETY: the arrays are apart, and the caller alone writes them.
            let [p, q, r, s] = [0, 1, 2, 3].map(|j| unsafe { to.slice(at + (4 * i + j) * apart, len) });
            sums_of(&a[..len], &b[..len], &c[..len], &d[..len], p, q, r, s, |x| x);
        }
    }
}

vectorised! {
    /// The four pixels that 16 arrays of products, `apart` values from each other, add up to.
    fn gather_pixels(products: &[f32], apart: usize, len: usize, pixels: &mut [[f32; CHUNK]; 4]) {
        let mut rows = MaybeUninit::<[[f32; CHUNK]; 8]>::uninit();
        // SAFETY: of every row as many numbers are written as are read.
        let rows = unsafe { rows.assume_init_mut() };
        let (upper, lower) = rows.split_at_mut(4);
        for j in 0..4 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| &products[(4 * i + j) * apart..][..len]);
            pixels_of(a, b, c, d, &mut upper[j], &mut lower[j]);
        }
        for (rows, pixels) in rows.as_chunks::<4>().0.iter().zip(pixels.as_chunks_mut::<2>().0) {
            let ([a, b, c, d], [p, q]) = (rows, pixels);
            pixels_of(&a[..len], &b[..len], &c[..len], &d[..len], p, q);
        }
    }
}

vectorised! {
    /// The gradients of 16 products from those of four pixels.
    fn spread_pixels(pixels: &[&[f32]; 4], rounded: bool, to: &Rows, at: usize, apart: usize) {
        let len = pixels[0].len();
        let mut columns = MaybeUninit::<[[f32; CHUNK]; 8]>::uninit();
        // SAFETY: of every row as many numbers are written as are read.
        let columns = unsafe { columns.assume_init_mut() };
        let [p, q, r, s] = columns.as_chunks_mut::<2>().0 else { unreachable!("four rows of two") };
        for j in 0..2 {
            let (p, q, r, s) = (&mut p[j], &mut q[j], &mut r[j], &mut s[j]);
            match rounded {
                true => products_of(pixels[j], pixels[2 + j], p, q, r, s, nearest),
                false => products_of(pixels[j], pixels[2 + j], p, q, r, s, |x| x),
            }
        }
        for (i, [a, b]) in columns.as_chunks::<2>().0.iter().enumerate() {
            // SAFETY: the arrays are apart, and the caller alone writes them.
            let [p, q, r, s] = [0, 1, 2, 3].map(|j| unsafe { to.slice(at + (4 * i + j) * apart, len) });
            products_of(&a[..len], &b[..len], p, q, r, s, |x| x);
        }
    }
}

vectorised! {
    /// The gradients of nine taps, `to_apart` values from each other, from those of 16 products.
    fn gather_taps(products: &[&[f32]; SUMS], to: &Rows, at: usize, to_apart: usize) {
        let len = products[0].len();
        let mut columns = MaybeUninit::<[[f32; CHUNK]; 12]>::uninit();
        // SAFETY: of every row as many numbers are written as are read.
        let columns = unsafe { columns.assume_init_mut() };
        let [p, q, r] = columns.as_chunks_mut::<4>().0 else { unreachable!("three rows of four") };
        for j in 0..4 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| products[4 * i + j]);
            taps_of(a, b, c, d, &mut p[j], &mut q[j], &mut r[j]);
        }
        for (i, [a, b, c, d]) in columns.as_chunks::<4>().0.iter().enumerate() {
            // SAFETY: the arrays are apart, and the caller alone writes them.
            let [p, q, r] = [0, 1, 2].map(|j| unsafe { to.slice(at + (3 * i + j) * to_apart, len) });
            taps_of(&a[..len], &b[..len], &c[..len], &d[..len], p, q, r);
        }
    }
}

/// Calls `work` for runs of at most `most` of `count` patches from `first` on. Places take turns slower than images.
fn runs(space: &Space, first: usize, count: usize, most: usize, mut work: impl FnMut(usize, Run)) {
    let across = space.width.div_ceil(2);
    let mut done = 0;
    while done < count {
        let (place, image) = ((first + done) / space.images, (first + done) % space.images);
        let run = (space.images - image).min(count - done).min(most);
        work(done, Run { y: place / across * 2, x: place % across * 2, image, count: run });
        done += run;
    }
}

fn patches_of(space: &Space) -> usize {
    space.height.div_ceil(2) * space.width.div_ceil(2) * space.images
}

/// Writes the sums of `count` patches from `first` on as rows from `row` on of 16 arrays of `held` rows.
fn spread(x: &[f32], format: Format, space: &Space, first: usize, count: usize, to: &Rows, row: usize, held: usize) {
    let &Space { height, width, images, .. } = space;
    let channels = x.len() / (height * width * images).max(1);
    let nothing = [0f32; CHUNK];
    runs(space, first, count, usize::MAX, |done, run| {
        let len = run.count * channels;
        for from in (0..len).step_by(CHUNK) {
            let len = (len - from).min(CHUNK);
            let pixel = |i: usize| {
                let (y, x_) = ((run.y + i / 4).wrapping_sub(1), (run.x + i % 4).wrapping_sub(1));
                if y >= height || x_ >= width {
                    return &nothing[..len];
                }
                &x[((y * width + x_) * images + run.image) * channels + from..][..len]
            };
            spread_patch(
                &std::array::from_fn(pixel),
                format == Format::Rounded,
                to,
                (row + done) * channels + from,
                held * channels,
            );
        }
    });
}

/// Patches of one place in consecutive images.
struct Run {
    /// Of the upper left of the four pixels.
    y: usize,
    x: usize,
    image: usize,
    count: usize,
}

/// The convolution of `x` with kernels of [`pack`].
pub(crate) fn convolve(x: &[f32], space: &Space, panels: &Panels, bias: Option<&[f32]>) -> Vec<f32> {
    let &Space { height, width, images, .. } = space;
    let (n, channels) = (panels.n, panels.k / SUMS);
    let tiles = tiles(panels.isa, Format::F32);
    let patches = patches_of(space);
    let mut out = uninitialised(height * width * images * n);
    let rows = Rows::new(&mut out);
    let fit = (BLOCK_BYTES / (SUMS * channels.max(1) * size_of::<f32>())).min(MOST_PATCHES);
    let threads = rayon::current_num_threads();
    let fair = patches.div_ceil(threads * if threads > 1 { 4 } else { 1 });
    let block = (fit.min(fair) / tiles.rows).max(1) * tiles.rows;
    each_task((0..patches.div_ceil(block)).collect(), |i| {
        let first = i * block;
        let count = (patches - first).min(block);
        let held = count.next_multiple_of(tiles.rows);
        let values = SUMS * held * (channels + PANEL);
        with_scratch(values * size_of::<f32>(), |scratch| {
            // SAFETY: the scratch is this task's, and as large as asked for.
            let scratch = unsafe { std::slice::from_raw_parts_mut(scratch.at(0).cast::<f32>(), values) };
            let (sums, products) = scratch.split_at_mut(SUMS * held * channels);
            spread(x, panels.format, space, first, count, &Rows::new(sums), 0, held);
            for panel in 0..n.div_ceil(PANEL) {
                let columns = (n - panel * PANEL).min(PANEL);
                let bias = bias.map(|bias| &bias[panel * PANEL..][..columns]);
                for sum in 0..SUMS {
                    let kernel = unsafe { panels.at(panel).add(sum * channels * 2 * LINE) };
                    for row in (0..held).step_by(tiles.rows) {
                        let mut sources = [std::ptr::null::<u8>(); MOST_ROWS];
                        for (i, source) in sources[..tiles.rows].iter_mut().enumerate() {
                            // Rows beyond the last stand for the first.
                            let row = if row + i < count { row + i } else { 0 };
                            *source = sums[(sum * held + row) * channels..].as_ptr().cast();
                        }
                        let to = products[(sum * held + row) * PANEL..][..tiles.rows * PANEL].as_mut_ptr();
                        // Both sides are in a cache.
                        let (rows, next) = (sources.as_ptr(), std::ptr::null());
                        unsafe { (tiles.tile)(1, channels, rows, next, kernel, std::ptr::null(), to, PANEL) };
                    }
                }
                let mut pixels = [[0f32; CHUNK]; 4];
                runs(space, first, count, CHUNK / PANEL, |row, run| {
                    gather_pixels(&products[row * PANEL..], held * PANEL, run.count * PANEL, &mut pixels);
                    for (i, pixels) in pixels.iter().enumerate() {
                        let (y, x) = (run.y + i / 2, run.x + i % 2);
                        if y >= height || x >= width {
                            continue;
                        }
                        for (i, pixels) in pixels.chunks_exact(PANEL).take(run.count).enumerate() {
                            let at = ((y * width + x) * images + run.image + i) * n + panel * PANEL;
                            // SAFETY: a pixel is in one patch, and a patch in one task.
                            let to = unsafe { rows.slice(at, columns) };
                            match bias {
                                Some(bias) => {
                                    for ((to, pixel), bias) in to.iter_mut().zip(pixels).zip(bias) {
                                        *to = pixel + bias;
                                    }
                                }
                                None => to.copy_from_slice(&pixels[..columns]),
                            }
                        }
                    }
                });
            }
        });
    });
    out
}

/// `[tap][channel][n]`: the gradient of the weight.
pub(crate) fn weight_gradient(
    isa: Isa,
    format: Format,
    x: &[f32],
    dy: &[f32],
    space: &Space,
    channels: usize,
    n: usize,
) -> Vec<f32> {
    let &Space { height, width, images, .. } = space;
    let patches = patches_of(space);
    if patches == 0 {
        return vec![0f32; 9 * channels * n];
    }
    let fit = GRADIENT_BYTES / (SUMS * (channels + n) * size_of::<f32>());
    let part = (fit / SUMMED_ROWS).max(4) * SUMMED_ROWS;
    let mut sums = uninitialised(SUMS * part.min(patches) * channels);
    let mut products = uninitialised(SUMS * part.min(patches) * n);
    let nothing = [0f32; CHUNK];
    // Of each sum, [channel][n]
    let mut kernels: Vec<Vec<f32>> = vec![Vec::new(); SUMS];
    for first in (0..patches).step_by(part) {
        let held = (patches - first).min(part);
        let (to_sums, to_products) = (Rows::new(&mut sums), Rows::new(&mut products));
        each_task((0..held).step_by(TASK_PATCHES).collect(), |row| {
            let count = (held - row).min(TASK_PATCHES);
            spread(x, format, space, first + row, count, &to_sums, row, held);
            runs(space, first + row, count, usize::MAX, |done, run| {
                let len = run.count * n;
                for from in (0..len).step_by(CHUNK) {
                    let len = (len - from).min(CHUNK);
                    let pixel = |i: usize| {
                        let (y, x) = (run.y + i / 2, run.x + i % 2);
                        if y >= height || x >= width {
                            return &nothing[..len];
                        }
                        &dy[((y * width + x) * images + run.image) * n + from..][..len]
                    };
                    let at = (row + done) * n + from;
                    let rounded = format == Format::Rounded;
                    spread_pixels(&std::array::from_fn(pixel), rounded, &to_products, at, held * n);
                }
            });
        });
        let of_sum = |(sum, kernel): (usize, &mut Vec<f32>)| {
            let (x, dy) = (&sums[sum * held * channels..][..held * channels], &products[sum * held * n..][..held * n]);
            let taps = Taps::Dense { rows: held };
            let more = crate::weight_gradient::weight_gradient(isa, Format::F32, x, dy, &taps, channels, n);
            match first {
                0 => *kernel = more,
                _ => kernel.iter_mut().zip(more).for_each(|(sum, more)| *sum += more),
            }
        };
        each_task(kernels.iter_mut().enumerate().collect(), of_sum);
    }
    let mut out = uninitialised(9 * channels * n);
    let to = Rows::new(&mut out);
    each_task((0..channels).collect(), |channel| {
        for from in (0..n).step_by(CHUNK) {
            let (at, len) = (channel * n + from, (n - from).min(CHUNK));
            gather_taps(&std::array::from_fn(|sum| &kernels[sum][at..at + len]), &to, at, channels * n);
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::philox::normal as values;

    /// Nine taps in f64; `transposed` from out to in channels.
    fn expected(x: &[f32], weight: &[f32], space: &Space, sizes: (usize, usize), transposed: bool) -> Vec<f64> {
        let &Space { height, width, images, .. } = space;
        let (outputs, inputs) = sizes;
        let (n, k) = if transposed { (inputs, outputs) } else { (outputs, inputs) };
        let mut y = vec![0f64; height * width * images * n];
        for (at, y) in y.iter_mut().enumerate() {
            let (pixel, image, n) = (at / n / images, at / n % images, at % n);
            for tap in 0..9 {
                let (i, j) = (pixel / width + tap / 3, pixel % width + tap % 3);
                if i == 0 || j == 0 || i > height || j > width {
                    continue;
                }
                let x = &x[(((i - 1) * width + j - 1) * images + image) * k..][..k];
                for (k, x) in x.iter().enumerate() {
                    let at = if transposed { (k * inputs + n) * 9 + 8 - tap } else { (n * inputs + k) * 9 + tap };
                    *y += f64::from(*x) * f64::from(weight[at]);
                }
            }
        }
        y
    }

    fn filtered(
        (isa, format): (Isa, Format),
        x: &[f32],
        weight: &[f32],
        space: &Space,
        sizes: (usize, usize),
        transposed: bool,
    ) -> Vec<f32> {
        convolve(x, space, &pack(isa, format, weight, sizes.0, sizes.1, transposed), None)
    }

    #[test]
    fn rounding_is_that_of_f32_on_every_path() {
        let shapes = [(4, 4, 3, 64, 48), (7, 5, 2, 40, 33), (1, 3, 19, 7, 16), (2, 1, 1, 3, 70), (9, 8, 5, 100, 32)];
        for isa in Isa::tested() {
            for (case, (height, width, images, inputs, outputs)) in shapes.into_iter().enumerate() {
                let space = Space { height, width, images, kernel: (3, 3), stride: 1, padding: 1 };
                let weight = values(outputs * inputs * 9, 1 + case as u64);
                for (format, transposed) in
                    [Format::F32, Format::Rounded].into_iter().flat_map(|format| [(format, false), (format, true)])
                {
                    let k = if transposed { outputs } else { inputs };
                    let x = values(height * width * images * k, 100 + case as u64);
                    let y = filtered((isa, format), &x, &weight, &space, (outputs, inputs), transposed);
                    let taken = |values: &[f32]| {
                        let mut values = values.to_vec();
                        if format == Format::Rounded {
                            round_in_place(&mut values);
                        }
                        values
                    };
                    let expected = expected(&taken(&x), &taken(&weight), &space, (outputs, inputs), transposed);
                    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
                    let error = square(&mut y.iter().zip(&expected).map(|(y, e)| f64::from(*y) - e));
                    let relative = (error / square(&mut expected.iter().copied())).sqrt();
                    assert!(relative < 5e-7, "{isa:?} {format:?} case {case}, transposed {transposed}: {relative:e}");
                }
            }
        }
    }

    #[test]
    fn gradients_of_weights_are_sums_over_all_pixels() {
        let shapes = [(4, 4, 3, 64, 48), (7, 5, 2, 40, 33), (1, 3, 19, 7, 16), (24, 20, 33, 19, 300)];
        for isa in Isa::tested() {
            for (case, (height, width, images, inputs, outputs)) in shapes.into_iter().enumerate() {
                if case == 3 && isa != crate::isa() {
                    continue;
                }
                let space = Space { height, width, images, kernel: (3, 3), stride: 1, padding: 1 };
                let format = if case == 1 { Format::Rounded } else { Format::F32 };
                let mut x = values(height * width * images * inputs, 20 + case as u64);
                let mut dy = values(height * width * images * outputs, 30 + case as u64);
                let dw = weight_gradient(isa, format, &x, &dy, &space, inputs, outputs);
                if format == Format::Rounded {
                    round_in_place(&mut x);
                    round_in_place(&mut dy);
                }
                assert_eq!(dw.len(), 9 * inputs * outputs);
                let (mut error, mut square) = (0f64, 0f64);
                // Every weight of a small one, some of a large one.
                for at in (0..dw.len()).step_by(if case == 3 { 997 } else { 1 }) {
                    let (tap, input, output) = (at / outputs / inputs, at / outputs % inputs, at % outputs);
                    let mut expected = 0f64;
                    for pixel in 0..height * width {
                        let (i, j) = (pixel / width + tap / 3, pixel % width + tap % 3);
                        if i == 0 || j == 0 || i > height || j > width {
                            continue;
                        }
                        for image in 0..images {
                            let x = x[(((i - 1) * width + j - 1) * images + image) * inputs + input];
                            expected += f64::from(x) * f64::from(dy[(pixel * images + image) * outputs + output]);
                        }
                    }
                    error += (f64::from(dw[at]) - expected).powi(2);
                    square += expected.powi(2);
                }
                assert!((error / square).sqrt() < 1e-6, "{isa:?} case {case}: {:e}", (error / square).sqrt());
            }
        }
    }

    #[test]
    fn what_is_not_finite_reaches_its_neighbours_alone() {
        let space = Space { height: 6, width: 6, images: 2, kernel: (3, 3), stride: 1, padding: 1 };
        let weight = values(16 * 16 * 9, 5);
        for bad in [f32::NAN, f32::INFINITY] {
            for (row, column) in [(0, 0), (2, 3), (3, 2), (5, 4)] {
                let mut x = values(36 * 2 * 16, 6);
                x[((row * 6 + column) * 2 + 1) * 16 + 3] = bad;
                let y = filtered((crate::isa(), Format::F32), &x, &weight, &space, (16, 16), false);
                for (at, y) in y.chunks(16).enumerate() {
                    let near = |a: usize, b: usize| a.abs_diff(b) <= 1;
                    let reached = at % 2 == 1 && near(at / 2 / 6, row) && near(at / 2 % 6, column);
                    assert!(y.iter().all(|y| y.is_finite() != reached), "{bad} at {row}, {column}: {at}");
                }
            }
        }
    }

    #[test]
    fn an_image_does_not_depend_on_its_neighbours() {
        let space = |images| Space { height: 5, width: 6, images, kernel: (3, 3), stride: 1, padding: 1 };
        let (x, weight) = (values(30 * 7 * 20, 8), values(17 * 20 * 9, 9));
        let all = filtered((crate::isa(), Format::F32), &x, &weight, &space(7), (17, 20), false);
        for image in [0, 3, 6] {
            let of_image = |values: &[f32], width: usize| -> Vec<f32> {
                values.chunks(width).skip(image).step_by(7).flatten().copied().collect()
            };
            let one = filtered((crate::isa(), Format::F32), &of_image(&x, 20), &weight, &space(1), (17, 20), false);
            assert_eq!(one, of_image(&all, 17));
        }
    }
}
