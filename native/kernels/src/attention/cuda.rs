//! Attention on a GPU.

use super::Attention;
use crate::gpu::{Floats, Scratch, argument, run, with_addresses};
use candle_core::cuda_backend::CudaDevice;
use candle_core::{CudaStorage, DType, Layout, Result, Shape, Tensor, bail};
use kinora_cuda::{Address, AttentionTensors, Element, sum_parts};

/// The widest head that the kernels have registers for.
const WIDEST_HEAD: usize = 128;

impl Attention {
    fn kernels(&self) -> Result<kinora_cuda::Attention> {
        if self.size() > WIDEST_HEAD {
            bail!("attention on a GPU takes heads of at most {WIDEST_HEAD} channels, not {}", self.size());
        }
        Ok(kinora_cuda::Attention {
            element: Element::F32,
            sequences: self.sequences,
            tokens: self.tokens,
            heads: self.heads,
            size: self.size(),
            sequence_stride: self.sequence_stride,
            token_stride: self.token_stride,
            contexts: if self.context > 0 { self.sequences / self.sequences_per_context } else { 0 },
            context_length: self.context,
            causal: self.causal,
        })
    }

    /// The key mask on the device, to be kept until the launches that read it are started.
    fn mask(&self, device: &CudaDevice) -> Result<Option<Floats>> {
        self.key_mask.as_ref().map(|mask| Floats::of(device, mask)).transpose()
    }

    fn tensors(&self, [qkv, context, bias, y]: [Address; 4], mask: Option<&Floats>, lse: Address) -> AttentionTensors {
        let given = |there: bool, address: Address| if there { address } else { Address::NONE };
        AttentionTensors {
            qkv,
            context: given(self.context > 0, context),
            bias: given(self.has_bias, bias),
            key_mask: mask.map_or(Address::NONE, Floats::at),
            y,
            lse,
        }
    }

    pub(super) fn gpu_forward(
        &self,
        (qkv, lq): (&CudaStorage, &Layout),
        (context, lc): (&CudaStorage, &Layout),
        (bias, lb): (&CudaStorage, &Layout),
    ) -> Result<(CudaStorage, Shape)> {
        const OP: &str = "attention";
        let (device, kernels) = (&qkv.device, self.kernels()?);
        let qkv = argument(OP, qkv, lq)?;
        let context = if self.context > 0 { argument(OP, context, lc)? } else { Address::NONE };
        let bias = if self.has_bias { argument(OP, bias, lb)? } else { Address::NONE };
        let mut dims = lq.dims().to_vec();
        *dims.last_mut().expect("checked") = self.channels;
        let shape = Shape::from(dims);
        let (y, lse) =
            (Floats::new(device, shape.elem_count())?, Floats::new(device, self.sequences * self.heads * self.tokens)?);
        let mask = self.mask(device)?;
        run(device, &kernels.forward(self.tensors([qkv, context, bias, y.at()], mask.as_ref(), lse.at())))?;
        self.lse.get_or_init(|| lse);
        Ok((y.storage(), shape))
    }

    pub(super) fn gpu_backward(
        &self,
        qkv: &Tensor,
        context: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let kernels = self.kernels()?;
        let Some(lse) = self.lse.get() else { bail!("attention: backward before forward") };
        let values = bias.to_dtype(DType::F32)?;
        with_addresses("attention", [qkv, context, &values, y, grad], |device, [q, c, b, y, dy]| {
            let mask = self.mask(device)?;
            let tensors = self.tensors([q, c, b, y], mask.as_ref(), lse.at());
            let delta = Scratch::new(device, self.sequences * self.heads * self.tokens)?;
            let dqkv = Floats::new(device, qkv.elem_count())?;
            run(device, &kernels.to_queries(tensors, dy, delta.at(), dqkv.at()))?;
            run(device, &kernels.to_keys(tensors, dy, delta.at(), dqkv.at(), Address::NONE, false))?;
            let dcontext = if self.context > 0 {
                let dcontext = Floats::new(device, context.elem_count())?;
                run(device, &kernels.to_keys(tensors, dy, delta.at(), dqkv.at(), dcontext.at(), true))?;
                Some(dcontext.tensor(context.shape()))
            } else {
                None
            };
            let dbias = if self.has_bias {
                let count = bias.elem_count();
                let (parts, dbias) = (Scratch::new(device, kernels.parts() * count)?, Floats::new(device, count)?);
                run(device, &kernels.to_bias(tensors, dy, delta.at(), parts.at()))?;
                run(device, &sum_parts(parts.at(), dbias.at(), 1, kernels.parts(), count))?;
                Some(dbias.tensor(bias.shape()).to_dtype(bias.dtype())?)
            } else {
                None
            };
            Ok((Some(dqkv.tensor(qkv.shape())), dcontext, dbias))
        })
    }
}
