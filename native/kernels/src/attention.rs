//! Self-attention over pixels, frames or rows, with optional context keys, position bias, causality and key mask.
//!
//! No more than the scores of a block of queries exist at a time.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod head;

use crate::device::on_gpus;
use crate::graph::apply3;
#[cfg(feature = "cuda")]
use crate::spent::used_up;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// Which rows of the activations form a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequences {
    /// (sequences, tokens, 3C).
    Rows,
    /// (height, width, images, 3C): the pixels of an image attend to each other.
    Space,
    /// (height, width, clips x frames, 3C): the frames of a pixel attend to each other (Make-A-Video, Eq. 3).
    Frames(usize),
}

/// How to attend.
#[derive(Clone, Debug)]
pub struct AttentionOptions {
    /// Number of heads; it divides C.
    pub heads: usize,
    /// Which rows form a sequence.
    pub sequences: Sequences,
    /// Whether a token sees only itself and earlier ones (and all of the context).
    pub causal: bool,
    /// (sequences, tokens) for [`Sequences::Rows`]: keys with 0 are not seen. At least one key of each row must be 1.
    pub key_mask: Option<Tensor>,
}

/// softmax(q kᵀ / √d + bias) v.
///
/// `qkv` is (..., 3C) with q, k, v one after the other, each split in heads. `context_kv` (batch, tokens, 2C) holds
/// keys and values that are seen before the sequence's own; with [`Sequences::Space`] image n uses row
/// n / (images / batch), with [`Sequences::Rows`] there is one row a sequence. `bias` is (heads, tokens, tokens), in f32 or
/// in f64, and so is its gradient: the scores' gradients cancel over the keys, and a network that makes the bias of little
/// else needs the digits.
/// Returns (..., C).
pub fn attention(
    qkv: &Tensor,
    context_kv: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let dims = qkv.dims();
    let Some(&width) = dims.last() else { bail!("attention needs a channel axis") };
    let heads = options.heads;
    if heads == 0 || width % (3 * heads) != 0 {
        bail!("attention: {width} channels are not q, k and v of {heads} heads");
    }
    let channels = width / 3;
    let (sequences, tokens, token_stride, sequence_stride) = match (options.sequences, dims) {
        (Sequences::Rows, [sequences, tokens, _]) => (*sequences, *tokens, 1, *tokens),
        (Sequences::Space, [height, width, images, _]) => (*images, height * width, *images, 1),
        (Sequences::Frames(frames), [height, width, images, _]) if frames > 0 && images % frames == 0 => {
            (height * width * images / frames, frames, 1, frames)
        }
        _ => bail!("attention: {dims:?} does not fit {:?}", options.sequences),
    };
    let (mut context, mut sequences_per_context) = (0, 1);
    if let Some(kv) = context_kv {
        let (batch, length, kv_width) = kv.dims3()?;
        if kv_width != 2 * channels || sequences % batch != 0 || matches!(options.sequences, Sequences::Frames(_)) {
            bail!("attention: context {:?} does not fit {dims:?}", kv.shape());
        }
        (context, sequences_per_context) = (length, sequences / batch);
    }
    if let Some(bias) = bias
        && bias.dims() != [heads, tokens, tokens]
    {
        bail!("attention: bias {:?} is not ({heads}, {tokens}, {tokens})", bias.shape());
    }
    let key_mask = match &options.key_mask {
        Some(mask) if mask.dims() != [sequences, tokens] => {
            bail!("attention: key mask {:?} is not ({sequences}, {tokens})", mask.shape())
        }
        Some(mask) => Some(mask.flatten_all()?.to_vec1::<f32>()?),
        None => None,
    };
    let op = Attention {
        heads,
        channels,
        sequences,
        tokens,
        token_stride,
        sequence_stride,
        context,
        sequences_per_context,
        has_bias: bias.is_some(),
        causal: options.causal,
        key_mask,
        #[cfg(feature = "cuda")]
        lse: std::sync::OnceLock::new(),
    };
    let qkv = qkv.contiguous()?;
    // The op takes three arguments; an absent one is stood in for by qkv and not read.
    let context_kv = context_kv.map_or_else(|| Ok(qkv.clone()), Tensor::contiguous)?;
    let bias = bias.map_or_else(|| Ok(qkv.clone()), Tensor::contiguous)?;
    apply3(&qkv, &context_kv, &bias, op)
}

struct Attention {
    heads: usize,
    channels: usize,
    sequences: usize,
    tokens: usize,
    token_stride: usize,
    sequence_stride: usize,
    context: usize,
    sequences_per_context: usize,
    has_bias: bool,
    causal: bool,
    key_mask: Option<Vec<f32>>,
    /// Of a forward pass on a GPU: the logarithm of each query's sum of exponentials, (sequences, heads, tokens).
    #[cfg(feature = "cuda")]
    lse: std::sync::OnceLock<crate::gpu::Floats>,
}

impl Attention {
    fn size(&self) -> usize {
        self.channels / self.heads
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        lq: &Layout,
        context: &CpuStorage,
        lc: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.cpu_forward(self.name(), (qkv, lq), (context, lc), (bias, lb))
    }

    on_gpus!(a la, b lb, c lc);

    fn bwd(
        &self,
        qkv: &Tensor,
        context: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if qkv.device().is_cuda() {
            used_up(y)?;
            return self.gpu_backward(qkv, context, bias, y, grad);
        }
        self.cpu_backward(qkv, context, bias, y, grad)
    }
}
