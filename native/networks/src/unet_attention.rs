//! Attention over space, then over time (Make-A-Video, Eq. 3), with lucidrains' continuous position bias.

use crate::linear::Linear;
use crate::norms::{GroupNorm, LayerNorm};
use crate::parameters::Builder;
use crate::position_bias::ContinuousPositionBias;
use crate::unet_config::UNetConfig;
use candle_core::{Result, Tensor};
use kinora_kernels::{AttentionOptions, Sequences, add, attention, geglu};

/// Added to the variance in every norm.
const EPS: f64 = 1e-5;

/// Attention over the pixels of each frame and the context tokens, then over the frames of each pixel, then an optional
/// feed-forward; each added to its input and each starting as zero.
pub struct PseudoAttention3d {
    norm: GroupNorm,
    to_qkv: Linear,
    to_context_kv: Option<Linear>,
    to_out: Linear,
    position_bias: Option<ContinuousPositionBias>,
    temporal: Option<TemporalAttention>,
    feed_forward: Option<FeedForward>,
    heads: usize,
}

struct TemporalAttention {
    norm: LayerNorm,
    to_qkv: Linear,
    to_out: Linear,
    position_bias: ContinuousPositionBias,
    causal: bool,
}

struct FeedForward {
    norm: LayerNorm,
    linear_in: Linear,
    linear_out: Linear,
}

impl PseudoAttention3d {
    /// For `channels` channels.
    pub fn new(channels: usize, config: &UNetConfig, b: &Builder) -> Result<Self> {
        let heads = channels / config.attention_head_dim;
        let position_bias = |axes, max_distance, b: &Builder| {
            ContinuousPositionBias::new(axes, (channels / 2).max(1), heads, max_distance, &b.pp("position_bias"))
        };
        let temporal = if config.temporal {
            let b = b.pp("temporal");
            Some(TemporalAttention {
                norm: LayerNorm::new(channels, EPS, &b.pp("norm"))?,
                to_qkv: Linear::new(channels, 3 * channels, &b.pp("to_qkv"))?,
                to_out: Linear::zeros(channels, channels, &b.pp("to_out"))?,
                position_bias: position_bias(1, config.max_temporal_distance as f32, &b)?,
                causal: config.causal_temporal_attention,
            })
        } else {
            None
        };
        let feed_forward = match config.feed_forward_mult {
            0 => None,
            mult => {
                let (b, inner) = (b.pp("feed_forward"), channels * mult);
                Some(FeedForward {
                    norm: LayerNorm::new(channels, EPS, &b.pp("norm"))?,
                    linear_in: Linear::new(channels, 2 * inner, &b.pp("linear_in"))?,
                    linear_out: Linear::zeros(inner, channels, &b.pp("linear_out"))?,
                })
            }
        };
        Ok(Self {
            norm: GroupNorm::new(channels, config.norm_num_groups, EPS, &b.pp("group_norm"))?,
            to_qkv: Linear::new(channels, 3 * channels, &b.pp("to_qkv"))?,
            to_context_kv: match config.context_tokens {
                0 => None,
                _ => Some(Linear::new(config.time_embedding_dim, 2 * channels, &b.pp("to_context_kv"))?),
            },
            to_out: Linear::zeros(channels, channels, &b.pp("to_out"))?,
            position_bias: if config.spatial_position_bias { Some(position_bias(2, f32::INFINITY, b)?) } else { None },
            temporal,
            feed_forward,
            heads,
        })
    }

    /// (h, w, clips x frames, c) to the same; `context` is (clips, tokens, width).
    pub fn forward(&self, x: &Tensor, context: Option<&Tensor>, frames: usize) -> Result<Tensor> {
        let options = |sequences, causal| AttentionOptions { heads: self.heads, sequences, causal, key_mask: None };
        let qkv = self.to_qkv.forward(&self.norm.forward(x, false)?)?;
        let kv = match (&self.to_context_kv, context) {
            (Some(linear), Some(context)) => Some(linear.forward(context)?),
            _ => None,
        };
        let (height, width, _, _) = x.dims4()?;
        let bias = self.position_bias.as_ref().map(|bias| bias.forward(&[height, width])).transpose()?;
        let y = attention(&qkv, kv.as_ref(), bias.as_ref(), &options(Sequences::Space, false))?;
        let mut x = add(x, &self.to_out.forward(&y)?)?;
        if let Some(temporal) = &self.temporal
            && frames > 1
        {
            let qkv = temporal.to_qkv.forward(&temporal.norm.forward(&x)?)?;
            let bias = temporal.position_bias.forward(&[frames])?;
            let y = attention(&qkv, None, Some(&bias), &options(Sequences::Frames(frames), temporal.causal))?;
            x = add(&x, &temporal.to_out.forward(&y)?)?;
        }
        if let Some(FeedForward { norm, linear_in, linear_out }) = &self.feed_forward {
            let h = geglu(&linear_in.forward(&norm.forward(&x)?)?)?;
            x = add(&x, &linear_out.forward(&h)?)?;
        }
        Ok(x)
    }
}
