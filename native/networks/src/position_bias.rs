//! lucidrains' ContinuousPositionBias: attention's bias from the distance between two frames or two pixels.

use crate::linear::Linear;
use crate::parameters::Builder;
use candle_core::{Device, Result, Tensor};
use kinora_kernels::silu;

/// A small network from the distance between two places, along one axis or several, to a bias for each head.
/// Positions are relative, so that any number of frames or pixels can be run.
pub struct ContinuousPositionBias {
    layers: [Linear; 3],
    max_distance: f32,
}

impl ContinuousPositionBias {
    /// `axes` distances in, `width` channels inside; distances beyond `max_distance` count as that.
    pub fn new(axes: usize, width: usize, heads: usize, max_distance: f32, b: &Builder) -> Result<Self> {
        let net = b.pp("net");
        let layers = [
            Linear::new(axes, width, &net.pp(0))?,
            Linear::new(width, width, &net.pp(1))?,
            Linear::new(width, heads, &net.pp(2))?,
        ];
        Ok(Self { layers, max_distance })
    }

    /// (heads, places, places) for the places of a row-major grid of `sizes`: the bias of query i on key j depends on
    /// the place of i less that of j.
    pub fn forward(&self, sizes: &[usize]) -> Result<Tensor> {
        let mut table = differences(sizes, self.max_distance)?.to_device(self.layers[0].device())?;
        for (i, layer) in self.layers.iter().enumerate() {
            table = layer.forward(&if i > 0 { silu(&table)? } else { table })?;
        }
        of_pairs(&table, sizes)
    }
}

/// Every difference of two places of a grid once, the last axis fastest: (differences, axes), each entry at most
/// `max_distance` from 0.
pub(crate) fn differences(sizes: &[usize], max_distance: f32) -> Result<Tensor> {
    let spans: Vec<usize> = sizes.iter().map(|size| 2 * size - 1).collect();
    let count: usize = spans.iter().product();
    let mut distances = vec![0f32; count * sizes.len()];
    for (at, row) in distances.chunks_exact_mut(sizes.len()).enumerate() {
        let mut rest = at;
        for (axis, distance) in row.iter_mut().enumerate().rev() {
            *distance = (rest % spans[axis]) as f32 - (sizes[axis] - 1) as f32;
            *distance = distance.clamp(-max_distance, max_distance);
            rest /= spans[axis];
        }
    }
    Tensor::from_vec(distances, (count, sizes.len()), &Device::Cpu)
}

/// Each pair of places picks its own row of a table (differences, heads): (heads, places, places).
pub(crate) fn of_pairs(table: &Tensor, sizes: &[usize]) -> Result<Tensor> {
    let places: usize = sizes.iter().product();
    let mut pairs = Vec::with_capacity(places * places);
    for i in 0..places {
        for j in 0..places {
            let (mut i, mut j, mut at, mut stride) = (i, j, 0, 1);
            for &size in sizes.iter().rev() {
                at += (i % size + size - 1 - j % size) * stride;
                (i, j, stride) = (i / size, j / size, stride * (2 * size - 1));
            }
            pairs.push(at as u32);
        }
    }
    let pairs = Tensor::from_vec(pairs, places * places, table.device())?;
    table.t()?.contiguous()?.index_select(&pairs, 1)?.reshape(((), places, places))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Parameters;

    fn bias(axes: usize, max_distance: f32, sizes: &[usize]) -> Vec<Vec<Vec<f32>>> {
        let b = Parameters::seeded(5, false).builder();
        ContinuousPositionBias::new(axes, 4, 2, max_distance, &b).unwrap().forward(sizes).unwrap().to_vec3().unwrap()
    }

    #[test]
    fn only_the_distance_counts_at_any_length() {
        let (short, long) = (bias(1, 100.0, &[4]), bias(1, 100.0, &[7]));
        for head in 0..2 {
            for i in 0..4 {
                for j in 0..4 {
                    assert_eq!(short[head][i][j], long[head][i + 3][j + 3]);
                    assert_eq!(short[head][i][j], long[head][i][j]);
                }
            }
            assert_ne!(short[head][0][1], short[head][1][0], "before and after differ");
        }
    }

    #[test]
    fn distances_stop_growing() {
        let far = bias(1, 2.0, &[6]);
        assert_eq!(far[0][5][0], far[0][2][0]);
        assert_eq!(far[0][0][5], far[0][0][2]);
        assert_ne!(far[0][1][0], far[0][2][0]);
    }

    #[test]
    fn a_grid_has_a_distance_along_each_axis() {
        let grid = bias(2, 100.0, &[3, 4]);
        let at = |y: usize, x: usize| y * 4 + x;
        assert_eq!(grid[1][at(2, 3)][at(1, 1)], grid[1][at(1, 2)][at(0, 0)]);
        assert_ne!(grid[1][at(2, 1)][at(0, 0)], grid[1][at(1, 2)][at(0, 0)]);
        // One row of pixels and one axis of frames give the same distances, beside the other axis's zero.
        assert_eq!(bias(2, 100.0, &[1, 4])[0][3][1], bias(2, 100.0, &[5, 4])[0][at(4, 3)][at(4, 1)]);
    }
}
