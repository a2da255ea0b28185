//! Group norm's statistics and result: one read of the activations each, in the order in which they lie.
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
