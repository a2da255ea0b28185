//! The whole network.

use super::{
    Call, Clips, Downsample, DownsampleConfig, PseudoConv3d, ResnetBlock, ResnetBlockConfig, SinusoidalPosEmb,
    SinusoidalPosEmbConfig, SpaceTimeUnetConfig, SpatioTemporalAttention, SpatioTemporalAttentionConfig, Upsample,
    UpsampleConfig,
};
use crate::linear::Linear;
use crate::parameters::Builder;
use candle_core::{Result, Tensor, bail};
use kinora_kernels::{concatenate_scaled, silu, spent};

/// A U-Net over space and time for eps, v or x0 of a diffusion.
pub struct SpaceTimeUnet {
    timestep: Option<(SinusoidalPosEmb, Linear)>,
    conv_in: PseudoConv3d,
    downs: Vec<Level<Downsample>>,
    mid_block1: ResnetBlock,
    mid_attn: SpatioTemporalAttention,
    mid_block2: ResnetBlock,
    ups: Vec<Level<Upsample>>,
    conv_out: PseudoConv3d,
    frame_multiple: usize,
    image_size_multiple: usize,
}

struct Level<Resample> {
    first: ResnetBlock,
    blocks: Vec<ResnetBlock>,
    attention: Option<SpatioTemporalAttention>,
    resample: Resample,
}

impl SpaceTimeUnet {
    /// `to_timestep_cond.1`, `conv_in`, `downs`, `mid_block1`, `mid_attn`, `mid_block2`, `ups` and `conv_out`.
    pub fn new(config: &SpaceTimeUnetConfig, b: &Builder) -> Result<Self> {
        let &SpaceTimeUnetConfig { dim, channels, .. } = config;
        let cond = config.condition_on_timestep.then_some(4 * dim);
        let block = |dim, dim_out, cond, b: &Builder| {
            ResnetBlock::new(&ResnetBlockConfig { dim, dim_out, timestep_cond_dim: cond }, b)
        };
        let attention = |dim, b: &Builder| {
            let config = SpatioTemporalAttentionConfig {
                dim,
                dim_head: config.attn_dim_head,
                heads: config.attn_heads,
                add_feed_forward: true,
                ff_mult: 4.0,
                pos_bias: config.attn_pos_bias,
                flash: config.flash_attn,
                causal_time_attn: config.causal_time_attn,
            };
            SpatioTemporalAttention::new(&config, b)
        };
        let widths: Vec<usize> = std::iter::once(dim).chain(config.dim_mult.iter().map(|mult| mult * dim)).collect();
        let (mut downs, mut ups) = (Vec::new(), Vec::new());
        for (i, width) in widths.windows(2).enumerate() {
            let (dim_in, dim_out) = (width[0], width[1]);
            let (compress, depth) = (config.temporal_compression[i], config.resnet_block_depths[i]);
            let (down, up) = (b.pp("downs").pp(i), b.pp("ups").pp(i));
            let attends = config.self_attns[i];
            downs.push(Level {
                first: block(dim_in, dim_out, cond, &down.pp(0))?,
                blocks: (0..depth).map(|i| block(dim_out, dim_out, None, &down.pp(1).pp(i))).collect::<Result<_>>()?,
                attention: if attends { Some(attention(dim_out, &down.pp(2))?) } else { None },
                resample: Downsample::new(
                    &DownsampleConfig {
                        dim: dim_out,
                        downsample_space: true,
                        downsample_time: compress,
                        nonlin: false,
                    },
                    &down.pp(3),
                )?,
            });
            let skip = |i| if i == 0 { dim_out } else { 0 };
            ups.push(Level {
                first: block(2 * dim_out, dim_in, cond, &up.pp(0))?,
                blocks: (0..depth)
                    .map(|i| block(dim_in + skip(i), dim_in, None, &up.pp(1).pp(i)))
                    .collect::<Result<_>>()?,
                attention: if attends { Some(attention(dim_in, &up.pp(2))?) } else { None },
                resample: Upsample::new(
                    &UpsampleConfig { dim: dim_out, upsample_space: true, upsample_time: compress, nonlin: false },
                    &up.pp(3),
                )?,
            });
        }
        let mid = *widths.last().expect("dim is the first");
        let compressing = config.temporal_compression.iter().filter(|compress| **compress).count();
        Ok(Self {
            timestep: match cond {
                Some(width) => Some((
                    SinusoidalPosEmb::new(&SinusoidalPosEmbConfig { dim, theta: 10_000.0 })?,
                    Linear::new(dim, width, &b.pp("to_timestep_cond").pp(1))?,
                )),
                None => None,
            },
            conv_in: PseudoConv3d::of_kernel(channels, dim, 7, 3, &b.pp("conv_in"))?,
            downs,
            mid_block1: block(mid, mid, cond, &b.pp("mid_block1"))?,
            mid_attn: attention(mid, &b.pp("mid_attn"))?,
            mid_block2: block(mid, mid, cond, &b.pp("mid_block2"))?,
            ups,
            conv_out: PseudoConv3d::of_kernel(dim, channels, 3, 3, &b.pp("conv_out"))?,
            frame_multiple: 1 << compressing,
            image_size_multiple: 1 << config.dim_mult.len(),
        })
    }

