//! Planes of luma and chroma, and how they become RGB and come from it.

use crate::Result;

/// The weights of red and blue in luma.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matrix {
    red: f64,
    blue: f64,
}

impl Matrix {
    /// ITU-R BT.601: what files mean that say nothing.
    pub const BT601: Self = Self { red: 0.299, blue: 0.114 };
    /// ITU-R BT.709.
    pub const BT709: Self = Self { red: 0.2126, blue: 0.0722 };
    /// ITU-R BT.2020.
    pub const BT2020: Self = Self { red: 0.2627, blue: 0.0593 };

    fn green(self) -> f64 {
        1.0 - self.red - self.blue
    }
}

/// How planes are to be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Colours {
    /// The matrix.
    pub matrix: Matrix,
    /// Whether samples use all values; else luma goes from 16 to 235 and chroma from 16 to 240 (of 8 bits).
    pub full_range: bool,
}

impl Colours {
    /// BT.601 in limited range: what files mean that say nothing.
    pub const USUAL: Self = Self { matrix: Matrix::BT601, full_range: false };
}

/// A picture in planes of 8 bits. Chroma planes are empty in a grey picture, else all of one size; a chroma sample stands
/// for `ceil(width / chroma_width)` by `ceil(height / chroma_height)` pixels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Planes {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Chroma samples a row.
    pub chroma_width: usize,
    /// Rows of chroma samples.
    pub chroma_height: usize,
    /// Luma.
    pub y: Vec<u8>,
    /// Blue-difference.
    pub u: Vec<u8>,
    /// Red-difference.
    pub v: Vec<u8>,
    /// Opacity, of luma's size; empty where all is opaque.
    pub alpha: Vec<u8>,
}

/// Tables of the sums of a conversion, in levels of 255.
pub(crate) struct ToRgb {
    y: [f64; 256],
    red_v: [f64; 256],
    green_u: [f64; 256],
    green_v: [f64; 256],
    blue_u: [f64; 256],
}

impl ToRgb {
    pub(crate) fn new(colours: Colours) -> Self {
        let Colours { matrix, full_range } = colours;
        let (offset, luma, chroma) = if full_range { (0.0, 1.0, 1.0) } else { (16.0, 255.0 / 219.0, 255.0 / 224.0) };
        let table = |offset: f64, scale: f64| std::array::from_fn(|level| (level as f64 - offset) * scale);
        let (red, blue) = (2.0 * (1.0 - matrix.red), 2.0 * (1.0 - matrix.blue));
        Self {
            y: table(offset, luma),
            red_v: table(128.0, chroma * red),
            green_u: table(128.0, -chroma * blue * matrix.blue / matrix.green()),
            green_v: table(128.0, -chroma * red * matrix.red / matrix.green()),
            blue_u: table(128.0, chroma * blue),
        }
    }

    /// Straight RGBA; each pixel gets the chroma sample it lies in. `out` is overwritten.
    pub(crate) fn rgba(&self, planes: &Planes, out: &mut Vec<u8>) {
        let Planes { width, height, chroma_width, chroma_height, .. } = *planes;
        out.clear();
        out.reserve(width * height * 4);
        let level = |sum: f64| sum.round_ties_even().clamp(0.0, 255.0) as u8;
        let (across, down) =
            if planes.u.is_empty() { (1, 1) } else { (width.div_ceil(chroma_width), height.div_ceil(chroma_height)) };
        for row in 0..height {
            for column in 0..width {
                let at = row * width + column;
                let y = self.y[usize::from(planes.y[at])];
                let alpha = planes.alpha.get(at).copied().unwrap_or(255);
                if planes.u.is_empty() {
                    let grey = level(y);
                    out.extend_from_slice(&[grey, grey, grey, alpha]);
                    continue;
                }
                let sample = row / down * chroma_width + column / across;
                let (u, v) = (usize::from(planes.u[sample]), usize::from(planes.v[sample]));
                out.extend_from_slice(&[
                    level(y + self.red_v[v]),
                    level(y + self.green_u[u] + self.green_v[v]),
                    level(y + self.blue_u[u]),
                    alpha,
                ]);
            }
        }
    }
}

/// Which chroma samples are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sampling {
    /// One a pixel.
    Full,
    /// One for 2 x 2 pixels: their mean.
    Quarter,
}

