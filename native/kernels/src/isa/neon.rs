//! NEON tiles: f32, and bf16 with the dot-product instruction where the processor has it. The intrinsics for bf16 are not
//! stable; the assembler is.
//!
//! Tiles hold sixteen sums or more in registers, over the latency of a multiplication in four units, and 8 rows of 4 numbers or
//! pairs of k beside them.

use super::{Block, LINE, PANEL, PANEL_BLOCK, Tiles, portable};
use std::arch::aarch64::*;
use std::arch::asm;
use std::array::from_fn;
use std::hint::black_box;

/// Rows of a tile, and numbers of a vector.
const ROWS: usize = 8;
const LANES: usize = 4;
/// Vectors of columns in a tile, and columns.
const VECTORS: usize = 2;
const COLUMNS: usize = VECTORS * LANES;

pub(super) fn tiles() -> Tiles {
    Tiles { rows: ROWS, tile: tile_f32, summing: summing_f32, convert: portable::convert_f32, turn }
}

/// Neighbouring vectors.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load<const N: usize>(from: *const f32) -> [float32x4_t; N] {
    from_fn(|i| unsafe { vld1q_f32(from.add(i * LANES)) })
}

/// Adds columns times one of four numbers to their sums.
#[inline]
#[target_feature(enable = "neon")]
fn multiply_add<const LANE: i32, const N: usize>(
    sums: &mut [float32x4_t; N],
    columns: [float32x4_t; N],
    x: float32x4_t,
) {
    for (sum, columns) in sums.iter_mut().zip(columns) {
        *sum = vfmaq_laneq_f32::<LANE>(*sum, columns, x);
    }
}

/// Eight columns at a time.
#[target_feature(enable = "neon")]
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
    /// One step of k, number `LANE` of each row's vector.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn step<const LANE: i32>(sums: &mut [[float32x4_t; VECTORS]; ROWS], x: &[float32x4_t; ROWS], b: *const f32) {
        let columns = unsafe { load(b) };
        for (sum, x) in sums.iter_mut().zip(x) {
            multiply_add::<LANE, _>(sum, columns, *x);
        }
    }
    for first in (0..PANEL).step_by(COLUMNS) {
        let mut sums = [[vdupq_n_f32(0.0); VECTORS]; ROWS];
        unsafe {
            for tap in 0..taps {
                let rows: [*const f32; ROWS] = *rows.add(tap * ROWS).cast();
                let b = b.cast::<f32>().add(tap * steps * PANEL + first);
                let fours = steps / LANES * LANES;
                for k in (0..fours).step_by(LANES) {
                    let x = rows.map(|row| vld1q_f32(row.add(k)));
                    step::<0>(&mut sums, &x, b.add(k * PANEL));
                    step::<1>(&mut sums, &x, b.add((k + 1) * PANEL));
                    step::<2>(&mut sums, &x, b.add((k + 2) * PANEL));
                    step::<3>(&mut sums, &x, b.add((k + 3) * PANEL));
                }
                for k in fours..steps {
                    let x = rows.map(|row| vld1q_dup_f32(row.add(k)));
                    step::<0>(&mut sums, &x, b.add(k * PANEL));
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (i, sum) in sums.into_iter().enumerate() {
                    let at = first + i * LANES;
                    let sum = if bias.is_null() { sum } else { vaddq_f32(sum, vld1q_f32(bias.add(at))) };
                    vst1q_f32(c.add(r * stride + at), sum);
                }
            }
        }
    }
}

#[target_feature(enable = "neon")]
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
            12 => summing_rows::<3, 2>(first, steps, lines, b, apart, c, stride),
            8 => summing_rows::<2, 2>(first, steps, lines, b, apart, c, stride),
            _ => summing_rows::<1, 4>(first, steps, lines, b, apart, c, stride),
        }
    }
}

/// Fours of rows, and some vectors of columns at a time.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn summing_rows<const FOURS: usize, const VECTORS: usize>(
    first: usize,
    steps: usize,
    lines: *const *const f32,
    b: *const f32,
    apart: usize,
    c: *mut f32,
    stride: usize,
) {
    for column in (0..PANEL).step_by(VECTORS * LANES) {
        let mut sums = [[[vdupq_n_f32(0.0); VECTORS]; 4]; FOURS];
        unsafe {
            for k in 0..steps {
                let x: [float32x4_t; FOURS] = load((*lines.add(k)).add(first));
                let columns = load(b.add(k * apart + column));
                for (sums, x) in sums.iter_mut().zip(x) {
                    multiply_add::<0, _>(&mut sums[0], columns, x);
                    multiply_add::<1, _>(&mut sums[1], columns, x);
                    multiply_add::<2, _>(&mut sums[2], columns, x);
                    multiply_add::<3, _>(&mut sums[3], columns, x);
                }
            }
            for (row, sums) in sums.as_flattened().iter().enumerate() {
                for (i, sum) in sums.iter().enumerate() {
                    let c = c.add(row * stride + column + i * LANES);
                    vst1q_f32(c, vaddq_f32(vld1q_f32(c), *sum));
                }
            }
        }
    }
}

