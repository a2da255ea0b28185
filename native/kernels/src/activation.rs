//! SiLU, GELU and GEGLU.

#[cfg(feature = "cuda")]
mod cuda;

use crate::device::on_gpus;
use crate::graph::apply1;
use crate::simd::{erf, exp, sigmoid, vectorised};
use crate::spent::used_up;
use crate::storage::{each_chunk, slice, tensor, uninitialised, with_values};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

/// x * sigmoid(x).
pub fn silu(x: &Tensor) -> Result<Tensor> {
    apply1(&x.contiguous()?, Activation::Silu)
}

/// x * Φ(x), with the exact error function.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    apply1(&x.contiguous()?, Activation::Gelu)
}

/// The first half of the channels times the GELU of the second: (..., 2C) to (..., C).
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    match x.dims().last() {
        Some(channels) if channels % 2 == 0 => apply1(&x.contiguous()?, Activation::Geglu(channels / 2)),
        _ => bail!("geglu: {:?} has no even channel axis", x.shape()),
    }
}

enum Activation {
    Silu,
    Gelu,
    /// Channels out.
    Geglu(usize),
}

#[inline(always)]
fn gelu_of(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_slope(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * 0.398_942_3 * exp(-0.5 * x * x)
}

vectorised! {
    fn silu_forward(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * sigmoid(x);
        }
    }
}

vectorised! {
    fn silu_backward(x: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            let s = sigmoid(x);
            *dx = dy * s * (1.0 + x * (1.0 - s));
        }
    }
}

vectorised! {
    fn gelu_forward(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = gelu_of(x);
        }
    }
}

vectorised! {
    fn gelu_backward(x: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            *dx = dy * gelu_slope(x);
        }
    }
}

vectorised! {
    fn geglu_forward(x: &[f32], y: &mut [f32], channels: usize) {
        for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(2 * channels)) {
            let (value, gate) = x.split_at(channels);
            for ((y, &value), &gate) in y.iter_mut().zip(value).zip(gate) {
                *y = value * gelu_of(gate);
            }
        }
    }
}

vectorised! {
    fn geglu_backward(x: &[f32], dy: &[f32], dx: &mut [f32], channels: usize) {
        for ((dx, x), dy) in dx.chunks_exact_mut(2 * channels).zip(x.chunks_exact(2 * channels)).zip(dy.chunks_exact(channels)) {
            let (value, gate) = x.split_at(channels);
            let (dvalue, dgate) = dx.split_at_mut(channels);
            for ((dvalue, &gate), &dy) in dvalue.iter_mut().zip(gate).zip(dy) {
                *dvalue = dy * gelu_of(gate);
            }
            for (((dgate, &value), &gate), &dy) in dgate.iter_mut().zip(value).zip(gate).zip(dy) {
                *dgate = dy * value * gelu_slope(gate);
            }
        }
    }
}

/// About how many values a task takes.
const CHUNK: usize = 16 * 1024;

impl Activation {
    /// Values of a row that belong together, going in and coming out.
    fn widths(&self) -> (usize, usize) {
        match self {
            Activation::Silu | Activation::Gelu => (1, 1),
            Activation::Geglu(channels) => (2 * channels, *channels),
        }
    }
}

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        match self {
            Activation::Silu => "silu",
            Activation::Gelu => "gelu",
            Activation::Geglu(_) => "geglu",
        }
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(self.name(), x, layout)?;
        let mut dims = layout.dims().to_vec();
        if let (Activation::Geglu(channels), Some(last)) = (self, dims.last_mut()) {
            *last = *channels;
        }
        let mut y = uninitialised(dims.iter().product());
        let (from, to) = self.widths();
        let rows = CHUNK.div_ceil(to);
        each_chunk(&mut y, rows * to, |i, y| {
            let x = &x[i * rows * from..][..y.len() / to * from];
            match self {
                Activation::Silu => silu_forward(x, y),
                Activation::Gelu => gelu_forward(x, y),
                Activation::Geglu(channels) => geglu_forward(x, y, *channels),
            }
        });
        Ok((CpuStorage::F32(y), Shape::from(dims)))
    }

    on_gpus!(x layout);

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        used_up(y)?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return self.gpu_backward(x, grad);
        }
        let dx = with_values(x, |x| {
            with_values(grad, |dy| {
                let mut dx = uninitialised(x.len());
                let (from, to) = self.widths();
                let rows = CHUNK.div_ceil(from);
                each_chunk(&mut dx, rows * from, |i, dx| {
                    let (x, dy) = (&x[i * rows * from..][..dx.len()], &dy[i * rows * to..][..dx.len() / from * to]);
                    match self {
                        Activation::Silu => silu_backward(x, dy, dx),
                        Activation::Gelu => gelu_backward(x, dy, dx),
                        Activation::Geglu(channels) => geglu_backward(x, dy, dx, *channels),
                    }
                });
                Ok(dx)
            })
        })?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}