    /// Of the same shape. `timestep` is one number a clip, or one for all, in any shape; `check` is called between blocks.
    ///
    /// # Errors
    /// Frames or sides are no multiple of what the levels need, or `timestep` is given where the network knows none, or
    /// missing where it does.
    pub fn forward(&self, clips: &Clips, timestep: Option<&Tensor>, check: &dyn Fn() -> Result<()>) -> Result<Clips> {
        if clips.time && !clips.frames.is_multiple_of(self.frame_multiple) {
            bail!("frames must be a multiple of {}, not {}", self.frame_multiple, clips.frames);
        }
        let (height, width, _, _) = clips.x.dims4()?;
        if [height, width].iter().any(|side| !side.is_multiple_of(self.image_size_multiple)) {
            bail!("height and width must be multiples of {}, not {height}x{width}", self.image_size_multiple);
        }
        let code = match (&self.timestep, timestep) {
            (None, None) => None,
            (Some((code, linear)), Some(timestep)) => {
                Some(silu(&linear.forward(&code.forward(&timestep.flatten_all()?)?)?)?)
            }
            (None, Some(_)) => bail!("timestep is given to a network with condition_on_timestep = false"),
            (Some(_), None) => bail!("timestep is missing"),
        };
        let code = code.as_ref();
        let mut x = self.conv_in.forward(clips)?;
        let mut skips = Vec::new();
        for Level { first, blocks, attention, resample } in &self.downs {
            check()?;
            x = first.forward(&x, code)?;
            skips.push(x.x.clone());
            x = rest(blocks, attention, x)?;
            skips.push(x.x.clone());
            x = resample.forward(&x)?;
        }
        check()?;
        x = self.mid_block1.forward(&x, code)?;
        x = self.mid_attn.forward(&x)?;
        x = self.mid_block2.forward(&x, code)?;
        for Level { first, blocks, attention, resample } in self.ups.iter().rev() {
            check()?;
            x = resample.forward(&x)?;
            x = joined(&mut skips, x)?;
            x = first.forward(&x, code)?;
            x = joined(&mut skips, x)?;
            x = rest(blocks, attention, x)?;
        }
        check()?;
        self.conv_out.forward(&x)
    }

    pub(super) fn run(&self, call: &Call) -> Result<Tensor> {
        let clips = Clips::new(call.tensor("x")?, call.enable_time.unwrap_or(true))?;
        self.forward(&clips, call.optional("timestep"), call.check)?.channels_second()
    }
}

fn rest(blocks: &[ResnetBlock], attention: &Option<SpatioTemporalAttention>, mut x: Clips) -> Result<Clips> {
    for block in blocks {
        x = block.forward(&x, None)?;
    }
    match attention {
        Some(attention) => attention.forward(&x),
        None => Ok(x),
    }
}

/// The last skip, scaled by 1/√2, before the activations, which nothing else reads.
fn joined(skips: &mut Vec<Tensor>, x: Clips) -> Result<Clips> {
    let skip = skips.pop().expect("two a level");
    let both = concatenate_scaled(&skip, std::f64::consts::FRAC_1_SQRT_2, &x.x)?;
    spent(&x.x)?;
    Ok(x.with(both))
}
