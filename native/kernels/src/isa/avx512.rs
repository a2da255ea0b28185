//! AVX-512 tiles: f32, and bf16 with the dot-product instruction where the CPU has it.

use super::{Block, LINE, PANEL, PANEL_BLOCK, Tiles, portable};
use std::arch::x86_64::*;
use std::hint::black_box;
use std::mem::transmute;

const ROWS: usize = 12;

pub(super) fn tiles() -> Tiles {
    Tiles { rows: ROWS, tile: tile_f32, summing: summing_f32, convert: portable::convert_f32, turn }
}

/// Whether the bf16 dot product [pays](super::dot_product_pays).
pub(super) fn fast_dot_product() -> bool {
    super::dot_product_pays(multiply_adds, dot_products)
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn tile_f32(
    taps: usize,
    steps: usize,
    rows: *const *const u8,
    next: *const *const u8,
    b: *const u8,
    bias: *const f32,
    c: *mut f32,
    stride: usize,
) {
    /// A broadcast value times 32 columns.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add(sum: &mut [__m512; 2], x: f32, columns: [__m512; 2]) {
        let x = _mm512_set1_ps(x);
        sum[0] = _mm512_fmadd_ps(x, columns[0], sum[0]);
        sum[1] = _mm512_fmadd_ps(x, columns[1], sum[1]);
    }
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    unsafe {
        let mut b = b.cast::<f32>();
        for tap in 0..taps {
            let rows: [*const f32; ROWS] = *rows.add(tap * ROWS).cast();
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
                    let columns = [_mm512_loadu_ps(b.add(step * PANEL)), _mm512_loadu_ps(b.add(step * PANEL + 16))];
                    for (sum, row) in sums.iter_mut().zip(rows) {
                        add(sum, row.add(step).read_unaligned(), columns);
                    }
                }
                step += 4;
            }
            for step in step..steps {
                let columns = [_mm512_loadu_ps(b.add(step * PANEL)), _mm512_loadu_ps(b.add(step * PANEL + 16))];
                for (sum, row) in sums.iter_mut().zip(rows) {
                    add(sum, row.add(step).read_unaligned(), columns);
                }
            }
            b = b.add(steps * PANEL);
        }
        for (r, sum) in sums.iter_mut().enumerate() {
            if !bias.is_null() {
                sum[0] = _mm512_add_ps(sum[0], _mm512_loadu_ps(bias));
                sum[1] = _mm512_add_ps(sum[1], _mm512_loadu_ps(bias.add(16)));
            }
            _mm512_storeu_ps(c.add(r * stride), sum[0]);
            _mm512_storeu_ps(c.add(r * stride + 16), sum[1]);
        }
    }
}

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
        let (a, b) = (_mm512_castps_pd(pairs[i]), _mm512_castps_pd(pairs[i + 1]));
        let (c, d) = (_mm512_castps_pd(pairs[i + 2]), _mm512_castps_pd(pairs[i + 3]));
        fours[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        fours[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        fours[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        fours[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    let mut columns = fours;
    for i in 0..4 {
        let (a, b, c, d) = (fours[i], fours[i + 4], fours[i + 8], fours[i + 12]);
        let (low_ab, high_ab) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        let (low_cd, high_cd) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
        columns[i] = _mm512_shuffle_f32x4::<0x88>(low_ab, low_cd);
        columns[i + 8] = _mm512_shuffle_f32x4::<0xdd>(low_ab, low_cd);
        columns[i + 4] = _mm512_shuffle_f32x4::<0x88>(high_ab, high_cd);
        columns[i + 12] = _mm512_shuffle_f32x4::<0xdd>(high_ab, high_cd);
    }
    columns
}

/// Lines of 32 f32 in bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(crate) unsafe fn convert_bf16(lines: usize, from: *const f32, to: *mut u8) {
    unsafe { convert::<false>(lines, u32::MAX, from, to) };
}

/// Rows of so many columns in bf16, or what rounding them leaves, each in as many lines as it takes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(crate) unsafe fn convert_rows(rows: usize, columns: usize, from: *const f32, to: *mut u8, rest: bool) {
    let convert = if rest { convert::<true> } else { convert::<false> };
    let lines = columns.div_ceil(32);
    if columns.is_multiple_of(32) {
        return unsafe { convert(rows * lines, u32::MAX, from, to) };
    }
    let last = (1 << (columns % 32)) - 1;
    for row in 0..rows {
        unsafe {
            let (from, to) = (from.add(row * columns), to.add(row * lines * LINE));
            convert(lines - 1, u32::MAX, from, to);
            convert(1, last, from.add((lines - 1) * 32), to.add((lines - 1) * LINE));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn convert<const REST: bool>(lines: usize, present: u32, from: *const f32, to: *mut u8) {
    for line in 0..lines {
        unsafe {
            let from = from.add(line * 32);
            let low = part::<REST>(_mm512_maskz_loadu_ps(present as u16, from));
            let high = part::<REST>(_mm512_maskz_loadu_ps((present >> 16) as u16, from.add(16)));
            let packed = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_si512(to.add(line * LINE).cast(), packed);
        }
    }
}

/// Numbers as they are, or what rounding to bf16 leaves of them: nothing of what is not finite.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bf16")]
fn part<const REST: bool>(values: __m512) -> __m512 {
    if !REST {
        return values;
    }
    let rounded = unsafe { transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)) };
    let rounded = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(rounded)));
    let rest = _mm512_sub_ps(values, rounded);
    // NaN of either kind and infinity of either sign.
    _mm512_mask_mov_ps(rest, _mm512_fpclass_ps_mask::<0x99>(rest), _mm512_setzero_ps())
}

