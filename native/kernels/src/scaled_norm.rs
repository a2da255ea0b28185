//! RMS norm, scale-shift and SiLU in one pass: the end of lucidrains' blocks.

#[cfg(feature = "cuda")]
mod cuda;

use crate::device::on_gpus;
use crate::graph::apply3;
use crate::join::add;
use crate::lanes::{LANES, Lanes, for_lanes};
use crate::norm::reciprocal;
use crate::simd::{sigmoid, vectorised};
use crate::spent::used_up;
use crate::storage::{Rows, each_chunk, slice, sum_parts, tensor, uninitialised, with_values};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// Rows that a task takes.
const TASK_ROWS: usize = 1024;
/// Rows whose gains' gradients are added up in f32 before they are added to the total in f64.
const SUMMED_ROWS: usize = 16;

/// `silu(x / max(rms(x), eps) * gain + offset)` over the last axis.
///
/// `x` is (height, width, images, C); `gains` is (clips, 2C), the gains first, then the offsets: image n uses row
/// n / (images / clips). Learned gains and the scale-shift of a conditioning vector are folded into it by the caller.
pub fn rms_norm_silu(x: &Tensor, gains: &Tensor, eps: f64) -> Result<Tensor> {
    apply(x, gains, None, eps)
}

/// [`rms_norm_silu`] plus `residual`, of the shape of `x`.
pub fn rms_norm_silu_add(x: &Tensor, gains: &Tensor, residual: &Tensor, eps: f64) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return add(&rms_norm_silu(x, gains, eps)?, residual);
    }
    apply(x, gains, Some(residual), eps)
}

fn apply(x: &Tensor, gains: &Tensor, residual: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let (_, _, images, channels) = x.dims4()?;
    let (clips, twice) = gains.dims2()?;
    if twice != 2 * channels || clips == 0 || images % clips != 0 {
        bail!("rms_norm_silu: x {:?} does not fit gains {:?}", x.shape(), gains.shape());
    }
    if let Some(residual) = residual
        && residual.shape() != x.shape()
    {
        bail!("rms_norm_silu: x {:?} and the residual {:?} differ", x.shape(), residual.shape());
    }
    let op = ScaledNorm { images, clips, eps: eps as f32, has_residual: residual.is_some() };
    let gains = gains.contiguous()?;
    // The op takes three arguments; without a residual the gains stand in its place.
    let residual = residual.map_or_else(|| Ok(gains.clone()), Tensor::contiguous)?;
    apply3(&x.contiguous()?, &gains, &residual, op)
}

struct ScaledNorm {
    images: usize,
    clips: usize,
    eps: f32,
    has_residual: bool,
}

/// Sixteen running sums of what `of` gives, so that the loop becomes vector code and has one order.
#[inline(always)]
fn lane_sum(len: usize, mut of: impl FnMut(usize) -> f32) -> f32 {
    let mut sums = [0f32; 16];
    for at in (0..len / 16 * 16).step_by(16) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += of(at + i);
        }
    }
    for at in len / 16 * 16..len {
        sums[0] += of(at);
    }
    sums.iter().sum()
}

for_lanes! {
    /// Rows that share their gains, plus those of `residual` unless it is empty.
    ///
    /// # Safety
    /// `x`, `y` and `residual` are of one length, whole rows of as many numbers as `gain` and `offset` have.
    unsafe fn forward(x: &[f32], gain: &[f32], offset: &[f32], residual: &[f32], eps: f32, y: &mut [f32]) = forward_in
}

#[inline(always)]
unsafe fn forward_in<V: Lanes>(x: &[f32], gain: &[f32], offset: &[f32], residual: &[f32], eps: f32, y: &mut [f32]) {
    let channels = gain.len();
    for row in (0..x.len()).step_by(channels) {
        let mut sums = [0f32; LANES];
        unsafe {
            let mut squares = V::splat(0.0);
            for c in (0..channels).step_by(LANES) {
                let x = V::read(x.as_ptr().add(row + c), channels - c);
                squares = x.mul_add(x, squares);
            }
            squares.store(sums.as_mut_ptr());
            let rstd = V::splat(reciprocal(sums.iter().sum::<f32>() / channels as f32, eps));
            for c in (0..channels).step_by(LANES) {
                let rest = channels - c;
                let x = V::read(x.as_ptr().add(row + c), rest).mul(rstd);
                let z = x.mul_add(V::read(gain.as_ptr().add(c), rest), V::read(offset.as_ptr().add(c), rest));
                let mut found = z.silu();
                if !residual.is_empty() {
                    found = found.add(V::read(residual.as_ptr().add(row + c), rest));
                }
                found.write(y.as_mut_ptr().add(row + c), rest);
            }
        }
    }
}

