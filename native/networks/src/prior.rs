//! P of Eq. 1: from a text's tokens and embedding to an image embedding, by diffusion that predicts the clean embedding.
//!
//! The sequence is the text's states, its embedding, the time, the noisy image embedding and a learned query whose
//! output is the answer (unCLIP's prior, as `PriorTransformer` in diffusers). Image embeddings are scaled by sqrt(E), so
//! that their coordinates have unit variance like the noise.

use crate::embedding::ScalarEmbedding;
use crate::linear::Linear;
use crate::norms::LayerNorm;
use crate::parameters::{Builder, Init};
use crate::refusals::{LAST_TIMESTEP, class_name, numbers, within};
use crate::transformer::{Activation, Block, BlockNames, BlockOptions};
use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

/// Tokens of the sequence beside the text's: embedding, time, noisy embedding, query.
const ADDITIONAL: usize = 4;
const EPS: f64 = 1e-5;

/// The class name in `config.json`.
pub const CLASS: &str = "PriorTransformer";

/// What stands for the text's embedding when a sample's text is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NullText {
    /// A trained vector, `null_text_embedding`.
    #[default]
    Learned,
    /// Zeros.
    Zero,
}

/// The sizes of a prior; names as in diffusers' `PriorTransformer` where it has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorConfig {
    /// Always `PriorTransformer`.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// Attention heads, 1 to 128.
    pub num_attention_heads: usize,
    /// Channels of a head, 1 to 256; the width is heads times this, and must be even.
    pub attention_head_dim: usize,
    /// Transformer blocks, 1 to 64.
    pub num_layers: usize,
    /// Length of the text's and of the image's embedding, 1 to 8,192.
    pub embedding_dim: usize,
    /// Tokens of a text, 1 to 1,024.
    pub num_embeddings: usize,
    /// Channels of a text state, 1 to 8,192; default `embedding_dim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_hid_dim: Option<usize>,
    /// Channels inside the time embedding, 1 to 32,768; default the width.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_embed_dim: Option<usize>,
    /// Whether a token sees only the tokens before it; default true, as in diffusers.
    #[serde(default = "yes")]
    pub causal: bool,
    /// The text's embedding is multiplied by this on the way in; default 1. For embeddings of unit length,
    /// sqrt(`embedding_dim`) gives coordinates of unit variance.
    #[serde(default = "one")]
    pub text_embedding_scale: f64,
    /// `"learned"` (default) or `"zero"`.
    #[serde(default)]
    pub null_text: NullText,
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

impl Default for PriorConfig {
    /// The prior of the embedded cascade: 4 layers, 4 heads of 64, embeddings of 256, 16 text tokens, no causal mask.
    fn default() -> Self {
        Self {
            class_name: CLASS.into(),
            num_attention_heads: 4,
            attention_head_dim: 64,
            num_layers: 4,
            embedding_dim: 256,
            num_embeddings: 16,
            encoder_hid_dim: None,
            time_embed_dim: None,
            causal: false,
            text_embedding_scale: 16.0,
            null_text: NullText::Learned,
        }
    }
}

impl PriorConfig {
    /// Refuses sizes out of range, naming the field and what is accepted.
    pub fn validate(&self) -> std::result::Result<(), String> {
        class_name(&self.class_name, CLASS)?;
        within("num_attention_heads", self.num_attention_heads, 1..=128)?;
        within("attention_head_dim", self.attention_head_dim, 1..=256)?;
        within("num_layers", self.num_layers, 1..=64)?;
        within("embedding_dim", self.embedding_dim, 1..=8192)?;
        within("num_embeddings", self.num_embeddings, 1..=1024)?;
        within("encoder_hid_dim", self.states_width(), 1..=8192)?;
        within("time_embed_dim", self.time_embed_dim.unwrap_or(self.width()), 1..=32_768)?;
        if !(1e-3..=1e3).contains(&self.text_embedding_scale) {
            return Err(format!("text_embedding_scale must be 0.001 to 1000, not {}", self.text_embedding_scale));
        }
        if !self.width().is_multiple_of(2) {
            return Err(format!("num_attention_heads times attention_head_dim must be even, not {}", self.width()));
        }
        Ok(())
    }

