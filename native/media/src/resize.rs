//! 8-bit RGB resampling for the stores: exact box means, and Lanczos for pictures that need fitting.

/// Means of `factor` x `factor` blocks of a packed RGB picture, rounded once.
///
/// # Panics
/// When `factor` is 0 or does not divide both sides, or `rgb` is not `width * height * 3` long.
#[must_use]
pub fn box_down(rgb: &[u8], width: usize, height: usize, factor: usize) -> Vec<u8> {
    let area = (factor * factor) as u32;
    block_sums(rgb, width, height, factor).into_iter().map(|sum| ((sum + area / 2) / area) as u8).collect()
}

/// Means of `factor` x `factor` blocks as floats in [0, 1], unrounded.
///
/// # Panics
/// As [`box_down`].
#[must_use]
pub fn box_means(rgb: &[u8], width: usize, height: usize, factor: usize) -> Vec<f32> {
    let scale = 1.0 / ((factor * factor) as f32 * 255.0);
    block_sums(rgb, width, height, factor).into_iter().map(|sum| sum as f32 * scale).collect()
}

fn block_sums(rgb: &[u8], width: usize, height: usize, factor: usize) -> Vec<u32> {
    assert!(factor > 0 && width.is_multiple_of(factor) && height.is_multiple_of(factor));
    assert_eq!(rgb.len(), width * height * 3);
    let across = width / factor;
    let mut sums = vec![0u32; across * (height / factor) * 3];
    for (y, row) in rgb.chunks_exact(width * 3).enumerate() {
        let sums = &mut sums[y / factor * across * 3..][..across * 3];
        for (sum, block) in sums.chunks_exact_mut(3).zip(row.chunks_exact(factor * 3)) {
            for p in block.chunks_exact(3) {
                sum[0] += u32::from(p[0]);
                sum[1] += u32::from(p[1]);
                sum[2] += u32::from(p[2]);
            }
        }
    }
    sums
}

/// Fits a packed RGB picture into a `side` x `side` square: scaled by Lanczos-3 with its aspect kept
/// (antialiased when shrinking), centred on white. A picture of that size is returned as it is.
///
/// # Panics
/// When a side is 0 or `rgb` is not `width * height * 3` long.
#[must_use]
pub fn fit_square(rgb: &[u8], width: usize, height: usize, side: usize) -> Vec<u8> {
    assert!(width > 0 && height > 0 && side > 0);
    assert_eq!(rgb.len(), width * height * 3);
    if (width, height) == (side, side) {
        return rgb.to_vec();
    }
    let long = width.max(height);
    let inner = |n: usize| ((n * side + long / 2) / long).clamp(1, side);
    let (w, h) = (inner(width), inner(height));
    let wide = lanczos(&rgb.iter().map(|&v| f32::from(v)).collect::<Vec<_>>(), width, height, w);
    // The second pass runs over the transposed picture, and turns it back.
    let scaled = lanczos(&transpose(&wide, w, height), height, w, h);
    let scaled = transpose(&scaled, h, w);
    let mut square = vec![255; side * side * 3];
    let (left, top) = ((side - w) / 2, (side - h) / 2);
    for (y, row) in scaled.chunks_exact(w * 3).enumerate() {
        let to = &mut square[((top + y) * side + left) * 3..][..w * 3];
        for (to, from) in to.iter_mut().zip(row) {
            *to = from.round().clamp(0.0, 255.0) as u8;
        }
    }
    square
}

fn transpose(rgb: &[f32], width: usize, height: usize) -> Vec<f32> {
    let mut turned = Vec::with_capacity(rgb.len());
    for x in 0..width {
        for y in 0..height {
            turned.extend_from_slice(&rgb[(y * width + x) * 3..][..3]);
        }
    }
    turned
}

/// Resamples rows from `width` to `to` pixels: Lanczos-3, half-pixel centres, the kernel widened when shrinking.
fn lanczos(rgb: &[f32], width: usize, height: usize, to: usize) -> Vec<f32> {
    let scale = width as f64 / to as f64;
    let stretch = scale.max(1.0);
    let taps: Vec<(usize, Vec<f32>)> = (0..to)
        .map(|x| {
            let centre = (x as f64 + 0.5) * scale;
            let first = (centre - 3.0 * stretch).floor().max(0.0) as usize;
            let last = ((centre + 3.0 * stretch).ceil() as usize).min(width);
            let weights: Vec<f64> = (first..last).map(|i| kernel((i as f64 + 0.5 - centre) / stretch)).collect();
            let sum: f64 = weights.iter().sum();
            (first, weights.iter().map(|w| (w / sum) as f32).collect())
        })
        .collect();
    let mut out = Vec::with_capacity(to * height * 3);
    for row in rgb.chunks_exact(width * 3) {
        for (first, weights) in &taps {
            let mut sum = [0f32; 3];
            for (w, p) in weights.iter().zip(row[first * 3..].chunks_exact(3)) {
                for c in 0..3 {
                    sum[c] += w * p[c];
                }
            }
            out.extend_from_slice(&sum);
        }
    }
    out
}

fn kernel(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    if x.abs() >= 3.0 {
        return 0.0;
    }
    let a = std::f64::consts::PI * x;
    (a.sin() / a) * ((a / 3.0).sin() / (a / 3.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn box_means_round_to_nearest() {
        let rgb: Vec<u8> = [0, 1, 2, 4].iter().flat_map(|&v| [v, 255, v * 10]).collect();
        assert_eq!(box_down(&rgb, 2, 2, 2), [2, 255, 18]);
        assert!((box_means(&rgb, 2, 2, 2)[0] - 1.75 / 255.0).abs() < 1e-7);
    }

    #[test]
    fn a_fitted_picture_keeps_its_flat_colour_and_stays_centred() {
        let red: Vec<u8> = [200, 10, 30].repeat(8 * 16);
        let square = fit_square(&red, 8, 16, 8);
        assert_eq!(square.len(), 8 * 8 * 3);
        assert_eq!(&square[..6], [255; 6]);
        assert_eq!(&square[6..9], [200, 10, 30]);
        assert_eq!(&square[15..18], [200, 10, 30]);
        assert_eq!(&square[18..24], [255; 6]);
        assert_eq!(fit_square(&red[..192], 8, 8, 8), &red[..192]);
    }
}