/// Four numbers of four columns at a time.
#[target_feature(enable = "neon")]
unsafe fn turn(columns: &[*const f32; 16], count: usize, to: *mut f32, apart: usize) {
    let fours = count / LANES * LANES;
    for i in (0..fours).step_by(LANES) {
        for (four, columns) in columns.as_chunks::<LANES>().0.iter().enumerate() {
            let columns = columns.map(|column| match column.is_null() {
                true => vdupq_n_f32(0.0),
                false => unsafe { vld1q_f32(column.add(i)) },
            });
            for (row, values) in transposed(columns).into_iter().enumerate() {
                unsafe { vst1q_f32(to.add((i + row) * apart + four * LANES), values) };
            }
        }
    }
    let behind = columns.map(|column| if column.is_null() { column } else { column.wrapping_add(fours) });
    unsafe { portable::turn(&behind, count - fours, to.wrapping_add(fours * apart), apart) };
}

/// The columns of four rows.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn transposed([a, b, c, d]: [float32x4_t; 4]) -> [float32x4_t; 4] {
    let pair = |values| vreinterpretq_f64_f32(values);
    let (even_ab, odd_ab) = (pair(vtrn1q_f32(a, b)), pair(vtrn2q_f32(a, b)));
    let (even_cd, odd_cd) = (pair(vtrn1q_f32(c, d)), pair(vtrn2q_f32(c, d)));
    [vtrn1q_f64(even_ab, even_cd), vtrn1q_f64(odd_ab, odd_cd), vtrn2q_f64(even_ab, even_cd), vtrn2q_f64(odd_ab, odd_cd)]
        .map(|four| vreinterpretq_f32_f64(four))
}

/// Eight numbers, rounded to bf16.
#[inline]
#[target_feature(enable = "neon,bf16")]
fn rounded([low, high]: [float32x4_t; 2]) -> uint16x8_t {
    let mut eight: uint16x8_t;
    unsafe {
        asm!(
            "bfcvtn {eight:v}.4h, {low:v}.4s", "bfcvtn2 {eight:v}.8h, {high:v}.4s",
            eight = out(vreg) eight, low = in(vreg) low, high = in(vreg) high,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    eight
}

/// Eight numbers in bf16, or what that leaves of them: nothing of what is not finite.
#[inline]
#[target_feature(enable = "neon,bf16")]
fn part<const REST: bool>(values: [float32x4_t; 2]) -> uint16x8_t {
    let high = rounded(values);
    if !REST {
        return high;
    }
    let halves = [vshll_n_u16::<16>(vget_low_u16(high)), vshll_high_n_u16::<16>(high)];
    let rest = from_fn(|i| {
        let rest = vsubq_f32(values[i], vreinterpretq_f32_u32(halves[i]));
        let finite = vcltq_f32(vabsq_f32(rest), vdupq_n_f32(f32::INFINITY));
        vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(rest), finite))
    });
    rounded(rest)
}

/// Lines of 32 f32 in bf16.
#[target_feature(enable = "neon,bf16")]
pub(crate) unsafe fn convert_bf16(lines: usize, from: *const f32, to: *mut u8) {
    unsafe { convert::<false>(lines, from, to) };
}

/// Rows of so many columns in bf16, or what rounding them leaves, each in as many lines as it takes.
#[target_feature(enable = "neon,bf16")]
pub(crate) unsafe fn convert_rows(rows: usize, columns: usize, from: *const f32, to: *mut u8, rest: bool) {
    let convert = if rest { convert::<true> } else { convert::<false> };
    let (lines, left) = (columns / 32, columns % 32);
    if left == 0 {
        return unsafe { convert(rows * lines, from, to) };
    }
    for row in 0..rows {
        let mut last = [0f32; 32];
        unsafe {
            let (from, to) = (from.add(row * columns), to.add(row * (lines + 1) * LINE));
            convert(lines, from, to);
            last.as_mut_ptr().copy_from_nonoverlapping(from.add(lines * 32), left);
            convert(1, last.as_ptr(), to.add(lines * LINE));
        }
    }
}

