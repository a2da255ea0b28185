//! Plain Rust tiles: the reference that the others are tested against.

use super::{Format, LINE, PANEL, PANEL_BLOCK, Tile, Tiles, WIDE, from_bf16, to_bf16};

const ROWS: usize = 4;

pub(super) fn tiles(format: Format) -> Tiles {
    let (tile, wide, convert): (_, _, super::Convert) = match format {
        Format::F32 => (Tile::Gathered(tile_f32), wide_f32 as super::WideTile, convert_f32),
        Format::Bf16 => (Tile::Gathered(tile_bf16), wide_bf16 as super::WideTile, convert_bf16),
    };
    Tiles { rows: ROWS, tile, wide, convert, interleave }
}

unsafe fn tile_f32(
    taps: usize,
    lines: usize,
    rows: *const *const u8,
    b: *const u8,
    bias: *const f32,
    c: *mut f32,
    stride: usize,
) {
    unsafe { rows_f32::<ROWS>(taps, lines, rows, b, bias, c, stride) }
}

unsafe fn tile_bf16(
    taps: usize,
    lines: usize,
    rows: *const *const u8,
    b: *const u8,
    bias: *const f32,
    c: *mut f32,
    stride: usize,
) {
    unsafe { rows_bf16::<ROWS>(taps, lines, rows, b, bias, c, stride) }
}

/// The row tile in f32 for any number of rows; other paths build it with their own features.
#[inline(always)]
unsafe fn rows_f32<const R: usize>(
    taps: usize,
    lines: usize,
    rows: *const *const u8,
    b: *const u8,
    bias: *const f32,
    c: *mut f32,
    stride: usize,
) {
    let mut sums = [[0f32; PANEL]; R];
    for tap in 0..taps {
        let rows: [*const f32; R] = unsafe { *rows.add(tap * R).cast() };
        for line in 0..lines {
            let b = unsafe { b.add((tap * lines + line) * PANEL_BLOCK).cast::<f32>() };
            for k in 0..16 {
                let columns: &[f32; PANEL] = unsafe { &*b.add(k * PANEL).cast() };
                for (sum, row) in sums.iter_mut().zip(rows) {
                    let x = unsafe { *row.add(line * 16 + k) };
                    for (s, w) in sum.iter_mut().zip(columns) {
                        *s += x * w;
                    }
                }
            }
        }
    }
    unsafe { store(&sums, bias, c, stride) };
}

/// The row tile on bf16 operands with f32 sums.
#[inline(always)]
pub(super) unsafe fn rows_bf16<const R: usize>(
    taps: usize,
    lines: usize,
    rows: *const *const u8,
    b: *const u8,
    bias: *const f32,
    c: *mut f32,
    stride: usize,
) {
    let mut sums = [[0f32; PANEL]; R];
    for tap in 0..taps {
        let rows: [*const u32; R] = unsafe { *rows.add(tap * R).cast() };
        for line in 0..lines {
            let b = unsafe { b.add((tap * lines + line) * PANEL_BLOCK).cast::<u32>() };
            for pair in 0..16 {
                let columns: &[u32; PANEL] = unsafe { &*b.add(pair * PANEL).cast() };
                for (sum, row) in sums.iter_mut().zip(rows) {
                    add_pair(sum, unsafe { row.add(line * 16 + pair).read_unaligned() }, columns);
                }
            }
        }
    }
    unsafe { store(&sums, bias, c, stride) };
}

#[inline(always)]
unsafe fn store<const R: usize>(sums: &[[f32; PANEL]; R], bias: *const f32, c: *mut f32, stride: usize) {
    for (r, sum) in sums.iter().enumerate() {
        let to: &mut [f32; PANEL] = unsafe { &mut *c.add(r * stride).cast() };
        if bias.is_null() {
            *to = *sum;
        } else {
            let bias: &[f32; PANEL] = unsafe { &*bias.cast() };
            for ((to, sum), bias) in to.iter_mut().zip(sum).zip(bias) {
                *to = sum + bias;
            }
        }
    }
}

/// Adds the two products of a pair of bf16 values with each column's pair.
#[inline(always)]
fn add_pair(sum: &mut [f32; PANEL], x: u32, columns: &[u32; PANEL]) {
    let (even, odd) = (f32::from_bits(x << 16), f32::from_bits(x & 0xffff_0000));
    for (s, w) in sum.iter_mut().zip(columns) {
        *s += even * f32::from_bits(w << 16) + odd * f32::from_bits(w & 0xffff_0000);
    }
}

#[inline(always)]
unsafe fn wide_f32(blocks: usize, lines: *const *const u8, b: *const u8, c: *mut f32) {
    let mut sums = [[0f32; PANEL]; WIDE];
    for k in 0..blocks * 16 {
        let (line, columns): (&[f32; WIDE], &[f32; PANEL]) =
            unsafe { (&*(*lines.add(k)).cast(), &*b.cast::<f32>().add(k * PANEL).cast()) };
        for (sum, x) in sums.iter_mut().zip(line) {
            for (s, w) in sum.iter_mut().zip(columns) {
                *s += x * w;
            }
        }
    }
    let c = unsafe { &mut *c.cast::<[[f32; PANEL]; WIDE]>() };
    for (c, sum) in c.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
        *c += sum;
    }
}

#[inline(always)]
pub(super) unsafe fn wide_bf16(blocks: usize, lines: *const *const u8, b: *const u8, c: *mut f32) {
    let c = unsafe { &mut *c.cast::<[[f32; PANEL]; WIDE]>() };
    for pair in 0..blocks * 16 {
        let (line, columns): (&[u32; WIDE], &[u32; PANEL]) =
            unsafe { (&*(*lines.add(pair)).cast(), &*b.cast::<u32>().add(pair * PANEL).cast()) };
        for (sum, x) in c.iter_mut().zip(line) {
            add_pair(sum, *x, columns);
        }
    }
}

#[inline(always)]
pub(super) unsafe fn convert_f32(lines: usize, from: *const f32, to: *mut u8, stride: usize) {
    for line in 0..lines {
        unsafe { to.add(line * stride).copy_from_nonoverlapping(from.add(line * 16).cast(), LINE) };
    }
}

#[inline(always)]
pub(super) unsafe fn convert_bf16(lines: usize, from: *const f32, to: *mut u8, stride: usize) {
    for line in 0..lines {
        let (from, to): (&[f32; 32], &mut [u16; 32]) =
            unsafe { (&*from.add(line * 32).cast(), &mut *to.add(line * stride).cast()) };
        for (to, from) in to.iter_mut().zip(from) {
            *to = to_bf16(*from);
        }
    }
}

#[inline(always)]
pub(super) unsafe fn interleave(even: *const f32, odd: *const f32, to: *mut u8) {
    let (even, odd, to): (&[f32; 16], &[f32; 16], &mut [u32; 16]) =
        unsafe { (&*even.cast(), &*odd.cast(), &mut *to.cast()) };
    for ((to, even), odd) in to.iter_mut().zip(even).zip(odd) {
        *to = u32::from(to_bf16(*even)) | u32::from(to_bf16(*odd)) << 16;
    }
    debug_assert!(from_bf16(to[0] as u16).is_nan() == even[0].is_nan());
}
