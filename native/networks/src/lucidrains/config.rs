//! The constructors' arguments, named and defaulted as the peer's.

use crate::refusals::within;
use serde::Deserialize;

/// The most that a width, or a product of widths, may be.
const WIDEST: usize = 1 << 16;
/// The most levels of a U-Net, or axes of a position bias.
const DEEPEST: usize = 16;

/// Constructor arguments of [`super::SinusoidalPosEmb`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinusoidalPosEmbConfig {
    /// Width of the code, 4 or more; an odd one gives one column less.
    pub dim: usize,
    /// Ratio of the first frequency and the last.
    #[serde(default = "theta")]
    pub theta: f64,
}

/// Constructor arguments of [`super::RmsNorm`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmsNormConfig {
    /// Number of gains.
    pub chan: usize,
    /// The axis, counted from the end when negative.
    #[serde(default = "one")]
    pub dim: i64,
}

/// Constructor arguments of [`super::Geglu`]: none.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GegluConfig {}

/// Constructor arguments of [`super::FeedForward`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedForwardConfig {
    /// Channels.
    pub dim: usize,
    /// The inner width is two thirds of this many times the outer one.
    #[serde(default = "four")]
    pub mult: f64,
}

/// Constructor arguments of [`super::ContinuousPositionBias`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContinuousPositionBiasConfig {
    /// Width of the hidden layers.
    pub dim: usize,
    /// Number of heads.
    pub heads: usize,
    /// Number of axes.
    #[serde(default = "one")]
    pub num_dims: usize,
    /// Number of hidden layers; there is at least one.
    #[serde(default = "two")]
    pub layers: usize,
}

/// Constructor arguments of [`super::Attend`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttendConfig {
    /// Of no effect in evaluation.
    #[serde(default)]
    pub dropout: f64,
    /// Changes which keys `causal` hides where there are more keys than queries, and allows no bias.
    #[serde(default)]
    pub flash: bool,
    /// Whether later keys are hidden.
    #[serde(default)]
    pub causal: bool,
}

/// Constructor arguments of [`super::Attention`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionConfig {
    /// Channels.
    pub dim: usize,
    /// Width of a head.
    #[serde(default = "sixty_four")]
    pub dim_head: usize,
    /// Number of heads.
    #[serde(default = "eight")]
    pub heads: usize,
    /// Allows no bias; of no other effect.
    #[serde(default)]
    pub flash: bool,
    /// Whether later tokens are hidden.
    #[serde(default)]
    pub causal: bool,
}

/// Constructor arguments of [`super::PseudoConv3d`]; others are ignored.
#[derive(Clone, Debug, Deserialize)]
pub struct PseudoConv3dConfig {
    /// Channels in.
    pub dim: usize,
    /// Channels out; `dim` when not given.
    #[serde(default)]
    pub dim_out: Option<usize>,
    /// Side of the spatial kernel; 1 has no temporal convolution.
    #[serde(default = "three")]
    pub kernel_size: usize,
    /// Length of the temporal kernel; `kernel_size` when not given.
    #[serde(default)]
    pub temporal_kernel_size: Option<usize>,
}

/// Constructor arguments of [`super::SpatioTemporalAttention`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpatioTemporalAttentionConfig {
    /// Channels.
    pub dim: usize,
    /// Width of a head.
    #[serde(default = "sixty_four")]
    pub dim_head: usize,
    /// Number of heads.
    #[serde(default = "eight")]
    pub heads: usize,
    /// Whether a feed-forward follows.
    #[serde(default = "yes")]
    pub add_feed_forward: bool,
    /// As [`FeedForwardConfig::mult`].
    #[serde(default = "four")]
    pub ff_mult: f64,
    /// Whether attention has a position bias; not together with `flash`.
    #[serde(default = "yes")]
    pub pos_bias: bool,
    /// As [`AttentionConfig::flash`].
    #[serde(default)]
    pub flash: bool,
    /// Whether later frames are hidden.
    #[serde(default)]
    pub causal_time_attn: bool,
}

/// Constructor arguments of [`super::Block`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockConfig {
    /// Channels in.
    pub dim: usize,
    /// Channels out.
    pub dim_out: usize,
    /// Ignored: kernels have 3 taps.
    #[serde(default)]
    pub kernel_size: Option<usize>,
    /// Ignored: kernels have 3 taps.
    #[serde(default)]
    pub temporal_kernel_size: Option<usize>,
}

/// Constructor arguments of [`super::ResnetBlock`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResnetBlockConfig {
    /// Channels in.
    pub dim: usize,
    /// Channels out.
    pub dim_out: usize,
    /// Width of the timestep's code; `None` for a block that has none.
    #[serde(default)]
    pub timestep_cond_dim: Option<usize>,
}

