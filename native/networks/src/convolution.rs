//! Two-dimensional convolution, and the pseudo-3D one: over space, then over frames (Make-A-Video, Eq. 2).

use crate::parameters::{Builder, Init};
use candle_core::{Result, Tensor};
use kinora_kernels::{Weight, conv2d, temporal_conv};

/// A convolution over each image, padded so that a stride of 1 keeps its size.
pub struct Conv2d {
    weight: Weight,
    bias: Tensor,
    kernel: usize,
    stride: usize,
}

impl Conv2d {
    /// `weight` (outputs, inputs, kernel, kernel) and `bias` (outputs) under `b`: zero, or torch's default.
    pub fn new(inputs: usize, outputs: usize, kernel: usize, stride: usize, zero: bool, b: &Builder) -> Result<Self> {
        let bound = ((inputs * kernel * kernel) as f64).powf(-0.5);
        let (weight, bias) = if zero { (Init::Zeros, Init::Zeros) } else { (Init::Kaiming, Init::Uniform(bound)) };
        Ok(Self {
            weight: b.weight("weight", (outputs, inputs, kernel, kernel), weight)?,
            bias: b.vector("bias", outputs, bias)?,
            kernel,
            stride,
        })
    }

    /// (h, w, images, inputs) to (h / stride, w / stride, images, outputs).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv2d(x, &self.weight, Some(&self.bias), self.stride, self.kernel / 2)
    }
}

/// What a [`PseudoConv3d`] looks like.
#[derive(Clone, Copy)]
pub struct PseudoConv3dOptions {
    /// Side of the spatial kernel, odd.
    pub kernel: usize,
    /// Spatial stride.
    pub stride: usize,
    /// Length of the temporal kernel, odd; `None` for an image network.
    pub temporal_kernel: Option<usize>,
    /// Whether the spatial convolution starts as zero.
    pub zero: bool,
}

/// A spatial convolution, followed over frames by one that starts as the identity.
///
/// A 1x1 kernel sees no neighbours in space and gets none in time.
pub struct PseudoConv3d {
    spatial: Conv2d,
    temporal: Option<(Weight, Tensor)>,
}

impl PseudoConv3d {
    /// From `inputs` to `outputs` channels.
    pub fn new(inputs: usize, outputs: usize, options: PseudoConv3dOptions, b: &Builder) -> Result<Self> {
        let PseudoConv3dOptions { kernel, stride, temporal_kernel, zero } = options;
        let time = b.pp("temporal_conv");
        let temporal = match temporal_kernel.filter(|_| kernel > 1) {
            Some(length) => Some((
                time.weight("weight", (outputs, outputs, length), Init::Dirac)?,
                time.vector("bias", outputs, Init::Zeros)?,
            )),
            None => None,
        };
        Ok(Self { spatial: Conv2d::new(inputs, outputs, kernel, stride, zero, &b.pp("spatial_conv"))?, temporal })
    }

    /// (h, w, clips x frames, inputs) to (h / stride, w / stride, clips x frames, outputs). One frame is an image: its
    /// neighbours in time do not exist and the temporal kernel is left out.
    pub fn forward(&self, x: &Tensor, frames: usize) -> Result<Tensor> {
        let y = self.spatial.forward(x)?;
        match &self.temporal {
            Some((weight, bias)) if frames > 1 => temporal_conv(&y, weight, Some(bias), frames),
            _ => Ok(y),
        }
    }
}
