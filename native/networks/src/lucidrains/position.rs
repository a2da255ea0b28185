//! Codes of timesteps and of distances.

use super::{Call, ContinuousPositionBiasConfig, SinusoidalPosEmbConfig};
use crate::parameters::{Builder, Init};
use crate::position_bias::{differences, of_pairs};
use candle_core::{D, DType, Device, Result, Tensor, bail};

/// sin(x f), then cos(x f), with frequencies f from 1 down to 1 / theta.
pub struct SinusoidalPosEmb {
    frequencies: Tensor,
}

impl SinusoidalPosEmb {
    /// `dim / 2` frequencies.
    pub fn new(config: &SinusoidalPosEmbConfig) -> Result<Self> {
        let half = config.dim / 2;
        let step = config.theta.ln() / (half - 1) as f64;
        let frequencies: Vec<f64> = (0..half).map(|i| (i as f64 * -step).exp()).collect();
        Ok(Self { frequencies: Tensor::from_vec(frequencies, (1, half), &Device::Cpu)? })
    }

    /// (n) to (n, 2 * (dim / 2)). In f64 inside: an angle of 1000 has an error of 3e-5 in f32. Computed in main memory, and
    /// then where `x` is.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if x.rank() != 1 {
            bail!("x must have one axis, not {:?}", x.shape());
        }
        let numbers = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let angles = numbers.unsqueeze(1)?.broadcast_mul(&self.frequencies)?;
        Tensor::cat(&[angles.sin()?, angles.cos()?], D::Minus1)?.to_dtype(DType::F32)?.to_device(x.device())
    }

    pub(super) fn run(&self, call: &Call) -> Result<Tensor> {
        self.forward(call.tensor("x")?)
    }
}

/// The most numbers that a table of biases may have.
const MOST_BIASES: usize = 1 << 28;

/// A network from a distance, along one axis or several, to a bias for each head (Swin v2, arXiv 2111.09883).
///
/// It is computed in f64 in main memory, whatever the precision: softmax does not see what all biases have in common, so that their
/// gradients cancel and little but rounding is left of some sums.
pub struct ContinuousPositionBias {
    layers: Vec<(Tensor, Tensor)>,
    axes: usize,
    heads: usize,
}

impl ContinuousPositionBias {
    /// Linear layers `net.{i}.0`, each followed by SiLU, and a last one `net.{n}` without.
    pub fn new(config: &ContinuousPositionBiasConfig, b: &Builder) -> Result<Self> {
        let &ContinuousPositionBiasConfig { dim, heads, num_dims, layers } = config;
        let hidden = layers.max(1);
        let layer = |inputs: usize, outputs: usize, b: &Builder| {
            let weight = b.vector("weight", (outputs, inputs), Init::Kaiming)?;
            Ok((weight, b.vector("bias", outputs, Init::Uniform((inputs as f64).powf(-0.5)))?))
        };
        let net = b.pp("net");
        let layers = (0..hidden)
            .map(|i| layer(if i == 0 { num_dims } else { dim }, dim, &net.pp(i).pp(0)))
            .chain(std::iter::once_with(|| layer(dim, heads, &net.pp(hidden))))
            .collect::<Result<_>>()?;
        Ok(Self { layers, axes: num_dims, heads })
    }

    /// (heads, places, places) for the places of a row-major grid of `sizes`; in f64, and in f32 where the layer is on a GPU.
    pub fn forward(&self, sizes: &[usize]) -> Result<Tensor> {
        if sizes.len() != self.axes || sizes.contains(&0) {
            bail!("{} sizes of at least 1 are needed, not {sizes:?}", self.axes);
        }
        let places = sizes.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        let biases = places.and_then(|n| n.checked_mul(n)).and_then(|n| n.checked_mul(self.heads));
        if biases.is_none_or(|biases| biases > MOST_BIASES) {
            bail!("a table of biases for {sizes:?} places and {} heads would not fit in memory", self.heads);
        }
        let mut table = differences(sizes, f32::INFINITY)?.to_dtype(DType::F64)?;
        for (i, (weight, bias)) in self.layers.iter().enumerate() {
            let x = if i > 0 { table.silu()? } else { table };
            let here = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64);
            table = x.matmul(&here(weight)?.t()?)?.broadcast_add(&here(bias)?)?;
        }
        let (table, device) = (of_pairs(&table, sizes)?, self.layers[0].0.device());
        if device.is_cpu() { Ok(table) } else { table.to_dtype(DType::F32)?.to_device(device) }
    }

    pub(super) fn run(&self, call: &Call) -> Result<Tensor> {
        self.forward(&call.ints)?.to_dtype(DType::F32)
    }
}
