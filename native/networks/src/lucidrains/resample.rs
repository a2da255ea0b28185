//! Halving and doubling of sides and of frames.

use super::{Call, Clips, DownsampleConfig, UpsampleConfig};
use crate::parameters::{Builder, Init};
use candle_core::{Result, Tensor, bail};
use kinora_kernels::{Weight, linear, pixel_shuffle, pixel_unshuffle, silu, spent};

fn activated(y: Tensor, nonlin: bool) -> Result<Tensor> {
    if nonlin { silu(&y) } else { Ok(y) }
}

/// Four pixels, then two frames, side by side, and a linear layer to the old width.
pub struct Downsample {
    space: Option<Weight>,
    time: Option<Weight>,
    nonlin: bool,
    dim: usize,
}

impl Downsample {
    /// `down_space.1` and `down_time.1`.
    pub fn new(config: &DownsampleConfig, b: &Builder) -> Result<Self> {
        let &DownsampleConfig { dim, downsample_space, downsample_time, nonlin } = config;
        let weight = |wanted: bool, name: &str, shape: &[usize]| {
            if wanted { b.pp(name).pp(1).weight("weight", shape, Init::Kaiming).map(Some) } else { Ok(None) }
        };
        Ok(Self {
            space: weight(downsample_space, "down_space", &[dim, 4 * dim, 1, 1])?,
            time: weight(downsample_time, "down_time", &[dim, 2 * dim, 1, 1, 1])?,
            nonlin,
            dim,
        })
    }

    /// Half the sides, and half the frames when the clips have time.
    pub fn forward(&self, clips: &Clips) -> Result<Clips> {
        clips.expect_channels(self.dim)?;
        let mut clips = clips.clone();
        if let Some(weight) = &self.space {
            clips.x = activated(linear(&pixel_unshuffle(&clips.x, 2)?, weight, None)?, self.nonlin)?;
        }
        let Some(weight) = self.time.as_ref().filter(|_| clips.time) else { return Ok(clips) };
        if !clips.frames.is_multiple_of(2) {
            bail!("{} frames cannot be halved", clips.frames);
        }
        // The peer's channels are (channel, frame of the pair), ours (frame, channel): the columns change places.
        let dim = self.dim;
        let weight = weight.tensor().reshape((dim, dim, 2))?.transpose(1, 2)?.contiguous()?.reshape((dim, 2 * dim))?;
        let (height, width, images, _) = clips.x.dims4()?;
        let pairs = clips.x.reshape((height, width, images / 2, 2 * dim))?;
        let y = activated(linear(&pairs, &Weight::fixed(weight), None)?, self.nonlin)?;
        Ok(clips.with_frames(y, clips.frames / 2))
    }

    pub(super) fn run(&self, call: &Call) -> Result<Tensor> {
        self.forward(&Clips::new(call.tensor("x")?, call.enable_time.unwrap_or(true))?)?.channels_second()
    }
}

/// A linear layer to four pixels, then one to two frames.
pub struct Upsample {
    space: Option<(Weight, Tensor)>,
    time: Option<(Weight, Tensor)>,
    nonlin: bool,
    dim: usize,
}

impl Upsample {
    /// `up_space.0` and `up_time.0`. A new one of the peer gives four equal pixels and two equal frames; weights from a
    /// seed do not.
    pub fn new(config: &UpsampleConfig, b: &Builder) -> Result<Self> {
        let &UpsampleConfig { dim, upsample_space, upsample_time, nonlin } = config;
        let layer = |wanted: bool, name: &str, shape: &[usize]| -> Result<Option<(Weight, Tensor)>> {
            let b = b.pp(name).pp(0);
            if !wanted {
                return Ok(None);
            }
            let weight = b.weight("weight", shape, Init::Uniform((6.0 / dim as f64).sqrt()))?;
            Ok(Some((weight, b.vector("bias", shape[0], Init::Zeros)?)))
        };
        Ok(Self {
            space: layer(upsample_space, "up_space", &[4 * dim, dim, 1, 1])?,
            time: layer(upsample_time, "up_time", &[2 * dim, dim, 1, 1, 1])?,
            nonlin,
            dim,
        })
    }

    /// Twice the sides, and twice the frames when the clips have time.
    pub fn forward(&self, clips: &Clips) -> Result<Clips> {
        clips.expect_channels(self.dim)?;
        let mut clips = clips.clone();
        if let Some((weight, bias)) = &self.space {
            let patches = activated(linear(&clips.x, weight, Some(bias))?, self.nonlin)?;
            clips.x = pixel_shuffle(&patches, 2)?;
            spent(&patches)?;
        }
        let Some((weight, bias)) = self.time.as_ref().filter(|_| clips.time) else { return Ok(clips) };
        // Rows are (channel, frame of the pair) in the peer's order, (frame, channel) in ours.
        let dim = self.dim;
        let weight = weight.tensor().reshape((dim, 2, dim))?.transpose(0, 1)?.contiguous()?.reshape((2 * dim, dim))?;
        let bias = bias.reshape((dim, 2))?.t()?.contiguous()?.flatten_all()?;
        let (height, width, images, _) = clips.x.dims4()?;
        let y = activated(linear(&clips.x, &Weight::fixed(weight), Some(&bias))?, self.nonlin)?;
        Ok(clips.with_frames(y.reshape((height, width, 2 * images, dim))?, 2 * clips.frames))
    }

    pub(super) fn run(&self, call: &Call) -> Result<Tensor> {
        self.forward(&Clips::new(call.tensor("x")?, call.enable_time.unwrap_or(true))?)?.channels_second()
    }
}
