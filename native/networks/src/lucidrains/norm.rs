//! RMSNorm.

use super::{Call, RmsNormConfig};
use crate::parameters::{Builder, Init};
use candle_core::{D, DType, Result, Tensor, bail};
use kinora_kernels::{rms_norm, rms_norm_silu, rms_norm_silu_add};

/// `x / max(|x|, 1e-12) * √size * gamma` along one axis.
pub struct RmsNorm {
    gamma: Tensor,
    dim: i64,
}

/// The least root mean square that a row of `size` numbers is divided by: the peer bounds its length by 1e-12.
fn eps(size: usize) -> f64 {
    1e-12 / (size as f64).sqrt()
}

impl RmsNorm {
    /// `gamma` (chan).
    pub fn new(config: &RmsNormConfig, b: &Builder) -> Result<Self> {
        Ok(Self { gamma: b.vector("gamma", config.chan, Init::Ones)?, dim: config.dim })
    }

    /// Along the channels of activations: the form that all other layers use.
    pub fn of_channels(channels: usize, b: &Builder) -> Result<Self> {
        Self::new(&RmsNormConfig { chan: channels, dim: -1 }, b)
    }

    /// (..., chan) to the same.
    pub fn forward_last(&self, x: &Tensor) -> Result<Tensor> {
        rms_norm(x, &self.gamma, eps(self.gamma.elem_count()))
    }

    /// Activations normalised along their channels, scaled, shifted and through SiLU, plus `residual`; `scale_shift` is
    /// two tensors of (1, 1, clips, 1, chan) or (1, 1, 1, 1, chan).
    pub fn forward_silu(
        &self,
        x: &Tensor,
        scale_shift: Option<&(Tensor, Tensor)>,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (gains, eps) = self.gains(scale_shift)?;
        match residual {
            Some(residual) => rms_norm_silu_add(x, &gains, residual, eps),
            None => rms_norm_silu(x, &gains, eps),
        }
    }

    /// What [`rms_norm_silu`] is given besides activations: gains and offsets of each clip, and the least root mean square.
    pub(super) fn gains(&self, scale_shift: Option<&(Tensor, Tensor)>) -> Result<(Tensor, f64)> {
        let channels = self.gamma.elem_count();
        let (gain, offset) = match scale_shift {
            Some((scale, shift)) => {
                let of_clips = |tensor: &Tensor| tensor.reshape(((), channels));
                ((of_clips(scale)? + 1.0)?.broadcast_mul(&self.gamma)?, of_clips(shift)?)
            }
            None => (self.gamma.unsqueeze(0)?, self.gamma.zeros_like()?.unsqueeze(0)?),
        };
        Ok((Tensor::cat(&[gain, offset], 1)?, eps(channels)))
    }

    pub(super) fn run(&self, call: &Call) -> Result<Tensor> {
        let x = call.tensor("x")?;
        let rank = x.rank();
        let axis = usize::try_from(if self.dim < 0 { self.dim + rank as i64 } else { self.dim });
        let Some(axis) = axis.ok().filter(|axis| *axis < rank) else {
            bail!("x must have the axis {}, which {:?} has not", self.dim, x.shape());
        };
        // Where a positive axis is normalised, it is scaled as well; where a negative one is, the last is scaled.
        let scaled = if self.dim < 0 { rank - 1 } else { axis };
        let turned = x.transpose(axis, rank - 1)?.contiguous()?;
        let size = turned.dim(D::Minus1)?;
        if scaled == axis && self.gamma.elem_count() == size {
            return self.forward_last(&turned)?.transpose(axis, rank - 1)?.contiguous();
        }
        let ones = Tensor::ones(size, DType::F32, x.device())?;
        let y = rms_norm(&turned, &ones, eps(size))?.transpose(axis, rank - 1)?;
        let mut shape = vec![1; rank];
        shape[scaled] = self.gamma.elem_count();
        y.broadcast_mul(&self.gamma.reshape(shape)?)
    }
}
