//! The image tower of the CLIP pair: a small residual convolution network from a picture to an embedding of unit length.

use crate::convolution::Conv2d;
use crate::embedding::unit_length;
use crate::linear::Linear;
use crate::norms::GroupNorm;
use crate::parameters::Builder;
use crate::refusals::{class_name, divides, each_within, small, within};
use candle_core::{Result, Tensor, bail};
use kinora_kernels::{add, average_pool2, patchify};
use serde::{Deserialize, Serialize};

/// The class name in `config.json`.
pub const CLASS: &str = "KinoraImageEncoder";

/// The sizes of an image tower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipImageConfig {
    /// Always `KinoraImageEncoder`.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// Height and width of a picture, 8 to 1,024; a multiple of `patch_size` times 2 for every level after the first.
    pub sample_size: usize,
    /// Channels of a picture, 1 to 16.
    pub in_channels: usize,
    /// Height and width of the squares that become one place, 1 to 16.
    pub patch_size: usize,
    /// Channels of the levels, 1 to 6 of them, 1 to 4,096 each; a multiple of `norm_num_groups`.
    pub block_out_channels: Vec<usize>,
    /// Length of the embedding, 1 to 8,192.
    pub projection_dim: usize,
    /// Groups of the group norms; default 8.
    #[serde(default = "default_groups")]
    pub norm_num_groups: usize,
    /// Added to the variance in the group norms; default 1e-5.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
}

fn default_groups() -> usize {
    8
}

fn default_eps() -> f64 {
    1e-5
}

impl Default for ClipImageConfig {
    /// The tower of the embedded cascade: 64x64, patches of 4, 64/128/256 channels at 16/8/4.
    fn default() -> Self {
        Self {
            class_name: CLASS.into(),
            sample_size: 64,
            in_channels: 3,
            patch_size: 4,
            block_out_channels: vec![64, 128, 256],
            projection_dim: 256,
            norm_num_groups: default_groups(),
            norm_eps: default_eps(),
        }
    }
}

impl ClipImageConfig {
    /// Refuses sizes out of range, naming the field and what is accepted.
    pub fn validate(&self) -> std::result::Result<(), String> {
        class_name(&self.class_name, CLASS)?;
        within("sample_size", self.sample_size, 8..=1024)?;
        within("in_channels", self.in_channels, 1..=16)?;
        within("patch_size", self.patch_size, 1..=16)?;
        within("projection_dim", self.projection_dim, 1..=8192)?;
        within("norm_num_groups", self.norm_num_groups, 1..=256)?;
        small("norm_eps", self.norm_eps)?;
        let levels = &self.block_out_channels;
        each_within("block_out_channels", levels, 1..=6, 1..=4096)?;
        divides("norm_num_groups", self.norm_num_groups, "width of block_out_channels", levels)?;
        let unit = self.patch_size << (levels.len() - 1);
        if !self.sample_size.is_multiple_of(unit) {
            return Err(format!(
                "sample_size must be a multiple of {unit} (patch_size {} with {} levels), not {}",
                self.patch_size,
                levels.len(),
                self.sample_size
            ));
        }
        Ok(())
    }

    fn norm(&self, channels: usize, b: &Builder) -> Result<GroupNorm> {
        GroupNorm::new(channels, self.norm_num_groups, self.norm_eps, b)
    }

    /// Height and width of the last level.
    fn last_size(&self) -> usize {
        self.sample_size / (self.patch_size << (self.block_out_channels.len() - 1))
    }
}

/// The image tower: patches, a block a level with a halving block between two levels, norm, SiLU, one linear layer.
pub struct ClipImage {
    config: ClipImageConfig,
    conv_in: Conv2d,
    blocks: Vec<Residual>,
    norm: GroupNorm,
    projection: Linear,
}

impl ClipImage {
    /// Makes or takes the tower's parameters under `b`.
    pub fn new(config: &ClipImageConfig, b: Builder) -> Result<Self> {
        config.validate().map_err(candle_core::Error::msg)?;
        let levels = &config.block_out_channels;
        let mut sizes = vec![(levels[0], levels[0], 1)];
        for pair in levels.windows(2) {
            sizes.push((pair[0], pair[1], 2));
            sizes.push((pair[1], pair[1], 1));
        }
        let blocks = sizes.into_iter().enumerate();
        let blocks =
            blocks.map(|(i, (from, to, stride))| Residual::new(config, from, to, stride, &b.pp("blocks").pp(i)));
        let patch = config.in_channels * config.patch_size * config.patch_size;
        let last = levels[levels.len() - 1];
        let flat = last * config.last_size() * config.last_size();
        Ok(Self {
            conv_in: Conv2d::new(patch, levels[0], 3, 1, false, &b.pp("conv_in"))?,
            blocks: blocks.collect::<Result<_>>()?,
            norm: config.norm(last, &b.pp("norm_out"))?,
            projection: Linear::no_bias(flat, config.projection_dim, &b.pp("visual_projection"))?,
            config: config.clone(),
        })
    }

