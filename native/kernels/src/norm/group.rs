//! Group norm's statistics and result, and the same backward: one read of the activations each, in the order in which they lie.
//!
//! Means and sums of squares of blocks of pixels are joined as they come (Chan, Golub and LeVeque, 1979): as exact as two
//! reads, whatever the mean.

use crate::lanes::{LANES, Lanes, for_lanes};

/// Pixels that are read side by side.
const BLOCK: usize = 8;

for_lanes! {
    /// Of each of `columns` columns of `pixels` rows at `x`, `row` numbers apart: the mean to `mean`, and the sum of squares of
    /// differences from it to `squares`.
    ///
    /// # Safety
    /// There are so many of all of them.
    pub(super) unsafe fn moments(
        x: *const f32,
        row: usize,
        pixels: usize,
        columns: usize,
        mean: *mut f32,
        squares: *mut f32,
    ) = moments_in
}

for_lanes! {
    /// Joins moments of `more` pixels to those of `pixels` others.
    ///
    /// # Safety
    /// There are `columns` numbers of each.
    pub(super) unsafe fn join(
        columns: usize,
        pixels: usize,
        mean: *mut f32,
        squares: *mut f32,
        more: usize,
        more_mean: *const f32,
        more_squares: *const f32,
    ) = join_in
}

for_lanes! {
    /// Of each of `columns` columns of `pixels` rows at x and dy (`both`), `row` numbers apart: the sum of dz to `sum`, and that
    /// of dz (x - mean) to `products`, where dz is the gradient of z = x * gain + offset, before SiLU when asked.
    ///
    /// # Safety
    /// There are so many of all of them.
    pub(super) unsafe fn sums(
        both: [*const f32; 2],
        row: usize,
        pixels: usize,
        columns: usize,
        of_columns: [*const f32; 3],
        silu: bool,
        sum: *mut f32,
        products: *mut f32,
    ) = sums_in
}

for_lanes! {
    /// `dx = dz * gain + x * slope + rest`, with dz as in [`sums`], for `rows` rows of `row` numbers. `of_columns` are gain,
    /// offset, slope and rest.
    ///
    /// # Safety
    /// There are so many numbers.
    pub(super) unsafe fn finish(
        both: [*const f32; 2],
        rows: usize,
        row: usize,
        of_columns: [*const f32; 4],
        silu: bool,
        dx: *mut f32,
    ) = finish_in
}

for_lanes! {
    /// `y = x * gain + offset`, then SiLU when asked, for `rows` rows of `row` numbers.
    ///
    /// # Safety
    /// There are so many numbers.
    pub(super) unsafe fn scale_and_shift(
        x: *const f32,
        rows: usize,
        row: usize,
        gain: *const f32,
        offset: *const f32,
        silu: bool,
        y: *mut f32,
    ) = scale_and_shift_in
}

/// The mean and the sum of squares of `n + more` pixels.
#[inline(always)]
unsafe fn joined<V: Lanes>(n: usize, (mean, squares): (V, V), more: usize, of_more: (V, V)) -> (V, V) {
    let share = more as f32 / (n + more) as f32;
    unsafe {
        let difference = of_more.0.sub(mean);
        let squares = squares.add(of_more.1);
        (
            difference.mul_add(V::splat(share), mean),
            difference.mul(difference).mul_add(V::splat(n as f32 * share), squares),
        )
    }
}

#[inline(always)]
unsafe fn moments_in<V: Lanes>(
    x: *const f32,
    row: usize,
    pixels: usize,
    columns: usize,
    mean: *mut f32,
    squares: *mut f32,
) {
    let mut first = 0;
    while first < pixels {
        // What fills no block is joined pixel by pixel.
        let more = if pixels - first >= BLOCK { BLOCK } else { 1 };
        for column in (0..columns).step_by(LANES) {
            unsafe {
                let (x, rest) = (x.add(first * row + column), columns - column);
                let (mean, squares) = (mean.add(column), squares.add(column));
                let of_block: (V, V) = match more {
                    1 => of_block::<V, 1>(x, row, rest),
                    _ => of_block::<V, BLOCK>(x, row, rest),
                };
                let found = match first {
                    0 => of_block,
                    n => joined(n, (V::read(mean, rest), V::read(squares, rest)), more, of_block),
                };
                found.0.write(mean, rest);
                found.1.write(squares, rest);
            }
        }
        first += more;
    }
}

