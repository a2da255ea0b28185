//! Self-attention, and attention over space followed by attention over time.

use super::{
    AttentionConfig, Call, Clips, ContinuousPositionBias, ContinuousPositionBiasConfig, FeedForward, FeedForwardConfig,
    RmsNorm, SpatioTemporalAttentionConfig,
};
use crate::linear::Linear;
use crate::parameters::Builder;
use candle_core::{Result, Tensor, bail};
use kinora_kernels::{AttentionOptions, Sequences, add, attention, concatenate};

/// RMSNorm and self-attention; the last projection of a new one is zero.
pub struct Attention {
    norm: RmsNorm,
    to_q: Linear,
    to_kv: Linear,
    to_out: Linear,
    heads: usize,
    causal: bool,
    flash: bool,
}

impl Attention {
    /// `norm`, `to_q`, `to_kv` and `to_out`.
    pub fn new(config: &AttentionConfig, b: &Builder) -> Result<Self> {
        let &AttentionConfig { dim, dim_head, heads, flash, causal } = config;
        let inner = dim_head * heads;
        Ok(Self {
            norm: RmsNorm::of_channels(dim, &b.pp("norm"))?,
            to_q: Linear::no_bias(dim, inner, &b.pp("to_q"))?,
            to_kv: Linear::no_bias(dim, 2 * inner, &b.pp("to_kv"))?,
            to_out: Linear::no_bias(inner, dim, &b.pp("to_out"))?,
            heads,
            causal,
            flash,
        })
    }

    /// (..., dim) to the same; `bias` is (heads, tokens, tokens), in f32 or f64.
    pub fn forward(&self, x: &Tensor, sequences: Sequences, bias: Option<&Tensor>) -> Result<Tensor> {
        if self.flash && bias.is_some() {
            bail!("rel_pos_bias must not be given with flash");
        }
        let x = self.norm.forward_last(x)?;
        let qkv = concatenate(&self.to_q.forward(&x)?, &self.to_kv.forward(&x)?)?;
        let options = AttentionOptions { heads: self.heads, sequences, causal: self.causal, key_mask: None };
        self.to_out.forward(&attention(&qkv, None, bias, &options)?)
    }

    pub(super) fn run(&self, call: &Call) -> Result<Tensor> {
        let x = call.tensor("x")?;
        let (batch, tokens, _) = x.dims3()?;
        let Some(bias) = call.optional("rel_pos_bias") else { return self.forward(x, Sequences::Rows, None) };
        let of_heads = (self.heads, tokens, tokens);
        let (biases, of_each) = match bias.dims() {
            &[biases, _, _, _] => (biases, bias.clone()),
            _ => (1, bias.unsqueeze(0)?),
        };
        if biases == 1 {
            let bias = of_each.squeeze(0)?.broadcast_as(of_heads)?.contiguous()?;
            return self.forward(x, Sequences::Rows, Some(&bias));
        }
        if batch != 1 && batch != biases {
            bail!("rel_pos_bias {:?} does not fit x {:?}", bias.shape(), x.shape());
        }
        let row = |i: usize| {
            let bias = of_each.get(i)?.broadcast_as(of_heads)?.contiguous()?;
            self.forward(&x.narrow(0, if batch == 1 { 0 } else { i }, 1)?.contiguous()?, Sequences::Rows, Some(&bias))
        };
        Tensor::cat(&(0..biases).map(row).collect::<Result<Vec<_>>>()?, 0)
    }
}

/// Attention over the pixels of each frame, over the frames of each pixel, and a feed-forward, each added to its input.
pub struct SpatioTemporalAttention {
    spatial: Attention,
    spatial_bias: Option<ContinuousPositionBias>,
    temporal: Attention,
    temporal_bias: Option<ContinuousPositionBias>,
    feed_forward: Option<FeedForward>,
    dim: usize,
}

impl SpatioTemporalAttention {
    /// `spatial_attn`, `spatial_rel_pos_bias`, `temporal_attn`, `temporal_rel_pos_bias` and `ff`.
    pub fn new(config: &SpatioTemporalAttentionConfig, b: &Builder) -> Result<Self> {
        let &SpatioTemporalAttentionConfig { dim, dim_head, heads, ff_mult, flash, .. } = config;
        let attention =
            |causal, name: &str| Attention::new(&AttentionConfig { dim, dim_head, heads, flash, causal }, &b.pp(name));
        let bias = |num_dims, name: &str| -> Result<Option<ContinuousPositionBias>> {
            let of = ContinuousPositionBiasConfig { dim: dim / 2, heads, num_dims, layers: 2 };
            if config.pos_bias { ContinuousPositionBias::new(&of, &b.pp(name)).map(Some) } else { Ok(None) }
        };
        Ok(Self {
            spatial: attention(false, "spatial_attn")?,
            spatial_bias: bias(2, "spatial_rel_pos_bias")?,
            temporal: attention(config.causal_time_attn, "temporal_attn")?,
            temporal_bias: bias(1, "temporal_rel_pos_bias")?,
            feed_forward: match config.add_feed_forward {
                true => Some(FeedForward::new(&FeedForwardConfig { dim, mult: ff_mult }, &b.pp("ff"))?),
                false => None,
            },
            dim,
        })
    }

    /// Of the same shape.
    pub fn forward(&self, clips: &Clips) -> Result<Clips> {
        clips.expect_channels(self.dim)?;
        let (height, width, _, _) = clips.x.dims4()?;
        let bias = self.spatial_bias.as_ref().map(|bias| bias.forward(&[height, width])).transpose()?;
        let mut clips = clips.with(add(&self.spatial.forward(&clips.x, Sequences::Space, bias.as_ref())?, &clips.x)?);
        if clips.time {
            let bias = self.temporal_bias.as_ref().map(|bias| bias.forward(&[clips.frames])).transpose()?;
            let y = self.temporal.forward(&clips.x, Sequences::Frames(clips.frames), bias.as_ref())?;
            clips = clips.with(add(&y, &clips.x)?);
        }
        match &self.feed_forward {
            Some(feed_forward) => Ok(clips.with(add(&feed_forward.forward(&clips)?.x, &clips.x)?)),
            None => Ok(clips),
        }
    }

    pub(super) fn run(&self, call: &Call) -> Result<Tensor> {
        self.forward(&Clips::new(call.tensor("x")?, call.enable_time.unwrap_or(true))?)?.channels_second()
    }
}
