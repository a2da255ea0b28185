//! Plain loops compiled once for each instruction set.

/// Defines a function whose body is compiled for AVX-512, AVX2 and the base target, and chosen at run time.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                let isa = $crate::isa();
                if isa >= $crate::Isa::Avx512 {
                    return unsafe { avx512($($arg),*) };
                }
                if isa == $crate::Isa::Avx2 {
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use vectorised;

/// Asks for values that are soon read; on other processors their own foresight has to do.
#[inline(always)]
pub(crate) fn ask_for(values: &[f32]) {
    ask::<false>(values);
}

/// Asks for values that are read later: into the second cache.
#[inline(always)]
pub(crate) fn ask_for_later(values: &[f32]) {
    ask::<true>(values);
}

#[inline(always)]
fn ask<const LATER: bool>(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        let line = line.as_ptr().cast();
        // SAFETY: a hint, which reads nothing.
        unsafe { if LATER { _mm_prefetch::<_MM_HINT_T1>(line) } else { _mm_prefetch::<_MM_HINT_T0>(line) } };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// e^x to a relative error of 2e-7; written so that it becomes vector code (Cephes' polynomial).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.3, 88.3);
    // Adding and taking away 1.5 * 2^23 rounds to a whole number, which stands in the sum's last bits.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let value = p * r * r + r + 1.0;
    f32::from_bits(shifted.to_bits().wrapping_add(127) << 23) * value
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The error function to 1.5e-7 (Abramowitz and Stegun 7.1.26).
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let p = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6) * t;
    (1.0 - p * exp(-x * x)).copysign(x)
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_is_accurate() {
        for i in -860..=880 {
            let x = i as f32 / 10.0;
            let expected = f64::from(x).exp();
            assert!(((f64::from(super::exp(x)) - expected) / expected).abs() < 3e-7, "exp({x})");
        }
        assert_eq!(super::exp(-1000.0), super::exp(-87.3));
    }

    #[test]
    fn erf_matches_known_values() {
        for (x, expected) in [(0.0, 0.0), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (-2.0, -0.995_322_3)] {
            assert!((super::erf(x) - expected).abs() < 3e-7, "erf({x})");
        }
    }
}
