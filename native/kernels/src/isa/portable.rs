//! Plain Rust tiles: the reference that the others are tested against.

use super::{Format, LINE, PANEL, PANEL_BLOCK, Tiles, WIDE, from_bf16, to_bf16};

const ROWS: usize = 4;

pub(super) fn tiles(format: Format) -> Tiles {
    match format {
        Format::F32 => Tiles { rows: ROWS, tile: tile_f32, wide: wide_f32, convert: convert_f32, interleave },
        Format::Bf16 => Tiles { rows: ROWS, tile: tile_bf16, wide: wide_bf16, convert: convert_bf16, interleave },
    }
}

unsafe fn tile_f32(blocks: usize, a: *const u8, b: *const u8, c: *mut f32) {
    unsafe { rows_f32::<ROWS>(blocks, a, b, c) }
}

unsafe fn tile_bf16(blocks: usize, a: *const u8, b: *const u8, c: *mut f32) {
    unsafe { rows_bf16::<ROWS>(blocks, a, b, c) }
}

/// The row tile in f32 for any number of rows; other paths build it with their own features.
#[inline(always)]
pub(super) unsafe fn rows_f32<const R: usize>(blocks: usize, a: *const u8, b: *const u8, c: *mut f32) {
    let mut sums = [[0f32; PANEL]; R];
    for block in 0..blocks {
        let (a, b) = unsafe { (a.add(block * R * LINE).cast::<f32>(), b.add(block * PANEL_BLOCK).cast::<f32>()) };
        for k in 0..16 {
            let row: &[f32; PANEL] = unsafe { &*b.add(k * PANEL).cast() };
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = unsafe { *a.add(r * 16 + k) };
                for (s, w) in sum.iter_mut().zip(row) {
                    *s += x * w;
                }
            }
        }
    }
    for (r, sum) in sums.iter().enumerate() {
        unsafe { c.add(r * PANEL).copy_from_nonoverlapping(sum.as_ptr(), PANEL) };
    }
}

/// The row tile on bf16 operands with f32 sums.
#[inline(always)]
pub(super) unsafe fn rows_bf16<const R: usize>(blocks: usize, a: *const u8, b: *const u8, c: *mut f32) {
    let mut sums = [[0f32; PANEL]; R];
    for block in 0..blocks {
        let (a, b) = unsafe { (a.add(block * R * LINE).cast::<u32>(), b.add(block * PANEL_BLOCK).cast::<u32>()) };
        for pair in 0..16 {
            let row: &[u32; PANEL] = unsafe { &*b.add(pair * PANEL).cast() };
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = unsafe { *a.add(r * 16 + pair) };
                add_pair(sum, x, row);
            }
        }
    }
    for (r, sum) in sums.iter().enumerate() {
        unsafe { c.add(r * PANEL).copy_from_nonoverlapping(sum.as_ptr(), PANEL) };
    }
}

/// Adds the two products of a pair of bf16 values with each column's pair.
#[inline(always)]
fn add_pair(sum: &mut [f32; PANEL], x: u32, row: &[u32; PANEL]) {
    let (even, odd) = (f32::from_bits(x << 16), f32::from_bits(x & 0xffff_0000));
    for (s, w) in sum.iter_mut().zip(row) {
        *s += even * f32::from_bits(w << 16) + odd * f32::from_bits(w & 0xffff_0000);
    }
}

#[inline(always)]
pub(super) unsafe fn wide_f32(blocks: usize, a: *const u8, b: *const u8, c: *mut f32) {
    let c = unsafe { &mut *c.cast::<[[f32; PANEL]; WIDE]>() };
    for k in 0..blocks * 16 {
        let (line, row): (&[f32; WIDE], &[f32; PANEL]) =
            unsafe { (&*a.cast::<f32>().add(k * WIDE).cast(), &*b.cast::<f32>().add(k * PANEL).cast()) };
        for (sum, x) in c.iter_mut().zip(line) {
            for (s, w) in sum.iter_mut().zip(row) {
                *s += x * w;
            }
        }
    }
}

#[inline(always)]
pub(super) unsafe fn wide_bf16(blocks: usize, a: *const u8, b: *const u8, c: *mut f32) {
    let c = unsafe { &mut *c.cast::<[[f32; PANEL]; WIDE]>() };
    for pair in 0..blocks * 16 {
        let (line, row): (&[u32; WIDE], &[u32; PANEL]) =
            unsafe { (&*a.cast::<u32>().add(pair * WIDE).cast(), &*b.cast::<u32>().add(pair * PANEL).cast()) };
        for (sum, x) in c.iter_mut().zip(line) {
            add_pair(sum, *x, row);
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
