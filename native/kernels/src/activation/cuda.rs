//! Activations on a GPU.

use super::Activation;
use crate::gpu::{Floats, argument, run, with_addresses};
use candle_core::{CudaStorage, CustomOp1, Layout, Result, Shape, Tensor};
use kinora_cuda::{Element, Fused, activation, activation_backward, geglu, geglu_backward};

const F32: Element = Element::F32;

impl Activation {
    pub(super) fn gpu_forward(&self, (x, layout): (&CudaStorage, &Layout)) -> Result<(CudaStorage, Shape)> {
        let (device, count) = (&x.device, layout.shape().elem_count());
        let x = argument(self.name(), x, layout)?;
        let mut dims = layout.dims().to_vec();
        if let (Activation::Geglu(channels), Some(last)) = (self, dims.last_mut()) {
            *last = *channels;
        }
        let shape = Shape::from(dims);
        let y = Floats::new(device, shape.elem_count())?;
        run(
            device,
            &match self {
                Activation::Silu => activation(F32, x, y.at(), count, Fused::Silu),
                Activation::Gelu => activation(F32, x, y.at(), count, Fused::Gelu),
                Activation::Geglu(channels) => geglu(F32, x, y.at(), count / (2 * channels), *channels),
            },
        )?;
        Ok((y.storage(), shape))
    }

    pub(super) fn gpu_backward(&self, x: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let count = x.elem_count();
        with_addresses(self.name(), [x, grad], |device, [from, dy]| {
            let dx = Floats::new(device, count)?;
            let addresses = [from, dy, dx.at()];
            run(
                device,
                &match self {
                    Activation::Silu => activation_backward(F32, addresses, count, Fused::Silu),
                    Activation::Gelu => activation_backward(F32, addresses, count, Fused::Gelu),
                    Activation::Geglu(channels) => geglu_backward(F32, addresses, count / (2 * channels), *channels),
                },
            )?;
            Ok(Some(dx.tensor(x.shape())))
        })
    }
}
