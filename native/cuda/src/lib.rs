//! How the CUDA kernels of `kernels/cuda` are launched.
//!
//! A [`Launch`] is a value: the kernel's name, its grid, block and shared memory, and its arguments in order. Whoever has
//! a driver runs it; nothing here needs one, so that every launch is tested where there is no GPU.
#![warn(missing_docs)]

mod attention;
mod convolution;
mod frames;
mod launch;
mod norm;
mod resample;

pub use attention::{Attention, AttentionTensors};
pub use convolution::{Convolution, ConvolutionTensors, Fused, column_sums, sum_parts};
pub use frames::{Combine, MaskedFrames, normal_noise};
pub use launch::{Address, Argument, Element, Launch};
pub use norm::{GroupNorm, RowNorm};
pub use resample::{gather2, patchify, resize_axis, spread2};
