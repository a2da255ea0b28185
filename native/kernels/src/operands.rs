//! How a precision's products are computed on a machine: by which tiles, of what operands.

use crate::Precision;
use crate::isa::{Format, Isa, from_bf16, isa, to_bf16};
use crate::simd::vectorised;
use crate::storage::{each_chunk, uninitialised};
use std::borrow::Cow;

/// Numbers a task.
const CHUNK: usize = 16 * 1024;

/// The tiles of a precision, and whether its operands are split before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub isa: Isa,
    pub format: Format,
    split: bool,
}

/// A part of a split number: the number in bf16, or what that leaves, in bf16.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Part {
    High,
    Low,
}

/// The parts of either operand whose products add up to a split product. Low times low is left out.
pub(crate) const LEFT: [Part; 3] = [Part::High, Part::High, Part::Low];
pub(crate) const RIGHT: [Part; 3] = [Part::High, Part::Low, Part::High];

/// The way of a precision on this machine.
pub(crate) fn path(precision: Precision) -> Path {
    Path::new(isa(), precision)
}

impl Path {
    /// The way of a precision on a path.
    pub fn new(isa: Isa, precision: Precision) -> Self {
        let format = match precision {
            Precision::F32 => Format::F32,
            Precision::Bf16x3 if isa.fast_bf16() => Format::Split,
            _ if isa.fast_bf16() => Format::Bf16,
            _ => Format::Rounded,
        };
        Self { isa, format, split: precision == Precision::Bf16x3 }
    }

    /// How many times as long k is.
    pub fn parts(&self) -> usize {
        if self.split { LEFT.len() } else { 1 }
    }

    /// Rows of `channels`, each [`parts`](Self::parts) times as long, unless the product splits them itself.
    pub fn rows<'a>(&self, x: &'a [f32], channels: usize) -> Cow<'a, [f32]> {
        if self.split && self.format != Format::Split { Cow::Owned(split_rows(x, channels)) } else { Cow::Borrowed(x) }
    }

    /// A kernel in rows of `row` numbers, of which k takes [`parts`](Self::parts) times as many.
    pub fn kernel<'a>(&self, weight: &'a [f32], row: usize) -> Cow<'a, [f32]> {
        if self.split { Cow::Owned(along(weight, row, RIGHT)) } else { Cow::Borrowed(weight) }
    }

    /// The gradient of a weight by `work`, which gets the rows that went in and those of the gradient.
    pub fn gradient(&self, x: &[f32], dy: &[f32], work: impl Fn(&[f32], &[f32]) -> Vec<f32>) -> Vec<f32> {
        if !self.split || self.format == Format::Split {
            return work(x, dy);
        }
        // k runs over rows: three sums instead of one that is longer.
        let mut total = Vec::new();
        for (x_part, dy_part) in LEFT.into_iter().zip(RIGHT) {
            let sum = work(&part_of(x, x_part), &part_of(dy, dy_part));
            match total.is_empty() {
                true => total = sum,
                false => total.iter_mut().zip(sum).for_each(|(total, more)| *total += more),
            }
        }
        total
    }
}

/// Rows of `channels`, each three times as long.
pub(crate) fn split_rows(x: &[f32], channels: usize) -> Vec<f32> {
    along(x, channels, LEFT)
}

fn along(values: &[f32], row: usize, parts: [Part; 3]) -> Vec<f32> {
    let mut all = uninitialised(parts.len() * values.len());
    each_chunk(&mut all, (parts.len() * row).max(1), |i, to| {
        for (to, part) in to.chunks_exact_mut(row).zip(parts) {
            take(&values[i * row..(i + 1) * row], part, to);
        }
    });
    all
}

fn part_of(values: &[f32], part: Part) -> Vec<f32> {
    let mut to = uninitialised(values.len());
    each_chunk(&mut to, CHUNK, |i, to| take(&values[i * CHUNK..][..to.len()], part, to));
    to
}

fn take(from: &[f32], part: Part, to: &mut [f32]) {
    match part {
        Part::High => round(from, to),
        Part::Low => rest(from, to),
    }
}

vectorised! {
    /// `to = from`, rounded to bf16.
    pub(crate) fn round(from: &[f32], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = nearest(*from);
        }
    }
}

vectorised! {
    /// `values`, rounded to bf16 where they lie.
    pub(crate) fn round_in_place(values: &mut [f32]) {
        for value in values {
            *value = nearest(*value);
        }
    }
}

/// The nearest number of bf16, ties to even, in fewer instructions than by its bits: with 1.5 * 2^16 times its power of two
/// added, a number's last bit is that of bf16. Numbers from 2^103 on keep more bits, which no sum overflows for, and those below
/// f32's normal ones all.
#[inline(always)]
pub(crate) fn nearest(x: f32) -> f32 {
    const LARGEST: u32 = (127 + 102) << 23;
    let power = f32::from_bits((x.to_bits() & 0x7f80_0000).min(LARGEST));
    let shift = power * 98304.0;
    x + shift - shift
}

