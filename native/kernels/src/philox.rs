//! Counter-based noise: Philox4x32-10 and the normal distribution made from it.
//!
//! A number depends on the seed, a stream, a frame and its place in the frame, and on nothing else: not on the size
//! of the batch, how frames are split into chunks, or how many threads run. The transform from bits to normal numbers
//! is plain f64 arithmetic without calls into a mathematics library, so it gives the same bits on every machine.
//!
//! Philox is from J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).

use std::f64::consts::{FRAC_PI_2, LN_2, SQRT_2};

use crate::storage::each_chunk;

/// Ten rounds of Philox4x32: 128 random bits from a 128-bit counter and a 64-bit key.
#[inline(always)]
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// The natural logarithm of a normal number in (0, 1], to about 1e-13.
#[inline(always)]
fn ln(x: f64) -> f64 {
    // x = m * 2^e with m in [sqrt(1/2), sqrt(2)), then ln m = 2 atanh((m - 1) / (m + 1)).
    let bits = x.to_bits();
    let mut e = (bits >> 52) as i32 - 1023;
    let mut m = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | 0x3FF0_0000_0000_0000);
    if m >= SQRT_2 {
        m *= 0.5;
        e += 1;
    }
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let series = 1.0
        + z * (1.0 / 3.0
            + z * (1.0 / 5.0
                + z * (1.0 / 7.0 + z * (1.0 / 9.0 + z * (1.0 / 11.0 + z * (1.0 / 13.0 + z * (1.0 / 15.0)))))));
    f64::from(e) * LN_2 + 2.0 * s * series
}

/// Sine and cosine of `turn` full turns, `turn` in [0, 1], to about 1e-13.
#[inline(always)]
fn sin_cos_turn(turn: f64) -> (f64, f64) {
    let quarters = turn * 4.0;
    let quadrant = (quarters + 0.5) as i32;
    let a = (quarters - f64::from(quadrant)) * FRAC_PI_2;
    let z = a * a;
    let sin = a
        * (1.0
            + z * (-1.0 / 6.0
                + z * (1.0 / 120.0
                    + z * (-1.0 / 5040.0
                        + z * (1.0 / 362_880.0 + z * (-1.0 / 39_916_800.0 + z * (1.0 / 6_227_020_800.0)))))));
    let cos = 1.0
        + z * (-0.5
            + z * (1.0 / 24.0
                + z * (-1.0 / 720.0
                    + z * (1.0 / 40_320.0
                        + z * (-1.0 / 3_628_800.0 + z * (1.0 / 479_001_600.0 + z * (-1.0 / 87_178_291_200.0)))))));
    match quadrant & 3 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// Four independent draws from N(0, 1): Box-Muller on the two pairs of 32-bit words.
#[inline(always)]
fn normals(bits: [u32; 4]) -> [f32; 4] {
    const UNIT: f64 = 1.0 / 4_294_967_296.0;
    let pair = |u: u32, v: u32| {
        // Both uniforms are centred in their cell, so neither is 0: the radius is finite (at most 6.66).
        let radius = (-2.0 * ln((f64::from(u) + 0.5) * UNIT)).sqrt();
        let (sin, cos) = sin_cos_turn((f64::from(v) + 0.5) * UNIT);
        ((radius * cos) as f32, (radius * sin) as f32)
    };
    let (a, b) = pair(bits[0], bits[1]);
    let (c, d) = pair(bits[2], bits[3]);
    [a, b, c, d]
}

/// Blocks of four numbers a task: small enough to share out one frame, large enough to hide the hand-over.
const BLOCKS: usize = 1 << 12;

/// Fills one frame with N(0, 1).
///
/// Element `i` is number `i % 4` of the block with counter `(i / 4, frame, stream, 0)` and key `seed`; a frame may hold
/// up to 2^34 numbers.
pub fn fill_normal(out: &mut [f32], seed: u64, stream: u32, frame: u32) {
    let key = [seed as u32, (seed >> 32) as u32];
    each_chunk(out, BLOCKS * 4, |chunk, out| {
        let first = chunk * BLOCKS;
        for (i, out) in out.chunks_mut(4).enumerate() {
            let values = normals(philox4x32_10([(first + i) as u32, frame, stream, 0], key));
            out.copy_from_slice(&values[..out.len()]);
        }
    });
}

/// Numbers of N(0, 1) for a test.
#[cfg(test)]
pub(crate) fn normal(count: usize, seed: u64) -> Vec<f32> {
    let mut values = vec![0f32; count];
    fill_normal(&mut values, seed, 0, 0);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    // From kat_vectors of the authors' Random123 library.
    #[test]
    fn known_answers() {
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32_10([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let key = [0xa409_3822, 0x299f_31d0];
        assert_eq!(philox4x32_10(counter, key), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn functions_agree_with_the_library() {
        let mut u = 0.5;
        while u < 4_294_967_296.0 {
            let x = u / 4_294_967_296.0;
            assert!((ln(x) - x.ln()).abs() < 1e-12, "ln {x}");
            u *= 1.003;
        }
        for i in 0..=100_000 {
            let turn = f64::from(i) / 100_000.0;
            let (sin, cos) = sin_cos_turn(turn);
            let (s, c) = (turn * std::f64::consts::TAU).sin_cos();
            assert!((sin - s).abs() < 1e-12 && (cos - c).abs() < 1e-12, "{turn}");
        }
    }

    #[test]
    fn the_first_numbers_never_change() {
        // Every seed of every manifest depends on these bits.
        let mut out = [0.0; 5];
        fill_normal(&mut out, 7, 1, 2);
        assert_eq!(out.map(f32::to_bits), [1061490178, 1059954366, 3213886892, 3219268863, 3189657624]);
    }

    #[test]
    fn moments_are_those_of_a_normal() {
        let mut out = vec![0.0; 1 << 20];
        fill_normal(&mut out, 0x1234_5678_9abc, 3, 0);
        let n = out.len() as f64;
        let moment = |p: i32| out.iter().map(|&v| f64::from(v).powi(p)).sum::<f64>() / n;
        // Four standard errors each.
        assert!(moment(1).abs() < 4.0 / n.sqrt());
        assert!((moment(2) - 1.0).abs() < 4.0 * (2.0 / n).sqrt());
        assert!(moment(3).abs() < 4.0 * (15.0 / n).sqrt());
        assert!((moment(4) - 3.0).abs() < 4.0 * (96.0 / n).sqrt());
        let lag: f64 = out.windows(2).map(|w| f64::from(w[0]) * f64::from(w[1])).sum::<f64>() / n;
        assert!(lag.abs() < 4.0 / n.sqrt());
    }

    #[test]
    fn a_prefix_is_a_prefix() {
        let mut long = vec![0.0; 50_001];
        let mut short = vec![0.0; 16_390];
        fill_normal(&mut long, 1, 0, 0);
        fill_normal(&mut short, 1, 0, 0);
        assert_eq!(&long[..short.len()], &short[..]);
        let mut other = vec![0.0; 16_390];
        fill_normal(&mut other, 1, 0, 1);
        assert_ne!(short, other);
    }
}
