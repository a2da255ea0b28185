//! Convolution, norm, scale-shift and SiLU, once and twice.

use super::{BlockConfig, Call, Clips, PseudoConv3d, ResnetBlockConfig, RmsNorm};
use crate::linear::Linear;
use crate::parameters::Builder;
use candle_core::{Result, Tensor, bail};
use kinora_kernels::{add, silu, spent};

/// Pseudo-3D convolution, RMSNorm, scale-shift, SiLU.
pub struct Block {
    project: PseudoConv3d,
    norm: RmsNorm,
}

impl Block {
    /// `project` and `norm`.
    pub fn new(config: &BlockConfig, b: &Builder) -> Result<Self> {
        let (dim, dim_out) = (config.dim, config.dim_out);
        Ok(Self {
            project: PseudoConv3d::of_kernel(dim, dim_out, 3, 3, &b.pp("project"))?,
            norm: RmsNorm::of_channels(dim_out, &b.pp("norm"))?,
        })
    }

    /// `scale` and `shift` have the axes (height, width, clips, frames, channels), of size 1 where they do not vary;
    /// `residual` is added to the result.
    pub fn forward(
        &self,
        clips: &Clips,
        scale_shift: Option<&(Tensor, Tensor)>,
        residual: Option<&Tensor>,
    ) -> Result<Clips> {
        self.finish(self.project.forward(clips)?, scale_shift, residual)
    }

    /// What follows the convolution.
    fn finish(&self, h: Clips, scale_shift: Option<&(Tensor, Tensor)>, residual: Option<&Tensor>) -> Result<Clips> {
        if one_a_clip(scale_shift) {
            return Ok(h.with(self.norm.forward_silu(&h.x, scale_shift, residual)?));
        }
        let mut h = h.with(self.norm.forward_last(&h.x)?);
        if let Some((scale, shift)) = scale_shift {
            let scaled = (h.by_clip()? * h.spread(&(scale + 1.0)?)? + h.spread(shift)?)?;
            h = h.with(scaled.reshape(h.x.shape())?);
        }
        let y = silu(&h.x)?;
        Ok(h.with(match residual {
            Some(residual) => add(&y, residual)?,
            None => y,
        }))
    }

    pub(super) fn run(&self, call: &Call) -> Result<Tensor> {
        // Unlike all other layers this one ignores time unless told to look along it.
        let x = call.tensor("x")?;
        let clips = Clips::new(x, call.enable_time.unwrap_or(false))?;
        let scale_shift = match call.optional("scale_shift") {
            None => None,
            Some(both) if both.rank() == x.rank() + 1 && both.dim(0)? == 2 => {
                let part = |i: usize| {
                    let part = both.get(i)?;
                    let part = if part.rank() == 4 { part.unsqueeze(2)? } else { part };
                    part.permute((3, 4, 0, 2, 1))
                };
                Some((part(0)?, part(1)?))
            }
            Some(other) => bail!("scale_shift must be two tensors that fit x, stacked, not {:?}", other.shape()),
        };
        self.forward(&clips, scale_shift.as_ref(), None)?.channels_second()
    }
}

/// Whether scale and shift, if there are any, are the same for all frames and pixels of a clip.
fn one_a_clip(scale_shift: Option<&(Tensor, Tensor)>) -> bool {
    let same = |part: &Tensor| matches!(part.dims(), [1, 1, _, 1, _]);
    scale_shift.is_none_or(|(scale, shift)| same(scale) && same(shift))
}

/// Two [`Block`]s, the first scaled and shifted by a timestep's code, added to the input.
pub struct ResnetBlock {
    timestep_mlp: Option<Linear>,
    block1: Block,
    block2: Block,
    res_conv: Option<PseudoConv3d>,
    dim_out: usize,
}

impl ResnetBlock {
    /// `timestep_mlp.1` where there is a timestep's code, `block1`, `block2`, and `res_conv` where the width changes.
    pub fn new(config: &ResnetBlockConfig, b: &Builder) -> Result<Self> {
        let &ResnetBlockConfig { dim, dim_out, timestep_cond_dim } = config;
        let block = |dim| BlockConfig { dim, dim_out, ..BlockConfig::default() };
        Ok(Self {
            timestep_mlp: match timestep_cond_dim {
                Some(width) => Some(Linear::new(width, 2 * dim_out, &b.pp("timestep_mlp").pp(1))?),
                None => None,
            },
            block1: Block::new(&block(dim), &b.pp("block1"))?,
            block2: Block::new(&block(dim_out), &b.pp("block2"))?,
            res_conv: match dim == dim_out {
                true => None,
                false => Some(PseudoConv3d::of_kernel(dim, dim_out, 1, 1, &b.pp("res_conv"))?),
            },
            dim_out,
        })
    }

    /// `timestep_emb` is (clips, width) or (1, width); one clip with several codes becomes several.
    pub fn forward(&self, clips: &Clips, timestep_emb: Option<&Tensor>) -> Result<Clips> {
        let (clips, scale_shift) = match (&self.timestep_mlp, timestep_emb) {
            (None, None) => (clips.clone(), None),
            (Some(linear), Some(code)) => {
                let (codes, _) = code.dims2()?;
                let clips = if clips.clips()? == 1 && codes > 1 { clips.repeated(codes)? } else { clips.clone() };
                if codes != 1 && codes != clips.clips()? {
                    bail!("timestep_emb has {codes} rows for {} clips", clips.clips()?);
                }
                let both = linear.forward(&silu(code)?)?.reshape((1, 1, codes, 1, 2 * self.dim_out))?;
                let part = |first| both.narrow(4, first, self.dim_out);
                (clips, Some((part(0)?, part(self.dim_out)?)))
            }
            (None, Some(_)) => bail!("timestep_emb is given to a block without timestep_cond_dim"),
            (Some(_), None) => bail!("timestep_emb is missing: the block has timestep_cond_dim"),
        };
        let scale_shift = scale_shift.as_ref();
        let h = self.block1.project.forward(&clips)?;
        let h = if one_a_clip(scale_shift) {
            let (gains, eps) = self.block1.norm.gains(scale_shift)?;
            self.block2.project.forward_normed(&h, &gains, eps)?
        } else {
            self.block2.project.forward(&self.block1.finish(h, scale_shift, None)?)?
        };
        let Some(conv) = &self.res_conv else { return self.block2.finish(h, None, Some(&clips.x)) };
        let residual = conv.forward(&clips)?.x;
        let h = self.block2.finish(h, None, Some(&residual))?;
        spent(&residual)?;
        Ok(h)
    }

    pub(super) fn run(&self, call: &Call) -> Result<Tensor> {
        let clips = Clips::new(call.tensor("x")?, call.enable_time.unwrap_or(true))?;
        self.forward(&clips, call.optional("timestep_emb"))?.channels_second()
    }
}
