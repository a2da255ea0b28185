//! Between the peer's order of axes and that of the kernels.

use candle_core::{Result, Tensor, bail};
use kinora_kernels::{patchify, unpatchify};

/// Clips or pictures in the order of the kernels, and whether layers look along time.
#[derive(Clone, Debug)]
pub struct Clips {
    /// (height, width, clips x frames, channels).
    pub x: Tensor,
    /// Frames of a clip; 1 for pictures.
    pub frames: usize,
    /// Whether these are clips, of however many frames, and layers look along time.
    pub time: bool,
    video: bool,
}

impl Clips {
    /// From (b, c, f, h, w), or (b, c, h, w), which has no time to look along.
    ///
    /// # Errors
    /// `x` has neither four nor five axes.
    pub fn new(x: &Tensor, enable_time: bool) -> Result<Self> {
        let (x, frames, video) = match x.dims() {
            &[_, _, frames, _, _] => (x.permute((0, 2, 3, 4, 1))?, frames, true),
            &[_, _, _, _] => (x.permute((0, 2, 3, 1))?.unsqueeze(1)?, 1, false),
            dims => bail!("x must have the axes b, c, f, h, w or b, c, h, w, not {dims:?}"),
        };
        Ok(Self { x: patchify(&x, 1)?, frames, time: enable_time && video, video })
    }

    /// Back to the order that [`Clips::new`] was given.
    pub fn channels_second(&self) -> Result<Tensor> {
        let x = unpatchify(&self.x, 1, self.clips()?, self.frames)?;
        if self.video {
            x.permute((0, 4, 1, 2, 3))?.contiguous()
        } else {
            x.squeeze(1)?.permute((0, 3, 1, 2))?.contiguous()
        }
    }

    /// Other activations of the same clips.
    pub fn with(&self, x: Tensor) -> Self {
        Self { x, ..self.clone() }
    }

    /// Activations with another number of frames.
    pub fn with_frames(&self, x: Tensor, frames: usize) -> Self {
        Self { x, frames, ..self.clone() }
    }

    /// Number of clips or pictures.
    pub fn clips(&self) -> Result<usize> {
        Ok(self.x.dim(2)? / self.frames)
    }

    /// Refuses another number of channels than `wanted`.
    pub fn expect_channels(&self, wanted: usize) -> Result<()> {
        match self.x.dim(3)? {
            channels if channels == wanted => Ok(()),
            channels => bail!("x must have {wanted} channels, not {channels}"),
        }
    }

    /// (height, width, clips, frames, channels), without copying.
    pub fn by_clip(&self) -> Result<Tensor> {
        let (height, width, images, channels) = self.x.dims4()?;
        self.x.reshape((height, width, images / self.frames, self.frames, channels))
    }

    /// A tensor with the axes of [`Clips::by_clip`], repeated along those where it has size 1.
    pub fn spread(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        // One axis after the other, so that its gradient is summed axis by axis, which rounds less.
        for (axis, size) in self.by_clip()?.dims().iter().enumerate().rev() {
            let mut dims = x.dims().to_vec();
            dims[axis] = *size;
            if dims != x.dims() {
                x = x.broadcast_as(dims)?;
            }
        }
        Ok(x)
    }

    /// The same single clip `count` times.
    pub fn repeated(&self, count: usize) -> Result<Self> {
        let (height, width, images, channels) = self.x.dims4()?;
        let x = self.by_clip()?.broadcast_as((height, width, count, self.frames, channels))?.contiguous()?;
        Ok(self.with(x.reshape((height, width, count * images, channels))?))
    }
}
