//! The pseudo-3D U-Net of the decoder, the frame interpolation and the super-resolutions.
//!
//! Activations are (height, width, clips x frames, channels). Freshly inflated, every temporal layer is the identity,
//! so that each frame is what the image network makes of it, bit for bit in f32.

use crate::convolution::{PseudoConv3d, PseudoConv3dOptions};
use crate::embedding::ScalarEmbedding;
use crate::linear::Linear;
use crate::norms::GroupNorm;
use crate::parameters::{Builder, Init};
use crate::refusals::{LAST_TIMESTEP, numbers};
use crate::unet_attention::PseudoAttention3d;
use crate::unet_config::UNetConfig;
use candle_core::{Result, Tensor, bail};
use kinora_kernels::{add, concatenate, patchify, silu, unpatchify, upsample_nearest2};

/// Sinusoidal features of the timestep, and of the frame rate and noise level.
const TIME_FEATURES: usize = 128;
const SCALAR_FEATURES: usize = 64;
const NORM_EPS: f64 = 1e-5;

/// What a U-Net sees besides the noisy frames; one entry a clip.
#[derive(Clone, Debug, Default)]
pub struct Conditioning {
    /// 1000 times the time from 0 to 1, or the step of a discrete schedule.
    pub timestep: Vec<f32>,
    /// CLIP image embeddings of unit length, (clips, width).
    pub image_embedding: Option<Tensor>,
    /// 1 where the learned null embedding takes the image embedding's place (guidance).
    pub drop: Vec<f32>,
    /// Frames a second, 0.1 to 1,000; empty leaves the rate unsaid.
    pub fps: Vec<f32>,
    /// Noise level of the low-resolution input, 0 to 1.
    pub augmentation: Vec<f32>,
}

/// The network.
pub struct UNet {
    config: UNetConfig,
    time_embedding: ScalarEmbedding,
    fps_embedding: Option<ScalarEmbedding>,
    augmentation_embedding: Option<ScalarEmbedding>,
    image: Option<ImageConditioning>,
    conv_in: PseudoConv3d,
    down: Vec<Level>,
    mid: (Resnet, Option<PseudoAttention3d>, Resnet),
    up: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: PseudoConv3d,
}

struct ImageConditioning {
    width: usize,
    null: Tensor,
    projection: Linear,
    context: Option<Linear>,
}

/// One resolution on one side: residual blocks, each with its attention, then a change of resolution.
struct Level {
    blocks: Vec<(Resnet, Option<PseudoAttention3d>)>,
    /// A strided convolution on the way down, a 1x1 before the nearest up-sampling on the way up.
    resize: Option<PseudoConv3d>,
}

struct Resnet {
    norm1: GroupNorm,
    conv1: PseudoConv3d,
    time_emb_proj: Linear,
    norm2: GroupNorm,
    conv2: PseudoConv3d,
    conv_shortcut: Option<PseudoConv3d>,
}

impl Resnet {
    fn new(inputs: usize, outputs: usize, config: &UNetConfig, b: &Builder) -> Result<Self> {
        let conv = |kernel, zero| PseudoConv3dOptions { kernel, stride: 1, temporal_kernel: temporal(config), zero };
        let groups = config.norm_num_groups;
        Ok(Self {
            norm1: GroupNorm::new(inputs, groups, NORM_EPS, &b.pp("norm1"))?,
            conv1: PseudoConv3d::new(inputs, outputs, conv(3, false), &b.pp("conv1"))?,
            time_emb_proj: Linear::new(config.time_embedding_dim, 2 * outputs, &b.pp("time_emb_proj"))?,
            norm2: GroupNorm::new(outputs, groups, NORM_EPS, &b.pp("norm2"))?,
            conv2: PseudoConv3d::new(outputs, outputs, conv(3, true), &b.pp("conv2"))?,
            conv_shortcut: if inputs == outputs {
                None
            } else {
                Some(PseudoConv3d::new(inputs, outputs, conv(1, false), &b.pp("conv_shortcut"))?)
            },
        })
    }

