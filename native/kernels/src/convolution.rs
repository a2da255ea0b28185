//! Linear layers, two-dimensional and temporal convolutions: one product over gathered rows.

#[cfg(feature = "cuda")]
mod cuda;

use crate::device::on_gpus;
use crate::graph::apply3;
use crate::minimal::{self, convolve, suited};
use crate::operands::path;
use crate::product::{column_sums, product};
use crate::scaled_norm::rms_norm_silu;
use crate::simd::ask_for;
use crate::spent::{spent, used_up};
use crate::storage::{each_chunk, slice, tensor, uninitialised, with_values};
use crate::taps::{Space, Taps};
use crate::weight_gradient::weight_gradient;
use crate::{Precision, Weight, precision};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// Products with fewer channels than this on either side stay in f32: recorded networks of such layers miss 3 % of their
/// gradients by up to four times in bf16.
const NARROW: usize = 48;
/// Pictures of fewer pixels than this, and single rows a sample, stay in f32 for the same reason.
const FEW_PIXELS: usize = 16;

/// The precision of one product. It depends on the layer and a picture's size, never on how many pictures there are, so
/// that a picture's bits do not depend on its neighbours.
fn precision_of(inputs: usize, outputs: usize, pixels: usize) -> Precision {
    if inputs.min(outputs) < NARROW || pixels < FEW_PIXELS { Precision::F32 } else { precision() }
}

/// `y = x Wᵀ + b` over the last axis.
///
/// `x` is (..., in), `weight` (out, in), `bias` (out).
pub fn linear(x: &Tensor, weight: &Weight, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs, taps) = weight.sizes();
    let (leading, channels) = split_last(x)?;
    if taps != 1 || channels != inputs {
        bail!("linear: x {:?} does not fit a weight {:?}", x.shape(), weight.tensor().shape());
    }
    let mut dims = x.dims().to_vec();
    *dims.last_mut().expect("a channel axis") = outputs;
    let pixels = match x.dims() {
        [_] | [_, _] => 1,
        [height, width, _, _] => height * width,
        // Rows of tokens.
        _ => usize::MAX,
    };
    apply(x, None, weight, bias, Taps::Dense { rows: leading }, pixels, dims)
}

/// Two-dimensional convolution of each image with zero padding.
///
/// `x` is (height, width, images, in), `weight` (out, in, kh, kw), `bias` (out).
pub fn conv2d(x: &Tensor, weight: &Weight, bias: Option<&Tensor>, stride: usize, padding: usize) -> Result<Tensor> {
    conv2d_of(x, None, weight, bias, stride, padding)
}

/// [`conv2d`] of what [`rms_norm_silu`] makes of `x`, which is not held for the gradients but made again: that takes
/// little time, and holding it a large part of a step's memory.
pub fn rms_norm_silu_conv2d(
    x: &Tensor,
    gains: &Tensor,
    eps: f64,
    weight: &Weight,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let normed = rms_norm_silu(x, gains, eps)?;
    let (x, gains) = (x.detach(), gains.detach());
    let again: Again = Box::new(move || rms_norm_silu(&x, &gains, eps));
    let y = conv2d_of(&normed, Some(again), weight, bias, stride, padding)?;
    spent(&normed)?;
    Ok(y)
}

fn conv2d_of(
    x: &Tensor,
    again: Option<Again>,
    weight: &Weight,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let (height, width, images, channels) = x.dims4()?;
    let (outputs, inputs, kh, kw) = weight.tensor().dims4()?;
    if channels != inputs || stride == 0 || height + 2 * padding < kh || width + 2 * padding < kw {
        bail!("conv2d: x {:?} does not fit a kernel {:?}", x.shape(), weight.tensor().shape());
    }
    if kh == 1 && kw == 1 && stride == 1 && padding == 0 {
        let rows = height * width * images;
        let dims = vec![height, width, images, outputs];
        return apply(x, again, weight, bias, Taps::Dense { rows }, height * width, dims);
    }
    let space = Space { height, width, images, kernel: (kh, kw), stride, padding };
    let (oh, ow) = space.output();
    apply(x, again, weight, bias, Taps::Space(space), oh * ow, vec![oh, ow, images, outputs])
}

/// Convolution over the frames of each clip, pixel by pixel, zero-padded to the same length: the second half of a
/// pseudo-3D convolution (Make-A-Video, Eq. 2).
///
/// `x` is (height, width, clips x frames, in), `weight` (out, in, k) with odd k, `bias` (out).
pub fn temporal_conv(x: &Tensor, weight: &Weight, bias: Option<&Tensor>, frames: usize) -> Result<Tensor> {
    let (height, width, images, channels) = x.dims4()?;
    let (outputs, inputs, kernel) = weight.tensor().dims3()?;
    if channels != inputs || kernel % 2 == 0 || frames == 0 || images % frames != 0 {
        bail!(
            "temporal_conv: x {:?} of {frames} frames does not fit a kernel {:?}",
            x.shape(),
            weight.tensor().shape()
        );
    }
    let taps = Taps::Time { rows: height * width * images, frames, kernel };
    apply(x, None, weight, bias, taps, height * width, vec![height, width, images, outputs])
}

fn split_last(x: &Tensor) -> Result<(usize, usize)> {
    match x.dims().split_last() {
        Some((&channels, leading)) => Ok((leading.iter().product(), channels)),
        None => bail!("a layer needs a channel axis"),
    }
}

