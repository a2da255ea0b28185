//! One palette for all frames of an animation.
//!
//! Colours are counted in a 32 x 32 x 32 histogram that keeps exact means, split by variance in Oklab
//! (perceptually even, so skin tones and dark outlines get their share), then refined by k-means.

use std::collections::HashSet;

/// Channels at or above this are white ground: a denoiser's white is a level or two off, and must not shimmer.
pub(crate) const WHITE_FROM: u8 = 251;

/// How many pixels are counted at most; more are sampled evenly.
const COUNTED: usize = 4 << 20;

/// Up to 256 colours, white always among them.
#[derive(Debug, Clone)]
pub struct Palette {
    colours: Vec<[u8; 3]>,
    /// L, a and b of each colour, a channel after the other, so that the search runs in vector registers.
    lab: [Vec<f32>; 3],
    exact: bool,
}

impl Palette {
    /// A palette of at most `size` colours (2..=256) for packed RGB frames.
    ///
    /// Colour 0 is pure white. When the frames have no more colours than that, the palette holds them exactly.
    ///
    /// # Panics
    /// When `size` is outside 2..=256.
    #[must_use]
    pub fn of(frames: &[Vec<u8>], size: usize) -> Self {
        assert!((2..=256).contains(&size));
        if let Some(colours) = few_colours(frames, size) {
            return Self::new(colours, true);
        }
        let bins = histogram(frames);
        let mut colours = vec![[255; 3]];
        colours.extend(refine(&bins, split(&bins, size - 1)));
        colours.dedup();
        Self::new(colours, false)
    }

    fn new(colours: Vec<[u8; 3]>, exact: bool) -> Self {
        let mut lab = [vec![], vec![], vec![]];
        for &colour in &colours {
            for (channel, value) in lab.iter_mut().zip(oklab(colour)) {
                channel.push(value);
            }
        }
        Self { colours, lab, exact }
    }

    /// The colours, white first.
    #[must_use]
    pub fn colours(&self) -> &[[u8; 3]] {
        &self.colours
    }

    /// Whether every colour of the frames is in the palette as it is.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// The colour nearest in Oklab.
    #[must_use]
    pub fn nearest(&self, colour: [u8; 3]) -> u8 {
        let [l, a, b] = oklab(colour);
        let mut best = (f32::INFINITY, 0);
        for (index, ((&pl, &pa), &pb)) in self.lab[0].iter().zip(&self.lab[1]).zip(&self.lab[2]).enumerate() {
            let distance = (pl - l) * (pl - l) + (pa - a) * (pa - a) + (pb - b) * (pb - b);
            if distance < best.0 {
                best = (distance, index);
            }
        }
        best.1 as u8
    }
}

/// Whether a pixel belongs to the white ground.
#[must_use]
pub(crate) fn is_ground(p: &[u8]) -> bool {
    p[0] >= WHITE_FROM && p[1] >= WHITE_FROM && p[2] >= WHITE_FROM
}

fn few_colours(frames: &[Vec<u8>], size: usize) -> Option<Vec<[u8; 3]>> {
    let mut seen = HashSet::new();
    let mut colours = vec![[255; 3]];
    for p in frames.iter().flat_map(|f| f.chunks_exact(3)) {
        let colour = [p[0], p[1], p[2]];
        if !is_ground(p) && seen.insert(colour) {
            if colours.len() == size {
                return None;
            }
            colours.push(colour);
        }
    }
    Some(colours)
}

/// One cell of the histogram: how many pixels, and their mean in Oklab.
struct Bin {
    weight: f32,
    lab: [f32; 3],
}

