//! Residual and skip connections on a GPU.

use super::{Add, Concatenate};
use crate::gpu::{Floats, argument, run, with_addresses};
use candle_core::{CudaStorage, D, Layout, Result, Shape, Tensor};
use kinora_cuda::{Address, Element, add, concatenate};

const F32: Element = Element::F32;

impl Add {
    pub(super) fn gpu_forward(
        &self,
        (a, la): (&CudaStorage, &Layout),
        (b, lb): (&CudaStorage, &Layout),
    ) -> Result<(CudaStorage, Shape)> {
        let (device, count) = (&a.device, la.shape().elem_count());
        let (a, b, y) = (argument("add", a, la)?, argument("add", b, lb)?, Floats::new(device, count)?);
        run(device, &add(F32, [a, b, y.at()], count))?;
        Ok((y.storage(), la.shape().clone()))
    }
}

impl Concatenate {
    pub(super) fn gpu_forward(
        &self,
        (a, la): (&CudaStorage, &Layout),
        (b, lb): (&CudaStorage, &Layout),
    ) -> Result<(CudaStorage, Shape)> {
        const OP: &str = "concatenate";
        let device = &a.device;
        let (left, right) = (la.shape().dim(D::Minus1)?, lb.shape().dim(D::Minus1)?);
        let rows = la.shape().elem_count() / left;
        let mut dims = la.dims().to_vec();
        *dims.last_mut().expect("a channel axis") = left + right;
        let (a, b, both) = (argument(OP, a, la)?, argument(OP, b, lb)?, Floats::new(device, rows * (left + right))?);
        run(device, &concatenate(F32, [a, b, both.at()], rows, [left, right], false))?;
        Ok((both.storage(), Shape::from(dims)))
    }

    pub(super) fn gpu_backward(
        &self,
        a: &Tensor,
        b: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (left, right) = (a.dim(D::Minus1)?, b.dim(D::Minus1)?);
        with_addresses("concatenate", [grad], |device, [both]: [Address; 1]| {
            let (da, db) = (Floats::new(device, a.elem_count())?, Floats::new(device, b.elem_count())?);
            let rows = a.elem_count() / left;
            run(device, &concatenate(F32, [da.at(), db.at(), both], rows, [left, right], true))?;
            Ok((Some(da.tensor(a.shape())), Some(db.tensor(b.shape()))))
        })
    }
}