fn apply(
    x: &Tensor,
    again: Option<Again>,
    weight: &Weight,
    bias: Option<&Tensor>,
    taps: Taps,
    pixels: usize,
    dims: Vec<usize>,
) -> Result<Tensor> {
    let (outputs, inputs, _) = weight.sizes();
    let precision = precision_of(inputs, outputs, pixels);
    let op = GatheredProduct { taps, weight: weight.clone(), precision, has_bias: bias.is_some(), dims, again };
    let x = x.contiguous()?;
    match bias {
        Some(bias) if bias.elem_count() != outputs => {
            bail!("a bias of {} does not fit {outputs} outputs", bias.elem_count())
        }
        Some(bias) => apply3(&x, weight.tensor(), bias, op),
        // The op takes three arguments; without a bias the weight stands in its place and is not read.
        None => apply3(&x, weight.tensor(), weight.tensor(), op),
    }
}

struct GatheredProduct {
    taps: Taps,
    weight: Weight,
    precision: Precision,
    has_bias: bool,
    dims: Vec<usize>,
    again: Option<Again>,
}

/// Makes the rows that went in once more.
type Again = Box<dyn Fn() -> Result<Tensor> + Send + Sync>;

impl GatheredProduct {
    /// From in to out channels, or `transposed` from out to in.
    fn product(&self, x: &[f32], bias: Option<&[f32]>, transposed: bool) -> Result<Vec<f32>> {
        let (outputs, inputs, _) = self.weight.sizes();
        let path = path(self.precision);
        let x = &*path.rows(x, if transposed { outputs } else { inputs });
        let filtered = suited(&self.taps, outputs, path.format);
        let taps = if transposed { self.taps.transposed() } else { self.taps };
        let panels = self.weight.panels(self.precision, transposed, filtered.is_some(), taps.rows())?;
        Ok(match filtered {
            Some(space) => convolve(x, &space, &panels, bias),
            None => product(x, &taps, &panels, bias),
        })
    }
}

impl CustomOp3 for GatheredProduct {
    fn name(&self) -> &'static str {
        match self.taps {
            Taps::Dense { .. } => "linear",
            Taps::Space(_) | Taps::SpaceTransposed(_) => "conv2d",
            Taps::Time { .. } | Taps::TimeTransposed { .. } => "temporal_conv",
        }
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = slice(self.name(), x, x_layout)?;
        let bias = if self.has_bias { Some(slice(self.name(), bias, bias_layout)?) } else { None };
        let y = self.product(x, bias, false)?;
        Ok((CpuStorage::F32(y), Shape::from(self.dims.clone())))
    }

    on_gpus!(a la, b lb, c lc);

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        used_up(y)?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return self.gpu_backward(x, weight, bias, grad);
        }
        let (outputs, inputs, taps) = self.weight.sizes();
        with_values(grad, |dy| {
            let dx = if x.track_op() { Some(tensor(self.product(dy, None, true)?, x.shape())?) } else { None };
            let dw = if weight.track_op() {
                let path = path(self.precision);
                let (isa, format) = (path.isa, path.format);
                let made = self.again.as_ref().map(|again| again()).transpose()?;
                let dw = with_values(made.as_ref().unwrap_or(x), |x| {
                    Ok(path.gradient(x, dy, |x, dy| {
                        let dw = match (suited(&self.taps, outputs, format), self.taps) {
                            (Some(space), _) => minimal::weight_gradient(isa, format, x, dy, &space, inputs, outputs),
                            // With its sides changed it comes in the weight's order.
                            (None, taps @ Taps::Dense { .. }) => {
                                return weight_gradient(isa, format, dy, x, &taps, outputs, inputs);
                            }
                            (None, taps) => weight_gradient(isa, format, x, dy, &taps, inputs, outputs),
                        };
                        to_weight_order(&dw, outputs, inputs, taps)
                    }))
                })?;
                Some(tensor(dw, weight.shape())?)
            } else {
                None
            };
            let db = if self.has_bias && bias.track_op() {
                Some(tensor(column_sums(dy, outputs), bias.shape())?)
            } else {
                None
            };
            Ok((dx, dw, db))
        })
    }
}

/// [tap][in][out] to [out][in][tap].
fn to_weight_order(from: &[f32], outputs: usize, inputs: usize, taps: usize) -> Vec<f32> {
    // Two cache lines of each tap at a time, and as many channels as stay in the first cache.
    const OUTPUTS: usize = 32;
    const INPUTS: usize = 16;
    let mut to = uninitialised(from.len());
    each_chunk(&mut to, (OUTPUTS * inputs * taps).max(1), |part, to| {
        let (first, count) = (part * OUTPUTS, (outputs - part * OUTPUTS).min(OUTPUTS));
        let row = |tap: usize, input: usize| &from[(tap * inputs + input) * outputs + first..][..count];
        let mut turned = vec![0f32; OUTPUTS * INPUTS * taps];
        for input in (0..inputs).step_by(INPUTS) {
            let some = (inputs - input).min(INPUTS);
            for (tap, i) in (0..taps).flat_map(|tap| (0..some).map(move |i| (tap, i))) {
                if input + INPUTS + i < inputs {
                    ask_for(row(tap, input + INPUTS + i));
                }
                for (turned, value) in
                    turned.iter_mut().skip(i * taps + tap).step_by(INPUTS * taps).zip(row(tap, input + i))
                {
                    *turned = *value;
                }
            }
            for (to, turned) in to.chunks_exact_mut(inputs * taps).zip(turned.chunks_exact(INPUTS * taps)) {
                to[input * taps..][..some * taps].copy_from_slice(&turned[..some * taps]);
            }
        }
    });
    to
}