/// Constructor arguments of [`super::Downsample`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DownsampleConfig {
    /// Channels.
    pub dim: usize,
    /// Whether sides are halved.
    #[serde(default = "yes")]
    pub downsample_space: bool,
    /// Whether frames are halved.
    #[serde(default)]
    pub downsample_time: bool,
    /// Whether SiLU follows.
    #[serde(default)]
    pub nonlin: bool,
}

/// Constructor arguments of [`super::Upsample`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpsampleConfig {
    /// Channels.
    pub dim: usize,
    /// Whether sides are doubled.
    #[serde(default = "yes")]
    pub upsample_space: bool,
    /// Whether frames are doubled.
    #[serde(default)]
    pub upsample_time: bool,
    /// Whether SiLU follows.
    #[serde(default)]
    pub nonlin: bool,
}

/// Constructor arguments of [`super::SpaceTimeUnet`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceTimeUnetConfig {
    /// Channels after the first convolution.
    pub dim: usize,
    /// Channels of the pictures.
    #[serde(default = "three")]
    pub channels: usize,
    /// Each level's channels in terms of `dim`.
    #[serde(default = "default_mult")]
    pub dim_mult: Vec<usize>,
    /// Which levels attend.
    #[serde(default = "default_attention")]
    pub self_attns: Vec<bool>,
    /// Which levels halve the frames.
    #[serde(default = "default_compression")]
    pub temporal_compression: Vec<bool>,
    /// Each level's blocks after the first.
    #[serde(default = "default_depths")]
    pub resnet_block_depths: Vec<usize>,
    /// Width of a head.
    #[serde(default = "sixty_four")]
    pub attn_dim_head: usize,
    /// Number of heads.
    #[serde(default = "eight")]
    pub attn_heads: usize,
    /// Whether the network is told a timestep.
    #[serde(default = "yes")]
    pub condition_on_timestep: bool,
    /// As [`SpatioTemporalAttentionConfig::pos_bias`].
    #[serde(default = "yes")]
    pub attn_pos_bias: bool,
    /// As [`SpatioTemporalAttentionConfig::flash`].
    #[serde(default)]
    pub flash_attn: bool,
    /// As [`SpatioTemporalAttentionConfig::causal_time_attn`].
    #[serde(default)]
    pub causal_time_attn: bool,
}

fn theta() -> f64 {
    10_000.0
}

fn one<T: From<u8>>() -> T {
    T::from(1)
}

fn two() -> usize {
    2
}

fn three() -> usize {
    3
}

fn four() -> f64 {
    4.0
}

fn eight() -> usize {
    8
}

fn sixty_four() -> usize {
    64
}

fn yes() -> bool {
    true
}

fn default_mult() -> Vec<usize> {
    vec![1, 2, 4, 8]
}

fn default_attention() -> Vec<bool> {
    vec![false, false, false, true]
}

fn default_compression() -> Vec<bool> {
    vec![false, true, true, true]
}

fn default_depths() -> Vec<usize> {
    vec![2, 2, 2, 2]
}

/// What a constructor refuses.
pub(super) trait Checked {
    /// One sentence that names the field and what is accepted.
    fn check(&self) -> Result<(), String>;
}

fn widths(fields: &[(&str, usize)]) -> Result<(), String> {
    fields.iter().try_for_each(|&(field, value)| within(field, value, 1..=WIDEST))
}

fn biased_flash(flash: (&str, bool), pos_bias: (&str, bool)) -> Result<(), String> {
    if flash.1 && pos_bias.1 {
        return Err(format!("{} and {} must not both be true", flash.0, pos_bias.0));
    }
    Ok(())
}

impl Checked for SinusoidalPosEmbConfig {
    fn check(&self) -> Result<(), String> {
        within("dim", self.dim, 4..=WIDEST)?;
        if self.theta > 0.0 && self.theta.is_finite() { Ok(()) } else { Err("theta must be more than 0".into()) }
    }
}

impl Checked for RmsNormConfig {
    fn check(&self) -> Result<(), String> {
        widths(&[("chan", self.chan)])
    }
}

