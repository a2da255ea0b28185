//! The configuration of a pseudo-3D U-Net, checked before anything is made of it.

use crate::refusals::{class_name, divides, each_within, within};
use serde::{Deserialize, Serialize};

/// The class name in `config.json`.
pub const CLASS: &str = "UNetPseudo3DModel";

/// A pseudo-3D U-Net: `config.json` of a decoder, interpolation or super-resolution folder.
///
/// Without `temporal` it is an image network; the same weights with it make the video network (Make-A-Video, 3.2).
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// Always `UNetPseudo3DModel`.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// Channels of a pixel going in: 3, or more with masked frames, a mask or a low-resolution picture.
    pub in_channels: usize,
    /// Channels of a pixel coming out.
    #[serde(default = "three")]
    pub out_channels: usize,
    /// Whether as many channels again come out, to interpolate the variance (improved DDPM, 3.1).
    #[serde(default)]
    pub learned_variance: bool,
    /// Side of the pixel-unshuffle patch; sides of the picture must be multiples of patch * 2^(levels - 1).
    #[serde(default = "one")]
    pub patch_size: usize,
    /// Width of each level, from the finest.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each level, on each side.
    #[serde(default = "one")]
    pub layers_per_block: usize,
    /// Whether each level has attention after its residual blocks.
    pub attention: Vec<bool>,
    /// Whether the middle has attention.
    #[serde(default)]
    pub mid_attention: bool,
    /// Channels of an attention head.
    #[serde(default = "thirty_two")]
    pub attention_head_dim: usize,
    /// Whether spatial attention has a continuous position bias; temporal attention always has.
    #[serde(default)]
    pub spatial_position_bias: bool,
    /// Inner width of the attention's feed-forward (GEGLU) as a multiple of the channels; 0 for none.
    #[serde(default)]
    pub feed_forward_mult: usize,
    /// Groups of each group norm.
    #[serde(default = "sixteen")]
    pub norm_num_groups: usize,
    /// Width of the conditioning vector.
    pub time_embedding_dim: usize,
    /// Width of the CLIP image embedding that conditions the network; `null` for none.
    #[serde(default)]
    pub image_embedding_dim: Option<usize>,
    /// Tokens made of the image embedding for attention to see.
    #[serde(default)]
    pub context_tokens: usize,
    /// Whether temporal convolutions and attention are there.
    #[serde(default)]
    pub temporal: bool,
    /// Length of the temporal kernels, odd.
    #[serde(default = "three")]
    pub temporal_kernel_size: usize,
    /// Whether a frame attends only to itself and earlier ones.
    #[serde(default)]
    pub causal_temporal_attention: bool,
    /// Distance in frames beyond which the temporal position bias stays the same.
    #[serde(default = "sixteen")]
    pub max_temporal_distance: usize,
    /// Whether the network is told the frame rate.
    #[serde(default)]
    pub fps_conditioning: bool,
    /// Whether the network is told how much noise was added to its low-resolution input.
    #[serde(default)]
    pub augmentation_conditioning: bool,
}

fn one() -> usize {
    1
}

fn three() -> usize {
    3
}

fn sixteen() -> usize {
    16
}

fn thirty_two() -> usize {
    32
}

impl UNetConfig {
    /// Checks every field against the others.
    ///
    /// # Errors
    /// One sentence that names the field and what it may be.
    pub fn validate(&self) -> Result<(), String> {
        class_name(&self.class_name, CLASS)?;
        within("in_channels", self.in_channels, 1..=64)?;
        within("out_channels", self.out_channels, 1..=64)?;
        within("patch_size", self.patch_size, 1..=32)?;
        within("layers_per_block", self.layers_per_block, 1..=16)?;
        within("attention_head_dim", self.attention_head_dim, 1..=1024)?;
        within("feed_forward_mult", self.feed_forward_mult, 0..=16)?;
        within("norm_num_groups", self.norm_num_groups, 1..=1024)?;
        within("time_embedding_dim", self.time_embedding_dim, 1..=8192)?;
        within("context_tokens", self.context_tokens, 0..=256)?;
        within("max_temporal_distance", self.max_temporal_distance, 1..=1024)?;
        let widths = &self.block_out_channels;
        each_within("block_out_channels", widths, 1..=8, 1..=4096)?;
        divides("norm_num_groups", self.norm_num_groups, "width of block_out_channels", widths)?;
        if self.attention.len() != widths.len() {
            return Err(format!(
                "attention must have {} entries, as block_out_channels, not {}",
                widths.len(),
                self.attention.len()
            ));
        }
        let mid = widths.last().filter(|_| self.mid_attention);
        let attending =
            widths.iter().zip(&self.attention).filter(|(_, there)| **there).map(|(width, _)| width).chain(mid);
        let attending: Vec<usize> = attending.copied().collect();
        divides("attention_head_dim", self.attention_head_dim, "width with attention", &attending)?;
        if self.temporal_kernel_size.is_multiple_of(2) || self.temporal_kernel_size > 15 {
            return Err(format!("temporal_kernel_size must be odd and at most 15, not {}", self.temporal_kernel_size));
        }
        match self.image_embedding_dim {
            Some(width) => within("image_embedding_dim", width, 1..=8192),
            None if self.context_tokens > 0 => Err("context_tokens must be 0 without image_embedding_dim".into()),
            None => Ok(()),
        }
    }

    /// What the sides of a picture must be multiples of.
    pub fn side_multiple(&self) -> usize {
        self.patch_size << (self.block_out_channels.len() - 1)
    }
}