#[inline]
#[target_feature(enable = "neon,bf16")]
unsafe fn convert<const REST: bool>(lines: usize, from: *const f32, to: *mut u8) {
    for at in (0..lines * LINE / 2).step_by(8) {
        unsafe { vst1q_u16(to.cast::<u16>().add(at), part::<REST>(load(from.add(at)))) };
    }
}

/// One line of two rows of 16 f32, interleaved in pairs of bf16.
#[target_feature(enable = "neon,bf16")]
pub(crate) unsafe fn interleave_bf16(even: *const f32, odd: *const f32, to: *mut u8) {
    unsafe { interleave::<false>(even, odd, to) };
}

#[inline]
#[target_feature(enable = "neon,bf16")]
unsafe fn interleave<const REST: bool>(even: *const f32, odd: *const f32, to: *mut u8) {
    for at in [0, 8] {
        unsafe {
            let pairs = uint16x8x2_t(part::<REST>(load(even.add(at))), part::<REST>(load(odd.add(at))));
            vst2q_u16(to.cast::<u16>().add(2 * at), pairs);
        }
    }
}

/// Pairs of rows of 32 columns, `n` values apart: two lines of interleaved bf16 for each, or of what rounding leaves.
#[target_feature(enable = "neon,bf16")]
pub(crate) unsafe fn pair_rows(from: *const f32, n: usize, pairs: usize, to: *mut u8, rest: bool) {
    match rest {
        true => unsafe { pair_parts::<true>(from, n, pairs, to) },
        false => unsafe { pair_parts::<false>(from, n, pairs, to) },
    }
}

#[inline]
#[target_feature(enable = "neon,bf16")]
unsafe fn pair_parts<const REST: bool>(from: *const f32, n: usize, pairs: usize, to: *mut u8) {
    for pair in 0..pairs {
        unsafe {
            let (even, to) = (from.add(2 * pair * n), to.add(pair * 2 * LINE));
            interleave::<REST>(even, even.add(n), to);
            interleave::<REST>(even.add(16), even.add(n + 16), to.add(LINE));
        }
    }
}

/// Copies those of 32 bf16 a line that are `present`, and zeros for the others, which are not read.
pub(crate) unsafe fn copy_present(from: *const u8, present: &[u32], to: *mut u8) {
    for (i, &mask) in present.iter().enumerate() {
        let (from, to) = (from.wrapping_add(i * LINE), to.wrapping_add(i * LINE));
        unsafe {
            if mask == u32::MAX {
                to.copy_from_nonoverlapping(from, LINE);
                continue;
            }
            to.write_bytes(0, LINE);
            let mut left = mask;
            while left != 0 {
                // Those that lie side by side.
                let first = left.trailing_zeros();
                let count = (left >> first).trailing_ones();
                let at = 2 * first as usize;
                to.add(at).copy_from_nonoverlapping(from.wrapping_add(at), 2 * count as usize);
                left &= left.wrapping_add(1 << first);
            }
        }
    }
}

/// One line for each of `columns` (16 at most) columns of 32 rows, lines `apart` bytes from each other, or of what rounding
/// leaves; zeros for a row that is null.
#[target_feature(enable = "neon,bf16")]
pub(crate) unsafe fn turn_bf16(rows: &[*const f32; 32], columns: usize, to: *mut u8, apart: usize, rest: bool) {
    match rest {
        true => unsafe { turn_parts::<true>(rows, columns, to, apart) },
        false => unsafe { turn_parts::<false>(rows, columns, to, apart) },
    }
}

/// Eight numbers of eight rows at a time.
#[inline]
#[target_feature(enable = "neon,bf16")]
unsafe fn turn_parts<const REST: bool>(rows: &[*const f32; 32], columns: usize, to: *mut u8, apart: usize) {
    for first in (0..columns).step_by(8) {
        let count = (columns - first).min(8);
        for (i, rows) in rows.as_chunks::<8>().0.iter().enumerate() {
            let eight = rows.map(|row| unsafe {
                let mut some = [0f32; 8];
                if row.is_null() {
                    return vdupq_n_u16(0);
                }
                let from = match count {
                    8 => row.add(first),
                    _ => {
                        some.as_mut_ptr().copy_from_nonoverlapping(row.add(first), count);
                        some.as_ptr()
                    }
                };
                part::<REST>(load(from))
            });
            for (column, values) in transposed_bf16(eight).into_iter().enumerate().take(count) {
                unsafe { vst1q_u16(to.add((first + column) * apart + i * 16).cast(), values) };
            }
        }
    }
}

