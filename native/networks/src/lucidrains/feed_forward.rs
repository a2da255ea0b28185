//! GEGLU, and the feed-forward part with its token shift.

use super::{Call, Clips, FeedForwardConfig, RmsNorm};
use crate::parameters::{Builder, Init};
use candle_core::{Result, Tensor, bail};
use kinora_kernels::{Weight, concatenate, geglu, linear};

/// The first half of the channels (axis 1) times the GELU of the second.
pub struct Geglu;

impl Geglu {
    pub(super) fn run(&self, call: &Call) -> Result<Tensor> {
        let x = call.tensor("x")?;
        if x.rank() < 2 || x.dim(1)? % 2 != 0 {
            bail!("x must have an even number of channels in its second axis, which {:?} has not", x.shape());
        }
        let last = x.rank() - 1;
        geglu(&x.transpose(1, last)?.contiguous()?)?.transpose(1, last)?.contiguous()
    }
}

/// Linear, GEGLU, half of the channels moved to the next frame, RMSNorm, linear.
pub struct FeedForward {
    proj_in: Weight,
    norm: RmsNorm,
    proj_out: Weight,
    dim: usize,
}

impl FeedForward {
    /// `proj_in.0`, `proj_out.0` and `proj_out.1`; the kernels are those of three-dimensional convolutions.
    pub fn new(config: &FeedForwardConfig, b: &Builder) -> Result<Self> {
        let (dim, inner) = (config.dim, config.inner());
        let (proj_in, proj_out) = (b.pp("proj_in"), b.pp("proj_out"));
        Ok(Self {
            proj_in: proj_in.pp(0).weight("weight", (2 * inner, dim, 1, 1, 1), Init::Kaiming)?,
            norm: RmsNorm::of_channels(inner, &proj_out.pp(0))?,
            proj_out: proj_out.pp(1).weight("weight", (dim, inner, 1, 1, 1), Init::Kaiming)?,
            dim,
        })
    }

    /// Of the same shape.
    pub fn forward(&self, clips: &Clips) -> Result<Clips> {
        clips.expect_channels(self.dim)?;
        let mut h = geglu(&linear(&clips.x, &self.proj_in, None)?)?;
        if clips.time {
            h = shift_token(&clips.with(h))?;
        }
        Ok(clips.with(linear(&self.norm.forward_last(&h)?, &self.proj_out, None)?))
    }

    pub(super) fn run(&self, call: &Call) -> Result<Tensor> {
        self.forward(&Clips::new(call.tensor("x")?, call.enable_time.unwrap_or(true))?)?.channels_second()
    }
}

/// The second half of the channels one frame later, zero in the first frame.
fn shift_token(clips: &Clips) -> Result<Tensor> {
    let (height, width, images, channels) = clips.x.dims4()?;
    let kept = channels.div_ceil(2);
    if kept == channels {
        bail!("a feed-forward of one channel has no half that could be moved to the next frame");
    }
    let moved = channels - kept;
    let later = clips.by_clip()?.narrow(4, kept, moved)?;
    let later = match clips.frames {
        1 => later.zeros_like()?,
        frames => later.narrow(3, 0, frames - 1)?.pad_with_zeros(3, 1, 0)?,
    };
    let later = later.contiguous()?.reshape((height, width, images, moved))?;
    concatenate(&clips.x.narrow(3, 0, kept)?.contiguous()?, &later)
}
