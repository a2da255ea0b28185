//! AVX-512 tiles: f32, and bf16 with the dot-product instruction where the CPU has it.

use super::{PANEL, Tile, Tiles, WIDE, portable};
use std::arch::x86_64::*;
use std::hint::black_box;
use std::mem::transmute;
use std::time::Instant;

const ROWS: usize = 12;

pub(super) fn tiles() -> Tiles {
    Tiles {
        rows: ROWS,
        tile: Tile::Gathered(tile_f32),
        wide: wide_f32,
        summing: summing_f32,
        convert: portable::convert_f32,
        turn,
    }
}

pub(super) fn bf16_tiles() -> Tiles {
    Tiles { tile: Tile::Gathered(tile_bf16), wide: wide_bf16, convert: convert_bf16, ..tiles() }
}

/// Whether the bf16 dot product does at least a third more multiplications a second than the f32 multiply-add: measured,
/// for a few microseconds, because processors that report it differ fourfold. The best of several turns counts, so that an
/// interruption does not decide.
pub(super) fn fast_dot_product() -> bool {
    let quickest = |burst: unsafe fn()| {
        let turn = |_| {
            let start = Instant::now();
            unsafe { burst() };
            start.elapsed()
        };
        (0..16).map(turn).min().unwrap_or_default()
    };
    2 * quickest(multiply_adds) > quickest(dot_products) + quickest(dot_products) / 3
}

/// Multiplications in a burst: eight independent sums, over the latency of either instruction.
const BURST: usize = 1000;

#[target_feature(enable = "avx512f")]
fn multiply_adds() {
    let mut sums = [_mm512_setzero_ps(); 8];
    let one = black_box(_mm512_set1_ps(1.0));
    for _ in 0..BURST {
        sums.iter_mut().for_each(|sum| *sum = _mm512_fmadd_ps(one, one, *sum));
    }
    black_box(sums);
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn dot_products() {
    let mut sums = [_mm512_setzero_ps(); 8];
    let one: __m512bh = unsafe { transmute(black_box(_mm512_set1_epi32(0x3f80_3f80))) };
    for _ in 0..BURST {
        sums.iter_mut().for_each(|sum| *sum = _mm512_dpbf16_ps(*sum, one, one));
    }
    black_box(sums);
}

/// One step of k (f32) or a pair of k (bf16): a broadcast value times 32 columns.
trait Step {
    unsafe fn add(sum: &mut [__m512; 2], x: u32, b: [__m512i; 2]);
}

struct F32;
impl Step for F32 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add(sum: &mut [__m512; 2], x: u32, b: [__m512i; 2]) {
        let x = _mm512_castsi512_ps(_mm512_set1_epi32(x as i32));
        sum[0] = _mm512_fmadd_ps(x, _mm512_castsi512_ps(b[0]), sum[0]);
        sum[1] = _mm512_fmadd_ps(x, _mm512_castsi512_ps(b[1]), sum[1]);
    }
}

struct Bf16Dot;
impl Step for Bf16Dot {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn add(sum: &mut [__m512; 2], x: u32, b: [__m512i; 2]) {
        unsafe {
            let x = _mm512_set1_epi32(x as i32);
            sum[0] = _mm512_dpbf16_ps(sum[0], transmute::<__m512i, __m512bh>(x), transmute::<__m512i, __m512bh>(b[0]));
            sum[1] = _mm512_dpbf16_ps(sum[1], transmute::<__m512i, __m512bh>(x), transmute::<__m512i, __m512bh>(b[1]));
        }
    }
}

