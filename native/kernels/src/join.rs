//! Two activations added, or laid side by side: residual and skip connections.

#[cfg(feature = "cuda")]
mod cuda;

use crate::device::on_gpus;
use crate::graph::apply2;
use crate::spent::used_up;
use crate::storage::{each_chunk, slice, tensor, uninitialised, with_values};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// About how many values a task takes.
const CHUNK: usize = 16 * 1024;

/// `a + b`, of one shape.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.shape() != b.shape() {
        bail!("add: {:?} and {:?} differ", a.shape(), b.shape());
    }
    apply2(&a.contiguous()?, &b.contiguous()?, Add)
}

/// The channels of `a`, then those of `b`: (..., A) and (..., B) to (..., A + B).
pub fn concatenate(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    concatenate_scaled(a, 1.0, b)
}

/// [`concatenate`], with `a` times `factor`.
pub fn concatenate_scaled(a: &Tensor, factor: f64, b: &Tensor) -> Result<Tensor> {
    if factor != 1.0 && !a.device().is_cpu() {
        return concatenate(&(a * factor)?, b);
    }
    match (a.dims().split_last(), b.dims().split_last()) {
        (Some((_, first)), Some((_, second))) if first == second => {
            apply2(&a.contiguous()?, &b.contiguous()?, Concatenate { factor: factor as f32 })
        }
        _ => bail!("concatenate: {:?} and {:?} differ in more than their channels", a.shape(), b.shape()),
    }
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(&self, a: &CpuStorage, la: &Layout, b: &CpuStorage, lb: &Layout) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (slice(self.name(), a, la)?, slice(self.name(), b, lb)?);
        let mut y = uninitialised(a.len());
        each_chunk(&mut y, CHUNK, |i, y| {
            let parts = a[i * CHUNK..].iter().zip(&b[i * CHUNK..]);
            for (y, (a, b)) in y.iter_mut().zip(parts) {
                *y = a + b;
            }
        });
        Ok((CpuStorage::F32(y), la.shape().clone()))
    }

    on_gpus!(a la, b lb);

    fn bwd(&self, _: &Tensor, _: &Tensor, y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        used_up(y)?;
        Ok((Some(grad.clone()), Some(grad.clone())))
    }
}

struct Concatenate {
    /// Of the first activation.
    factor: f32,
}

#[inline(always)]
fn scaled(from: &[f32], factor: f32, to: &mut [f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = from * factor);
}

impl CustomOp2 for Concatenate {
    fn name(&self) -> &'static str {
        "concatenate"
    }

    fn cpu_fwd(&self, a: &CpuStorage, la: &Layout, b: &CpuStorage, lb: &Layout) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (slice(self.name(), a, la)?, slice(self.name(), b, lb)?);
        let (left, right) = (la.dims()[la.dims().len() - 1], lb.dims()[lb.dims().len() - 1]);
        let width = left + right;
        let mut dims = la.dims().to_vec();
        *dims.last_mut().expect("a channel axis") = width;
        let mut y = uninitialised(a.len() + b.len());
        let rows = CHUNK.div_ceil(width.max(1));
        each_chunk(&mut y, rows * width.max(1), |i, y| {
            for (row, y) in (i * rows..).zip(y.chunks_exact_mut(width)) {
                let (to_left, to_right) = y.split_at_mut(left);
                scaled(&a[row * left..(row + 1) * left], self.factor, to_left);
                to_right.copy_from_slice(&b[row * right..(row + 1) * right]);
            }
        });
        Ok((CpuStorage::F32(y), Shape::from(dims)))
    }

    on_gpus!(a la, b lb);

    fn bwd(&self, a: &Tensor, b: &Tensor, y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        used_up(y)?;
        #[cfg(feature = "cuda")]
        if grad.device().is_cuda() {
            return self.gpu_backward(a, b, grad);
        }
        let (left, right) = (a.dim(candle_core::D::Minus1)?, b.dim(candle_core::D::Minus1)?);
        let part = |from: usize, width: usize, factor: f32, like: &Tensor| {
            let values = with_values(grad, |dy| {
                let mut part = uninitialised(like.elem_count());
                let rows = CHUNK.div_ceil(width.max(1));
                each_chunk(&mut part, rows * width.max(1), |i, part| {
                    for (row, part) in (i * rows..).zip(part.chunks_exact_mut(width)) {
                        scaled(&dy[row * (left + right) + from..][..width], factor, part);
                    }
                });
                Ok(part)
            })?;
            tensor(values, like.shape())
        };
        Ok((Some(part(0, left, self.factor, a)?), Some(part(left, right, 1.0, b)?)))
    }
}
