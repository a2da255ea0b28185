//! The text tower of the CLIP pair: token ids to one embedding of unit length and one state a token.

use crate::embedding::{rows, unit_length};
use crate::linear::Linear;
use crate::norms::LayerNorm;
use crate::parameters::{Builder, Init};
use crate::refusals::{class_name, divides, small, within};
use crate::transformer::{Activation, Block, BlockNames, BlockOptions};
use candle_core::{DType, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

/// The class name in `config.json`.
pub const CLASS: &str = "CLIPTextModelWithProjection";

/// The sizes of a text tower; names as in transformers' `CLIPTextConfig`, and `causal`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipTextConfig {
    /// Always `CLIPTextModelWithProjection`.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// Tokens in the table, 4 to 1,000,000.
    pub vocab_size: usize,
    /// Channels of a token, 1 to 8,192.
    pub hidden_size: usize,
    /// Channels inside the feed-forward layers, 1 to 32,768.
    pub intermediate_size: usize,
    /// Transformer blocks, 1 to 64.
    pub num_hidden_layers: usize,
    /// Attention heads, 1 to 128; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// The most tokens of a text with its two special ones, 2 to 1,024.
    pub max_position_embeddings: usize,
    /// Length of the embedding, 1 to 8,192.
    pub projection_dim: usize,
    /// `"gelu"` (default) or `"quick_gelu"`.
    #[serde(default)]
    pub hidden_act: Activation,
    /// Added to the variance in the layer norms; default 1e-5.
    #[serde(default = "default_eps")]
    pub layer_norm_eps: f64,
    /// Whether a token sees only the tokens before it, as in OpenAI's towers; default false.
    #[serde(default)]
    pub causal: bool,
    /// The token whose state becomes the embedding; everything after its first place is padding. Default 3.
    #[serde(default = "default_eos")]
    pub eos_token_id: usize,
}

fn default_eps() -> f64 {
    1e-5
}

fn default_eos() -> usize {
    crate::tokenizer::END as usize
}

impl Default for ClipTextConfig {
    /// The tower of the embedded cascade: 3 layers, width 256, 4 heads, 4,096 tokens, 16 places.
    fn default() -> Self {
        Self {
            class_name: CLASS.into(),
            vocab_size: 4096,
            hidden_size: 256,
            intermediate_size: 1024,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            max_position_embeddings: 16,
            projection_dim: 256,
            hidden_act: Activation::Gelu,
            layer_norm_eps: default_eps(),
            causal: false,
            eos_token_id: default_eos(),
        }
    }
}

impl ClipTextConfig {
    /// Refuses sizes out of range, naming the field and what is accepted.
    pub fn validate(&self) -> std::result::Result<(), String> {
        class_name(&self.class_name, CLASS)?;
        within("vocab_size", self.vocab_size, 4..=1_000_000)?;
        within("hidden_size", self.hidden_size, 1..=8192)?;
        within("intermediate_size", self.intermediate_size, 1..=32_768)?;
        within("num_hidden_layers", self.num_hidden_layers, 1..=64)?;
        within("num_attention_heads", self.num_attention_heads, 1..=128)?;
        within("max_position_embeddings", self.max_position_embeddings, 2..=1024)?;
        within("projection_dim", self.projection_dim, 1..=8192)?;
        within("eos_token_id", self.eos_token_id, 0..=self.vocab_size - 1)?;
        small("layer_norm_eps", self.layer_norm_eps)?;
        divides("num_attention_heads", self.num_attention_heads, "hidden_size", &[self.hidden_size])
    }
}

/// What the text tower says about a batch of texts.
#[derive(Debug, Clone)]
pub struct TextOutput {
    /// (B, projection_dim), unit length.
    pub embedding: Tensor,
    /// (B, L, hidden_size), after the last layer norm.
    pub states: Tensor,
    /// (B, L), 1 up to and with the end token, 0 after it.
    pub mask: Tensor,
}

/// The text tower.
pub struct ClipText {
    config: ClipTextConfig,
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    projection: Linear,
}

