//! The pseudo-3D convolution.

use super::{Call, Clips, PseudoConv3dConfig};
use crate::parameters::{Builder, Init};
use candle_core::{Result, Tensor, bail};
use kinora_kernels::{Weight, conv2d, rms_norm_silu_conv2d, temporal_conv};

/// A convolution of each frame, then one over the frames of each pixel that starts as the identity.
pub struct PseudoConv3d {
    spatial: (Weight, Tensor),
    temporal: Option<(Weight, Tensor)>,
    kernel: usize,
    dim: usize,
}

impl PseudoConv3d {
    /// `spatial_conv` and, unless its kernel is a single pixel, `temporal_conv`.
    pub fn new(config: &PseudoConv3dConfig, b: &Builder) -> Result<Self> {
        let &PseudoConv3dConfig { dim, dim_out, kernel_size: kernel, temporal_kernel_size } = config;
        let (outputs, frames) = (dim_out.unwrap_or(dim), temporal_kernel_size.unwrap_or(kernel));
        let (space, time) = (b.pp("spatial_conv"), b.pp("temporal_conv"));
        let bound = ((dim * kernel * kernel) as f64).powf(-0.5);
        let weight = space.weight("weight", (outputs, dim, kernel, kernel), Init::Kaiming)?;
        let spatial = (weight, space.vector("bias", outputs, Init::Uniform(bound))?);
        let temporal = if kernel > 1 {
            let weight = time.weight("weight", (outputs, outputs, frames), Init::Dirac)?;
            Some((weight, time.vector("bias", outputs, Init::Zeros)?))
        } else {
            None
        };
        Ok(Self { spatial, temporal, kernel, dim })
    }

    /// From `dim` to `dim_out` channels with an odd kernel: as the other layers use it.
    pub fn of_kernel(dim: usize, dim_out: usize, kernel: usize, frames: usize, b: &Builder) -> Result<Self> {
        let config =
            PseudoConv3dConfig { dim, dim_out: Some(dim_out), kernel_size: kernel, temporal_kernel_size: Some(frames) };
        Self::new(&config, b)
    }

    /// Padded by half of the kernel on each side: odd kernels keep the size, even ones add one.
    pub fn forward(&self, clips: &Clips) -> Result<Clips> {
        clips.expect_channels(self.dim)?;
        let (weight, bias) = &self.spatial;
        let y = clips.with(conv2d(&clips.x, weight, Some(bias), 1, self.kernel / 2)?);
        self.forward_time(y)
    }

    /// [`PseudoConv3d::forward`] of clips normalised along their channels and through SiLU.
    pub(super) fn forward_normed(&self, clips: &Clips, gains: &Tensor, eps: f64) -> Result<Clips> {
        clips.expect_channels(self.dim)?;
        let (weight, bias) = &self.spatial;
        let y = rms_norm_silu_conv2d(&clips.x, gains, eps, weight, Some(bias), 1, self.kernel / 2)?;
        self.forward_time(clips.with(y))
    }

    fn forward_time(&self, y: Clips) -> Result<Clips> {
        match &self.temporal {
            Some((weight, bias)) if y.time => {
                if self.kernel.is_multiple_of(2) {
                    // The peer then folds the larger picture back by the sides of the smaller one, which fails.
                    bail!("a kernel_size of {} cannot look along time: it must be odd", self.kernel);
                }
                along_time(&y, weight, bias)
            }
            _ => Ok(y),
        }
    }

    pub(super) fn run(&self, call: &Call) -> Result<Tensor> {
        self.forward(&Clips::new(call.tensor("x")?, call.enable_time.unwrap_or(true))?)?.channels_second()
    }
}

fn along_time(clips: &Clips, weight: &Weight, bias: &Tensor) -> Result<Clips> {
    let kernel = weight.tensor().dim(2)?;
    if kernel % 2 == 1 {
        return Ok(clips.with(temporal_conv(&clips.x, weight, Some(bias), clips.frames)?));
    }
    // One more frame of zeros and one more tap of zeros: the odd kernel that gives the same.
    let (height, width, _, channels) = clips.x.dims4()?;
    let (count, frames) = (clips.clips()?, clips.frames + 1);
    let x = clips.by_clip()?.pad_with_zeros(3, 0, 1)?.reshape((height, width, count * frames, channels))?;
    let weight = Weight::fixed(weight.tensor().pad_with_zeros(2, 0, 1)?.contiguous()?);
    Ok(clips.with_frames(temporal_conv(&x, &weight, Some(bias), frames)?, frames))
}