    /// The config the tower was made with.
    pub fn config(&self) -> &ClipImageConfig {
        &self.config
    }

    /// `image` (B, H, W, C) or (B, 1, H, W, C) in [-1, 1], H = W = `sample_size`; gives (B, projection_dim), unit length.
    pub fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let (size, channels) = (self.config.sample_size, self.config.in_channels);
        let batch = match *image.dims() {
            [batch, height, width, c] if (height, width, c) == (size, size, channels) => batch,
            [batch, 1, height, width, c] if (height, width, c) == (size, size, channels) => batch,
            _ => bail!(
                "image must be (B, {size}, {size}, {channels}) or (B, 1, {size}, {size}, {channels}), not {:?}",
                image.dims()
            ),
        };
        let patches = patchify(&image.reshape((batch, 1, size, size, channels))?, self.config.patch_size)?;
        let mut x = self.conv_in.forward(&patches)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        let flat = self.norm.forward(&x, true)?.permute((2, 0, 1, 3))?.contiguous()?.flatten_from(1)?;
        unit_length(&self.projection.forward(&flat)?)
    }
}

/// conv2(silu(norm2(conv1(silu(norm1(x)))))) beside x, both halved in size when the stride is 2.
struct Residual {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
    halve: bool,
}

impl Residual {
    fn new(config: &ClipImageConfig, from: usize, to: usize, stride: usize, b: &Builder) -> Result<Self> {
        let shortcut =
            if from == to { None } else { Some(Conv2d::new(from, to, 1, 1, false, &b.pp("conv_shortcut"))?) };
        Ok(Self {
            norm1: config.norm(from, &b.pp("norm1"))?,
            conv1: Conv2d::new(from, to, 3, stride, false, &b.pp("conv1"))?,
            norm2: config.norm(to, &b.pp("norm2"))?,
            conv2: Conv2d::new(to, to, 3, 1, false, &b.pp("conv2"))?,
            shortcut,
            halve: stride == 2,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward(x, true)?)?;
        let h = self.conv2.forward(&self.norm2.forward(&h, true)?)?;
        let x = if self.halve { average_pool2(x)? } else { x.clone() };
        match &self.shortcut {
            Some(shortcut) => add(&shortcut.forward(&x)?, &h),
            None => add(&x, &h),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disturbed::{disturbed, noise, values, with_threads};
    use crate::parameters::Parameters;
    use kinora_kernels::{Precision, with_precision};

    fn config() -> ClipImageConfig {
        ClipImageConfig {
            sample_size: 16,
            patch_size: 2,
            block_out_channels: vec![8, 16],
            projection_dim: 10,
            norm_num_groups: 4,
            ..ClipImageConfig::default()
        }
    }

    fn network() -> ClipImage {
        let parameters = Parameters::seeded(1, false);
        ClipImage::new(&config(), parameters.builder()).unwrap();
        ClipImage::new(&config(), Parameters::loaded(disturbed(&parameters), false).builder()).unwrap()
    }

    #[test]
    fn pictures_and_threads_are_independent() {
        let (tower, x) = (network(), noise(&[3, 16, 16, 3], 4));
        for precision in [Precision::F32, Precision::Bf16] {
            let run = |x: &Tensor| with_precision(precision, || values(&tower.forward(x).unwrap()));
            let all = run(&x);
            assert_eq!(all, (0..3).flat_map(|i| run(&x.narrow(0, i, 1).unwrap())).collect::<Vec<_>>());
            assert_eq!(all, run(&x.reshape((3, 1, 16, 16, 3)).unwrap()));
            assert!(with_threads(1, || run(&x)) == all && with_threads(2, || run(&x)) == all);
            for embedding in all.chunks(10) {
                assert!((embedding.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn pictures_of_another_size_are_refused() {
        for shape in [&[3, 16, 8, 3][..], &[3, 16, 16, 4], &[3, 2, 16, 16, 3], &[16, 16, 3]] {
            assert!(network().forward(&noise(shape, 0)).unwrap_err().to_string().starts_with("image must be"));
        }
    }

    #[test]
    fn names_on_disk() {
        let parameters = Parameters::seeded(0, false);
        ClipImage::new(&config(), parameters.builder()).unwrap();
        let all: Vec<_> = parameters.tensors().into_iter().map(|(name, x)| format!("{name} {:?}", x.dims())).collect();
        for known in [
            "conv_in.weight [8, 12, 3, 3]",
            "blocks.0.norm1.weight [8]",
            "blocks.0.conv1.weight [8, 8, 3, 3]",
            "blocks.1.conv_shortcut.weight [16, 8, 1, 1]",
            "blocks.2.norm2.bias [16]",
            "blocks.2.conv2.bias [16]",
            "norm_out.weight [16]",
            "visual_projection.weight [10, 256]",
        ] {
            assert!(all.iter().any(|name| name == known), "{known} is not in {all:#?}");
        }
        assert!(!all.iter().any(|name| name.starts_with("visual_projection.bias")));
    }
}