    fn forward(&self, x: &Tensor, embedding: &Tensor, frames: usize) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward(x, true)?, frames)?;
        let h = self.norm2.forward_scaled(&h, &self.time_emb_proj.forward(embedding)?)?;
        let h = self.conv2.forward(&h, frames)?;
        match &self.conv_shortcut {
            Some(shortcut) => add(&shortcut.forward(x, frames)?, &h),
            None => add(x, &h),
        }
    }
}

fn temporal(config: &UNetConfig) -> Option<usize> {
    config.temporal.then_some(config.temporal_kernel_size)
}

impl UNet {
    /// Makes the network of a valid configuration.
    ///
    /// # Errors
    /// The configuration is not valid, or the builder cannot give a parameter.
    pub fn new(config: &UNetConfig, b: Builder) -> Result<Self> {
        config.validate().map_err(candle_core::Error::msg)?;
        let width = config.time_embedding_dim;
        let widths = &config.block_out_channels;
        let patch = config.patch_size * config.patch_size;
        let conv =
            |kernel, stride, zero| PseudoConv3dOptions { kernel, stride, temporal_kernel: temporal(config), zero };
        let attention = |there: bool, channels: usize, b: &Builder| -> Result<Option<PseudoAttention3d>> {
            if there { Ok(Some(PseudoAttention3d::new(channels, config, b)?)) } else { Ok(None) }
        };
        let image = match config.image_embedding_dim {
            None => None,
            Some(embedding) => {
                let b = b.pp("image_embedding");
                let context = match config.context_tokens {
                    0 => None,
                    tokens => Some(Linear::new(embedding, tokens * width, &b.pp("context"))?),
                };
                Some(ImageConditioning {
                    width: embedding,
                    null: b.vector("null", embedding, Init::Zeros)?,
                    projection: Linear::new(embedding, width, &b.pp("projection"))?,
                    context,
                })
            }
        };
        let scalar = |there: bool, zero: bool, name: &str| -> Result<Option<ScalarEmbedding>> {
            if there {
                Ok(Some(ScalarEmbedding::new(SCALAR_FEATURES, width, width, zero, &b.pp(name))?))
            } else {
                Ok(None)
            }
        };
        let mut down = Vec::new();
        let mut skips = Vec::new();
        let mut channels = widths[0];
        for (level, &out) in widths.iter().enumerate() {
            let b = b.pp("down_blocks").pp(level);
            let mut blocks = Vec::new();
            for i in 0..config.layers_per_block {
                let resnet = Resnet::new(channels, out, config, &b.pp("resnets").pp(i))?;
                channels = out;
                skips.push(channels);
                blocks.push((resnet, attention(config.attention[level], channels, &b.pp("attentions").pp(i))?));
            }
            let resize = if level + 1 < widths.len() {
                Some(PseudoConv3d::new(channels, channels, conv(3, 2, false), &b.pp("downsampler"))?)
            } else {
                None
            };
            down.push(Level { blocks, resize });
        }
        let mid = b.pp("mid_block");
        let mid = (
            Resnet::new(channels, channels, config, &mid.pp("resnets").pp(0))?,
            attention(config.mid_attention, channels, &mid.pp("attentions").pp(0))?,
            Resnet::new(channels, channels, config, &mid.pp("resnets").pp(1))?,
        );
        let mut up = Vec::new();
        for (i, (level, &out)) in widths.iter().enumerate().rev().enumerate() {
            let b = b.pp("up_blocks").pp(i);
            let mut blocks = Vec::new();
            for i in 0..config.layers_per_block {
                let skip = skips.pop().expect("a skip for each block");
                let resnet = Resnet::new(channels + skip, out, config, &b.pp("resnets").pp(i))?;
                channels = out;
                blocks.push((resnet, attention(config.attention[level], channels, &b.pp("attentions").pp(i))?));
            }
            let resize = if level > 0 {
                let resize = PseudoConv3d::new(channels, widths[level - 1], conv(1, 1, false), &b.pp("upsampler"))?;
                channels = widths[level - 1];
                Some(resize)
            } else {
                None
            };
            up.push(Level { blocks, resize });
        }
        let outputs = config.out_channels * if config.learned_variance { 2 } else { 1 };
        Ok(Self {
            time_embedding: ScalarEmbedding::new(TIME_FEATURES, width, width, false, &b.pp("time_embedding"))?,
            fps_embedding: scalar(config.fps_conditioning, true, "fps_embedding")?,
            augmentation_embedding: scalar(config.augmentation_conditioning, false, "augmentation_embedding")?,
            image,
            conv_in: PseudoConv3d::new(config.in_channels * patch, widths[0], conv(3, 1, false), &b.pp("conv_in"))?,
            down,
            mid,
            up,
            norm_out: GroupNorm::new(channels, config.norm_num_groups, NORM_EPS, &b.pp("conv_norm_out"))?,
            conv_out: PseudoConv3d::new(channels, outputs * patch, conv(3, 1, true), &b.pp("conv_out"))?,
            config: config.clone(),
        })
    }