    /// Channels of a token inside the transformer.
    pub fn width(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    fn states_width(&self) -> usize {
        self.encoder_hid_dim.unwrap_or(self.embedding_dim)
    }
}

/// What the prior is asked about.
#[derive(Debug, Clone, Copy)]
pub struct PriorInputs<'a> {
    /// The noisy image embeddings (B, E), scaled by sqrt(E).
    pub sample: &'a Tensor,
    /// How noisy each is: 1000 times the time from 0 to 1, or the step of a discrete schedule.
    pub timestep: &'a [f32],
    /// The texts' embeddings (B, E).
    pub text_embedding: &'a Tensor,
    /// The texts' states (B, L, D).
    pub text_states: &'a Tensor,
    /// 1 for the places of a text, 0 for padding (B, L).
    pub text_mask: &'a Tensor,
    /// 1 where the text is not to be seen (for guidance), 0 elsewhere; empty means nowhere.
    pub drop: &'a [f32],
}

/// The prior.
pub struct Prior {
    config: PriorConfig,
    states_in: Linear,
    embedding_in: Linear,
    time_embedding: ScalarEmbedding,
    sample_in: Linear,
    query: Tensor,
    positions: Tensor,
    null_text: Option<Tensor>,
    blocks: Vec<Block>,
    norm_out: LayerNorm,
    sample_out: Linear,
}

impl Prior {
    /// Makes or takes the prior's parameters under `b`.
    pub fn new(config: &PriorConfig, b: Builder) -> Result<Self> {
        config.validate().map_err(candle_core::Error::msg)?;
        let (width, embedding) = (config.width(), config.embedding_dim);
        let time = config.time_embed_dim.unwrap_or(width);
        let options = BlockOptions {
            width,
            heads: config.num_attention_heads,
            inner: 4 * width,
            eps: EPS,
            activation: Activation::Gelu,
            causal: config.causal,
        };
        let layers = b.pp("transformer_blocks");
        let blocks = (0..config.num_layers).map(|i| Block::new(options, BlockNames::DIFFUSERS, &layers.pp(i)));
        let positions = config.num_embeddings + ADDITIONAL;
        Ok(Self {
            states_in: Linear::new(config.states_width(), width, &b.pp("encoder_hidden_states_proj"))?,
            embedding_in: Linear::new(embedding, width, &b.pp("embedding_proj"))?,
            time_embedding: ScalarEmbedding::new(width, time, width, false, &b.pp("time_embedding"))?,
            sample_in: Linear::new(embedding, width, &b.pp("proj_in"))?,
            query: b.vector("prd_embedding", (1, 1, width), Init::Normal(0.02))?,
            positions: b.vector("positional_embedding", (1, positions, width), Init::Normal(0.02))?,
            null_text: match config.null_text {
                NullText::Learned => Some(b.vector("null_text_embedding", (1, embedding), Init::Zeros)?),
                NullText::Zero => None,
            },
            blocks: blocks.collect::<Result<_>>()?,
            norm_out: LayerNorm::new(width, EPS, &b.pp("norm_out"))?,
            sample_out: Linear::new(width, embedding, &b.pp("proj_to_clip_embeddings"))?,
            config: config.clone(),
        })
    }

    /// The config the prior was made with.
    pub fn config(&self) -> &PriorConfig {
        &self.config
    }

