//! RMS norm, scale-shift and SiLU on a GPU.

use super::ScaledNorm;
use crate::gpu::{Floats, Scratch, argument, run, with_addresses};
use candle_core::{CudaStorage, Layout, Result, Shape, Tensor};
use kinora_cuda::{Address, Element, Fused, RowNorm, sum_parts};

const OP: &str = "rms_norm_silu";

impl ScaledNorm {
    fn kernels(&self, x: &Shape) -> Result<RowNorm> {
        let (height, width, images, channels) = x.dims4()?;
        Ok(RowNorm {
            element: Element::F32,
            rows: height * width * images,
            images,
            clips: self.clips,
            channels,
            centre: false,
            eps: self.eps,
            activation: Fused::Silu,
        })
    }

    /// Without a residual, which is added apart.
    pub(super) fn gpu_forward(
        &self,
        (x, lx): (&CudaStorage, &Layout),
        (gains, lg): (&CudaStorage, &Layout),
        _: (&CudaStorage, &Layout),
    ) -> Result<(CudaStorage, Shape)> {
        let (device, kernels) = (&x.device, self.kernels(lx.shape())?);
        let (x, gains) = (argument(OP, x, lx)?, argument(OP, gains, lg)?);
        let y = Floats::new(device, lx.shape().elem_count())?;
        run(device, &kernels.forward(x, gains, offsets(gains, &kernels), y.at()))?;
        Ok((y.storage(), lx.shape().clone()))
    }

    pub(super) fn gpu_backward(
        &self,
        x: &Tensor,
        gains: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let kernels = self.kernels(x.shape())?;
        let count = gains.elem_count();
        with_addresses(OP, [x, gains, grad], |device, [from, gain, dy]| {
            let (dx, dgains) = (Floats::new(device, x.elem_count())?, Floats::new(device, count)?);
            let parts = Scratch::new(device, kernels.parts() * count)?;
            run(device, &kernels.backward(from, gain, offsets(gain, &kernels), dy, dx.at(), parts.at()))?;
            run(device, &sum_parts(parts.at(), dgains.at(), kernels.clips, kernels.parts(), 2 * kernels.channels))?;
            Ok((Some(dx.tensor(x.shape())), Some(dgains.tensor(gains.shape())), None))
        })
    }
}

/// Where the offsets begin: after the gains.
fn offsets(Address(gains): Address, kernels: &RowNorm) -> Address {
    Address(gains + 4 * kernels.channels as u64)
}
