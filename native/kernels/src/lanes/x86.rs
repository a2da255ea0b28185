//! Sixteen f32 in one register of AVX-512, or in two of AVX2.

use super::product::{Factor, Put, multiply};
use super::{LANES, Lanes};
use std::arch::x86_64::*;

/// Four numbers at `from` and as many at each of three places `apart` from one to the next, side by side.
#[inline(always)]
unsafe fn four_apart(from: *const f32, apart: usize) -> __m512 {
    unsafe {
        let four = _mm512_castps128_ps512(_mm_loadu_ps(from));
        let four = _mm512_insertf32x4::<1>(four, _mm_loadu_ps(from.add(apart)));
        let four = _mm512_insertf32x4::<2>(four, _mm_loadu_ps(from.add(2 * apart)));
        _mm512_insertf32x4::<3>(four, _mm_loadu_ps(from.add(3 * apart)))
    }
}

/// Four numbers at `from` and as many `apart` from there, side by side.
#[inline(always)]
unsafe fn two_apart(from: *const f32, apart: usize) -> __m256 {
    unsafe {
        let low = _mm256_castps128_ps256(_mm_loadu_ps(from));
        _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(from.add(apart)))
    }
}

/// Needs AVX-512 F, BW, VL and DQ.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

impl Avx512 {
    #[inline(always)]
    unsafe fn mask(count: usize) -> __mmask16 {
        ((1u32 << count) - 1) as __mmask16
    }
}

impl Lanes for Avx512 {
    const COLUMNS: usize = 4;
    const ROWS: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        Self(unsafe { _mm512_maskz_loadu_ps(Self::mask(count), from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) };
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        unsafe { _mm512_stream_ps(to, self.0) };
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        unsafe { _mm512_mask_storeu_ps(to, Self::mask(count), self.0) };
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, sum.0) })
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn zero_where_less(self, of: Self, limit: Self) -> Self {
        unsafe {
            let kept = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(of.0, limit.0);
            Self(_mm512_maskz_mov_ps(kept, self.0))
        }
    }

    #[inline(always)]
    unsafe fn times_power_of_two(self, shifted: Self) -> Self {
        unsafe {
            let power = _mm512_add_epi32(_mm512_castps_si512(shifted.0), _mm512_set1_epi32(127));
            Self(_mm512_mul_ps(self.0, _mm512_castsi512_ps(_mm512_slli_epi32::<23>(power))))
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
    unsafe fn turn(from: *const f32, row: usize, scale: f32, to: *mut f32, to_row: usize) {
        unsafe {
            let scale = _mm512_set1_ps(scale);
            for column in (0..LANES).step_by(4) {
                // What is left to turn are 4x4 blocks.
                let from = from.add(column);
                let (a, b) = (four_apart(from, 4 * row), four_apart(from.add(row), 4 * row));
                let (c, d) = (four_apart(from.add(2 * row), 4 * row), four_apart(from.add(3 * row), 4 * row));
                let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
                let (ab_high, cd_high) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
                let turned = [
                    _mm512_shuffle_ps::<0x44>(ab, cd),
                    _mm512_shuffle_ps::<0xee>(ab, cd),
                    _mm512_shuffle_ps::<0x44>(ab_high, cd_high),
                    _mm512_shuffle_ps::<0xee>(ab_high, cd_high),
                ];
                for (i, turned) in turned.into_iter().enumerate() {
                    _mm512_storeu_ps(to.add((column + i) * to_row), _mm512_mul_ps(turned, scale));
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
    unsafe fn multiply(size: [usize; 3], a: Factor, b: (*const f32, usize), c: (*mut f32, usize), put: Put) {
        unsafe { multiply::<Self>(size, a, b, c, put) }
    }
}

/// Needs AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256, __m256);

impl Lanes for Avx2 {
    const COLUMNS: usize = 1;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        let value = unsafe { _mm256_set1_ps(value) };
        Self(value, value)
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
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
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        unsafe {
            _mm256_stream_ps(to, self.0);
            _mm256_stream_ps(to.add(8), self.1);
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
        unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { Self(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, sum.0), _mm256_fmadd_ps(self.1, factor.1, sum.1)) }
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe { Self(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn zero_where_less(self, of: Self, limit: Self) -> Self {
        unsafe {
            let low = _mm256_cmp_ps::<_CMP_NLT_UQ>(of.0, limit.0);
            let high = _mm256_cmp_ps::<_CMP_NLT_UQ>(of.1, limit.1);
            Self(_mm256_and_ps(self.0, low), _mm256_and_ps(self.1, high))
        }
    }

    #[inline(always)]
    unsafe fn times_power_of_two(self, shifted: Self) -> Self {
        unsafe {
            let bias = _mm256_set1_epi32(127);
            let low = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_castps_si256(shifted.0), bias));
            let high = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_castps_si256(shifted.1), bias));
            Self(_mm256_mul_ps(self.0, _mm256_castsi256_ps(low)), _mm256_mul_ps(self.1, _mm256_castsi256_ps(high)))
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn turn(from: *const f32, row: usize, scale: f32, to: *mut f32, to_row: usize) {
        unsafe {
            let scale = _mm256_set1_ps(scale);
            for first in (0..LANES).step_by(8) {
                for column in (0..LANES).step_by(4) {
                    // What is left to turn are 4x4 blocks.
                    let from = from.add(first * row + column);
                    let (a, b) = (two_apart(from, 4 * row), two_apart(from.add(row), 4 * row));
                    let (c, d) = (two_apart(from.add(2 * row), 4 * row), two_apart(from.add(3 * row), 4 * row));
                    let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
                    let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
                    let turned = [
                        _mm256_shuffle_ps::<0x44>(ab, cd),
                        _mm256_shuffle_ps::<0xee>(ab, cd),
                        _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
                        _mm256_shuffle_ps::<0xee>(ab_high, cd_high),
                    ];
                    for (i, turned) in turned.into_iter().enumerate() {
                        _mm256_storeu_ps(to.add((column + i) * to_row + first), _mm256_mul_ps(turned, scale));
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn multiply(size: [usize; 3], a: Factor, b: (*const f32, usize), c: (*mut f32, usize), put: Put) {
        unsafe { multiply::<Self>(size, a, b, c, put) }
    }
}
