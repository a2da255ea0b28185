//! Resizing and warping of pictures: pure functions over f32 frames in the order height, width, channels.
//!
//! Resizing follows Pillow: pixel centres at half-integers, and a filter that is widened by the scale when shrinking
//! (antialiasing) and keeps its own width when enlarging. It is separable, first along rows, then along columns, and
//! the result does not depend on the number of threads.

use rayon::prelude::*;

/// How new pixels are made from old ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The old pixel under the centre of the new one.
    Nearest,
    /// The mean of the old pixels that the new one covers; enlarging repeats pixels.
    Area,
    /// Triangle of radius 1.
    Bilinear,
    /// Cubic convolution of radius 2 with a = -0.5.
    Bicubic,
    /// Windowed sinc of radius 3.
    Lanczos3,
}

impl Filter {
    fn radius(self) -> f64 {
        match self {
            Filter::Nearest => 0.0,
            Filter::Area => 0.5,
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos3 => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Filter::Nearest => 1.0,
            Filter::Area => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Filter::Bilinear => (1.0 - x.abs()).max(0.0),
            Filter::Bicubic => {
                const A: f64 = -0.5;
                let x = x.abs();
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
            Filter::Lanczos3 => {
                if (-3.0..3.0).contains(&x) {
                    sinc(x) * sinc(x / 3.0)
                } else {
                    0.0
                }
            }
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// For each new position: the first old position, and the weights from there on (all of one stride).
struct Taps {
    first: Vec<usize>,
    count: Vec<usize>,
    weights: Vec<f32>,
    stride: usize,
}

impl Taps {
    fn new(from: usize, to: usize, filter: Filter) -> Self {
        let scale = from as f64 / to as f64;
        let spread = scale.max(1.0);
        let radius = filter.radius() * spread;
        let stride = radius.ceil() as usize * 2 + 1;
        let mut taps = Taps {
            first: Vec::with_capacity(to),
            count: Vec::with_capacity(to),
            weights: vec![0.0; stride * to],
            stride,
        };
        for i in 0..to {
            let centre = (i as f64 + 0.5) * scale;
            if filter == Filter::Nearest {
                taps.first.push((centre as usize).min(from - 1));
                taps.count.push(1);
                taps.weights[i * stride] = 1.0;
                continue;
            }
            // Rounding as Pillow does, so that edge pixels take part alike.
            let first = (centre - radius + 0.5).max(0.0) as usize;
            let end = ((centre + radius + 0.5).max(0.0) as usize).min(from).max(first + 1);
            let raw: Vec<f64> = (first..end).map(|x| filter.weight((x as f64 - centre + 0.5) / spread)).collect();
            let sum: f64 = raw.iter().sum();
            for (to, w) in taps.weights[i * stride..].iter_mut().zip(&raw) {
                *to = if sum == 0.0 { 0.0 } else { (w / sum) as f32 };
            }
            taps.first.push(first);
            taps.count.push(raw.len());
        }
        taps
    }

    fn at(&self, i: usize) -> (usize, &[f32]) {
        (self.first[i], &self.weights[i * self.stride..][..self.count[i]])
    }
}

/// Frames in the order frame, height, width, channel.
#[derive(Debug, Clone, Copy)]
pub struct Frames<'a> {
    /// The values, row-major.
    pub values: &'a [f32],
    /// Rows of a frame.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Values of a pixel.
    pub channels: usize,
}

impl Frames<'_> {
    pub(crate) fn count(&self) -> usize {
        let frame = self.height * self.width * self.channels;
        assert!(frame > 0 && self.values.len().is_multiple_of(frame), "the values are not whole frames");
        self.values.len() / frame
    }
}

/// Resizes every frame to `height` x `width`.
///
/// # Panics
/// When the values are not whole frames or a size is 0.
pub fn resize(frames: Frames, height: usize, width: usize, filter: Filter) -> Vec<f32> {
    let count = frames.count();
    assert!(height > 0 && width > 0, "a size is 0");
    let Frames { values, height: old_height, width: old_width, channels } = frames;
    let across = (width != old_width).then(|| {
        let taps = Taps::new(old_width, width, filter);
        let mut out = vec![0.0; count * old_height * width * channels];
        out.par_chunks_mut(width * channels).zip(values.par_chunks(old_width * channels)).with_min_len(8).for_each(
            |(out, row)| match channels {
                1 => across_row::<1>(out, row, &taps),
                3 => across_row::<3>(out, row, &taps),
                4 => across_row::<4>(out, row, &taps),
                _ => across_row_any(out, row, &taps, channels),
            },
        );
        out
    });
    if height == old_height {
        return across.unwrap_or_else(|| values.to_vec());
    }
    let source = across.as_deref().unwrap_or(values);
    let row = width * channels;
    let taps = Taps::new(old_height, height, filter);
    let mut out = vec![0.0; count * height * row];
    out.par_chunks_mut(row).with_min_len(8).enumerate().for_each(|(i, out)| {
        let frame = &source[i / height * old_height * row..][..old_height * row];
        let (first, weights) = taps.at(i % height);
        for (y, &w) in (first..).zip(weights) {
            for (out, &v) in out.iter_mut().zip(&frame[y * row..][..row]) {
                *out += w * v;
            }
        }
    });
    out
}

fn across_row<const C: usize>(out: &mut [f32], row: &[f32], taps: &Taps) {
    for (x, out) in out.as_chunks_mut::<C>().0.iter_mut().enumerate() {
        let (first, weights) = taps.at(x);
        let mut sum = [0.0f32; C];
        for (pixel, &w) in row[first * C..].as_chunks::<C>().0.iter().zip(weights) {
            for (sum, &v) in sum.iter_mut().zip(pixel) {
                *sum += w * v;
            }
        }
        *out = sum;
    }
}

fn across_row_any(out: &mut [f32], row: &[f32], taps: &Taps, channels: usize) {
    for (x, out) in out.chunks_exact_mut(channels).enumerate() {
        let (first, weights) = taps.at(x);
        for (pixel, &w) in row[first * channels..].chunks_exact(channels).zip(weights) {
            for (out, &v) in out.iter_mut().zip(pixel) {
                *out += w * v;
            }
        }
    }
}

/// Warps every frame by its own affine matrix, bilinearly, with `fill` outside.
///
/// `matrices[i]` is `[a, b, c, d, e, f]`: the new pixel at (x, y) takes the old picture at
/// `(a x + b y + c, d x + e y + f)`, both in coordinates that run from -1 to 1 between the outer edges of the picture
/// (torch's `affine_grid` and `grid_sample` with `align_corners = false`, with a constant in place of zeros).
///
/// # Panics
/// When the values are not whole frames or there is not one matrix a frame.
pub fn affine(frames: Frames, matrices: &[[f64; 6]], fill: f32) -> Vec<f32> {
    assert_eq!(frames.count(), matrices.len(), "one matrix a frame is needed");
    let Frames { values, height, width, channels } = frames;
    let row = width * channels;
    let mut out = vec![0.0; values.len()];
    out.par_chunks_mut(row).with_min_len(8).enumerate().for_each(|(i, out)| {
        let frame = &values[i / height * height * row..][..height * row];
        let [a, b, c, d, e, f] = matrices[i / height];
        let y = ((i % height) as f64 * 2.0 + 1.0) / height as f64 - 1.0;
        for (j, out) in out.chunks_exact_mut(channels).enumerate() {
            let x = (j as f64 * 2.0 + 1.0) / width as f64 - 1.0;
            let u = ((a * x + b * y + c + 1.0) * width as f64 - 1.0) / 2.0;
            let v = ((d * x + e * y + f + 1.0) * height as f64 - 1.0) / 2.0;
            let (left, top) = (u.floor(), v.floor());
            let (right, bottom) = ((u - left) as f32, (v - top) as f32);
            let corner = |dx: f64, dy: f64| {
                let (x, y) = (left + dx, top + dy);
                let inside = x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64;
                inside.then(|| &frame[(y as usize * width + x as usize) * channels..][..channels])
            };
            let corners = [corner(0.0, 0.0), corner(1.0, 0.0), corner(0.0, 1.0), corner(1.0, 1.0)];
            let weights =
                [(1.0 - right) * (1.0 - bottom), right * (1.0 - bottom), (1.0 - right) * bottom, right * bottom];
            for (k, out) in out.iter_mut().enumerate() {
                *out = corners.iter().zip(weights).map(|(corner, w)| w * corner.map_or(fill, |p| p[k])).sum();
            }
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f32]) -> Frames<'_> {
        Frames { values, height: 1, width: values.len(), channels: 1 }
    }

    fn close(actual: &[f32], expected: &[f32]) {
        assert_eq!(actual.len(), expected.len());
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() < 1e-4, "{actual:?} is not {expected:?}");
        }
    }