    /// The configuration it was made of.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// (clips, frames, height, width, in) to (clips, frames, height, width, out).
    ///
    /// # Errors
    /// Sides that are not multiples of [`UNetConfig::side_multiple`], channels or conditioning that do not fit.
    /// `check` is called before each block and stops the pass by failing.
    pub fn forward(&self, x: &Tensor, given: &Conditioning, check: &dyn Fn() -> Result<()>) -> Result<Tensor> {
        let (clips, frames, height, width, channels) = x.dims5()?;
        let multiple = self.config.side_multiple();
        if channels != self.config.in_channels || height % multiple != 0 || width % multiple != 0 {
            bail!(
                "sample {:?}: this network takes {} channels and sides that are multiples of {multiple}",
                x.shape(),
                self.config.in_channels
            );
        }
        if clips * frames * height * width == 0 {
            bail!("sample {:?} holds no frame", x.shape());
        }
        let (embedding, context) = self.condition(clips, given)?;
        let context = context.as_ref();
        let h = patchify(x, self.config.patch_size)?;
        let mut h = self.conv_in.forward(&h, frames)?;
        let mut skips = Vec::new();
        for level in &self.down {
            for (resnet, attention) in &level.blocks {
                check()?;
                h = resnet.forward(&h, &embedding, frames)?;
                if let Some(attention) = attention {
                    h = attention.forward(&h, context, frames)?;
                }
                skips.push(h.clone());
            }
            if let Some(resize) = &level.resize {
                h = resize.forward(&h, frames)?;
            }
        }
        check()?;
        h = self.mid.0.forward(&h, &embedding, frames)?;
        if let Some(attention) = &self.mid.1 {
            h = attention.forward(&h, context, frames)?;
        }
        h = self.mid.2.forward(&h, &embedding, frames)?;
        for level in &self.up {
            for (resnet, attention) in &level.blocks {
                check()?;
                let skip = skips.pop().expect("a skip for each block");
                h = resnet.forward(&concatenate(&h, &skip)?, &embedding, frames)?;
                if let Some(attention) = attention {
                    h = attention.forward(&h, context, frames)?;
                }
            }
            if let Some(resize) = &level.resize {
                h = upsample_nearest2(&resize.forward(&h, frames)?)?;
            }
        }
        let h = self.conv_out.forward(&self.norm_out.forward(&h, true)?, frames)?;
        unpatchify(&h, self.config.patch_size, clips, frames)
    }