fn histogram(frames: &[Vec<u8>]) -> Vec<Bin> {
    let all: usize = frames.iter().map(|f| f.len() / 3).sum();
    // A stride that no picture width shares keeps columns from being favoured.
    let stride = if all > COUNTED { (all / COUNTED) | 1 } else { 1 };
    let mut cells = vec![[0u32; 4]; 1 << 15];
    for p in frames.iter().flat_map(|f| f.chunks_exact(3).step_by(stride)).filter(|p| !is_ground(p)) {
        let index = usize::from(p[0] >> 3) << 10 | usize::from(p[1] >> 3) << 5 | usize::from(p[2] >> 3);
        let cell = &mut cells[index];
        cell[0] += 1;
        for c in 0..3 {
            cell[c + 1] += u32::from(p[c]);
        }
    }
    cells
        .into_iter()
        .filter(|c| c[0] > 0)
        .map(|c| {
            let mean = |i: usize| c[i] as f32 / c[0] as f32;
            // The root keeps large flat areas from taking the colours that small details need.
            Bin { weight: (c[0] as f32).sqrt(), lab: oklab_of([mean(1), mean(2), mean(3)]) }
        })
        .collect()
}

/// Splits the bins into at most `count` boxes, always the one with the most variance, where the two halves
/// are most alike within themselves. Returns the boxes' means.
fn split(bins: &[Bin], count: usize) -> Vec<[f32; 3]> {
    let mut boxes = vec![Cluster::of(bins, (0..bins.len()).collect())];
    while boxes.len() < count {
        let Some(widest) = (0..boxes.len())
            .filter(|&i| boxes[i].members.len() > 1)
            .max_by(|&i, &j| boxes[i].error.total_cmp(&boxes[j].error))
        else {
            break;
        };
        let mut whole = boxes.swap_remove(widest);
        let axis = whole.axis;
        whole.members.sort_unstable_by(|&i, &j| bins[i].lab[axis].total_cmp(&bins[j].lab[axis]));
        let cut = best_cut(bins, &whole.members, axis);
        let upper = whole.members.split_off(cut);
        boxes.push(Cluster::of(bins, whole.members));
        boxes.push(Cluster::of(bins, upper));
    }
    boxes.into_iter().map(|b| b.mean).collect()
}

struct Cluster {
    members: Vec<usize>,
    mean: [f32; 3],
    error: f32,
    /// The axis of Oklab along which the members differ most.
    axis: usize,
}

impl Cluster {
    fn of(bins: &[Bin], members: Vec<usize>) -> Self {
        let mut weight = 0.0f64;
        let mut sum = [0f64; 3];
        let mut squares = [0f64; 3];
        for bin in members.iter().map(|&i| &bins[i]) {
            let w = f64::from(bin.weight);
            weight += w;
            for c in 0..3 {
                sum[c] += w * f64::from(bin.lab[c]);
                squares[c] += w * f64::from(bin.lab[c]) * f64::from(bin.lab[c]);
            }
        }
        let weight = weight.max(f64::MIN_POSITIVE);
        let errors: Vec<f64> = (0..3).map(|c| (squares[c] - sum[c] * sum[c] / weight).max(0.0)).collect();
        let axis = (0..3).max_by(|&i, &j| errors[i].total_cmp(&errors[j])).unwrap_or(0);
        Self {
            members,
            mean: [0, 1, 2].map(|c| (sum[c] / weight) as f32),
            error: errors.iter().sum::<f64>() as f32,
            axis,
        }
    }
}

/// Where to cut members sorted along `axis`: the place with the most variance between the halves.
fn best_cut(bins: &[Bin], members: &[usize], axis: usize) -> usize {
    let total: (f64, f64) = members.iter().fold((0.0, 0.0), |(w, s), &i| {
        let weight = f64::from(bins[i].weight);
        (w + weight, s + weight * f64::from(bins[i].lab[axis]))
    });
    let (mut weight, mut sum) = (0.0, 0.0);
    let mut best = (f64::NEG_INFINITY, 1);
    for (index, &i) in members[..members.len() - 1].iter().enumerate() {
        let w = f64::from(bins[i].weight);
        weight += w;
        sum += w * f64::from(bins[i].lab[axis]);
        let score = sum * sum / weight + (total.1 - sum) * (total.1 - sum) / (total.0 - weight);
        if score > best.0 {
            best = (score, index + 1);
        }
    }
    best.1
}

