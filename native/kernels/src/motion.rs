//! Frames between two others along the motion from the one to the other: interpolation by block matching, with a soft choice
//! among displacements.

use crate::resample::Frames;
use rayon::prelude::*;

/// Side of the square over which two frames are compared, in pixels.
const BLOCK: usize = 15;
/// What a displacement costs for each square pixel of its length, in units of how much the frames differ: of motions that
/// explain a block alike the shortest is taken.
const LENGTH_COST: f32 = 0.01;
/// How much more than the best a displacement may cost to be mixed in, in the same units.
const SOFTNESS: f32 = 0.1;
/// The share of what lies along the motion; the rest is the plain blend, which is right where a motion is not found.
const SHARE: f32 = 0.6;
/// Frames that differ by less (root mean square, in units of their numbers) do not differ.
const LEAST_DIFFERENCE: f32 = 0.002;

/// Mixes pairs of frames along their motion.
///
/// For a pixel of the new frame each displacement `v` of up to `reach` pixels down and across says that it was at `-share v`
/// in the first frame and will be at `(1 - share) v` in the second. The mean square difference of both over a block of
/// 15 x 15 pixels is the displacement's cost; softmin weights over all displacements mix what each would show, the first
/// frame counting `1 - share`. Three fifths of that and two fifths of the plain blend are the result.
///
/// `shares` has one number a frame, 0 for the first frame itself, 1 for the second.
///
/// # Panics
/// When the frames of both sides do not have the same sizes or there is not one share a frame.
pub fn between(from: Frames, to: Frames, shares: &[f32], reach: usize) -> Vec<f32> {
    assert_eq!((from.height, from.width, from.channels), (to.height, to.width, to.channels), "frames have one size");
    assert_eq!(from.values.len(), to.values.len(), "there are as many frames on both sides");
    assert_eq!(from.count(), shares.len(), "one share a frame is needed");
    let frame = from.height * from.width * from.channels;
    let mut out = vec![0.0; from.values.len()];
    out.par_chunks_mut(frame).enumerate().for_each(|(i, out)| {
        let [one, other] = [from, to].map(|side| &side.values[i * frame..][..frame]);
        let pair = Pair::new([one, other], from, reach);
        pair.mix(shares[i], out);
    });
    out
}

/// Two frames with their edges repeated all around, so that displaced pixels need no bounds.
struct Pair<'a> {
    plain: [&'a [f32]; 2],
    padded: [Vec<f32>; 2],
    height: usize,
    width: usize,
    channels: usize,
    reach: usize,
}

impl<'a> Pair<'a> {
    fn new(plain: [&'a [f32]; 2], size: Frames, reach: usize) -> Self {
        let Frames { height, width, channels, .. } = size;
        let pad = reach + 1;
        let padded = plain.map(|frame| {
            let mut padded = Vec::with_capacity((height + 2 * pad) * (width + 2 * pad) * channels);
            for y in 0..height + 2 * pad {
                let row = &frame[y.saturating_sub(pad).min(height - 1) * width * channels..][..width * channels];
                for x in 0..width + 2 * pad {
                    padded.extend_from_slice(&row[x.saturating_sub(pad).min(width - 1) * channels..][..channels]);
                }
            }
            padded
        });
        Self { plain, padded, height, width, channels, reach }
    }

    fn mix(&self, share: f32, out: &mut [f32]) {
        let [one, other] = self.plain;
        let square: f64 = one.iter().zip(other).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let unit = ((square / one.len() as f64) as f32).max(LEAST_DIFFERENCE * LEAST_DIFFERENCE);
        let pixels = self.height * self.width;
        let reach = self.reach as isize;
        let displacements: Vec<[isize; 2]> =
            (-reach..=reach).flat_map(|y| (-reach..=reach).map(move |x| [y, x])).collect();

        let mut shown = [vec![0.0; one.len()], vec![0.0; one.len()]];
        let mut costs = vec![0.0; displacements.len() * pixels];
        let mut block = Block::new(self.height, self.width);
        for (&displacement, cost) in displacements.iter().zip(costs.chunks_exact_mut(pixels)) {
            self.show(share, displacement, &mut shown);
            let [one, other] = [&shown[0], &shown[1]].map(|values| values.chunks_exact(self.channels));
            for (cost, (a, b)) in cost.iter_mut().zip(one.zip(other)) {
                *cost = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>() / self.channels as f32;
            }
            block.mean(cost);
            let [y, x] = displacement.map(|length| length as f32);
            let length = LENGTH_COST * (y * y + x * x);
            cost.iter_mut().for_each(|cost| *cost = (*cost / unit + length) / SOFTNESS);
        }
        weights(&mut costs, pixels);

        for (out, (a, b)) in out.iter_mut().zip(one.iter().zip(other)) {
            *out = (1.0 - SHARE) * ((1.0 - share) * a + share * b);
        }
        for (&displacement, weights) in displacements.iter().zip(costs.chunks_exact(pixels)) {
            self.show(share, displacement, &mut shown);
            let pixels = out.chunks_exact_mut(self.channels).zip(weights);
            let shown = shown[0].chunks_exact(self.channels).zip(shown[1].chunks_exact(self.channels));
            for ((out, &weight), (a, b)) in pixels.zip(shown) {
                for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
                    *out += SHARE * weight * ((1.0 - share) * a + share * b);
                }
            }
        }
    }

