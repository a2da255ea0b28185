//! From JPEG's coefficients to pixels, rounded as libjpeg rounds: the accurate integer transform (`jidctint.c`), chroma
//! spread by a triangle filter (`jdsample.c`), and colours in fixed point (`jdcolor.c`).

use std::num::Wrapping;

use crate::jpeg_decode::{Component, Frame};

type Number = Wrapping<i32>;

/// One dimension of the inverse transform by Loeffler, Ligtenberg and Moschytz, scaled by 2^13.
fn transform(v: [Number; 8]) -> [Number; 8] {
    let by = |value: Number, factor: i32| value * Wrapping(factor);
    let z1 = by(v[2] + v[6], 4433);
    let (even2, even3) = (z1 - by(v[6], 15137), z1 + by(v[2], 6270));
    let (even0, even1) = ((v[0] + v[4]) << 13, (v[0] - v[4]) << 13);
    let even = [even0 + even3, even1 + even2, even1 - even2, even0 - even3];
    let z5 = by(v[7] + v[3] + v[5] + v[1], 9633);
    let (z1, z2) = (by(v[7] + v[1], -7373), by(v[5] + v[3], -20995));
    let (z3, z4) = (by(v[7] + v[3], -16069) + z5, by(v[5] + v[1], -3196) + z5);
    let odd =
        [by(v[1], 12299) + z1 + z4, by(v[3], 25172) + z2 + z3, by(v[5], 16819) + z2 + z4, by(v[7], 2446) + z1 + z3];
    let mut out = [Wrapping(0); 8];
    for (i, (even, odd)) in even.into_iter().zip(odd).enumerate() {
        out[i] = even + odd;
        out[7 - i] = even - odd;
    }
    out
}

/// Makes the 8x8 samples of a block, rows `stride` apart.
pub(crate) fn inverse_transform(coefficients: &[i16; 64], quantizers: &[u16; 64], samples: &mut [u8], stride: usize) {
    let mut between = [Wrapping(0); 64];
    for x in 0..8 {
        let column = std::array::from_fn(|y| {
            Wrapping(i32::from(coefficients[y * 8 + x])) * Wrapping(i32::from(quantizers[y * 8 + x]))
        });
        for (y, value) in transform(column).into_iter().enumerate() {
            between[y * 8 + x] = (value + Wrapping(1 << 10)) >> 11;
        }
    }
    for (y, row) in between.as_chunks::<8>().0.iter().enumerate() {
        for (value, sample) in transform(*row).into_iter().zip(&mut samples[y * stride..][..8]) {
            *sample = (((value + Wrapping(1 << 17)) >> 18).0 + 128).clamp(0, 255) as u8;
        }
    }
}

/// What the components are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Grey,
    YCbCr,
    Rgb,
    Cmyk,
    Ycck,
}

/// The pixels of a decoded frame.
pub(crate) struct Rows<'a> {
    frame: &'a Frame,
    colour: Colour,
}

impl<'a> Rows<'a> {
    pub(crate) fn of(frame: &'a Frame, colour: Colour) -> Self {
        Self { frame, colour }
    }

    pub(crate) fn rgba(&self) -> Vec<u8> {
        let &Frame { width, height, .. } = self.frame;
        let mut rgba = vec![255; width * height * 4];
        let mut rows = vec![Vec::new(); self.frame.components.len()];
        for (y, out) in rgba.chunks_exact_mut(width * 4).enumerate() {
            for (component, row) in self.frame.components.iter().zip(&mut rows) {
                spread(component, self.frame.most, y, row);
            }
            for (x, pixel) in out.chunks_exact_mut(4).enumerate() {
                let at = |component: usize| rows[component][x];
                let rgb = match self.colour {
                    Colour::Grey => [at(0); 3],
                    Colour::Rgb => [at(0), at(1), at(2)],
                    Colour::YCbCr => rgb_of([at(0), at(1), at(2)]),
                    // As Adobe writes them: 0 is full ink.
                    Colour::Cmyk => [at(0), at(1), at(2)].map(|ink| inked(255 - ink, at(3))),
                    Colour::Ycck => rgb_of([at(0), at(1), at(2)]).map(|ink| inked(ink, at(3))),
                };
                pixel[..3].copy_from_slice(&rgb);
            }
        }
        rgba
    }
}

/// One colour's part of a pixel with so much of its ink, and so much light left by black, as Pillow mixes them.
fn inked(ink: u8, light: u8) -> u8 {
    let product = u32::from(ink) * u32::from(light) + 128;
    light - ((product + (product >> 8)) >> 8) as u8
}

fn rgb_of([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let half = 1 << 15;
    [y + ((91881 * cr + half) >> 16), y + ((-22554 * cb - 46802 * cr + half) >> 16), y + ((116_130 * cb + half) >> 16)]
        .map(|value| value.clamp(0, 255) as u8)
}

/// One row of the picture of a component, which has fewer samples than the picture has pixels, or as many.
fn spread(component: &Component, most: (usize, usize), y: usize, out: &mut Vec<u8>) {
    out.clear();
    let (across, down) = (most.0 / component.sampling.0, most.1 / component.sampling.1);
    let (width, height) = component.size;
    let row = |y: usize| &component.samples[y * component.stored.0 * 8..][..width];
    let near = row(y / down);
    // The row of samples that is next to the pixel's, beside its own; at the picture's edge that is its own.
    let far =
        row(if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(height - 1) }.min(height - 1));
    match (across, down) {
        (1, 1) => out.extend_from_slice(near),
        (1, 2) => {
            let bias = if y.is_multiple_of(2) { 1 } else { 2 };
            out.extend(near.iter().zip(far).map(|(&near, &far)| weighted(near.into(), far.into(), bias, 2)));
        }
        (2, 1) if width > 2 => widen(width, |x| near[x].into(), (1, 2, 2), out),
        (2, 2) if width > 2 => widen(width, |x| 3 * u32::from(near[x]) + u32::from(far[x]), (8, 7, 4), out),
        _ => out.extend(near.iter().flat_map(|&sample| std::iter::repeat_n(sample, across))),
    }
}

/// Three parts of what is near and one of what is far.
fn weighted(near: u32, far: u32, bias: u32, bits: u32) -> u8 {
    ((3 * near + far + bias) >> bits) as u8
}

/// Twice as many samples. Rounding goes down on the left and up on the right, so that it does not shift the whole.
fn widen(width: usize, sample: impl Fn(usize) -> u32, (left, right, bits): (u32, u32, u32), out: &mut Vec<u8>) {
    for x in 0..width {
        let near = sample(x);
        let before = sample(x.saturating_sub(1));
        let after = sample((x + 1).min(width - 1));
        out.push(weighted(near, before, left, bits));
        out.push(weighted(near, after, right, bits));
    }
}