impl Checked for GegluConfig {
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl FeedForwardConfig {
    /// The inner width: the peer's `int(dim * mult * 2 / 3)`.
    pub fn inner(&self) -> usize {
        (self.dim as f64 * self.mult * 2.0 / 3.0) as usize
    }

    fn check_as(&self, mult: &str) -> Result<(), String> {
        widths(&[("dim", self.dim)])?;
        if (1..=WIDEST).contains(&self.inner()) {
            return Ok(());
        }
        Err(format!("{mult} must give an inner width of 1 to {WIDEST}, which {} does not", self.mult))
    }
}

impl Checked for FeedForwardConfig {
    fn check(&self) -> Result<(), String> {
        self.check_as("mult")
    }
}

impl Checked for ContinuousPositionBiasConfig {
    fn check(&self) -> Result<(), String> {
        widths(&[("dim", self.dim), ("heads", self.heads)])?;
        within("num_dims", self.num_dims, 1..=DEEPEST)?;
        within("layers", self.layers, 0..=1024)
    }
}

impl Checked for AttendConfig {
    fn check(&self) -> Result<(), String> {
        if (0.0..=1.0).contains(&self.dropout) { Ok(()) } else { Err("dropout must be 0 to 1".into()) }
    }
}

impl Checked for AttentionConfig {
    fn check(&self) -> Result<(), String> {
        widths(&[("dim", self.dim), ("dim_head", self.dim_head), ("heads", self.heads)])?;
        within("dim_head times heads", self.dim_head * self.heads, 1..=WIDEST)
    }
}

impl Checked for PseudoConv3dConfig {
    fn check(&self) -> Result<(), String> {
        widths(&[("dim", self.dim), ("dim_out", self.dim_out.unwrap_or(1))])?;
        within("kernel_size", self.kernel_size, 1..=255)?;
        within("temporal_kernel_size", self.temporal_kernel_size.unwrap_or(1), 1..=255)
    }
}

impl Checked for SpatioTemporalAttentionConfig {
    fn check(&self) -> Result<(), String> {
        biased_flash(("flash", self.flash), ("pos_bias", self.pos_bias))?;
        let &Self { dim, dim_head, heads, .. } = self;
        AttentionConfig { dim, dim_head, heads, flash: false, causal: false }.check()?;
        if self.pos_bias {
            within("dim", dim, 2..=WIDEST)?;
        }
        if self.add_feed_forward { FeedForwardConfig { dim, mult: self.ff_mult }.check_as("ff_mult") } else { Ok(()) }
    }
}

impl Checked for BlockConfig {
    fn check(&self) -> Result<(), String> {
        widths(&[("dim", self.dim), ("dim_out", self.dim_out)])
    }
}

impl Checked for ResnetBlockConfig {
    fn check(&self) -> Result<(), String> {
        let cond = self.timestep_cond_dim.unwrap_or(1);
        widths(&[("dim", self.dim), ("dim_out", self.dim_out), ("timestep_cond_dim", cond)])
    }
}

impl Checked for DownsampleConfig {
    fn check(&self) -> Result<(), String> {
        widths(&[("dim", self.dim)])?;
        if self.downsample_space || self.downsample_time {
            return Ok(());
        }
        Err("downsample_space and downsample_time must not both be false".into())
    }
}

impl Checked for UpsampleConfig {
    fn check(&self) -> Result<(), String> {
        widths(&[("dim", self.dim)])?;
        if self.upsample_space || self.upsample_time {
            return Ok(());
        }
        Err("upsample_space and upsample_time must not both be false".into())
    }
}

impl Checked for SpaceTimeUnetConfig {
    fn check(&self) -> Result<(), String> {
        widths(&[("dim", self.dim), ("channels", self.channels)])?;
        let levels = self.dim_mult.len();
        within("the length of dim_mult", levels, 0..=DEEPEST)?;
        for (field, length) in [
            ("self_attns", self.self_attns.len()),
            ("temporal_compression", self.temporal_compression.len()),
            ("resnet_block_depths", self.resnet_block_depths.len()),
        ] {
            if length != levels {
                return Err(format!("{field} must have as many entries as dim_mult, {levels}, not {length}"));
            }
        }
        for mult in &self.dim_mult {
            within("each of dim_mult", *mult, 1..=WIDEST)?;
            within("dim times each of dim_mult", mult * self.dim, 1..=WIDEST)?;
        }
        self.resnet_block_depths
            .iter()
            .try_for_each(|depth| within("each of resnet_block_depths", *depth, 1..=1024))?;
        biased_flash(("flash_attn", self.flash_attn), ("attn_pos_bias", self.attn_pos_bias))?;
        if self.attn_pos_bias {
            within("dim", self.dim, 2..=WIDEST)?;
        }
        let &Self { dim, attn_dim_head: dim_head, attn_heads: heads, .. } = self;
        AttentionConfig { dim, dim_head, heads, flash: false, causal: false }
            .check()
            .map_err(|why| why.replace("dim_head", "attn_dim_head").replace("heads", "attn_heads"))?;
        if self.condition_on_timestep && (self.dim < 4 || !self.dim.is_multiple_of(2)) {
            return Err(format!("dim must be even and at least 4 for condition_on_timestep, not {}", self.dim));
        }
        Ok(())
    }
}
