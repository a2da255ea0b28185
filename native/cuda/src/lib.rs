//! How the CUDA kernels of `kernels/cuda` are launched.
//!
//! A [`Launch`] is a value: the kernel's name, its grid, block and shared memory, and its arguments in order. Whoever has
//! a driver runs it; nothing here needs one, so that every launch is tested where there is no GPU.
#![warn(missing_docs)]

mod attention;
mod convolution;
mod elementwise;
mod frames;
mod launch;
#[cfg(feature = "ptx")]
mod modules;
mod norm;
mod optimizer;
mod resample;
mod spatial_convolution;

pub use attention::{Attention, AttentionTensors};
pub use convolution::{
    Convolution, ConvolutionTensors, Fused, Packing, bias_parts, column_sums, pack_weight, sum_parts, sum_taps, to_bias,
};
pub use elementwise::{activation, activation_backward, add, add_row, concatenate, geglu, geglu_backward, round_bf16};
pub use frames::{Combine, MaskedFrames, normal_noise};
pub use launch::{Address, Argument, Element, Launch};
#[cfg(feature = "ptx")]
pub use modules::module_of;
pub use norm::{GroupNorm, RowNorm};
pub use optimizer::{AdamW, SQUARES_PER_PART, sum_squares};
pub use resample::{gather2, patchify, resize_axis, spread2};
pub use spatial_convolution::SpatialConvolution;
