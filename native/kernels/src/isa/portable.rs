//! Plain Rust tiles: the reference that the others are tested against.

use super::{LINE, PANEL, Tiles};
use crate::operands::round;

const ROWS: usize = 4;

pub(super) fn tiles() -> Tiles {
    Tiles { rows: ROWS, tile: tile_f32, summing: summing_f32, convert: convert_f32, turn }
}

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
    let mut sums = [[0f32; PANEL]; ROWS];
    for tap in 0..taps {
        let rows: [*const f32; ROWS] = unsafe { *rows.add(tap * ROWS).cast() };
        for step in 0..steps {
            let columns: &[f32; PANEL] = unsafe { &*b.cast::<f32>().add((tap * steps + step) * PANEL).cast() };
            for (sum, row) in sums.iter_mut().zip(rows) {
                let x = unsafe { *row.add(step) };
                for (s, w) in sum.iter_mut().zip(columns) {
                    *s += x * w;
                }
            }
        }
    }
    unsafe { store(&sums, bias, c, stride) };
}

unsafe fn store(sums: &[[f32; PANEL]; ROWS], bias: *const f32, c: *mut f32, stride: usize) {
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
    for row in 0..rows {
        let mut sum = [0f32; PANEL];
        for k in 0..steps {
            let columns: &[f32; PANEL] = unsafe { &*b.add(k * apart).cast() };
            let x = unsafe { *(*lines.add(k)).add(first + row) };
            for (s, w) in sum.iter_mut().zip(columns) {
                *s += x * w;
            }
        }
        let c: &mut [f32; PANEL] = unsafe { &mut *c.add(row * stride).cast() };
        c.iter_mut().zip(sum).for_each(|(c, sum)| *c += sum);
    }
}

#[inline(always)]
pub(super) unsafe fn convert_f32(lines: usize, from: *const f32, to: *mut u8) {
    unsafe { to.copy_from_nonoverlapping(from.cast(), lines * LINE) };
}

pub(super) unsafe fn turn(columns: &[*const f32; 16], count: usize, to: *mut f32, apart: usize) {
    for i in 0..count {
        for (column, from) in columns.iter().enumerate() {
            unsafe { *to.add(i * apart + column) = if from.is_null() { 0.0 } else { *from.add(i) } };
        }
    }
}

pub(super) unsafe fn convert_rounding(lines: usize, from: *const f32, to: *mut u8) {
    // SAFETY: the caller has as many numbers there, and room for them.
    let (from, to) = unsafe {
        (std::slice::from_raw_parts(from, lines * 16), std::slice::from_raw_parts_mut(to.cast(), lines * 16))
    };
    round(from, to);
}

#[cfg(not(target_arch = "x86_64"))]
mod absent {
    macro_rules! absent {
        ($($name:ident($($arg:ty),*));* $(;)?) => {
            $(pub(crate) unsafe fn $name($(_: $arg),*) {
                unreachable!("no path has instructions for it")
            })*
        };
    }
    absent! {
        stream_rows(&[[f32; crate::isa::PANEL]], *mut f32, usize);
    }
    #[cfg(not(target_arch = "aarch64"))]
    absent! {
        convert_bf16(usize, *const f32, *mut u8);
        convert_rows(usize, usize, *const f32, *mut u8, bool);
        copy_present(*const u8, &[u32], *mut u8);
        interleave_bf16(*const f32, *const f32, *mut u8);
        pair_rows(*const f32, usize, usize, *mut u8, bool);
        turn_bf16(&[*const f32; 32], usize, *mut u8, usize, bool);
    }
}
#[cfg(not(target_arch = "x86_64"))]
pub(crate) use absent::*;
