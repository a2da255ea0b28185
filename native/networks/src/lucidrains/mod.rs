//! The layers of lucidrains' make-a-video-pytorch 0.4.0 (MIT, <https://github.com/lucidrains/make-a-video-pytorch>), by
//! their own names: classes, constructor arguments, call arguments and state dicts are that package's, the code is not.
//!
//! They exist so that its checkpoints run here and so that its numbers can be compared with ours. Faults are reproduced
//! here, and nowhere else in this project:
//!
//! - A new [`SpaceTimeUnet`] with `enable_time` is not the image network it was inflated from. Temporal convolutions
//!   start as the identity and attention as zero, but [`FeedForward`] shifts half of its channels by one frame, without
//!   a parameter that could undo it, and [`Downsample`] and [`Upsample`] mix frames at random.
//! - With an odd inner width the halves that are shifted and not shifted differ: the first has one channel more.
//! - A video of one frame is not an image: temporal kernels see zeros beside it, and the shifted channels are lost.
//! - Frames must be a multiple of 2 to the number of levels that compress time, sides a multiple of 2 to the number of
//!   levels: 76 frames do not fit the default network, which asks for multiples of 8.
//! - Only the first block of a level is told the timestep.
//! - [`PseudoConv3d`] accepts any other argument in silence, [`Block`] ignores `kernel_size` and
//!   `temporal_kernel_size`, and an even kernel makes pictures one pixel (or clips one frame) larger.
//! - [`RmsNorm`] with a negative `dim` other than -1 normalises along that axis but scales along the last one.
//! - [`Attend`] with `flash` and `causal` lets query i see the first i + 1 keys, without it the last query sees all
//!   keys; the two differ where there are more keys than queries.
//!
//! Inside, activations have the order of the kernels, (height, width, clips x frames, channels); [`Clips`] converts.

mod attend;
mod attention;
mod call;
mod clips;
mod config;
mod convolution;
mod feed_forward;
mod layer;
mod norm;
mod position;
mod resample;
mod resnet_block;
#[cfg(test)]
mod tests;
mod unet;

pub use attend::Attend;
pub use attention::{Attention, SpatioTemporalAttention};
pub use call::{Call, LayerError};
pub use clips::Clips;
pub use config::*;
pub use convolution::PseudoConv3d;
pub use feed_forward::{FeedForward, Geglu};
pub use layer::{Layer, PREFIX, kinds};
pub use norm::RmsNorm;
pub use position::{ContinuousPositionBias, SinusoidalPosEmb};
pub use resample::{Downsample, Upsample};
pub use resnet_block::{Block, ResnetBlock};
pub use unet::SpaceTimeUnet;
