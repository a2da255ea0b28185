//! Sixteen f32 in plain Rust: what the base target has.

use super::product::{Factor, Put, multiply};
use super::{LANES, Lanes};
use crate::simd;

/// Sixteen numbers.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Plain([f32; LANES]);

impl Plain {
    #[inline(always)]
    fn with(self, other: Self, of: impl Fn(f32, f32) -> f32) -> Self {
        let mut result = self.0;
        for (a, b) in result.iter_mut().zip(other.0) {
            *a = of(*a, b);
        }
        Self(result)
    }
}

impl Lanes for Plain {
    const COLUMNS: usize = 1;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut values = [0.0; LANES];
        unsafe { values.as_mut_ptr().copy_from_nonoverlapping(from, count) };
        Self(values)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) };
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        unsafe { to.copy_from_nonoverlapping(self.0.as_ptr(), count) };
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.with(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.with(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.with(other, |a, b| a / b)
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        let mut result = sum.0;
        for ((sum, a), b) in result.iter_mut().zip(self.0).zip(factor.0) {
            // Where there is no instruction, `mul_add` is a function of its own.
            *sum = if cfg!(target_arch = "aarch64") { a.mul_add(b, *sum) } else { a * b + *sum };
        }
        Self(result)
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.with(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.with(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn zero_where_less(self, of: Self, limit: Self) -> Self {
        let mut result = self.0;
        for ((value, of), limit) in result.iter_mut().zip(of.0).zip(limit.0) {
            *value = if of < limit { 0.0 } else { *value };
        }
        Self(result)
    }

    #[inline(always)]
    unsafe fn times_power_of_two(self, shifted: Self) -> Self {
        self.with(shifted, |value, shifted| value * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23))
    }

    /// Four at a time: not all sixteen and what is computed of them fit in registers.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        let mut result = self.0;
        for four in result.as_chunks_mut::<4>().0 {
            for x in four {
                let below = *x < -87.3;
                let power = simd::exp(*x);
                *x = if below { 0.0 } else { power };
            }
        }
        Self(result)
    }

    unsafe fn turn(from: *const f32, row: usize, scale: f32, to: *mut f32, to_row: usize) {
        for column in 0..LANES {
            for lane in 0..LANES {
                unsafe { to.add(column * to_row + lane).write(*from.add(lane * row + column) * scale) };
            }
        }
    }

    unsafe fn multiply(size: [usize; 3], a: Factor, b: (*const f32, usize), c: (*mut f32, usize), put: Put) {
        unsafe { multiply::<Self>(size, a, b, c, put) }
    }
}