vectorised! {
    /// Rows that share their gains, whose gradients are added to `dgain` and `doffset`.
    fn backward(
        x: &[f32], dy: &[f32], gain: &[f32], offset: &[f32], eps: f32, dx: &mut [f32], dgain: &mut [f32], doffset: &mut [f32],
    ) {
        let channels = gain.len();
        let (offset, dgain, doffset) = (&offset[..channels], &mut dgain[..channels], &mut doffset[..channels]);
        for ((x, dy), dx) in x.chunks_exact(channels).zip(dy.chunks_exact(channels)).zip(dx.chunks_exact_mut(channels)) {
            let rstd = reciprocal(lane_sum(channels, |c| x[c] * x[c]) / channels as f32, eps);
            // Apart from the sum, so that it becomes vector code.
            for c in 0..channels {
                let normal = x[c] * rstd;
                let z = normal * gain[c] + offset[c];
                let s = sigmoid(z);
                let dz = dy[c] * s * (1.0 + z * (1.0 - s));
                dgain[c] += dz * normal;
                doffset[c] += dz;
                dx[c] = dz * gain[c];
            }
            let sum = lane_sum(channels, |c| dx[c] * (x[c] * rstd));
            // A row shorter than eps is divided by eps, whatever its length.
            let mean = if rstd >= 1.0 / eps { 0.0 } else { sum / channels as f32 };
            for (dx, x) in dx.iter_mut().zip(x) {
                *dx = rstd * (*dx - x * rstd * mean);
            }
        }
    }
}

impl ScaledNorm {
    /// Calls `work` with the clip, the first and the number of rows, for runs of at most `most` of `rows` from `first`
    /// on that share their gains.
    fn runs(&self, first: usize, rows: usize, most: usize, mut work: impl FnMut(usize, usize, usize)) {
        let per_clip = self.images / self.clips;
        let mut done = 0;
        while done < rows {
            let image = (first + done) % self.images;
            let same = if self.clips == 1 { rows } else { per_clip - image % per_clip };
            let count = same.min(rows - done).min(most);
            work(image / per_clip, done, count);
            done += count;
        }
    }
}

impl CustomOp3 for ScaledNorm {
    fn name(&self) -> &'static str {
        "rms_norm_silu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        gains: &CpuStorage,
        lg: &Layout,
        residual: &CpuStorage,
        lr: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gains) = (slice(self.name(), x, lx)?, slice(self.name(), gains, lg)?);
        let residual = if self.has_residual { Some(slice(self.name(), residual, lr)?) } else { None };
        let channels = lg.dims()[1] / 2;
        let mut y = uninitialised(x.len());
        let task = TASK_ROWS * channels;
        each_chunk(&mut y, task.max(1), |i, y| {
            let x = &x[i * task..][..y.len()];
            let residual = residual.map(|residual| &residual[i * task..][..y.len()]);
            self.runs(i * TASK_ROWS, y.len() / channels, usize::MAX, |clip, at, count| {
                let range = at * channels..(at + count) * channels;
                let (gain, offset) = gains[clip * 2 * channels..][..2 * channels].split_at(channels);
                let residual = residual.map_or(&[][..], |residual| &residual[range.clone()]);
                // SAFETY: all are whole rows.
                unsafe { forward(&x[range.clone()], gain, offset, residual, self.eps, &mut y[range]) };
            });
        });
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    on_gpus!(a la, b lb, c lc);

    fn bwd(
        &self,
        x: &Tensor,
        gains: &Tensor,
        _: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        used_up(y)?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return self.gpu_backward(x, gains, grad);
        }
        let channels = gains.dims()[1] / 2;
        let mut dx = uninitialised(x.elem_count());
        let all = Rows::new(&mut dx);
        let sums = with_values(x, |x| {
            with_values(gains, |gains| {
                with_values(grad, |dy| {
                    let task = TASK_ROWS * channels;
                    Ok(sum_parts(x.len().div_ceil(task), gains.len(), |i, totals| {
                        let range = i * task..((i + 1) * task).min(x.len());
                        // SAFETY: tasks have their own rows.
                        let dx = unsafe { all.slice(range.start, range.len()) };
                        let (x, dy) = (&x[range.clone()], &dy[range]);
                        let mut part = vec![0f32; 2 * channels];
                        self.runs(i * TASK_ROWS, x.len() / channels, SUMMED_ROWS, |clip, at, count| {
                            let range = at * channels..(at + count) * channels;
                            let of_clip = clip * 2 * channels..(clip + 1) * 2 * channels;
                            let (gain, offset) = gains[of_clip.clone()].split_at(channels);
                            part.fill(0.0);
                            let (dgain, doffset) = part.split_at_mut(channels);
                            let (x, dy) = (&x[range.clone()], &dy[range.clone()]);
                            backward(x, dy, gain, offset, self.eps, &mut dx[range], dgain, doffset);
                            for (to, from) in totals[of_clip].iter_mut().zip(&part) {
                                *to += f64::from(*from);
                            }
                        });
                    }))
                })
            })
        })?;
        let dgains = sums.into_iter().map(|sum| sum as f32).collect();
        let dresidual = self.has_residual.then(|| grad.clone());
        Ok((Some(tensor(dx, x.shape())?), Some(tensor(dgains, gains.shape())?), dresidual))
    }
}