impl ClipText {
    /// Makes or takes the tower's parameters under `b`.
    pub fn new(config: &ClipTextConfig, b: Builder) -> Result<Self> {
        config.validate().map_err(candle_core::Error::msg)?;
        let width = config.hidden_size;
        let options = BlockOptions {
            width,
            heads: config.num_attention_heads,
            inner: config.intermediate_size,
            eps: config.layer_norm_eps,
            activation: config.hidden_act,
            causal: config.causal,
        };
        let text = b.pp("text_model");
        let embeddings = text.pp("embeddings");
        let layers = text.pp("encoder").pp("layers");
        let blocks = (0..config.num_hidden_layers).map(|i| Block::new(options, BlockNames::CLIP, &layers.pp(i)));
        Ok(Self {
            tokens: embeddings.pp("token_embedding").vector(
                "weight",
                (config.vocab_size, width),
                Init::Normal(0.05),
            )?,
            positions: embeddings.pp("position_embedding").vector(
                "weight",
                (config.max_position_embeddings, width),
                Init::Normal(0.02),
            )?,
            blocks: blocks.collect::<Result<_>>()?,
            norm: LayerNorm::new(width, config.layer_norm_eps, &text.pp("final_layer_norm"))?,
            projection: Linear::no_bias(width, config.projection_dim, &b.pp("text_projection"))?,
            config: config.clone(),
        })
    }

    /// The config the tower was made with.
    pub fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// `tokens` (B, L), whole numbers of any dtype, L at most `max_position_embeddings`; every row holds the end token.
    pub fn forward(&self, tokens: &Tensor) -> Result<TextOutput> {
        let (batch, length) = tokens.dims2()?;
        if length > self.config.max_position_embeddings {
            bail!("tokens must have at most {} a text, not {length}", self.config.max_position_embeddings);
        }
        let (ends, mask) = self.ends(tokens)?;
        let mut x = rows(&self.tokens, tokens)?.broadcast_add(&self.positions.narrow(0, 0, length)?)?;
        for block in &self.blocks {
            x = block.forward(&x, &mask)?;
        }
        let states = self.norm.forward(&x)?;
        let pooled = states.reshape((batch * length, self.config.hidden_size))?.index_select(&ends, 0)?;
        let embedding = unit_length(&self.projection.forward(&pooled)?)?;
        Ok(TextOutput { embedding, states, mask })
    }