macro_rules! tile {
    ($tile:ident, $wide:ident, $step:ty, $features:literal) => {
        #[target_feature(enable = $features)]
        unsafe fn $tile(
            taps: usize,
            steps: usize,
            rows: *const *const u8,
            next: *const *const u8,
            b: *const u8,
            bias: *const f32,
            c: *mut f32,
            stride: usize,
        ) {
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            unsafe {
                let mut b = b.cast::<__m512i>();
                for tap in 0..taps {
                    let rows: [*const u32; ROWS] = *rows.add(tap * ROWS).cast();
                    let mut step = 0;
                    while step + 4 <= steps {
                        if !next.is_null() {
                            // A quarter of a line of the next rows, and of the next sums a row.
                            for row in 0..ROWS / 4 {
                                let row = *next.add(tap * ROWS + step / 4 % 4 * (ROWS / 4) + row);
                                _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(step / 16 * 64).cast());
                            }
                            if tap == 0 && step < 4 * ROWS {
                                let c = c.wrapping_add((ROWS + step / 4) * stride);
                                _mm_prefetch::<_MM_HINT_T0>(c.cast());
                                _mm_prefetch::<_MM_HINT_T0>(c.wrapping_add(16).cast());
                            }
                        }
                        for step in step..step + 4 {
                            let columns =
                                [_mm512_loadu_si512(b.add(2 * step)), _mm512_loadu_si512(b.add(2 * step + 1))];
                            for (sum, row) in sums.iter_mut().zip(rows) {
                                <$step>::add(sum, row.add(step).read_unaligned(), columns);
                            }
                        }
                        step += 4;
                    }
                    for step in step..steps {
                        let columns = [_mm512_loadu_si512(b.add(2 * step)), _mm512_loadu_si512(b.add(2 * step + 1))];
                        for (sum, row) in sums.iter_mut().zip(rows) {
                            <$step>::add(sum, row.add(step).read_unaligned(), columns);
                        }
                    }
                    b = b.add(2 * steps);
                }
                for (r, sum) in sums.iter_mut().enumerate() {
                    if !bias.is_null() {
                        sum[0] = _mm512_add_ps(sum[0], _mm512_loadu_ps(bias));
                        sum[1] = _mm512_add_ps(sum[1], _mm512_loadu_ps(bias.add(16)));
                    }
                    let c = c.add(r * stride);
                    _mm512_storeu_ps(c, sum[0]);
                    _mm512_storeu_ps(c.add(16), sum[1]);
                }
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn $wide(blocks: usize, lines: *const *const u8, b: *const u8, c: *mut f32) {
            for rows in (0..WIDE).step_by(8) {
                unsafe {
                    let c = c.add(rows * PANEL);
                    let mut sums = [[_mm512_setzero_ps(); 2]; 8];
                    for k in 0..blocks * 16 {
                        let (a, b) = ((*lines.add(k)).cast::<u32>().add(rows), b.cast::<__m512i>().add(2 * k));
                        let columns = [_mm512_loadu_si512(b), _mm512_loadu_si512(b.add(1))];
                        for (r, sum) in sums.iter_mut().enumerate() {
                            <$step>::add(sum, *a.add(r), columns);
                        }
                    }
                    for (r, sum) in sums.iter().enumerate() {
                        for (half, sum) in sum.iter().enumerate() {
                            let c = c.add(r * PANEL + half * 16);
                            _mm512_storeu_ps(c, _mm512_add_ps(_mm512_loadu_ps(c), *sum));
                        }
                    }
                }
            }
        }
    };
}

tile!(tile_f32, wide_f32, F32, "avx512f,avx512bw,avx512vl,avx512dq");
tile!(tile_bf16, wide_bf16, Bf16Dot, "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16");

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
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
    unsafe {
        match rows {
            12 => summing_rows::<12>(first, steps, lines, b, apart, c, stride),
            8 => summing_rows::<8>(first, steps, lines, b, apart, c, stride),
            _ => summing_rows::<4>(first, steps, lines, b, apart, c, stride),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn summing_rows<const ROWS: usize>(
    first: usize,
    steps: usize,
    lines: *const *const f32,
    b: *const f32,
    apart: usize,
    c: *mut f32,
    stride: usize,
) {
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        for k in 0..steps {
            let (line, b) = ((*lines.add(k)).add(first), b.add(k * apart));
            let columns = [_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16))];
            for (row, sum) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*line.add(row));
                sum[0] = _mm512_fmadd_ps(x, columns[0], sum[0]);
                sum[1] = _mm512_fmadd_ps(x, columns[1], sum[1]);
            }
        }
        for (row, sum) in sums.iter().enumerate() {
            for (half, sum) in sum.iter().enumerate() {
                let c = c.add(row * stride + half * 16);
                _mm512_storeu_ps(c, _mm512_add_ps(_mm512_loadu_ps(c), *sum));
            }
        }
    }
}

/// Sixteen numbers of sixteen columns at a time, in registers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn turn(columns: &[*const f32; 16], count: usize, to: *mut f32, apart: usize) {
    for i in (0..count).step_by(16) {
        let some = (count - i).min(16);
        let mask = ((1u32 << some) - 1) as __mmask16;
        let mut rows = [_mm512_setzero_ps(); 16];
        for (row, column) in rows.iter_mut().zip(columns) {
            // Without a bit in its mask nothing is read.
            let mask = if column.is_null() { 0 } else { mask };
            *row = unsafe { _mm512_maskz_loadu_ps(mask, column.wrapping_add(i)) };
        }
        let rows = transposed(rows);
        for (row, values) in rows.into_iter().enumerate() {
            if row < some {
                unsafe { _mm512_storeu_ps(to.add((i + row) * apart), values) };
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512; 16]) -> [__m512; 16] {
    // Pairs of rows, then fours, in each quarter of a register; then the quarters change places.
    let mut pairs = rows;
    for i in (0..16).step_by(2) {
        pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    let mut fours = pairs;
    for i in (0..16).step_by(4) {
        let [a, b, c, d] = [0, 1, 2, 3].map(|j| _mm512_castps_pd(pairs[i + j]));
        fours[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        fours[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        fours[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        fours[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    let mut columns = fours;
    for i in 0..4 {
        let [a, b, c, d] = [0, 4, 8, 12].map(|j| fours[i + j]);
        let (low_ab, high_ab) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        let (low_cd, high_cd) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
        columns[i] = _mm512_shuffle_f32x4::<0x88>(low_ab, low_cd);
        columns[i + 8] = _mm512_shuffle_f32x4::<0xdd>(low_ab, low_cd);
        columns[i + 4] = _mm512_shuffle_f32x4::<0x88>(high_ab, high_cd);
        columns[i + 12] = _mm512_shuffle_f32x4::<0xdd>(high_ab, high_cd);
    }
    columns
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn convert_bf16(lines: usize, from: *const f32, to: *mut u8, stride: usize) {
    for line in 0..lines {
        unsafe {
            let from = from.add(line * 32);
            let packed = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from.add(16)), _mm512_loadu_ps(from));
            _mm512_storeu_si512(to.add(line * stride).cast(), transmute::<__m512bh, __m512i>(packed));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn interleave_bf16(even: *const f32, odd: *const f32, to: *mut u8) {
    unsafe {
        let even = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(even)));
        let odd = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(odd)));
        let odd = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(odd));
        _mm512_storeu_si512(to.cast(), _mm512_or_si512(_mm512_cvtepu16_epi32(even), odd));
    }
}