    /// What both frames show at each pixel if it moves by `displacement` from the one to the other.
    fn show(&self, share: f32, displacement: [isize; 2], out: &mut [Vec<f32>; 2]) {
        let [y, x] = displacement.map(|length| length as f32);
        for (side, (padded, out)) in self.padded.iter().zip(out).enumerate() {
            let part = if side == 0 { -share } else { 1.0 - share };
            let [(top, bottom), (left, right)] = [part * y, part * x].map(|at| (at.floor(), at - at.floor()));
            let pad = self.reach as isize + 1;
            let row = (self.width + 2 * (self.reach + 1)) * self.channels;
            let start = [top, left].map(|at| (at as isize + pad) as usize);
            let corners =
                [(1.0 - bottom) * (1.0 - right), (1.0 - bottom) * right, bottom * (1.0 - right), bottom * right];
            for (i, out) in out.chunks_exact_mut(self.width * self.channels).enumerate() {
                let upper = &padded[(start[0] + i) * row + start[1] * self.channels..];
                // At the outer edge of the reach the corners of weight zero may lie beyond the last row.
                let lower = if bottom > 0.0 { &upper[row..] } else { upper };
                let next = if right > 0.0 { self.channels } else { 0 };
                let length = out.len();
                let corner = [&upper[..length], &upper[next..][..length], &lower[..length], &lower[next..][..length]];
                for (j, out) in out.iter_mut().enumerate() {
                    *out = corners[0] * corner[0][j]
                        + corners[1] * corner[1][j]
                        + corners[2] * corner[2][j]
                        + corners[3] * corner[3][j];
                }
            }
        }
    }
}

/// Turns the costs of all displacements into weights that are 1 together for each pixel.
fn weights(costs: &mut [f32], pixels: usize) {
    let mut least = vec![f32::INFINITY; pixels];
    for cost in costs.chunks_exact(pixels) {
        least.iter_mut().zip(cost).for_each(|(least, &cost)| *least = least.min(cost));
    }
    let mut sum = vec![0.0; pixels];
    for cost in costs.chunks_exact_mut(pixels) {
        for ((cost, least), sum) in cost.iter_mut().zip(&least).zip(&mut sum) {
            *cost = (least - *cost).exp();
            *sum += *cost;
        }
    }
    for cost in costs.chunks_exact_mut(pixels) {
        cost.iter_mut().zip(&sum).for_each(|(weight, sum)| *weight /= sum);
    }
}

/// Means over blocks around each pixel, the picture's edges repeated.
struct Block {
    height: usize,
    width: usize,
    across: Vec<f32>,
}

impl Block {
    fn new(height: usize, width: usize) -> Self {
        Self { height, width, across: vec![0.0; height * width] }
    }