/// The mean and the sum of squares of `N` pixels.
#[inline(always)]
unsafe fn of_block<V: Lanes, const N: usize>(x: *const f32, row: usize, rest: usize) -> (V, V) {
    unsafe {
        let mut values = [V::splat(0.0); N];
        let mut sum = V::splat(0.0);
        for (i, value) in values.iter_mut().enumerate() {
            *value = V::read(x.add(i * row), rest);
            sum = sum.add(*value);
        }
        let mean = sum.mul(V::splat(1.0 / N as f32));
        let mut squares = V::splat(0.0);
        for value in values {
            let difference = value.sub(mean);
            squares = difference.mul_add(difference, squares);
        }
        (mean, squares)
    }
}

#[inline(always)]
unsafe fn join_in<V: Lanes>(
    columns: usize,
    pixels: usize,
    mean: *mut f32,
    squares: *mut f32,
    more: usize,
    more_mean: *const f32,
    more_squares: *const f32,
) {
    for column in (0..columns).step_by(LANES) {
        unsafe {
            let rest = columns - column;
            let (mean, squares) = (mean.add(column), squares.add(column));
            let of_more: (V, V) = (V::read(more_mean.add(column), rest), V::read(more_squares.add(column), rest));
            let found = joined(pixels, (V::read(mean, rest), V::read(squares, rest)), more, of_more);
            found.0.write(mean, rest);
            found.1.write(squares, rest);
        }
    }
}

#[inline(always)]
unsafe fn scale_and_shift_in<V: Lanes>(
    x: *const f32,
    rows: usize,
    row: usize,
    gain: *const f32,
    offset: *const f32,
    silu: bool,
    y: *mut f32,
) {
    for first in 0..rows {
        for column in (0..row).step_by(LANES) {
            unsafe {
                let (at, rest) = (first * row + column, row - column);
                let gain = V::read(gain.add(column), rest);
                let z = V::read(x.add(at), rest).mul_add(gain, V::read(offset.add(column), rest));
                (if silu { z.silu() } else { z }).write(y.add(at), rest);
            }
        }
    }
}

#[inline(always)]
unsafe fn sums_in<V: Lanes>(
    [x, dy]: [*const f32; 2],
    row: usize,
    pixels: usize,
    columns: usize,
    of_columns: [*const f32; 3],
    silu: bool,
    sum: *mut f32,
    products: *mut f32,
) {
    for first in (0..pixels).step_by(BLOCK) {
        for column in (0..columns).step_by(LANES) {
            let (at, rest) = (first * row + column, columns - column);
            unsafe {
                let (sum, products) = (sum.add(column), products.add(column));
                let [gain, offset, mean]: [V; 3] = read_all(of_columns, column, rest);
                let mut found = match first {
                    0 => [V::splat(0.0); 2],
                    _ => [V::read(sum, rest), V::read(products, rest)],
                };
                for i in 0..(pixels - first).min(BLOCK) {
                    let at = at + i * row;
                    let (x, dz): (V, V) = gradient_of_z([x.add(at), dy.add(at)], rest, [gain, offset], silu);
                    found = [found[0].add(dz), dz.mul_add(x.sub(mean), found[1])];
                }
                found[0].write(sum, rest);
                found[1].write(products, rest);
            }
        }
    }
}

#[inline(always)]
unsafe fn finish_in<V: Lanes>(
    [x, dy]: [*const f32; 2],
    rows: usize,
    row: usize,
    of_columns: [*const f32; 4],
    silu: bool,
    dx: *mut f32,
) {
    for first in (0..rows).step_by(BLOCK) {
        for column in (0..row).step_by(LANES) {
            let (at, rest) = (first * row + column, row - column);
            unsafe {
                let [gain, offset, slope, shift]: [V; 4] = read_all(of_columns, column, rest);
                for i in 0..(rows - first).min(BLOCK) {
                    let at = at + i * row;
                    let (x, dz): (V, V) = gradient_of_z([x.add(at), dy.add(at)], rest, [gain, offset], silu);
                    dz.mul_add(gain, x.mul_add(slope, shift)).write(dx.add(at), rest);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn read_all<V: Lanes, const N: usize>(from: [*const f32; N], column: usize, rest: usize) -> [V; N] {
    unsafe {
        let mut found = [V::splat(0.0); N];
        for (found, from) in found.iter_mut().zip(from) {
            *found = V::read(from.add(column), rest);
        }
        found
    }
}

/// x and dz.
#[inline(always)]
unsafe fn gradient_of_z<V: Lanes>([x, dy]: [*const f32; 2], rest: usize, [gain, offset]: [V; 2], silu: bool) -> (V, V) {
    unsafe {
        let (x, dy) = (V::read(x, rest), V::read(dy, rest));
        (x, if silu { dy.mul(x.mul_add(gain, offset).silu_slope()) } else { dy })
    }
}
