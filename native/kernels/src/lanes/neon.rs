//! Sixteen f32 in four registers of NEON.

use super::product::{Factor, Put, multiply};
use super::{LANES, Lanes};
use crate::isa::transposed;
use std::arch::aarch64::*;
use std::array::from_fn;

/// Every aarch64 has it.
#[derive(Clone, Copy)]
pub(crate) struct Neon([float32x4_t; 4]);

impl Neon {
    #[inline(always)]
    fn with(self, other: Self, of: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Self(from_fn(|i| of(self.0[i], other.0[i])))
    }
}

impl Lanes for Neon {
    const COLUMNS: usize = 1;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([unsafe { vdupq_n_f32(value) }; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(from_fn(|i| unsafe { vld1q_f32(from.add(4 * i)) }))
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut values = [0f32; LANES];
        unsafe {
            values.as_mut_ptr().copy_from_nonoverlapping(from, count);
            Self::load(values.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        for (i, four) in self.0.into_iter().enumerate() {
            unsafe { vst1q_f32(to.add(4 * i), four) };
        }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        let mut values = [0f32; LANES];
        unsafe {
            self.store(values.as_mut_ptr());
            to.copy_from_nonoverlapping(values.as_ptr(), count);
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.with(other, |a, b| unsafe { vaddq_f32(a, b) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.with(other, |a, b| unsafe { vsubq_f32(a, b) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.with(other, |a, b| unsafe { vmulq_f32(a, b) })
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.with(other, |a, b| unsafe { vdivq_f32(a, b) })
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        Self(from_fn(|i| unsafe { vfmaq_f32(sum.0[i], self.0[i], factor.0[i]) }))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.with(other, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.with(other, |a, b| unsafe { vbslq_f32(vcltq_f32(a, b), a, b) })
    }

    #[inline(always)]
    unsafe fn zero_where_less(self, of: Self, limit: Self) -> Self {
        Self(from_fn(|i| unsafe {
            let less = vcltq_f32(of.0[i], limit.0[i]);
            vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(self.0[i]), less))
        }))
    }

    #[inline(always)]
    unsafe fn times_power_of_two(self, shifted: Self) -> Self {
        self.with(shifted, |values, shifted| unsafe {
            let power = vaddq_u32(vreinterpretq_u32_f32(shifted), vdupq_n_u32(127));
            vmulq_f32(values, vreinterpretq_f32_u32(vshlq_n_u32::<23>(power)))
        })
    }

    #[target_feature(enable = "neon")]
    unsafe fn turn(from: *const f32, row: usize, scale: f32, to: *mut f32, to_row: usize) {
        for first in (0..LANES).step_by(4) {
            for column in (0..LANES).step_by(4) {
                unsafe {
                    let from = from.add(first * row + column);
                    let turned = transposed(from_fn(|i| vld1q_f32(from.add(i * row))));
                    for (i, turned) in turned.into_iter().enumerate() {
                        vst1q_f32(to.add((column + i) * to_row + first), vmulq_n_f32(turned, scale));
                    }
                }
            }
        }
    }

    #[target_feature(enable = "neon")]
    unsafe fn multiply(size: [usize; 3], a: Factor, b: (*const f32, usize), c: (*mut f32, usize), put: Put) {
        unsafe { multiply::<Self>(size, a, b, c, put) }
    }
}