vectorised! {
    /// What rounding to bf16 leaves, rounded itself; nothing of what is not finite.
    fn rest(from: &[f32], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            let rest = from - from_bf16(to_bf16(*from));
            *to = if rest.is_finite() { from_bf16(to_bf16(rest)) } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::philox::normal as values;
    use crate::product::{Panels, Strides, product};
    use crate::taps::{Space, Taps};
    use crate::weight_gradient::weight_gradient;

    /// The relative error, in Euclidean length, of what f64 gives for `expected`.
    fn error(found: &[f32], expected: impl Fn(usize) -> f64) -> f64 {
        let (mut difference, mut length) = (0f64, 0f64);
        for (i, found) in found.iter().enumerate() {
            difference += (f64::from(*found) - expected(i)).powi(2);
            length += expected(i).powi(2);
        }
        (difference / length).sqrt()
    }

    /// The errors of a product and of its weight's gradient.
    fn errors(isa: Isa, precision: Precision, taps: &Taps, inputs: usize, outputs: usize) -> (f64, f64) {
        let (rows, count) = (taps.rows(), taps.count());
        let (x, dy) = (values(taps.transposed().rows() * inputs, 1), values(rows * outputs, 3));
        let weight = values(outputs * inputs * count, 2);
        let path = Path::new(isa, precision);
        let k = inputs * path.parts();
        let at = Strides { tap: 1, k: count, n: k * count };
        let kernel = path.kernel(&weight, inputs * count);
        let panels = Panels::pack(isa, path.format, &kernel, count, k, outputs, at);
        let y = product(&path.rows(&x, inputs), taps, &panels, None);
        let dw = path.gradient(&x, &dy, |x, dy| weight_gradient(isa, path.format, x, dy, taps, inputs, outputs));
        let (mut of_y, mut of_dw) = (vec![0f64; y.len()], vec![0f64; dw.len()]);
        let mut sources = vec![0; rows];
        for tap in 0..count {
            taps.fill(0, tap, &mut sources);
            for (row, source) in sources.iter().enumerate() {
                let Ok(source) = usize::try_from(*source) else { continue };
                for (input, output) in (0..inputs).flat_map(|input| (0..outputs).map(move |output| (input, output))) {
                    let x = f64::from(x[source * inputs + input]);
                    of_y[row * outputs + output] += x * f64::from(weight[(output * inputs + input) * count + tap]);
                    of_dw[(tap * inputs + input) * outputs + output] += x * f64::from(dy[row * outputs + output]);
                }
            }
        }
        (error(&y, |i| of_y[i]), error(&dw, |i| of_dw[i]))
    }

    #[test]
    fn the_nearest_number_of_bf16_is_found() {
        let same = |bits: u32| {
            let x = f32::from_bits(bits);
            let (found, expected) = (nearest(x), from_bf16(to_bf16(x)));
            assert!(found == expected || (found.is_nan() && expected.is_nan()), "{x:e}: {found:e}, not {expected:e}");
        };
        // Every exponent with what is at, just below and just above every tie, and infinity and NaN.
        for exponent in (1..127 + 103).chain([255]) {
            for upper in 0..128 {
                for lower in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                    for sign in [0, 1 << 31] {
                        same(sign | exponent << 23 | upper << 16 | lower);
                    }
                }
            }
        }
        for x in [0.0, -0.0, 1e-40, -1e-45] {
            assert_eq!(nearest(x), x);
        }
        for x in [1.234e31f32, -3e38] {
            assert!((nearest(x) - x).abs() <= x.abs() / 512.0, "{x:e}");
        }
        assert!(nearest(f32::MAX).is_infinite());
    }

    #[test]
    fn precisions_are_as_exact_as_they_say_on_every_path() {
        let space = Space { height: 6, width: 5, images: 4, kernel: (3, 3), stride: 1, padding: 1 };
        // The last number bounds f32, whose sums of nine taps are longer.
        let shapes = [
            (Taps::Dense { rows: 75 }, 83, 52, 3e-7),
            (Taps::Dense { rows: 75 }, 96, 52, 3e-7),
            (Taps::Space(space), 64, 40, 5e-7),
            (Taps::Space(Space { stride: 2, ..space }), 32, 40, 3e-7),
            (Taps::Time { rows: 2 * 19, frames: 19, kernel: 3 }, 32, 33, 3e-7),
        ];
        for isa in Isa::tested() {
            for (taps, inputs, outputs, of_f32) in shapes {
                for (precision, least, most) in
                    [(Precision::F32, 0.0, of_f32), (Precision::Bf16x3, 1e-6, 1e-5), (Precision::Bf16, 1e-3, 4e-3)]
                {
                    let (y, dw) = errors(isa, precision, &taps, inputs, outputs);
                    for error in [y, dw] {
                        assert!((least..most).contains(&error), "{isa:?} {precision:?} {taps:?}: {error:e}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_not_lost() {
        let bad = [f32::NAN, f32::INFINITY, f32::MAX];
        for (isa, bad) in Isa::tested().flat_map(|isa| bad.map(|bad| (isa, bad))) {
            let path = Path::new(isa, Precision::Bf16x3);
            let mut x = values(20 * 64, 5);
            x[7 * 64 + 3] = bad;
            let at = Strides { tap: 1, k: 1, n: 3 * 64 };
            let panels = Panels::pack(path.isa, path.format, &path.kernel(&values(48 * 64, 6), 64), 1, 3 * 64, 48, at);
            let y = product(&path.rows(&x, 64), &Taps::Dense { rows: 20 }, &panels, None);
            for (row, y) in y.chunks(48).enumerate() {
                assert!(y.iter().all(|y| y.is_finite() != (row == 7)), "{isa:?}: {bad} in row {row}");
            }
        }
    }
}
