//! A pre-norm transformer block, shared by the text tower and the prior.

use crate::linear::Linear;
use crate::norms::LayerNorm;
use crate::parameters::Builder;
use candle_core::{Result, Tensor};
use kinora_kernels::{AttentionOptions, Sequences, add, attention, gelu, silu};
use serde::{Deserialize, Serialize};

/// The function between the two linear layers of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x times the normal distribution function of x, exact.
    #[default]
    Gelu,
    /// x * sigmoid(1.702 x), as OpenAI's CLIP towers were trained with.
    QuickGelu,
}

impl Activation {
    /// Applies the function to every number of `x`.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gelu => gelu(x),
            Self::QuickGelu => silu(&(x * 1.702)?)? / 1.702,
        }
    }
}

/// What the parameters of a block are called in a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct BlockNames {
    norm1: &'static str,
    qkv: &'static str,
    out: &'static str,
    norm2: &'static str,
    mlp_in: &'static str,
    mlp_out: &'static str,
}

impl BlockNames {
    /// As in transformers' CLIP, with queries, keys and values in one matrix.
    pub const CLIP: Self = Self {
        norm1: "layer_norm1",
        qkv: "self_attn.qkv_proj",
        out: "self_attn.out_proj",
        norm2: "layer_norm2",
        mlp_in: "mlp.fc1",
        mlp_out: "mlp.fc2",
    };
    /// As in diffusers' `BasicTransformerBlock` after `fuse_qkv_projections`.
    pub const DIFFUSERS: Self = Self {
        norm1: "norm1",
        qkv: "attn1.to_qkv",
        out: "attn1.to_out.0",
        norm2: "norm3",
        mlp_in: "ff.net.0.proj",
        mlp_out: "ff.net.2",
    };
}

/// The shape of a block.
#[derive(Debug, Clone, Copy)]
pub struct BlockOptions {
    /// Channels of a token.
    pub width: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Channels between the two linear layers.
    pub inner: usize,
    /// Added to the variance in the layer norms.
    pub eps: f64,
    /// Between the two linear layers.
    pub activation: Activation,
    /// Whether a token sees only itself and the tokens before it.
    pub causal: bool,
}

/// x + out(attention(norm1(x))), then x + mlp(norm2(x)).
pub struct Block {
    options: BlockOptions,
    norm1: LayerNorm,
    qkv: Linear,
    out: Linear,
    norm2: LayerNorm,
    mlp_in: Linear,
    mlp_out: Linear,
}

impl Block {
    /// Makes or takes the block's parameters under `b`.
    pub fn new(options: BlockOptions, names: BlockNames, b: &Builder) -> Result<Self> {
        let BlockOptions { width, inner, eps, .. } = options;
        Ok(Self {
            norm1: LayerNorm::new(width, eps, &b.pp(names.norm1))?,
            qkv: Linear::new(width, 3 * width, &b.pp(names.qkv))?,
            out: Linear::new(width, width, &b.pp(names.out))?,
            norm2: LayerNorm::new(width, eps, &b.pp(names.norm2))?,
            mlp_in: Linear::new(width, inner, &b.pp(names.mlp_in))?,
            mlp_out: Linear::new(inner, width, &b.pp(names.mlp_out))?,
            options,
        })
    }

    /// `x` (B, L, width); `mask` (B, L) is 1 where a token may be looked at. Every row needs at least one 1.
    pub fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let options = AttentionOptions {
            heads: self.options.heads,
            sequences: Sequences::Rows,
            causal: self.options.causal,
            key_mask: Some(mask.clone()),
        };
        let seen = attention(&self.qkv.forward(&self.norm1.forward(x)?)?, None, None, &options)?;
        let x = add(x, &self.out.forward(&seen)?)?;
        let inner = self.options.activation.forward(&self.mlp_in.forward(&self.norm2.forward(&x)?)?)?;
        add(&x, &self.mlp_out.forward(&inner)?)
    }
}
