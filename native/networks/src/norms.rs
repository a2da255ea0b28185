//! Group norm with scale-shift and SiLU, and layer norm.

use crate::parameters::{Builder, Init};
use candle_core::{Result, Tensor};
use kinora_kernels::{group_norm, layer_norm};

/// Group norm with learned gains, an optional scale-shift of a conditioning vector, and SiLU.
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Over `groups` groups of `channels` channels; `eps` is added to the variance.
    pub fn new(channels: usize, groups: usize, eps: f64, b: &Builder) -> Result<Self> {
        let weight = b.vector("weight", channels, Init::Ones)?;
        Ok(Self { weight, bias: b.vector("bias", channels, Init::Zeros)?, groups, eps })
    }

    /// x̂ * weight + bias, then SiLU when asked; x is (h, w, n, c).
    pub fn forward(&self, x: &Tensor, silu: bool) -> Result<Tensor> {
        let gains = Tensor::cat(&[&self.weight, &self.bias], 0)?.unsqueeze(0)?;
        group_norm(x, &gains, self.groups, self.eps, silu)
    }

    /// SiLU((x̂ * weight + bias) * (1 + scale) + shift), `scale_shift` (clips, 2c) with the scales first.
    pub fn forward_scaled(&self, x: &Tensor, scale_shift: &Tensor) -> Result<Tensor> {
        let channels = self.weight.elem_count();
        let scale = (scale_shift.narrow(1, 0, channels)? + 1.0)?;
        let shift = scale_shift.narrow(1, channels, channels)?;
        let gain = scale.broadcast_mul(&self.weight)?;
        let offset = (scale.broadcast_mul(&self.bias)? + shift)?;
        group_norm(x, &Tensor::cat(&[&gain, &offset], 1)?, self.groups, self.eps, true)
    }
}

/// Layer norm over the last axis with learned gains.
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// `weight` of ones and `bias` of zeros, both (channels), under `b`; `eps` is added to the variance.
    pub fn new(channels: usize, eps: f64, b: &Builder) -> Result<Self> {
        let weight = b.vector("weight", channels, Init::Ones)?;
        Ok(Self { weight, bias: b.vector("bias", channels, Init::Zeros)?, eps })
    }

    /// x̂ * weight + bias.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}