/// One line of two rows of 16 f32, interleaved in pairs of bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(crate) unsafe fn interleave_bf16(even: *const f32, odd: *const f32, to: *mut u8) {
    unsafe { _mm512_storeu_si512(to.cast(), pairs_of(_mm512_loadu_ps(even), _mm512_loadu_ps(odd))) };
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn pairs_of(even: __m512, odd: __m512) -> __m512i {
    let even = unsafe { transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(even)) };
    let odd = unsafe { transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(odd)) };
    let odd = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(odd));
    _mm512_or_si512(_mm512_cvtepu16_epi32(even), odd)
}

/// Pairs of rows of 32 columns, `n` values apart: two lines of interleaved bf16 for each, or of what rounding leaves.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(crate) unsafe fn pair_rows(from: *const f32, n: usize, pairs: usize, to: *mut u8, rest: bool) {
    match rest {
        true => unsafe { pair_parts::<true>(from, n, pairs, to) },
        false => unsafe { pair_parts::<false>(from, n, pairs, to) },
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn pair_parts<const REST: bool>(from: *const f32, n: usize, pairs: usize, to: *mut u8) {
    for pair in 0..pairs {
        unsafe {
            let (even, to) = (from.add(2 * pair * n), to.add(pair * 2 * LINE));
            for half in 0..2 {
                let even = even.add(half * 16);
                let odd = part::<REST>(_mm512_loadu_ps(even.add(n)));
                let line = pairs_of(part::<REST>(_mm512_loadu_ps(even)), odd);
                _mm512_storeu_si512(to.add(half * LINE).cast(), line);
            }
        }
    }
}

/// Copies those of 32 bf16 a line that are `present`, and zeros for the others, which are not read.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn copy_present(from: *const u8, present: &[u32], to: *mut u8) {
    for (i, &mask) in present.iter().enumerate() {
        unsafe {
            let line = _mm512_maskz_loadu_epi16(mask, from.wrapping_add(i * LINE).cast());
            _mm512_storeu_si512(to.add(i * LINE).cast(), line);
        }
    }
}

/// One line for each of `columns` (16 at most) columns of 32 rows, lines `apart` bytes from each other, or of what rounding
/// leaves; zeros for a row that is null.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(crate) unsafe fn turn_bf16(rows: &[*const f32; 32], columns: usize, to: *mut u8, apart: usize, rest: bool) {
    match rest {
        true => unsafe { turn_parts::<true>(rows, columns, to, apart) },
        false => unsafe { turn_parts::<false>(rows, columns, to, apart) },
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn turn_parts<const REST: bool>(rows: &[*const f32; 32], columns: usize, to: *mut u8, apart: usize) {
    let mask = ((1u32 << columns) - 1) as __mmask16;
    let row = |row: *const f32| unsafe {
        // Without a bit in its mask nothing is read.
        part::<REST>(_mm512_maskz_loadu_ps(if row.is_null() { 0 } else { mask }, row))
    };
    let mut pairs = [_mm512_setzero_ps(); 16];
    for (pair, rows) in pairs.iter_mut().zip(rows.as_chunks::<2>().0) {
        *pair = _mm512_castsi512_ps(pairs_of(row(rows[0]), row(rows[1])));
    }
    for (column, line) in transposed(pairs).into_iter().take(columns).enumerate() {
        unsafe { _mm512_storeu_ps(to.add(column * apart).cast(), line) };
    }
}

/// Writes rows of `n` numbers past the caches: as many as there are sums, from a multiple of 64 bytes on.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn stream_rows(sums: &[[f32; PANEL]], to: *mut f32, n: usize) {
    for (row, sums) in sums.iter().enumerate() {
        unsafe {
            let (from, to) = (sums.as_ptr(), to.add(row * n));
            _mm512_stream_ps(to, _mm512_loadu_ps(from));
            _mm512_stream_ps(to.add(16), _mm512_loadu_ps(from.add(16)));
        }
    }
}

/// Eight rows at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn block(block: &Block) {
    const ROWS: usize = 8;
    let &Block { steps, offsets, a, apart, b, start, start_apart, c, stride } = block;
    for (half, first) in [(0, 0), (0, ROWS), (1, 0), (1, ROWS)] {
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            for (row, sum) in sums.iter_mut().enumerate() {
                let start = start[half].add((first + row) * start_apart);
                *sum = [_mm512_loadu_ps(start), _mm512_loadu_ps(start.add(16))];
            }
            for step in 0..steps {
                let a = a[half].add(first * apart + *offsets.add(step));
                for pair in 0..LINE / 4 {
                    let b = b.add(step * PANEL_BLOCK + pair * 2 * LINE);
                    let columns: [__m512bh; 2] =
                        transmute([_mm512_loadu_si512(b.cast()), _mm512_loadu_si512(b.add(LINE).cast())]);
                    for (row, sum) in sums.iter_mut().enumerate() {
                        let x = a.add(row * apart + pair * 4).cast::<i32>().read_unaligned();
                        let x = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(x));
                        sum[0] = _mm512_dpbf16_ps(sum[0], x, columns[0]);
                        sum[1] = _mm512_dpbf16_ps(sum[1], x, columns[1]);
                    }
                }
            }
            for (row, sum) in sums.iter().enumerate() {
                let c = c[half].add((first + row) * stride);
                _mm512_storeu_ps(c, sum[0]);
                _mm512_storeu_ps(c.add(16), sum[1]);
            }
        }
    }
}