/// Planes in BT.601, limited range, of straight RGBA over white.
pub(crate) fn from_rgb(rgb: &[u8], width: usize, height: usize, sampling: Sampling) -> Planes {
    let (kr, kb) = (Matrix::BT601.red, Matrix::BT601.blue);
    let kg = Matrix::BT601.green();
    let step = if sampling == Sampling::Full { 1 } else { 2 };
    let (chroma_width, chroma_height) = (width.div_ceil(step), height.div_ceil(step));
    let level = |v: f64, most: f64| v.round().clamp(16.0, most) as u8;
    let y = rgb
        .chunks_exact(3)
        .map(|p| {
            let sum = kr * f64::from(p[0]) + kg * f64::from(p[1]) + kb * f64::from(p[2]);
            level(16.0 + sum * 219.0 / 255.0, 235.0)
        })
        .collect();
    let (mut u, mut v) = (Vec::with_capacity(chroma_width * chroma_height), Vec::new());
    v.reserve(chroma_width * chroma_height);
    for row in 0..chroma_height {
        for column in 0..chroma_width {
            let mut sum = [0u32; 3];
            let mut count = 0;
            for y in row * step..(row * step + step).min(height) {
                for x in column * step..(column * step + step).min(width) {
                    let at = (y * width + x) * 3;
                    for (sum, &value) in sum.iter_mut().zip(&rgb[at..at + 3]) {
                        *sum += u32::from(value);
                    }
                    count += 1;
                }
            }
            let [red, green, blue] = sum.map(|sum| f64::from(sum) / f64::from(count.max(1)));
            let luma = kr * red + kg * green + kb * blue;
            u.push(level(128.0 + (blue - luma) / (2.0 * (1.0 - kb)) * 224.0 / 255.0, 240.0));
            v.push(level(128.0 + (red - luma) / (2.0 * (1.0 - kr)) * 224.0 / 255.0, 240.0));
        }
    }
    Planes { width, height, chroma_width, chroma_height, y, u, v, alpha: Vec::new() }
}

/// Gets the planes of each frame in the order they are shown, and says whether it wants another.
pub type OnPlanes<'a> = &'a mut dyn FnMut(&Planes, Colours, crate::Seconds) -> Result<bool>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_colours_have_their_known_samples() {
        // Colour bars of BT.601 in 8 bits, as EBU and SMPTE list them.
        for (rgb, yuv) in [
            ([255, 255, 255], [235, 128, 128]),
            ([0, 0, 0], [16, 128, 128]),
            ([255, 0, 0], [81, 90, 240]),
            ([0, 255, 0], [145, 54, 34]),
            ([0, 0, 255], [41, 240, 110]),
            ([255, 255, 0], [210, 16, 146]),
        ] {
            let planes = from_rgb(&rgb, 1, 1, Sampling::Full);
            assert_eq!([planes.y[0], planes.u[0], planes.v[0]], yuv);
            let mut back = Vec::new();
            ToRgb::new(Colours::USUAL).rgba(&planes, &mut back);
            assert!(back.iter().zip(&rgb).all(|(a, b)| a.abs_diff(*b) <= 2), "{rgb:?} {back:?}");
        }
    }

    #[test]
    fn full_range_and_other_matrices_are_minded() {
        let planes = Planes {
            width: 1,
            height: 1,
            chroma_width: 1,
            chroma_height: 1,
            y: vec![54],
            u: vec![99],
            v: vec![255],
            ..Planes::default()
        };
        let mut rgba = Vec::new();
        ToRgb::new(Colours { matrix: Matrix::BT709, full_range: true }).rgba(&planes, &mut rgba);
        // Red in BT.709, full range, is 54, 99, 256 before it is cut to a byte.
        assert!(rgba[0] >= 253 && rgba[1] <= 2 && rgba[2] <= 2, "{rgba:?}");
    }

    #[test]
    fn odd_sides_have_a_last_chroma_sample_of_their_own() {
        let rgb: Vec<u8> = [[255, 0, 0], [255, 0, 0], [0, 0, 255]].concat().repeat(3);
        let planes = from_rgb(&rgb, 3, 3, Sampling::Quarter);
        assert_eq!((planes.chroma_width, planes.chroma_height), (2, 2));
        assert_eq!((&planes.u[..2], &planes.v[..2]), (&[90, 240][..], &[240, 110][..]));
        let mut rgba = Vec::new();
        ToRgb::new(Colours::USUAL).rgba(&planes, &mut rgba);
        for (pixel, wanted) in rgba.chunks_exact(4).zip(rgb.chunks_exact(3)) {
            assert!(pixel.iter().zip(wanted).all(|(a, b)| a.abs_diff(*b) <= 2));
        }
    }
}