    /// The place of each text's first end token among all B * L, and the mask up to it.
    fn ends(&self, tokens: &Tensor) -> Result<(Tensor, Tensor)> {
        let (batch, length) = tokens.dims2()?;
        let end = self.config.eos_token_id as f32;
        let mut places = Vec::with_capacity(batch);
        let mut mask = vec![0f32; batch * length];
        for (row, ids) in tokens.to_dtype(DType::F32)?.to_vec2::<f32>()?.iter().enumerate() {
            let Some(place) = ids.iter().position(|&id| id == end) else {
                bail!("tokens must hold the end token ({end}) in every text, but text {row} has none");
            };
            places.push((row * length + place) as u32);
            mask[row * length..=row * length + place].fill(1.0);
        }
        let device = tokens.device();
        Ok((Tensor::from_vec(places, batch, device)?, Tensor::from_vec(mask, (batch, length), device)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disturbed::{disturbed, values, with_threads};
    use crate::parameters::Parameters;
    use candle_core::Device;
    use kinora_kernels::{Precision, with_precision};

    fn config(causal: bool, hidden_act: Activation) -> ClipTextConfig {
        ClipTextConfig {
            vocab_size: 11,
            hidden_size: 16,
            intermediate_size: 24,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            max_position_embeddings: 6,
            projection_dim: 10,
            hidden_act,
            causal,
            ..ClipTextConfig::default()
        }
    }

    fn network(config: &ClipTextConfig) -> ClipText {
        let parameters = Parameters::seeded(1, false);
        ClipText::new(config, parameters.builder()).unwrap();
        ClipText::new(config, Parameters::loaded(disturbed(&parameters), false).builder()).unwrap()
    }

    fn tokens(rows: &[[f32; 6]]) -> Tensor {
        Tensor::from_vec(rows.concat(), (rows.len(), 6), &Device::Cpu).unwrap()
    }

    #[test]
    fn what_comes_after_the_end_is_not_seen() {
        for (causal, activation) in [(false, Activation::Gelu), (true, Activation::QuickGelu)] {
            let tower = network(&config(causal, activation));
            let run = |rows: &[[f32; 6]]| tower.forward(&tokens(rows)).unwrap();
            let (a, b) = (run(&[[2., 5., 3., 0., 0., 0.]]), run(&[[2., 5., 3., 9., 3., 4.]]));
            assert_eq!(values(&a.embedding), values(&b.embedding));
            assert_eq!(values(&a.mask), [1., 1., 1., 0., 0., 0.]);
            assert_eq!(values(&a.mask), values(&b.mask));
            let seen = |output: &TextOutput| values(&output.states.narrow(1, 0, 3).unwrap());
            assert_eq!(seen(&a), seen(&b));
            assert_ne!(values(&a.embedding), values(&run(&[[2., 6., 3., 0., 0., 0.]]).embedding));
            let length: f32 = values(&a.embedding).iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-5);
            // Shorter rows with the same text mean the same.
            let short = tower.forward(&Tensor::new(&[[2f32, 5., 3.]], &Device::Cpu).unwrap()).unwrap();
            let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(close(&values(&short.embedding), &values(&a.embedding)));
        }
    }

    #[test]
    fn texts_and_threads_are_independent() {
        let rows = [[2., 5., 3., 0., 0., 0.], [2., 3., 0., 0., 0., 0.], [2., 7., 8., 9., 10., 3.]];
        let tower = network(&config(false, Activation::Gelu));
        for precision in [Precision::F32, Precision::Bf16] {
            let run = |rows: &[[f32; 6]]| {
                with_precision(precision, || values(&tower.forward(&tokens(rows)).unwrap().embedding))
            };
            let all = run(&rows);
            assert_eq!(all, rows.iter().flat_map(|row| run(&[*row])).collect::<Vec<_>>());
            assert!(with_threads(1, || run(&rows)) == all && with_threads(2, || run(&rows)) == all);
        }
    }

    #[test]
    fn tokens_that_do_not_fit_are_refused() {
        let tower = network(&config(false, Activation::Gelu));
        let refused = |rows: &[[f32; 6]], why: &str| {
            let error = tower.forward(&tokens(rows)).unwrap_err().to_string();
            assert!(error.starts_with("tokens must") && error.contains(why), "{error}");
        };
        refused(&[[2., 5., 3., 0., 0., 0.], [2., 5., 0., 0., 0., 0.]], "text 1 has none");
        refused(&[[2., 11., 3., 0., 0., 0.]], "0 to 10, not 11");
        let long = Tensor::new(&[[2f32, 5., 5., 5., 5., 5., 3.]], &Device::Cpu).unwrap();
        assert!(tower.forward(&long).unwrap_err().to_string().starts_with("tokens must have at most 6"));
    }

    #[test]
    fn names_on_disk() {
        let parameters = Parameters::seeded(0, false);
        ClipText::new(&config(false, Activation::Gelu), parameters.builder()).unwrap();
        let all: Vec<_> = parameters.tensors().into_iter().map(|(name, x)| format!("{name} {:?}", x.dims())).collect();
        for known in [
            "text_model.embeddings.token_embedding.weight [11, 16]",
            "text_model.embeddings.position_embedding.weight [6, 16]",
            "text_model.encoder.layers.1.layer_norm1.weight [16]",
            "text_model.encoder.layers.1.self_attn.qkv_proj.weight [48, 16]",
            "text_model.encoder.layers.1.self_attn.out_proj.bias [16]",
            "text_model.encoder.layers.1.layer_norm2.bias [16]",
            "text_model.encoder.layers.1.mlp.fc1.weight [24, 16]",
            "text_model.encoder.layers.1.mlp.fc2.weight [16, 24]",
            "text_model.final_layer_norm.weight [16]",
            "text_projection.weight [10, 16]",
        ] {
            assert!(all.iter().any(|name| name == known), "{known} is not in {all:#?}");
        }
        assert!(!all.iter().any(|name| name.starts_with("text_projection.bias")));
    }
}
