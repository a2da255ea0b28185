//! AVX2 and FMA tiles.

use super::{Format, LINE, PANEL, PANEL_BLOCK, Tiles, WIDE, portable};
use std::arch::x86_64::*;

const ROWS: usize = 6;

pub(super) fn tiles(format: Format) -> Tiles {
    match format {
        Format::F32 => Tiles { rows: ROWS, tile: tile_f32, wide: wide_f32, convert: portable::convert_f32, interleave },
        Format::Bf16 => Tiles { rows: ROWS, tile: tile_bf16, wide: wide_bf16, convert: convert_bf16, interleave },
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile_f32(blocks: usize, a: *const u8, b: *const u8, c: *mut f32) {
    for half in 0..2 {
        let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
        for block in 0..blocks {
            unsafe {
                let a = a.add(block * ROWS * LINE).cast::<f32>();
                let b = b.add(block * PANEL_BLOCK).cast::<f32>().add(half * 16);
                for k in 0..16 {
                    let (b0, b1) = (_mm256_loadu_ps(b.add(k * PANEL)), _mm256_loadu_ps(b.add(k * PANEL + 8)));
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let x = _mm256_broadcast_ss(&*a.add(r * 16 + k));
                        sum[0] = _mm256_fmadd_ps(x, b0, sum[0]);
                        sum[1] = _mm256_fmadd_ps(x, b1, sum[1]);
                    }
                }
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            unsafe {
                _mm256_storeu_ps(c.add(r * PANEL + half * 16), sum[0]);
                _mm256_storeu_ps(c.add(r * PANEL + half * 16 + 8), sum[1]);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn wide_f32(blocks: usize, a: *const u8, b: *const u8, c: *mut f32) {
    for rows in (0..WIDE).step_by(4) {
        for half in 0..2 {
            unsafe {
                let c = c.add(rows * PANEL + half * 16);
                let mut sums = [[_mm256_setzero_ps(); 2]; 4];
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = [_mm256_loadu_ps(c.add(r * PANEL)), _mm256_loadu_ps(c.add(r * PANEL + 8))];
                }
                for k in 0..blocks * 16 {
                    let (a, b) = (a.cast::<f32>().add(k * WIDE + rows), b.cast::<f32>().add(k * PANEL + half * 16));
                    let (b0, b1) = (_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8)));
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let x = _mm256_broadcast_ss(&*a.add(r));
                        sum[0] = _mm256_fmadd_ps(x, b0, sum[0]);
                        sum[1] = _mm256_fmadd_ps(x, b1, sum[1]);
                    }
                }
                for (r, sum) in sums.iter().enumerate() {
                    _mm256_storeu_ps(c.add(r * PANEL), sum[0]);
                    _mm256_storeu_ps(c.add(r * PANEL + 8), sum[1]);
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile_bf16(blocks: usize, a: *const u8, b: *const u8, c: *mut f32) {
    unsafe { portable::rows_bf16::<ROWS>(blocks, a, b, c) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn wide_bf16(blocks: usize, a: *const u8, b: *const u8, c: *mut f32) {
    unsafe { portable::wide_bf16(blocks, a, b, c) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn convert_bf16(lines: usize, from: *const f32, to: *mut u8, stride: usize) {
    unsafe { portable::convert_bf16(lines, from, to, stride) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn interleave(even: *const f32, odd: *const f32, to: *mut u8) {
    unsafe { portable::interleave(even, odd, to) }
}