    /// The conditioning vector (clips, width) after SiLU, and the context tokens (clips, tokens, width).
    fn condition(&self, clips: usize, given: &Conditioning) -> Result<(Tensor, Option<Tensor>)> {
        numbers("timestep", &given.timestep, clips, 0.0..=LAST_TIMESTEP)?;
        let mut embedding = self.time_embedding.forward(&given.timestep)?;
        if let Some(fps) = &self.fps_embedding
            && !given.fps.is_empty()
        {
            numbers("fps", &given.fps, clips, 0.1..=1000.0)?;
            // Logarithmic: the step from 2 to 4 fps changes motion as much as that from 15 to 30.
            let scaled: Vec<f32> = given.fps.iter().map(|fps| 1000.0 * fps.ln() / 30f32.ln()).collect();
            embedding = (embedding + fps.forward(&scaled)?)?;
        }
        if let Some(augmentation) = &self.augmentation_embedding {
            numbers("augmentation", &given.augmentation, clips, 0.0..=1.0)?;
            let scaled: Vec<f32> = given.augmentation.iter().map(|level| 1000.0 * level).collect();
            embedding = (embedding + augmentation.forward(&scaled)?)?;
        }
        let mut context = None;
        if let Some(image) = &self.image {
            let given_embedding = match &given.image_embedding {
                Some(embedding) if embedding.dims() == [clips, image.width] => embedding.clone(),
                Some(embedding) => bail!("image_embedding is {:?}, not ({clips}, {})", embedding.shape(), image.width),
                None => image.null.unsqueeze(0)?.broadcast_as((clips, image.width))?.contiguous()?,
            };
            let mut z = given_embedding;
            if !given.drop.is_empty() {
                numbers("drop", &given.drop, clips, 0.0..=1.0)?;
                let drop = Tensor::from_vec(given.drop.clone(), (clips, 1), self.time_embedding.device())?;
                let keep = drop.affine(-1.0, 1.0)?;
                let null = image.null.unsqueeze(0)?;
                z = (z.broadcast_mul(&keep)? + drop.broadcast_mul(&null)?)?;
            }
            // Coordinates of unit variance.
            let z = (z * (image.width as f64).sqrt())?;
            embedding = (embedding + image.projection.forward(&z)?)?;
            if let Some(linear) = &image.context {
                let tokens = linear.forward(&z)?;
                context = Some(tokens.reshape((clips, self.config.context_tokens, self.config.time_embedding_dim))?);
            }
        }
        Ok((silu(&embedding)?, context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disturbed::{difference, disturbed, noise, values, with_threads};
    use crate::parameters::Parameters;
    use candle_core::Device;
    use kinora_kernels::{Precision, with_precision};
    use serde_json::{Value, json};
    use std::collections::HashMap;

    const CLIPS: usize = 2;
    const FRAMES: usize = 5;

    /// An image network with every kind of layer, and of every size twice.
    fn image_config() -> Value {
        json!({
            "_class_name": "UNetPseudo3DModel", "in_channels": 3, "learned_variance": true, "patch_size": 2,
            "block_out_channels": [8, 16], "layers_per_block": 2, "attention": [false, true], "mid_attention": true,
            "attention_head_dim": 8, "feed_forward_mult": 1, "norm_num_groups": 4, "time_embedding_dim": 12,
            "image_embedding_dim": 6, "context_tokens": 2, "augmentation_conditioning": true,
            "spatial_position_bias": true,
        })
    }

    fn with(config: Value, changes: Value) -> Value {
        let (Value::Object(mut config), Value::Object(changes)) = (config, changes) else { panic!("objects") };
        config.extend(changes);
        Value::Object(config)
    }

    fn video_config() -> Value {
        with(image_config(), json!({ "temporal": true, "fps_conditioning": true }))
    }

    fn parse(config: Value) -> UNetConfig {
        serde_json::from_value(config).unwrap()
    }

    fn network(config: Value, source: &HashMap<String, Tensor>) -> UNet {
        UNet::new(&parse(config), Parameters::grown(source.clone(), 9, false).builder()).unwrap()
    }

    /// Weights for which no layer of a network is zero or the identity.
    fn trained(config: Value) -> HashMap<String, Tensor> {
        let parameters = Parameters::seeded(1, false);
        UNet::new(&parse(config), parameters.builder()).unwrap();
        disturbed(&parameters)
    }

    fn given(clips: usize) -> Conditioning {
        Conditioning {
            timestep: (0..clips).map(|i| 700.0 - 300.0 * i as f32).collect(),
            image_embedding: Some(noise(&[clips, 6], 20)),
            drop: (0..clips).map(|i| (i % 2) as f32).collect(),
            fps: vec![],
            augmentation: (0..clips).map(|i| 0.1 + 0.2 * i as f32).collect(),
        }
    }

    /// The conditioning of some clips, each said `times` times.
    fn part(given: &Conditioning, clips: &[usize], times: usize) -> Conditioning {
        let rows: Vec<u32> = clips.iter().flat_map(|clip| vec![*clip as u32; times]).collect();
        let some = |values: &[f32]| match values {
            [] => vec![],
            values => rows.iter().map(|row| values[*row as usize]).collect(),
        };
        let index = Tensor::from_vec(rows.clone(), rows.len(), &Device::Cpu).unwrap();
        Conditioning {
            timestep: some(&given.timestep),
            image_embedding: given.image_embedding.as_ref().map(|z| z.index_select(&index, 0).unwrap()),
            drop: some(&given.drop),
            fps: some(&given.fps),
            augmentation: some(&given.augmentation),
        }
    }

    fn run(network: &UNet, x: &Tensor, given: &Conditioning) -> Tensor {
        network.forward(x, given, &|| Ok(())).unwrap()
    }

    fn video() -> Tensor {
        noise(&[CLIPS, FRAMES, 8, 8, 3], 30)
    }

    fn frames_of(x: &Tensor, order: &[u32]) -> Tensor {
        x.index_select(&Tensor::new(order, &Device::Cpu).unwrap(), 1).unwrap()
    }

    #[test]
    fn every_layer_of_the_tests_matters() {
        let source = trained(image_config());
        let (x, given) = (video().narrow(1, 0, 1).unwrap().contiguous().unwrap(), given(CLIPS));
        let whole = run(&network(image_config(), &source), &x, &given);
        for name in source.keys() {
            let mut without = source.clone();
            without.insert(name.clone(), source[name].zeros_like().unwrap());
            let moved = difference(&run(&network(image_config(), &without), &x, &given), &whole);
            // The same bias on every key does nothing.
            let idle = name.ends_with("position_bias.net.2.bias");
            assert!(moved > 0.0 || idle, "{name} does nothing");
        }
    }

    #[test]
    fn inflated_is_the_image_network_on_every_frame() {
        let source = trained(image_config());
        let (image, inflated) = (network(image_config(), &source), network(video_config(), &source));
        let (x, given) = (video(), given(CLIPS));
        let y = run(&inflated, &x, &given);
        assert_eq!(y.dims(), [CLIPS, FRAMES, 8, 8, 6]);
        let frames = x.reshape((CLIPS * FRAMES, 1, 8, 8, 3)).unwrap();
        let each = run(&image, &frames, &part(&given, &[0, 1], FRAMES));
        assert_eq!(values(&y), values(&each));
        // And one by one, in a batch of their own.
        for clip in 0..CLIPS {
            for frame in 0..FRAMES {
                let one = frames.narrow(0, clip * FRAMES + frame, 1).unwrap().contiguous().unwrap();
                let alone = run(&image, &one, &part(&given, &[clip], 1));
                let same = y.get(clip).unwrap().get(frame).unwrap();
                assert_eq!(values(&same), values(&alone), "clip {clip}, frame {frame}");
            }
        }
    }

    #[test]
    fn one_frame_is_an_image_whatever_the_temporal_layers_learnt() {
        let mut source = trained(with(video_config(), json!({ "fps_conditioning": false })));
        let x = video().narrow(1, 2, 1).unwrap().contiguous().unwrap();
        let y = run(&network(video_config(), &source), &x, &given(CLIPS));
        source.retain(|name, _| !name.contains("temporal"));
        let image = Parameters::loaded(source, false);
        let image = UNet::new(&parse(image_config()), image.builder()).unwrap();
        assert_eq!(values(&y), values(&run(&image, &x, &given(CLIPS))));
    }

    #[test]
    fn permuted_frames_permute_the_output_of_a_fresh_network_only() {
        let order = [3, 0, 4, 1, 2];
        let (x, given) = (video(), given(CLIPS));
        let fresh = network(video_config(), &trained(image_config()));
        let permuted = run(&fresh, &frames_of(&x, &order), &given);
        assert_eq!(values(&permuted), values(&frames_of(&run(&fresh, &x, &given), &order)));
        let old = network(video_config(), &trained(video_config()));
        let permuted = run(&old, &frames_of(&x, &order), &given);
        assert!(difference(&permuted, &frames_of(&run(&old, &x, &given), &order)) > 1e-3);
    }

    #[test]
    fn grown_input_channels_start_unheard() {
        let source = trained(video_config());
        let (x, given) = (video(), given(CLIPS));
        let y = run(&network(video_config(), &source), &x, &given);
        let grown = network(with(video_config(), json!({ "in_channels": 7 })), &source);
        for seed in [40, 41] {
            let more = noise(&[CLIPS, FRAMES, 8, 8, 4], seed);
            let grown = run(&grown, &Tensor::cat(&[&x, &more], 4).unwrap(), &given);
            assert_eq!(values(&grown), values(&y));
        }
    }

    #[test]
    fn fps_starts_with_no_effect_and_has_one_when_learnt() {
        let at = |network: &UNet, fps: &[f32]| {
            let given = Conditioning { fps: fps.to_vec(), ..given(CLIPS) };
            values(&run(network, &video(), &given))
        };
        let fresh = network(video_config(), &trained(image_config()));
        assert_eq!(at(&fresh, &[]), at(&fresh, &[1.0, 30.0]));
        let old = network(video_config(), &trained(video_config()));
        assert_ne!(at(&old, &[8.0, 8.0]), at(&old, &[8.0, 24.0]));
    }

    #[test]
    fn sixteen_frames_learnt_are_seventy_six_run() {
        let source = trained(video_config());
        let network = network(video_config(), &source);
        let x = noise(&[1, 76, 4, 4, 3], 50);
        let y = run(&network, &x, &given(1));
        assert_eq!(y.dims(), [1, 76, 4, 4, 6]);
        assert!(values(&y).iter().all(|value| value.is_finite()));
        assert!(difference(&y, &run(&network, &frames_of(&x, &(0..76).rev().collect::<Vec<_>>()), &given(1))) > 1e-3);
    }

    #[test]
    fn causal_attention_sees_no_later_frame() {
        // The temporal convolution looks one frame ahead in any case, so it is left at length 1.
        let config = |causal: bool| {
            with(video_config(), json!({ "causal_temporal_attention": causal, "temporal_kernel_size": 1 }))
        };
        let source = trained(config(true));
        let x = video();
        let changed =
            Tensor::cat(&[&x.narrow(1, 0, 3).unwrap(), &noise(&[CLIPS, FRAMES - 3, 8, 8, 3], 60)], 1).unwrap();
        for causal in [true, false] {
            let network = network(config(causal), &source);
            let (y, moved) = (run(&network, &x, &given(CLIPS)), run(&network, &changed, &given(CLIPS)));
            let early = |y: &Tensor| values(&y.narrow(1, 0, 3).unwrap());
            assert_eq!(early(&y) == early(&moved), causal);
        }
    }

    #[test]
    fn samples_and_threads_are_independent() {
        let source = trained(video_config());
        let (x, given) = (video(), Conditioning { fps: vec![4.0, 12.0], ..given(CLIPS) });
        for precision in [Precision::F32, Precision::Bf16] {
            let network = network(video_config(), &source);
            let run = |x: &Tensor, given: &Conditioning| with_precision(precision, || values(&run(&network, x, given)));
            let both = run(&x, &given);
            let each: Vec<f32> =
                (0..CLIPS).flat_map(|clip| run(&x.narrow(0, clip, 1).unwrap(), &part(&given, &[clip], 1))).collect();
            assert_eq!(both, each);
            for threads in [1, 2, 3] {
                assert_eq!(both, with_threads(threads, || run(&x, &given)), "{threads} threads");
            }
        }
    }

    #[test]
    fn gradients_have_the_same_bits_at_any_number_of_threads() {
        let source = trained(video_config());
        let (x, given) = (video(), Conditioning { fps: vec![4.0, 12.0], ..given(CLIPS) });
        for precision in [Precision::F32, Precision::Bf16] {
            let gradients = || {
                let parameters = Parameters::grown(source.clone(), 9, true);
                let network = UNet::new(&parse(video_config()), parameters.builder()).unwrap();
                let y = with_precision(precision, || run(&network, &x, &given));
                let gradients = y.sqr().unwrap().mean_all().unwrap().backward().unwrap();
                let of = |(name, tensor): (String, Tensor)| {
                    let gradient = gradients.get(&tensor).unwrap_or_else(|| panic!("{name} has no gradient"));
                    (name, values(gradient))
                };
                parameters.tensors().into_iter().map(of).collect::<Vec<_>>()
            };
            let one = with_threads(1, gradients);
            assert!(one == with_threads(2, gradients) && one == with_threads(3, gradients));
            let idle = |name: &str| name.ends_with("position_bias.net.2.bias");
            for (name, gradient) in &one {
                assert!(gradient.iter().all(|g| g.is_finite()), "{name}");
                assert!(idle(name) || gradient.iter().any(|g| *g != 0.0), "{name} has a gradient of zero");
            }
        }
    }

    #[test]
    fn a_pass_stops_when_it_is_told_to() {
        let network = network(video_config(), &HashMap::new());
        let error = network.forward(&video(), &given(CLIPS), &|| bail!("stop")).unwrap_err();
        assert!(error.to_string().starts_with("stop"));
    }

    #[test]
    fn inputs_that_do_not_fit_are_named() {
        let network = network(video_config(), &HashMap::new());
        let refused = |x: &Tensor, given: &Conditioning, start: &str| {
            let error = network.forward(x, given, &|| Ok(())).unwrap_err().to_string();
            assert!(error.starts_with(start), "{error}");
        };
        let good = || given(CLIPS);
        for shape in
            [[2, 5, 8, 8, 4], [2, 5, 6, 8, 3], [2, 5, 8, 6, 3], [0, 5, 8, 8, 3], [2, 0, 8, 8, 3], [2, 5, 0, 8, 3]]
        {
            refused(&noise(&shape, 0), &good(), "sample");
        }
        let x = video();
        refused(&x, &Conditioning { timestep: vec![1.0], ..good() }, "timestep");
        refused(&x, &Conditioning { timestep: vec![1.0, f32::NAN], ..good() }, "timestep");
        refused(&x, &Conditioning { timestep: vec![1.0, -1.0], ..good() }, "timestep");
        refused(&x, &Conditioning { augmentation: vec![], ..good() }, "augmentation");
        refused(&x, &Conditioning { augmentation: vec![0.0, 2.0], ..good() }, "augmentation");
        refused(&x, &Conditioning { fps: vec![8.0, 0.0], ..good() }, "fps");
        refused(&x, &Conditioning { fps: vec![8.0], ..good() }, "fps");
        refused(&x, &Conditioning { drop: vec![0.0, 2.0], ..good() }, "drop");
        refused(&x, &Conditioning { image_embedding: Some(noise(&[2, 7], 0)), ..good() }, "image_embedding");
    }

    #[test]
    fn without_an_image_embedding_the_null_one_is_seen() {
        let network = network(video_config(), &trained(video_config()));
        let dropped = Conditioning { drop: vec![1.0; CLIPS], ..given(CLIPS) };
        let none = Conditioning { image_embedding: None, drop: vec![], ..given(CLIPS) };
        assert_eq!(values(&run(&network, &video(), &dropped)), values(&run(&network, &video(), &none)));
    }

    #[test]
    fn names_on_disk() {
        let names = |config: Value| {
            let parameters = Parameters::seeded(0, false);
            UNet::new(&parse(config), parameters.builder()).unwrap();
            parameters.tensors().into_iter().map(|(name, x)| format!("{name} {:?}", x.dims())).collect::<Vec<_>>()
        };
        let all = names(video_config());
        for known in [
            "conv_in.spatial_conv.weight [8, 12, 3, 3]",
            "conv_in.temporal_conv.weight [8, 8, 3]",
            "conv_norm_out.weight [8]",
            "conv_out.spatial_conv.bias [24]",
            "time_embedding.linear_1.weight [12, 128]",
            "fps_embedding.linear_2.weight [12, 12]",
            "augmentation_embedding.linear_1.weight [12, 64]",
            "image_embedding.null [6]",
            "image_embedding.projection.weight [12, 6]",
            "image_embedding.context.weight [24, 6]",
            "down_blocks.0.resnets.1.conv1.spatial_conv.weight [8, 8, 3, 3]",
            "down_blocks.0.downsampler.spatial_conv.weight [8, 8, 3, 3]",
            "down_blocks.1.resnets.0.conv_shortcut.spatial_conv.weight [16, 8, 1, 1]",
            "down_blocks.1.resnets.0.time_emb_proj.weight [32, 12]",
            "down_blocks.1.attentions.1.group_norm.weight [16]",
            "down_blocks.1.attentions.1.to_qkv.weight [48, 16]",
            "down_blocks.1.attentions.1.to_context_kv.weight [32, 12]",
            "down_blocks.1.attentions.1.to_out.weight [16, 16]",
            "down_blocks.1.attentions.1.position_bias.net.0.weight [8, 2]",
            "down_blocks.1.attentions.1.temporal.norm.weight [16]",
            "down_blocks.1.attentions.1.temporal.to_qkv.weight [48, 16]",
            "down_blocks.1.attentions.1.temporal.to_out.weight [16, 16]",
            "down_blocks.1.attentions.1.temporal.position_bias.net.0.weight [8, 1]",
            "down_blocks.1.attentions.1.temporal.position_bias.net.2.weight [2, 8]",
            "down_blocks.1.attentions.1.feed_forward.norm.weight [16]",
            "down_blocks.1.attentions.1.feed_forward.linear_in.weight [32, 16]",
            "down_blocks.1.attentions.1.feed_forward.linear_out.weight [16, 16]",
            "mid_block.resnets.1.norm2.weight [16]",
            "mid_block.attentions.0.to_qkv.weight [48, 16]",
            "up_blocks.0.upsampler.spatial_conv.weight [8, 16, 1, 1]",
            "up_blocks.1.resnets.1.conv2.temporal_conv.bias [8]",
        ] {
            assert!(all.iter().any(|name| name == known), "{known} is not in {all:#?}");
        }
        let image = names(image_config());
        assert!(image.iter().all(|name| all.contains(name)), "a video network has the image network's weights");
        assert!(!image.iter().any(|name| name.contains("temporal") || name.contains("fps")));
    }
}
