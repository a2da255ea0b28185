//! Pseudo-3D convolution, attention, norms and resampling as candle custom ops.
//!
//! Activations are channels-last in the order (height, width, batch x frames, channels). In this order the four
//! layers of a pseudo-3D network (spatial and temporal convolution, spatial and temporal attention) need no
//! permutation: a kernel tap is a shift of rows, and the frames of a pixel are neighbours.
//!
//! Every op has its own forward and backward and never calls candle's convolution or attention. With the feature `cuda` an
//! op computes where its tensors are, on the processor or on a GPU.
#![warn(missing_docs)]

mod activation;
mod attention;
mod blocks;
pub mod buffers;
mod candle_threads;
mod convolution;
#[cfg(feature = "cuda")]
mod cublas;
#[cfg(feature = "cuda")]
mod cudnn;
mod device;
#[cfg(feature = "cuda")]
mod gpu;
mod graph;
mod grid;
mod isa;
mod join;
mod lanes;
mod minimal;
pub mod motion;
mod norm;
mod operands;
pub mod philox;
mod precision;
mod product;
pub mod resample;
mod runs;
mod scaled_norm;
mod simd;
mod spent;
mod step;
mod storage;
mod taps;
mod team;
mod weight;
mod weight_gradient;

pub use activation::{geglu, gelu, silu};
pub use attention::{AttentionOptions, Sequences, attention};
pub use candle_threads::keep_candle_on_the_calling_thread;
pub use convolution::{conv2d, linear, rms_norm_silu_conv2d, temporal_conv};
pub use device::{BUILT_FOR_GPUS, Gpu, gpu};
pub use grid::{average_pool2, patchify, pixel_shuffle, pixel_unshuffle, unpatchify, upsample_nearest2};
pub use isa::{Isa, isa};
pub use join::{add, concatenate, concatenate_scaled};
pub use norm::{group_norm, layer_norm, rms_norm};
pub use precision::{Precision, precision, with_precision};
pub use scaled_norm::{rms_norm_silu, rms_norm_silu_add};
pub use spent::{backward, backward_from, spent};
pub use step::{Step, sum_of_squares};
pub use weight::Weight;