    const RAMP: [f32; 8] = [0.0, 10.0, 50.0, 20.0, 80.0, 30.0, 60.0, 100.0];

    #[test]
    fn a_constant_stays_constant() {
        for filter in [Filter::Nearest, Filter::Area, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos3] {
            let values = vec![0.7; 9 * 13 * 3];
            let frames = Frames { values: &values, height: 9, width: 13, channels: 3 };
            for (h, w) in [(4, 5), (9, 13), (20, 31), (1, 1), (9, 40), (30, 13)] {
                let out = resize(frames, h, w, filter);
                assert_eq!(out.len(), h * w * 3);
                assert!(out.iter().all(|v| (v - 0.7).abs() < 1e-5), "{filter:?} {h}x{w}");
            }
        }
    }

    #[test]
    fn halving_and_doubling_by_hand() {
        close(&resize(row(&RAMP), 1, 4, Filter::Area), &[5.0, 35.0, 55.0, 80.0]);
        close(&resize(row(&RAMP), 1, 4, Filter::Nearest), &[10.0, 20.0, 30.0, 100.0]);
        // The triangle of radius 2 has weights 1, 3, 3, 1 (over 8) inside and 3, 3, 1 (over 7) at the edge.
        close(&resize(row(&RAMP), 1, 4, Filter::Bilinear), &[80.0 / 7.0, 37.5, 51.25, (30.0 + 180.0 + 300.0) / 7.0]);
        close(&resize(row(&[0.0, 1.0]), 1, 4, Filter::Bilinear), &[0.0, 0.25, 0.75, 1.0]);
        close(&resize(row(&[0.0, 1.0]), 1, 4, Filter::Nearest), &[0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn values_are_those_of_pillow() {
        // Pillow 13.0, mode F, Image.resize((w, 1), filter) of RAMP.
        let expected: [(Filter, &[f32]); 11] = [
            (Filter::Area, &[20.0, 50.0, 63.3333]),
            (Filter::Area, &[5.0, 50.0, 50.0, 30.0, 80.0]),
            (Filter::Area, &[0.0, 0.0, 10.0, 50.0, 50.0, 20.0, 80.0, 80.0, 30.0, 30.0, 60.0, 100.0, 100.0]),
            (Filter::Nearest, &[10.0, 80.0, 60.0]),
            (Filter::Nearest, &[0.0, 0.0, 10.0, 50.0, 50.0, 20.0, 80.0, 80.0, 30.0, 30.0, 60.0, 100.0, 100.0]),
            (Filter::Bilinear, &[17.3684, 45.9524, 66.0526]),
            (Filter::Bilinear, &[4.09091, 34.0741, 49.1667, 47.037, 83.6364]),
            (Filter::Bicubic, &[15.6175, 46.0816, 67.6098]),
            (
                Filter::Bicubic,
                &[
                    -0.73324, 1.84761, 11.0548, 40.1582, 44.5716, 19.8105, 51.25, 78.7258, 40.6239, 34.0735, 58.6115,
                    86.3388, 102.933,
                ],
            ),
            (Filter::Lanczos3, &[3.47808, 31.6521, 51.5981, 46.1655, 83.5689]),
            (
                Filter::Lanczos3,
                &[
                    0.227595, -0.447105, 11.58, 44.1496, 42.6941, 18.9607, 51.9837, 79.288, 43.7387, 27.4607, 57.5984,
                    88.9784, 103.224,
                ],
            ),
        ];
        for (filter, values) in expected {
            let out = resize(row(&RAMP), 1, values.len(), filter);
            for (a, e) in out.iter().zip(values) {
                assert!((a - e).abs() < 1e-3, "{filter:?}: {out:?} is not {values:?}");
            }
        }
    }

    #[test]
    fn rows_and_columns_are_alike() {
        for filter in [Filter::Area, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos3] {
            let column = Frames { values: &RAMP, height: 8, width: 1, channels: 1 };
            close(&resize(column, 5, 1, filter), &resize(row(&RAMP), 1, 5, filter));
            close(&resize(column, 19, 1, filter), &resize(row(&RAMP), 1, 19, filter));
        }
    }

    #[test]
    fn channels_and_frames_do_not_mix() {
        let values: Vec<f32> = (0..2 * 6 * 5 * 5).map(|i| ((i * 37) % 101) as f32).collect();
        let all = resize(Frames { values: &values, height: 6, width: 5, channels: 5 }, 4, 9, Filter::Lanczos3);
        for frame in 0..2 {
            for channel in 0..5 {
                let one: Vec<f32> = values[frame * 150..][..150].iter().skip(channel).step_by(5).copied().collect();
                let out = resize(Frames { values: &one, height: 6, width: 5, channels: 1 }, 4, 9, Filter::Lanczos3);
                let same: Vec<f32> = all[frame * 180..][..180].iter().skip(channel).step_by(5).copied().collect();
                close(&out, &same);
            }
        }
    }

    #[test]
    fn the_identity_warp_changes_nothing() {
        let values: Vec<f32> = (0..2 * 7 * 4 * 3).map(|i| (i % 17) as f32).collect();
        let frames = Frames { values: &values, height: 7, width: 4, channels: 3 };
        close(&affine(frames, &[[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]; 2], -1.0), &values);
    }

    #[test]
    fn a_shift_brings_in_the_fill() {
        let values = [1.0, 2.0, 3.0, 4.0];
        // One pixel of four is half a unit.
        let one = |c: f64| affine(row(&values), &[[1.0, 0.0, c, 0.0, 1.0, 0.0]], 9.0);
        close(&one(0.5), &[2.0, 3.0, 4.0, 9.0]);
        close(&one(-0.5), &[9.0, 1.0, 2.0, 3.0]);
        close(&one(0.25), &[1.5, 2.5, 3.5, 6.5]);
        close(&affine(row(&values), &[[-1.0, 0.0, 0.0, 0.0, 1.0, 0.0]], 9.0), &[4.0, 3.0, 2.0, 1.0]);
        close(&one(1e12), &[9.0; 4]);
    }
}