/// The columns of eight rows.
#[inline]
#[target_feature(enable = "neon,bf16")]
fn transposed_bf16(rows: [uint16x8_t; 8]) -> [uint16x8_t; 8] {
    // Pairs of rows, whose pairs of numbers are then turned as numbers are.
    let pair = |i: usize, odd: bool| {
        let (a, b) = (rows[2 * i], rows[2 * i + 1]);
        vreinterpretq_f32_u16(if odd { vtrn2q_u16(a, b) } else { vtrn1q_u16(a, b) })
    };
    let [even, odd] = [false, true].map(|odd| transposed(from_fn(|i| pair(i, odd))));
    from_fn(|column| vreinterpretq_u16_f32(if column % 2 == 1 { odd[column / 2] } else { even[column / 2] }))
}

/// Adds the dot products of four columns' pairs with pair `LANE` of a row to their sums.
#[inline]
#[target_feature(enable = "neon,bf16")]
fn dot<const LANE: u8>(sum: &mut float32x4_t, columns: uint16x8_t, x: uint16x8_t) {
    unsafe {
        asm!(
            "bfdot {sum:v}.4s, {columns:v}.8h, {x:v}.2h[{lane}]",
            sum = inout(vreg) *sum, columns = in(vreg) columns, x = in(vreg) x, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// Eight rows and eight columns at a time.
#[target_feature(enable = "neon,bf16")]
pub(super) unsafe fn block(block: &Block) {
    /// One pair of k, pair `LANE` of each row's vector.
    #[inline]
    #[target_feature(enable = "neon,bf16")]
    unsafe fn pair<const LANE: u8>(sums: &mut [[float32x4_t; VECTORS]; ROWS], x: &[uint16x8_t; ROWS], b: *const u8) {
        let columns: [uint16x8_t; VECTORS] = from_fn(|i| unsafe { vld1q_u16(b.add(i * 16).cast()) });
        for (sums, x) in sums.iter_mut().zip(x) {
            for (sum, columns) in sums.iter_mut().zip(columns) {
                dot::<LANE>(sum, columns, *x);
            }
        }
    }
    let &Block { steps, offsets, a, apart, b, start, start_apart, c, stride } = block;
    for (half, first) in [(0, 0), (0, ROWS), (1, 0), (1, ROWS)] {
        for column in (0..PANEL).step_by(COLUMNS) {
            unsafe {
                let start = start[half].add(first * start_apart + column);
                let mut sums: [[float32x4_t; VECTORS]; ROWS] = from_fn(|row| load(start.add(row * start_apart)));
                for step in 0..steps {
                    let a = a[half].add(first * apart + *offsets.add(step));
                    let b = b.add(step * PANEL_BLOCK + column * 4);
                    for four in 0..LINE / 16 {
                        let x = from_fn(|row| vld1q_u16(a.add(row * apart + four * 16).cast()));
                        let b = b.add(four * 4 * 2 * LINE);
                        pair::<0>(&mut sums, &x, b);
                        pair::<1>(&mut sums, &x, b.add(2 * LINE));
                        pair::<2>(&mut sums, &x, b.add(4 * LINE));
                        pair::<3>(&mut sums, &x, b.add(6 * LINE));
                    }
                }
                for (row, sums) in sums.into_iter().enumerate() {
                    for (i, sum) in sums.into_iter().enumerate() {
                        vst1q_f32(c[half].add((first + row) * stride + column + i * LANES), sum);
                    }
                }
            }
        }
    }
}

/// Whether the bf16 dot product [pays](super::dot_product_pays).
pub(super) fn fast_dot_product() -> bool {
    super::dot_product_pays(multiply_adds, dot_products)
}

/// Instructions of each sum in a burst: sixteen independent sums, over the latency of either instruction.
const BURST: usize = 500;

#[target_feature(enable = "neon")]
unsafe fn multiply_adds() {
    let mut sums = [vdupq_n_f32(0.0); 16];
    let one = black_box(vdupq_n_f32(1.0));
    for _ in 0..BURST {
        sums.iter_mut().for_each(|sum| *sum = vfmaq_f32(*sum, one, one));
    }
    black_box(sums);
}

#[target_feature(enable = "neon,bf16")]
unsafe fn dot_products() {
    let mut sums = [vdupq_n_f32(0.0); 16];
    let one = black_box(vdupq_n_u16(0x3f80));
    for _ in 0..BURST {
        sums.iter_mut().for_each(|sum| dot::<0>(sum, one, one));
    }
    black_box(sums);
}