    fn mean(&mut self, values: &mut [f32]) {
        const HALF: usize = BLOCK / 2;
        let mut padded = vec![0.0; self.width + 2 * HALF];
        for (row, across) in values.chunks_exact(self.width).zip(self.across.chunks_exact_mut(self.width)) {
            padded[..HALF].fill(row[0]);
            padded[HALF..][..self.width].copy_from_slice(row);
            padded[HALF + self.width..].fill(row[self.width - 1]);
            across.fill(0.0);
            for shift in 0..BLOCK {
                across.iter_mut().zip(&padded[shift..]).for_each(|(sum, value)| *sum += value);
            }
        }
        for (y, out) in values.chunks_exact_mut(self.width).enumerate() {
            out.fill(0.0);
            for shift in 0..BLOCK {
                let at = (y + shift).saturating_sub(HALF).min(self.height - 1);
                out.iter_mut().zip(&self.across[at * self.width..]).for_each(|(sum, value)| *sum += value);
            }
            out.iter_mut().for_each(|sum| *sum /= (BLOCK * BLOCK) as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 24;

    /// A smooth blob of three colours on white whose centre is at (x, y).
    fn blob(x: f32, y: f32) -> Vec<f32> {
        let pixel = |i: usize| {
            let (dx, dy) = ((i % SIDE) as f32 - x, (i / SIDE) as f32 - y);
            let inside = (-(dx * dx + dy * dy) / 12.0).exp();
            [1.0 - 2.0 * inside, 1.0 - inside, 1.0 - 0.5 * inside]
        };
        (0..SIDE * SIDE).flat_map(pixel).collect()
    }

    fn frames(values: &[f32]) -> Frames<'_> {
        Frames { values, height: SIDE, width: SIDE, channels: 3 }
    }

    fn error(one: &[f32], other: &[f32]) -> f32 {
        one.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f32>() / one.len() as f32
    }

    #[test]
    fn what_moves_is_found_on_its_way() {
        let (from, to) = (blob(9.0, 12.0), blob(12.0, 10.0));
        for share in [0.2, 0.5, 0.8] {
            let truth = blob(9.0 + 3.0 * share, 12.0 - 2.0 * share);
            let blend: Vec<f32> = from.iter().zip(&to).map(|(a, b)| (1.0 - share) * a + share * b).collect();
            let made = between(frames(&from), frames(&to), &[share], 3);
            let (plain, along) = (error(&blend, &truth), error(&made, &truth));
            // Two fifths of the plain blend leave .4² of its error.
            assert!(along < 0.3 * plain, "{share}: {along} is not much below {plain}");
        }
    }

    #[test]
    fn the_ends_are_the_frames() {
        let (from, to) = (blob(9.0, 12.0), blob(12.0, 10.0));
        for (share, end) in [(0.0, &from), (1.0, &to)] {
            for (a, b) in between(frames(&from), frames(&to), &[share], 3).iter().zip(end) {
                assert!((a - b).abs() < 1e-5, "{a} is not {b}");
            }
        }
    }

    #[test]
    fn what_does_not_move_stays() {
        let from = blob(9.0, 12.0);
        for (a, b) in between(frames(&from), frames(&from), &[0.4], 3).iter().zip(&from) {
            assert!((a - b).abs() < 1e-3, "{a} is not {b}");
        }
    }

    #[test]
    fn both_directions_of_time_and_space_are_alike() {
        let (from, to) = (blob(9.0, 12.0), blob(12.0, 10.0));
        let forward = between(frames(&from), frames(&to), &[0.3], 3);
        let backward = between(frames(&to), frames(&from), &[0.7], 3);
        let turned = |values: &[f32]| values.rchunks(3).flatten().copied().collect::<Vec<f32>>();
        let (turned_from, turned_to) = (turned(&from), turned(&to));
        let upside_down = turned(&between(frames(&turned_from), frames(&turned_to), &[0.3], 3));
        for (a, (b, c)) in forward.iter().zip(backward.iter().zip(&upside_down)) {
            assert!((a - b).abs() < 1e-4 && (a - c).abs() < 1e-4, "{a}, {b} and {c}");
        }
    }

    #[test]
    fn frames_do_not_depend_on_their_neighbours() {
        let (one, two) = (blob(9.0, 12.0), blob(14.0, 11.0));
        let from = [one.clone(), two.clone()].concat();
        let to = [two.clone(), one.clone()].concat();
        let both = between(frames(&from), frames(&to), &[0.25, 0.75], 2);
        assert_eq!(both[..one.len()], between(frames(&one), frames(&two), &[0.25], 2));
        assert_eq!(both[one.len()..], between(frames(&two), frames(&one), &[0.75], 2));
    }

    #[test]
    fn pictures_smaller_than_a_block() {
        let values = [0.0, 1.0, 0.5, 0.25, 0.0, 1.0];
        let frames = |values| Frames { values, height: 2, width: 3, channels: 1 };
        let made = between(frames(&values), frames(&[1.0; 6]), &[0.5], 4);
        assert!(made.iter().all(|value| value.is_finite() && (0.0..=1.0).contains(value)));
    }
}
