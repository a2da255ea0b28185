//! Sixteen f32 at a time, in the registers of each instruction set: what plain loops do not become.
//!
//! Kernels are written once, for any [`Lanes`], inlined into a function compiled for each instruction set
//! ([`for_lanes`]) and chosen at run time.

#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
mod product;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use plain::Plain;
pub(crate) use product::{Factor, Put};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// Numbers of a vector.
pub(crate) const LANES: usize = 16;
/// Bytes of a result that is written past the caches: it would not stay in the second one until it is read, and its lines
/// need not be read before they are written.
const LARGE: usize = 16 << 20;

/// Whether a result of rows of `row` numbers is written past the caches, which needs whole vectors and an instruction for it.
/// [`drain`] must follow.
pub(crate) fn past_caches(result: &[f32], row: usize) -> bool {
    let whole = row.is_multiple_of(LANES) && result.as_ptr().addr().is_multiple_of(4 * LANES);
    cfg!(target_arch = "x86_64") && size_of_val(result) >= LARGE && whole
}

/// After it, other threads see what was written past the caches.
pub(crate) fn drain() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has it.
    unsafe {
        std::arch::x86_64::_mm_sfence()
    };
}

/// Sixteen f32.
///
/// # Safety
/// Every function needs a processor that has the instructions of the type. Pointers are to sixteen numbers, of any
/// alignment, or to as many as a function says.
pub(crate) trait Lanes: Copy {
    /// Vectors in a row of a product's tile, at most.
    const COLUMNS: usize;
    /// Rows of a product's tile of one column, at most.
    const ROWS: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count` numbers, then zeros.
    unsafe fn load_part(from: *const f32, count: usize) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Past the caches where there is an instruction for it, to a multiple of 64 bytes.
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        unsafe { self.store(to) }
    }
    /// The first `count` numbers alone.
    unsafe fn store_part(self, to: *mut f32, count: usize);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * factor + sum`, rounded once where there is an instruction for it.
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self;
    /// The larger of both; `other` where one is no number.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller of both; `other` where one is no number.
    unsafe fn min(self, other: Self) -> Self;
    /// Zero where `of` is less than `limit`.
    unsafe fn zero_where_less(self, of: Self, limit: Self) -> Self;
    /// `self` times two to the power that stands in the last bits of `shifted`.
    unsafe fn times_power_of_two(self, shifted: Self) -> Self;

    /// Writes the 16 columns of 16 rows at `from`, times `scale`, as rows at `to`.
    unsafe fn turn(from: *const f32, row: usize, scale: f32, to: *mut f32, to_row: usize);

    /// [`product::multiply`], compiled for this instruction set.
    unsafe fn multiply(size: [usize; 3], a: Factor, b: (*const f32, usize), c: (*mut f32, usize), put: Put);

    /// Sixteen numbers, or the `rest` of a row.
    #[inline(always)]
    unsafe fn read(from: *const f32, rest: usize) -> Self {
        unsafe { if rest >= LANES { Self::load(from) } else { Self::load_part(from, rest) } }
    }

    /// Sixteen numbers, or the `rest` of a row.
    #[inline(always)]
    unsafe fn write(self, to: *mut f32, rest: usize) {
        unsafe { if rest >= LANES { self.store(to) } else { self.store_part(to, rest) } }
    }

    /// e^x to a relative error of 2e-7 (Cephes' polynomial), and 0 below -87.3.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        unsafe {
            let of = |value: f32| Self::splat(value);
            let x = of(88.3).min(self);
            // Adding and taking away 1.5 * 2^23 rounds to a whole number, which stands in the sum's last bits.
            let shifted = x.mul_add(of(std::f32::consts::LOG2_E), of(12_582_912.0));
            let n = shifted.sub(of(12_582_912.0));
            let r = n.mul_add(of(2.121_944_4e-4), n.mul_add(of(-0.693_359_4), x));
            let p = of(1.987_569_1e-4).mul_add(r, of(1.398_199_9e-3));
            let p = p.mul_add(r, of(8.333_452e-3));
            let p = p.mul_add(r, of(4.166_579_6e-2));
            let p = p.mul_add(r, of(1.666_666_5e-1));
            let p = p.mul_add(r, of(0.5));
            let value = p.mul_add(r.mul(r), r.add(of(1.0)));
            value.times_power_of_two(shifted).zero_where_less(self, of(-87.3))
        }
    }

    /// The slope of [`Self::silu`].
    #[inline(always)]
    unsafe fn silu_slope(self) -> Self {
        unsafe {
            let one = Self::splat(1.0);
            let s = one.div(one.add(Self::splat(0.0).sub(self).exp()));
            s.mul(self.mul_add(one.sub(s), one))
        }
    }

    /// x / (1 + e^-x).
    #[inline(always)]
    unsafe fn silu(self) -> Self {
        unsafe { self.div(Self::splat(1.0).add(Self::splat(0.0).sub(self).exp())) }
    }
}

/// Asks for `count` numbers at `from` to be brought to the second cache, where there is an instruction for it.
#[inline(always)]
pub(crate) fn prefetch(from: *const f32, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..count).step_by(LANES) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: nothing is read.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, count);
}

/// Writes the `rows` x `columns` matrix at `from`, times `scale`, as rows at `to`, padded with zeros to whole vectors in
/// both directions.
///
/// # Safety
/// That of [`Lanes`]; `to` has room.
#[inline(always)]
pub(crate) unsafe fn turn<V: Lanes>(
    (from, row): (*const f32, usize),
    [rows, columns]: [usize; 2],
    scale: f32,
    to: *mut f32,
    to_row: usize,
) {
    for first in (0..rows).step_by(LANES) {
        for column in (0..columns).step_by(LANES) {
            let (height, width) = ((rows - first).min(LANES), (columns - column).min(LANES));
            unsafe {
                let (from, to) = (from.add(first * row + column), to.add(column * to_row + first));
                if height == LANES && width == LANES {
                    V::turn(from, row, scale, to, to_row);
                    continue;
                }
                let mut padded = [0f32; LANES * LANES];
                for (i, padded) in padded.chunks_exact_mut(LANES).enumerate().take(height) {
                    V::read(from.add(i * row), width).store(padded.as_mut_ptr());
                }
                V::turn(padded.as_ptr(), LANES, scale, to, to_row);
            }
        }
    }
}

/// Defines a function that calls one that is generic over [`Lanes`], compiled for each instruction set and chosen at run
/// time.
macro_rules! for_lanes {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $of:path) => {
        $(#[$meta])*
        $vis unsafe fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $of as of;
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
                unsafe fn avx512($($arg: $ty),*) {
                    unsafe { of::<$crate::lanes::Avx512>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                unsafe fn avx2($($arg: $ty),*) {
                    unsafe { of::<$crate::lanes::Avx2>($($arg),*) }
                }
                let isa = $crate::isa();
                if isa >= $crate::Isa::Avx512 {
                    return unsafe { avx512($($arg),*) };
                }
                if isa == $crate::Isa::Avx2 {
                    return unsafe { avx2($($arg),*) };
                }
            }
            use $of as of;
            #[cfg(target_arch = "aarch64")]
            if $crate::isa() != $crate::Isa::Portable {
                return unsafe { of::<$crate::lanes::Neon>($($arg),*) };
            }
            unsafe { of::<$crate::lanes::Plain>($($arg),*) }
        }
    };
}
pub(crate) use for_lanes;

#[cfg(test)]
pub(crate) mod guarded;
#[cfg(test)]
pub(crate) mod tests;