/// A few rounds of k-means over the bins, then back to 8-bit sRGB.
fn refine(bins: &[Bin], mut means: Vec<[f32; 3]>) -> Vec<[u8; 3]> {
    for _ in 0..6 {
        let mut sums = vec![[0f32; 4]; means.len()];
        for bin in bins {
            let distance = |m: &[f32; 3]| (0..3).map(|c| (m[c] - bin.lab[c]) * (m[c] - bin.lab[c])).sum::<f32>();
            let mut best = (f32::INFINITY, 0);
            for (index, mean) in means.iter().enumerate() {
                let d = distance(mean);
                if d < best.0 {
                    best = (d, index);
                }
            }
            let sum = &mut sums[best.1];
            sum[0] += bin.weight;
            for c in 0..3 {
                sum[c + 1] += bin.weight * bin.lab[c];
            }
        }
        for (mean, sum) in means.iter_mut().zip(sums).filter(|(_, s)| s[0] > 0.0) {
            *mean = [sum[1] / sum[0], sum[2] / sum[0], sum[3] / sum[0]];
        }
    }
    let mut colours: Vec<[u8; 3]> = means.into_iter().map(srgb).collect();
    colours.sort_unstable();
    colours.dedup();
    colours
}

fn oklab(colour: [u8; 3]) -> [f32; 3] {
    oklab_of(colour.map(f32::from))
}

/// sRGB in 0..=255 to Oklab (B. Ottosson, 2020).
fn oklab_of(colour: [f32; 3]) -> [f32; 3] {
    let [r, g, b] = colour.map(|v| {
        let v = v / 255.0;
        if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    });
    let l = (0.412_221_46 * r + 0.536_332_55 * g + 0.051_445_995 * b).cbrt();
    let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b).cbrt();
    let s = (0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b).cbrt();
    [
        0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s,
        1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
        0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s,
    ]
}

fn srgb(lab: [f32; 3]) -> [u8; 3] {
    let [lightness, a, b] = lab;
    let l = (lightness + 0.396_337_78 * a + 0.215_803_76 * b).powi(3);
    let m = (lightness - 0.105_561_346 * a - 0.063_854_17 * b).powi(3);
    let s = (lightness - 0.089_484_18 * a - 1.291_485_5 * b).powi(3);
    [
        4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
        -1.268_438 * l + 2.609_757_4 * m - 0.341_319_38 * s,
        -0.004_196_086_3 * l - 0.703_418_6 * m + 1.707_614_7 * s,
    ]
    .map(|v| {
        let v = v.clamp(0.0, 1.0);
        let v = if v <= 0.003_130_8 { v * 12.92 } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 };
        (v * 255.0).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oklab_turns_back() {
        for r in (0..=255).step_by(51) {
            for g in (0..=255).step_by(51) {
                for b in (0..=255).step_by(51) {
                    assert_eq!(srgb(oklab([r, g, b])), [r, g, b]);
                }
            }
        }
    }

    #[test]
    fn few_colours_are_kept_exactly() {
        let frame: Vec<u8> = (0..200u8).flat_map(|i| [i, 255 - i, i / 2]).collect();
        let palette = Palette::of(std::slice::from_ref(&frame), 256);
        assert!(palette.is_exact());
        for p in frame.chunks_exact(3) {
            let colour = [p[0], p[1], p[2]];
            assert_eq!(palette.colours()[usize::from(palette.nearest(colour))], colour);
        }
    }

    #[test]
    fn many_colours_get_a_close_palette_with_pure_white() {
        let mut frame = Vec::new();
        for y in 0..128u8 {
            for x in 0..128u8 {
                frame.extend([x * 2, y * 2, 128u8.saturating_add(x / 2)]);
            }
        }
        let palette = Palette::of(&[frame.clone()], 255);
        assert!(!palette.is_exact());
        assert_eq!(palette.colours()[0], [255; 3]);
        assert!(palette.colours().len() > 240);
        let error: f64 = frame
            .chunks_exact(3)
            .map(|p| {
                let near = palette.colours()[usize::from(palette.nearest([p[0], p[1], p[2]]))];
                (0..3).map(|c| (f64::from(near[c]) - f64::from(p[c])).powi(2)).sum::<f64>()
            })
            .sum();
        let rms = (error / frame.len() as f64).sqrt();
        assert!(rms < 7.0, "{rms}");
    }
}
