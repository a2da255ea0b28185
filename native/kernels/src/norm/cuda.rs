//! Norms on a GPU.

use super::{GroupNorm, RowNorm};
use crate::gpu::{Floats, Scratch, argument, run, with_addresses};
use candle_core::{CudaStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use kinora_cuda::{Address, Element, Fused, sum_parts};

impl GroupNorm {
    fn kernels(&self, x: &Shape, clips: usize) -> Result<kinora_cuda::GroupNorm> {
        let (height, width, images, channels) = x.dims4()?;
        Ok(kinora_cuda::GroupNorm {
            element: Element::F32,
            pixels: height * width,
            images,
            channels,
            groups: self.groups,
            clips,
            eps: self.eps,
            activation: if self.silu { Fused::Silu } else { Fused::None },
        })
    }

    pub(super) fn gpu_forward(
        &self,
        (x, lx): (&CudaStorage, &Layout),
        (ss, lss): (&CudaStorage, &Layout),
    ) -> Result<(CudaStorage, Shape)> {
        const OP: &str = "group_norm";
        let (device, kernels) = (&x.device, self.kernels(lx.shape(), lss.dims()[0])?);
        let (x, ss) = (argument(OP, x, lx)?, argument(OP, ss, lss)?);
        let y = Floats::new(device, lx.shape().elem_count())?;
        let statistics = Floats::new(device, kernels.images * self.groups * 2)?;
        let moments = Scratch::new(device, kernels.images * self.groups * kernels.parts() * 2)?;
        run(device, &kernels.moments(x, moments.at()))?;
        run(device, &kernels.forward(x, ss, moments.at(), y.at(), statistics.at()))?;
        self.statistics_on_gpu.get_or_init(|| statistics);
        Ok((y.storage(), lx.shape().clone()))
    }

    pub(super) fn gpu_backward(
        &self,
        x: &Tensor,
        ss: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (clips, twice) = ss.dims2()?;
        let kernels = self.kernels(x.shape(), clips)?;
        let Some(statistics) = self.statistics_on_gpu.get() else { bail!("group_norm: backward before forward") };
        with_addresses("group_norm", [x, ss, grad], |device, [from, scale_shift, dy]| {
            let parts = kernels.images * kernels.parts();
            let (dx, slopes) = (Floats::new(device, x.elem_count())?, Scratch::new(device, parts * twice)?);
            run(device, &kernels.slopes(from, scale_shift, statistics.at(), dy, slopes.at()))?;
            run(device, &kernels.backward(from, scale_shift, statistics.at(), dy, slopes.at(), dx.at()))?;
            let dss = Floats::new(device, clips * twice)?;
            run(device, &sum_parts(slopes.at(), dss.at(), clips, parts / clips, twice))?;
            Ok((Some(dx.tensor(x.shape())), Some(dss.tensor(ss.shape()))))
        })
    }
}

impl RowNorm {
    fn kernels(&self, x: &Shape, channels: usize) -> Result<kinora_cuda::RowNorm> {
        if x.dims().last() != Some(&channels) {
            bail!("{}: x {x:?} does not fit {channels} gains", self.name());
        }
        Ok(kinora_cuda::RowNorm {
            element: Element::F32,
            rows: x.elem_count() / channels,
            images: 1,
            clips: 1,
            channels,
            centre: self.centre,
            eps: self.eps,
            activation: Fused::None,
        })
    }

    pub(super) fn gpu_forward(
        &self,
        (x, lx): (&CudaStorage, &Layout),
        (gamma, lg): (&CudaStorage, &Layout),
        (beta, lb): (&CudaStorage, &Layout),
    ) -> Result<(CudaStorage, Shape)> {
        let channels = lg.shape().elem_count();
        if lb.shape().elem_count() != channels {
            bail!("{}: {channels} gains and {} offsets", self.name(), lb.shape().elem_count());
        }
        let (device, kernels) = (&x.device, self.kernels(lx.shape(), channels)?);
        let (x, gamma) = (argument(self.name(), x, lx)?, argument(self.name(), gamma, lg)?);
        let beta = if self.centre { argument(self.name(), beta, lb)? } else { Address::NONE };
        let y = Floats::new(device, lx.shape().elem_count())?;
        run(device, &kernels.forward(x, gamma, beta, y.at()))?;
        Ok((y.storage(), lx.shape().clone()))
    }

    pub(super) fn gpu_backward(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let channels = gamma.elem_count();
        let kernels = self.kernels(x.shape(), channels)?;
        with_addresses(self.name(), [x, gamma, beta, grad], |device, [from, gains, offsets, dy]| {
            let offsets = if self.centre { offsets } else { Address::NONE };
            let dx = Floats::new(device, x.elem_count())?;
            let (parts, sums) =
                (Scratch::new(device, kernels.parts() * 2 * channels)?, Floats::new(device, 2 * channels)?);
            run(device, &kernels.backward(from, gains, offsets, dy, dx.at(), parts.at()))?;
            run(device, &sum_parts(parts.at(), sums.at(), 1, kernels.parts(), 2 * channels))?;
            let sums = sums.tensor(2 * channels);
            let dgamma = sums.narrow(0, 0, channels)?.reshape(gamma.shape())?;
            let dbeta = if self.centre {
                Some(sums.narrow(0, channels, channels)?.contiguous()?.reshape(beta.shape())?)
            } else {
                None
            };
            Ok((Some(dx.tensor(x.shape())), Some(dgamma), dbeta))
        })
    }
}