    /// The clean image embeddings (B, E), scaled by sqrt(E), as the prior expects them.
    ///
    /// A dropped text leaves nothing behind: its embedding becomes the null one, its first state zero and the others
    /// hidden, so the answer does not depend on the text that is there.
    pub fn forward(&self, inputs: PriorInputs) -> Result<Tensor> {
        let batch = self.check(&inputs)?;
        let device = inputs.sample.device();
        let width = self.config.width();
        let kept: Vec<f32> = (0..batch).map(|row| 1.0 - inputs.drop.get(row).copied().unwrap_or(0.0)).collect();
        let kept = Tensor::from_vec(kept, (batch, 1), device)?;
        let dropped = kept.affine(-1.0, 1.0)?;

        let mut text = (inputs.text_embedding * self.config.text_embedding_scale)?.broadcast_mul(&kept)?;
        if let Some(null) = &self.null_text {
            text = (text + dropped.broadcast_mul(null)?)?;
        }
        let x = Tensor::cat(
            &[
                self.states_in.forward(&inputs.text_states.broadcast_mul(&kept.unsqueeze(2)?)?)?,
                self.embedding_in.forward(&text)?.unsqueeze(1)?,
                self.time_embedding.forward(inputs.timestep)?.unsqueeze(1)?,
                self.sample_in.forward(inputs.sample)?.unsqueeze(1)?,
                self.query.broadcast_as((batch, 1, width))?.contiguous()?,
            ],
            1,
        )?;
        // The first place stays: with a causal mask the first token sees nothing else.
        let mut first = vec![0f32; self.config.num_embeddings];
        first[0] = 1.0;
        let first = Tensor::from_vec(first, (1, self.config.num_embeddings), device)?;
        let seen = (inputs.text_mask.broadcast_mul(&kept)? + dropped.broadcast_mul(&first)?)?;
        let mask = Tensor::cat(&[seen, Tensor::ones((batch, ADDITIONAL), candle_core::DType::F32, device)?], 1)?;

        let mut x = x.broadcast_add(&self.positions)?;
        for block in &self.blocks {
            x = block.forward(&x, &mask)?;
        }
        let answer = x.narrow(1, self.config.num_embeddings + ADDITIONAL - 1, 1)?.contiguous()?.squeeze(1)?;
        self.sample_out.forward(&self.norm_out.forward(&answer)?)
    }

