//! AVX2 and FMA tiles.

use super::{PANEL, Tiles, portable};
use std::arch::x86_64::*;

const ROWS: usize = 6;

pub(super) fn tiles() -> Tiles {
    Tiles { rows: ROWS, tile: tile_f32, summing: summing_f32, convert: portable::convert_f32, turn: portable::turn }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile_f32(
    taps: usize,
    steps: usize,
    rows: *const *const u8,
    _: *const *const u8,
    b: *const u8,
    bias: *const f32,
    c: *mut f32,
    stride: usize,
) {
    for half in 0..2 {
        let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
        for tap in 0..taps {
            unsafe {
                let rows: [*const f32; ROWS] = *rows.add(tap * ROWS).cast();
                let b = b.cast::<f32>().add(tap * steps * PANEL + half * 16);
                for step in 0..steps {
                    let (b0, b1) = (_mm256_loadu_ps(b.add(step * PANEL)), _mm256_loadu_ps(b.add(step * PANEL + 8)));
                    for (sum, row) in sums.iter_mut().zip(rows) {
                        let x = _mm256_broadcast_ss(&*row.add(step));
                        sum[0] = _mm256_fmadd_ps(x, b0, sum[0]);
                        sum[1] = _mm256_fmadd_ps(x, b1, sum[1]);
                    }
                }
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            for (i, &sum) in sum.iter().enumerate() {
                let at = half * 16 + i * 8;
                unsafe {
                    let sum = if bias.is_null() { sum } else { _mm256_add_ps(sum, _mm256_loadu_ps(bias.add(at))) };
                    _mm256_storeu_ps(c.add(r * stride + at), sum);
                }
            }
        }
    }
}

/// Four rows and half of the columns at a time.
#[target_feature(enable = "avx2,fma")]
unsafe fn summing_f32(
    first: usize,
    rows: usize,
    steps: usize,
    lines: *const *const f32,
    b: *const f32,
    apart: usize,
    c: *mut f32,
    stride: usize,
) {
    for (four, half) in (0..rows).step_by(4).flat_map(|four| [(four, 0), (four, 16)]) {
        unsafe {
            let (b, c) = (b.add(half), c.add(four * stride + half));
            let mut sums = [[_mm256_setzero_ps(); 2]; 4];
            for k in 0..steps {
                let line = (*lines.add(k)).add(first + four);
                let (b0, b1) = (_mm256_loadu_ps(b.add(k * apart)), _mm256_loadu_ps(b.add(k * apart + 8)));
                for (row, sum) in sums.iter_mut().enumerate() {
                    let x = _mm256_broadcast_ss(&*line.add(row));
                    sum[0] = _mm256_fmadd_ps(x, b0, sum[0]);
                    sum[1] = _mm256_fmadd_ps(x, b1, sum[1]);
                }
            }
            for (row, sum) in sums.iter().enumerate() {
                for (i, sum) in sum.iter().enumerate() {
                    let c = c.add(row * stride + i * 8);
                    _mm256_storeu_ps(c, _mm256_add_ps(_mm256_loadu_ps(c), *sum));
                }
            }
        }
    }
}
