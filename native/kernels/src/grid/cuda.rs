//! Between frames and the grid on a GPU.

use super::{Patches, Patchify, Scale2};
use crate::gpu::{Floats, argument, run, with_addresses};
use candle_core::{CudaStorage, CustomOp1, Layout, Result, Shape, Tensor};
use kinora_cuda::{Address, Element, Launch, gather2, patchify, spread2};

const F32: Element = Element::F32;

impl Patchify {
    fn launch(&self, from: Address, to: Address, inverse: bool) -> Launch {
        let Patches { images, height, width, channels, p } = self.patches;
        patchify(F32, [from, to], [images, height, width, channels], p, inverse)
    }

    pub(super) fn gpu_forward(&self, (x, layout): (&CudaStorage, &Layout)) -> Result<(CudaStorage, Shape)> {
        let (device, x) = (&x.device, argument(self.name(), x, layout)?);
        let y = Floats::new(device, layout.shape().elem_count())?;
        run(device, &self.launch(x, y.at(), self.inverse))?;
        Ok((y.storage(), self.shape()))
    }

    pub(super) fn gpu_backward(&self, x: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        with_addresses(self.name(), [grad], |device, [dy]| {
            let dx = Floats::new(device, x.elem_count())?;
            run(device, &self.launch(dy, dx.at(), !self.inverse))?;
            Ok(Some(dx.tensor(x.shape())))
        })
    }
}

impl Scale2 {
    pub(super) fn gpu_forward(&self, (x, layout): (&CudaStorage, &Layout)) -> Result<(CudaStorage, Shape)> {
        let (height, width, images, channels) = layout.shape().dims4()?;
        let (device, from) = (&x.device, argument(self.name(), x, layout)?);
        let (height, width) = if self.up { (2 * height, 2 * width) } else { (height / 2, width / 2) };
        let shape = Shape::from((height, width, images, channels));
        let y = Floats::new(device, shape.elem_count())?;
        let row = images * channels;
        run(
            device,
            &if self.up {
                spread2(F32, from, y.at(), [height / 2, width / 2, row], 1.0)
            } else {
                gather2(F32, from, y.at(), [height, width, row], 0.25)
            },
        )?;
        Ok((y.storage(), shape))
    }

    pub(super) fn gpu_backward(&self, x: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (height, width, images, channels) = x.dims4()?;
        let row = images * channels;
        with_addresses(self.name(), [grad], |device, [dy]| {
            let dx = Floats::new(device, x.elem_count())?;
            run(
                device,
                &if self.up {
                    gather2(F32, dy, dx.at(), [height, width, row], 1.0)
                } else {
                    spread2(F32, dy, dx.at(), [height / 2, width / 2, row], 0.25)
                },
            )?;
            Ok(Some(dx.tensor(x.shape())))
        })
    }
}