    fn check(&self, inputs: &PriorInputs) -> Result<usize> {
        let PriorConfig { embedding_dim, num_embeddings, .. } = self.config;
        let (batch, _) = inputs.sample.dims2()?;
        let shapes: [(&str, &Tensor, &[usize]); 4] = [
            ("sample", inputs.sample, &[batch, embedding_dim]),
            ("text_embedding", inputs.text_embedding, &[batch, embedding_dim]),
            ("text_states", inputs.text_states, &[batch, num_embeddings, self.config.states_width()]),
            ("text_mask", inputs.text_mask, &[batch, num_embeddings]),
        ];
        for (name, tensor, wanted) in shapes {
            if tensor.dims() != wanted {
                bail!("{name} must be {wanted:?}, not {:?}", tensor.dims());
            }
        }
        numbers("timestep", inputs.timestep, batch, 0.0..=LAST_TIMESTEP)?;
        if inputs.text_mask.narrow(1, 0, 1)?.flatten_all()?.to_vec1::<f32>()?.contains(&0.0) {
            bail!("text_mask must be 1 in the first place of every text");
        }
        if !inputs.drop.is_empty() {
            numbers("drop", inputs.drop, batch, 0.0..=1.0)?;
        }
        if let Some(bad) = inputs.drop.iter().find(|drop| drop.fract() != 0.0) {
            bail!("drop must be 0 or 1, not {bad}");
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disturbed::{difference, disturbed, noise, values, with_threads};
    use crate::parameters::Parameters;
    use candle_core::Device;
    use kinora_kernels::{Precision, with_precision};

    const BATCH: usize = 3;

    fn config(causal: bool, null_text: NullText) -> PriorConfig {
        PriorConfig {
            num_attention_heads: 2,
            attention_head_dim: 8,
            num_layers: 2,
            embedding_dim: 6,
            num_embeddings: 5,
            encoder_hid_dim: Some(7),
            causal,
            null_text,
            ..PriorConfig::default()
        }
    }

    fn network(config: &PriorConfig) -> Prior {
        let parameters = Parameters::seeded(1, false);
        Prior::new(config, parameters.builder()).unwrap();
        Prior::new(config, Parameters::loaded(disturbed(&parameters), false).builder()).unwrap()
    }

    /// A batch of samples and what they are conditioned on.
    struct Given {
        sample: Tensor,
        timestep: Vec<f32>,
        embedding: Tensor,
        states: Tensor,
        mask: Tensor,
        drop: Vec<f32>,
    }

    impl Given {
        /// `text` chooses another text.
        fn new(text: u64, drop: &[f32]) -> Self {
            let mask = [[1f32, 1., 1., 0., 0.], [1., 1., 1., 1., 1.], [1., 0., 0., 0., 0.]];
            let turned = [mask[text as usize % 3], mask[(text as usize + 1) % 3], mask[(text as usize + 2) % 3]];
            Self {
                sample: noise(&[BATCH, 6], 2),
                timestep: vec![900.0, 10.5, 0.0],
                embedding: noise(&[BATCH, 6], 10 + text),
                states: noise(&[BATCH, 5, 7], 20 + text),
                mask: Tensor::new(&turned, &Device::Cpu).unwrap(),
                drop: drop.to_vec(),
            }
        }

        fn inputs(&self) -> PriorInputs<'_> {
            PriorInputs {
                sample: &self.sample,
                timestep: &self.timestep,
                text_embedding: &self.embedding,
                text_states: &self.states,
                text_mask: &self.mask,
                drop: &self.drop,
            }
        }
    }

    #[test]
    fn a_dropped_text_leaves_nothing_behind() {
        for config in [
            config(true, NullText::Learned),
            config(false, NullText::Learned),
            config(true, NullText::Zero),
            config(false, NullText::Zero),
        ] {
            let prior = network(&config);
            let run = |text: u64, drop: &[f32]| prior.forward(Given::new(text, drop).inputs()).unwrap();
            let row = |y: &Tensor, i: usize| values(&y.get(i).unwrap());
            let (a, b) = (run(0, &[1., 0., 1.]), run(1, &[1., 0., 1.]));
            assert_eq!(row(&a, 0), row(&b, 0));
            assert_eq!(row(&a, 2), row(&b, 2));
            assert_ne!(row(&a, 1), row(&b, 1));
            assert_eq!(values(&run(0, &[0.; 3])), values(&run(0, &[])));
            assert_eq!(row(&a, 1), row(&run(0, &[]), 1), "a neighbour's drop is its own");
        }
    }

    #[test]
    fn padding_is_not_seen() {
        for causal in [true, false] {
            let prior = network(&config(causal, NullText::Learned));
            let given = Given::new(0, &[]);
            let y = prior.forward(given.inputs()).unwrap();
            let padding = given.mask.affine(-1.0, 1.0).unwrap().unsqueeze(2).unwrap();
            let states = (&given.states + noise(&[BATCH, 5, 7], 77).broadcast_mul(&padding).unwrap()).unwrap();
            assert!(difference(&states, &given.states) > 0.0);
            assert_eq!(values(&prior.forward(Given { states, ..given }.inputs()).unwrap()), values(&y));
        }
    }

    #[test]
    fn samples_and_threads_are_independent() {
        for precision in [Precision::F32, Precision::Bf16] {
            let prior = network(&config(false, NullText::Learned));
            let given = Given::new(0, &[0., 1., 0.]);
            let run = |given: &Given| with_precision(precision, || values(&prior.forward(given.inputs()).unwrap()));
            let all = run(&given);
            let one = |i: usize| Given {
                sample: given.sample.narrow(0, i, 1).unwrap(),
                timestep: vec![given.timestep[i]],
                embedding: given.embedding.narrow(0, i, 1).unwrap(),
                states: given.states.narrow(0, i, 1).unwrap(),
                mask: given.mask.narrow(0, i, 1).unwrap(),
                drop: vec![given.drop[i]],
            };
            assert_eq!(all, (0..BATCH).flat_map(|i| run(&one(i))).collect::<Vec<_>>());
            assert!(with_threads(1, || run(&given)) == all && with_threads(2, || run(&given)) == all);
        }
    }

    #[test]
    fn every_parameter_has_a_gradient() {
        let config = config(true, NullText::Learned);
        let parameters = Parameters::seeded(1, false);
        Prior::new(&config, parameters.builder()).unwrap();
        let parameters = Parameters::loaded(disturbed(&parameters), true);
        let prior = Prior::new(&config, parameters.builder()).unwrap();
        let y = prior.forward(Given::new(0, &[0., 1., 0.]).inputs()).unwrap();
        let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        for (name, tensor) in parameters.tensors() {
            let gradient = gradients.get(&tensor).unwrap_or_else(|| panic!("{name} has no gradient"));
            assert!(values(gradient).iter().all(|g| g.is_finite()), "{name}");
            assert!(values(gradient).iter().any(|g| *g != 0.0), "{name} has a gradient of zero");
        }
    }

    #[test]
    fn inputs_that_do_not_fit_are_named() {
        let prior = network(&config(true, NullText::Learned));
        let refused = |given: Given, start: &str| {
            let error = prior.forward(given.inputs()).unwrap_err().to_string();
            assert!(error.starts_with(start), "{error}");
        };
        let good = || Given::new(0, &[]);
        refused(Given { embedding: noise(&[BATCH, 7], 0), ..good() }, "text_embedding");
        refused(Given { states: noise(&[BATCH, 4, 7], 0), ..good() }, "text_states");
        refused(Given { mask: noise(&[BATCH, 4], 0), ..good() }, "text_mask");
        refused(
            Given { mask: Tensor::zeros((BATCH, 5), candle_core::DType::F32, &Device::Cpu).unwrap(), ..good() },
            "text_mask",
        );
        refused(Given { timestep: vec![1.0], ..good() }, "timestep");
        refused(Given { timestep: vec![1.0, f32::NAN, 0.0], ..good() }, "timestep");
        refused(Given { drop: vec![1.0], ..good() }, "drop");
        refused(Given { drop: vec![0.0, 0.5, 1.0], ..good() }, "drop");
    }

    #[test]
    fn names_on_disk() {
        let parameters = Parameters::seeded(0, false);
        Prior::new(&config(true, NullText::Learned), parameters.builder()).unwrap();
        let all: Vec<_> = parameters.tensors().into_iter().map(|(name, x)| format!("{name} {:?}", x.dims())).collect();
        for known in [
            "encoder_hidden_states_proj.weight [16, 7]",
            "embedding_proj.weight [16, 6]",
            "time_embedding.linear_1.weight [16, 16]",
            "time_embedding.linear_2.bias [16]",
            "proj_in.weight [16, 6]",
            "prd_embedding [1, 1, 16]",
            "positional_embedding [1, 9, 16]",
            "null_text_embedding [1, 6]",
            "transformer_blocks.1.norm1.weight [16]",
            "transformer_blocks.1.attn1.to_qkv.weight [48, 16]",
            "transformer_blocks.1.attn1.to_out.0.weight [16, 16]",
            "transformer_blocks.1.norm3.weight [16]",
            "transformer_blocks.1.ff.net.0.proj.weight [64, 16]",
            "transformer_blocks.1.ff.net.2.weight [16, 64]",
            "norm_out.weight [16]",
            "proj_to_clip_embeddings.weight [6, 16]",
        ] {
            assert!(all.iter().any(|name| name == known), "{known} is not in {all:#?}");
        }
    }
}
