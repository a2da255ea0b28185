//! Group norm fused with scale-shift and SiLU, layer norm and RMS norm.

#[cfg(feature = "cuda")]
mod cuda;
mod group;

use crate::device::on_gpus;
use crate::graph::{apply2, apply3};
use crate::simd::vectorised;
use crate::spent::used_up;
use crate::storage::{Rows, each_chunk, each_task, slice, sum_parts, tensor, uninitialised, with_values};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use group::{finish, join, moments, scale_and_shift, sums};
use std::ops::Range;
use std::sync::OnceLock;

/// `y = x̂ * scale + shift`, then SiLU when asked, with x̂ normalised over the pixels and channels of each group of
/// each image.
///
/// `x` is (height, width, images, C); `scale_shift` is (clips, 2C), the scales first: image n uses row
/// n / (images / clips). Learned gains and the scale-shift of a conditioning vector are folded into it by the caller.
pub fn group_norm(x: &Tensor, scale_shift: &Tensor, groups: usize, eps: f64, silu: bool) -> Result<Tensor> {
    let (_, _, images, channels) = x.dims4()?;
    let (clips, twice) = scale_shift.dims2()?;
    if groups == 0 || channels % groups != 0 || twice != 2 * channels || images % clips != 0 {
        bail!("group_norm: x {:?}, {groups} groups, scale_shift {:?}", x.shape(), scale_shift.shape());
    }
    let op = GroupNorm {
        groups,
        eps: eps as f32,
        silu,
        statistics: OnceLock::new(),
        #[cfg(feature = "cuda")]
        statistics_on_gpu: OnceLock::new(),
    };
    apply2(&x.contiguous()?, &scale_shift.contiguous()?, op)
}

/// Pixels whose moments are found together, whatever else there is.
const PART: usize = 64;
/// Numbers that a task makes.
const TASK_NUMBERS: usize = 1 << 16;

struct GroupNorm {
    groups: usize,
    eps: f32,
    silu: bool,
    /// Mean and reciprocal standard deviation, [image][group][2].
    statistics: OnceLock<Vec<f32>>,
    /// The same where the forward pass ran on a GPU.
    #[cfg(feature = "cuda")]
    statistics_on_gpu: OnceLock<crate::gpu::Floats>,
}

/// Runs `work` on the parts of activations of so many pixels: a part's number, its pixels, and its columns.
fn each_part(
    pixels: usize,
    row: usize,
    channels: usize,
    work: impl Fn(usize, Range<usize>, Range<usize>) + Sync + Send,
) {
    // Few pixels are split by images as well; what is added to what does not change.
    let columns = if pixels > 8 * PART { row } else { channels };
    let parts = (0..pixels.div_ceil(PART)).flat_map(|part| (0..row).step_by(columns).map(move |at| (part, at)));
    each_task(parts.collect(), |(part, at)| {
        work(part, part * PART..((part + 1) * PART).min(pixels), at..at + columns);
    });
}

/// Runs `work` on the first row and the number of rows of each task, from the end, which has been read last.
fn each_rows(rows: usize, row: usize, work: impl Fn(usize, usize) + Sync + Send) {
    let step = (TASK_NUMBERS / row).max(1);
    each_task((0..rows).step_by(step).rev().collect(), |first| work(first, (rows - first).min(step)));
}

impl CustomOp2 for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, ss: &CpuStorage, lss: &Layout) -> Result<(CpuStorage, Shape)> {
        let (height, width, images, channels) = lx.shape().dims4()?;
        let (x, ss) = (slice(self.name(), x, lx)?, slice(self.name(), ss, lss)?);
        let (pixels, row) = (height * width, images * channels);
        let per_clip = images / lss.dims()[0];
        let mut y = uninitialised(x.len());
        if y.is_empty() {
            return Ok((CpuStorage::F32(y), lx.shape().clone()));
        }
        // Mean and squares of each part.
        let mut found = uninitialised(pixels.div_ceil(PART) * 2 * row);
        let parts = Rows::new(&mut found);
        each_part(pixels, row, channels, |part, pixels, columns| {
            let mean = parts.at(part * 2 * row + columns.start);
            let x = x[pixels.start * row + columns.start..].as_ptr();
            // SAFETY: tasks have their own columns of a part.
            unsafe { moments(x, row, pixels.len(), columns.len(), mean, mean.add(row)) };
        });
        let (all, rest) = found.split_at_mut(2 * row);
        let (mean, squares) = all.split_at_mut(row);
        for (i, part) in rest.chunks_exact(2 * row).enumerate() {
            let before = (i + 1) * PART;
            let (more, (part, of_part)) = ((pixels - before).min(PART), part.split_at(row));
            // SAFETY: all are rows.
            unsafe {
                join(row, before, mean.as_mut_ptr(), squares.as_mut_ptr(), more, part.as_ptr(), of_part.as_ptr());
            }
        }
        let mut statistics = vec![0f32; images * self.groups * 2];
        // Means become offsets, and squares gains.
        let of_groups =
            mean.chunks_exact_mut(channels / self.groups).zip(squares.chunks_exact_mut(channels / self.groups));
        for (i, ((offset, gain), statistics)) in of_groups.zip(statistics.chunks_exact_mut(2)).enumerate() {
            let of_clip = i / self.groups / per_clip * 2 * channels + i % self.groups * gain.len();
            let (scale, shift) = (&ss[of_clip..], &ss[of_clip + channels..]);
            let mean = offset.iter().sum::<f32>() / offset.len() as f32;
            let within: f32 = gain.iter().sum();
            let between: f32 = offset.iter().map(|of_channel| (of_channel - mean).powi(2)).sum();
            let variance = (within / pixels as f32 + between) / gain.len() as f32;
            let rstd = 1.0 / (variance + self.eps).sqrt();
            for (c, (offset, gain)) in offset.iter_mut().zip(gain).enumerate() {
                *gain = rstd * scale[c];
                *offset = shift[c] - mean * *gain;
            }
            statistics.copy_from_slice(&[mean, rstd]);
        }
        let (offset, gain) = (&*mean, &*squares);
        let rows = Rows::new(&mut y);
        each_rows(pixels, row, |first, count| {
            let at = first * row;
            let (x, gain, offset, y) = (x[at..].as_ptr(), gain.as_ptr(), offset.as_ptr(), rows.at(at));
            // SAFETY: tasks have their own rows.
            unsafe { scale_and_shift(x, count, row, gain, offset, self.silu, y) };
        });
        self.statistics.get_or_init(|| statistics);
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    on_gpus!(a la, b lb);

    fn bwd(&self, x: &Tensor, ss: &Tensor, y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        used_up(y)?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return self.gpu_backward(x, ss, grad);
        }
        let (height, width, images, channels) = x.dims4()?;
        let (pixels, row) = (height * width, images * channels);
        let (clips, of_group) = (ss.dims()[0], channels / self.groups);
        let per_clip = images / clips;
        let Some(statistics) = self.statistics.get() else { bail!("group_norm: backward before forward") };
        let mut dx = uninitialised(x.elem_count());
        let mut dss = vec![0f32; clips * 2 * channels];
        if dx.is_empty() {
            return Ok((Some(tensor(dx, x.shape())?), Some(tensor(dss, ss.shape())?)));
        }
        // Of each column of a row: what its numbers are multiplied with, and what is added.
        let [mut gain, mut offset, mut mean, mut rest] = [0; 4].map(|_| vec![0f32; row]);
        // Sums of dz and of dz (x - mean) of each part.
        let mut found = uninitialised(pixels.div_ceil(PART) * 2 * row);
        with_values(x, |x| {
            with_values(ss, |ss| {
                with_values(grad, |dy| {
                    let groups = gain.chunks_exact_mut(of_group).zip(offset.chunks_exact_mut(of_group));
                    for (i, ((gain, offset), mean)) in groups.zip(mean.chunks_exact_mut(of_group)).enumerate() {
                        let of_clip = i / self.groups / per_clip * 2 * channels + i % self.groups * of_group;
                        mean.fill(statistics[2 * i]);
                        for (c, (gain, offset)) in gain.iter_mut().zip(offset).enumerate() {
                            *gain = statistics[2 * i + 1] * ss[of_clip + c];
                            *offset = ss[of_clip + channels + c] - statistics[2 * i] * *gain;
                        }
                    }
                    let parts = Rows::new(&mut found);
                    let of_columns = [&gain, &offset, &mean];
                    each_part(pixels, row, channels, |part, pixels, columns| {
                        let sum = parts.at(part * 2 * row + columns.start);
                        let both = [x, dy].map(|values| values[pixels.start * row + columns.start..].as_ptr());
                        let of_columns = of_columns.map(|values| values[columns.start..].as_ptr());
                        // SAFETY: tasks have their own columns of a part.
                        unsafe {
                            sums(both, row, pixels.len(), columns.len(), of_columns, self.silu, sum, sum.add(row));
                        }
                    });
                    let (total, more) = found.split_at_mut(2 * row);
                    for part in more.chunks_exact(2 * row) {
                        total.iter_mut().zip(part).for_each(|(to, from)| *to += from);
                    }
                    let (sum, products) = total.split_at_mut(row);
                    let count = (pixels * of_group) as f32;
                    for (i, first) in (0..row).step_by(of_group).enumerate() {
                        let (mean_of, rstd) = (statistics[2 * i], statistics[2 * i + 1]);
                        let columns = first..first + of_group;
                        let dot = |of: &[f32]| gain[columns.clone()].iter().zip(of).map(|(a, b)| a * b).sum::<f32>();
                        // dx = rstd * (dz * scale - mean(dz * scale) - x̂ * mean(dz * scale * x̂)), and gain = rstd * scale.
                        let slope = -rstd * rstd * dot(&products[columns.clone()]) / count;
                        let shift = -dot(&sum[columns.clone()]) / count - mean_of * slope;
                        products[columns.clone()].iter_mut().for_each(|product| *product *= rstd);
                        mean[columns.clone()].fill(slope);
                        rest[columns].fill(shift);
                    }
                    let of_columns = [&gain, &offset, &mean, &rest];
                    let rows = Rows::new(&mut dx);
                    each_rows(pixels, row, |first, count| {
                        let both = [x, dy].map(|values| values[first * row..].as_ptr());
                        let (of_columns, dx) = (of_columns.map(|values| values.as_ptr()), rows.at(first * row));
                        // SAFETY: tasks have their own rows.
                        unsafe { finish(both, count, row, of_columns, self.silu, dx) };
                    });
                    let images = products.chunks_exact(channels).zip(sum.chunks_exact(channels));
                    for (image, (products, sum)) in images.enumerate() {
                        let (scale, shift) =
                            dss[image / per_clip * 2 * channels..][..2 * channels].split_at_mut(channels);
                        scale.iter_mut().zip(products).for_each(|(to, from)| *to += from);
                        shift.iter_mut().zip(sum).for_each(|(to, from)| *to += from);
                    }
                    Ok(())
                })
            })
        })?;
        Ok((Some(tensor(dx, x.shape())?), Some(tensor(dss, ss.shape())?)))
    }
}

/// Layer norm over the last axis: `x` (..., C), `gamma` and `beta` (C).
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    apply3(&x.contiguous()?, gamma, beta, RowNorm { centre: true, eps: eps as f32 })
}

/// Root-mean-square norm over the last axis: `x / max(rms(x), eps) * gamma`, `x` (..., C), `gamma` (C).
///
/// With eps = 1e-12 / sqrt(C) this is the RMSNorm of lucidrains' layers: `normalize(x) * sqrt(C) * gamma`.
pub fn rms_norm(x: &Tensor, gamma: &Tensor, eps: f64) -> Result<Tensor> {
    apply3(&x.contiguous()?, gamma, gamma, RowNorm { centre: false, eps: eps as f32 })
}

/// Rows whose gains' gradients are added up in f32 before they are added to the total in f64.
const SUMMED_ROWS: usize = 16;
/// Rows that one task takes backward.
const TASK_ROWS: usize = 1024;

struct RowNorm {
    centre: bool,
    eps: f32,
}

/// Sixteen running sums, so that the loop becomes vector code and has one order.
#[inline(always)]
fn row_sum(values: &[f32], of: impl Fn(usize, f32) -> f32) -> f32 {
    let mut sums = [0f32; 16];
    let chunks = values.len() / 16 * 16;
    for at in (0..chunks).step_by(16) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += of(at + i, values[at + i]);
        }
    }
    for (at, value) in values.iter().enumerate().skip(chunks) {
        sums[0] += of(at, *value);
    }
    sums.iter().sum()
}

/// 1 / max(√square, eps); no number if `square` is none.
#[inline(always)]
pub(crate) fn reciprocal(square: f32, eps: f32) -> f32 {
    let root = square.sqrt();
    1.0 / if root < eps { eps } else { root }
}

#[inline(always)]
fn row_statistics(x: &[f32], centre: bool, eps: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = if centre { row_sum(x, |_, x| x) / count } else { 0.0 };
    let square = row_sum(x, |_, x| (x - mean) * (x - mean)) / count;
    (mean, if centre { 1.0 / (square + eps).sqrt() } else { reciprocal(square, eps) })
}

vectorised! {
    fn row_forward(x: &[f32], gamma: &[f32], beta: &[f32], centre: bool, eps: f32, y: &mut [f32]) {
        for (x, y) in x.chunks_exact(gamma.len()).zip(y.chunks_exact_mut(gamma.len())) {
            let (mean, rstd) = row_statistics(x, centre, eps);
            if centre {
                for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                    *y = (x - mean) * rstd * gamma + beta;
                }
            } else {
                for ((y, x), gamma) in y.iter_mut().zip(x).zip(gamma) {
                    *y = x * rstd * gamma;
                }
            }
        }
    }
}

vectorised! {
    fn row_backward(
        x: &[f32], dy: &[f32], gamma: &[f32], centre: bool, eps: f32, dx: &mut [f32], dgamma: &mut [f32], dbeta: &mut [f32],
    ) {
        let count = gamma.len() as f32;
        for ((x, dy), dx) in x.chunks_exact(gamma.len()).zip(dy.chunks_exact(gamma.len())).zip(dx.chunks_exact_mut(gamma.len())) {
            let (mean, rstd) = row_statistics(x, centre, eps);
            let sum_d = if centre { row_sum(dy, |c, dy| dy * gamma[c]) / count } else { 0.0 };
            // A row shorter than eps is divided by eps, whatever its length.
            let divided_by_eps = !centre && rstd >= 1.0 / eps;
            let sum_dx = row_sum(dy, |c, dy| dy * gamma[c] * (x[c] - mean) * rstd) / count;
            let sum_dx = if divided_by_eps { 0.0 } else { sum_dx };
            for c in 0..gamma.len() {
                let normal = (x[c] - mean) * rstd;
                dgamma[c] += dy[c] * normal;
                dbeta[c] += dy[c];
                dx[c] = rstd * (dy[c] * gamma[c] - sum_d - normal * sum_dx);
            }
        }
    }
}

impl CustomOp3 for RowNorm {
    fn name(&self) -> &'static str {
        if self.centre { "layer_norm" } else { "rms_norm" }
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        gamma: &CpuStorage,
        lg: &Layout,
        beta: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gamma, beta) = (slice(self.name(), gamma, lg)?, slice(self.name(), beta, lb)?);
        let x = slice(self.name(), x, lx)?;
        if lx.dims().last() != Some(&gamma.len()) || beta.len() != gamma.len() {
            bail!("{}: x {:?} does not fit {} gains", self.name(), lx.shape(), gamma.len());
        }
        let mut y = uninitialised(x.len());
        let chunk = gamma.len() * 256;
        each_chunk(&mut y, chunk, |i, y| {
            row_forward(&x[i * chunk..][..y.len()], gamma, beta, self.centre, self.eps, y);
        });
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    on_gpus!(a la, b lb, c lc);

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        used_up(y)?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return self.gpu_backward(x, gamma, beta, grad);
        }
        let channels = gamma.elem_count();
        let mut dx = uninitialised(x.elem_count());
        let all = Rows::new(&mut dx);
        let totals = with_values(x, |x| {
            with_values(gamma, |gamma| {
                with_values(grad, |dy| {
                    let (part, task) = (SUMMED_ROWS * channels, TASK_ROWS * channels);
                    Ok(sum_parts(x.len().div_ceil(task), 2 * channels, |i, totals| {
                        let range = i * task..((i + 1) * task).min(x.len());
                        // SAFETY: tasks have their own rows.
                        let dx = unsafe { all.slice(range.start, range.len()) };
                        let (x, dy) = (&x[range.clone()], &dy[range]);
                        let mut sums = vec![0f32; 2 * channels];
                        for ((x, dy), dx) in x.chunks(part).zip(dy.chunks(part)).zip(dx.chunks_mut(part)) {
                            sums.fill(0.0);
                            let (gains, offsets) = sums.split_at_mut(channels);
                            row_backward(x, dy, gamma, self.centre, self.eps, dx, gains, offsets);
                            for (to, from) in totals.iter_mut().zip(&sums) {
                                *to += f64::from(*from);
                            }
                        }
                    }))
                })
            })
        })?;
        let rounded = |totals: &[f64], like: &Tensor| tensor(totals.iter().map(|t| *t as f32).collect(), like.shape());
        let dbeta = if self.centre { Some(rounded(&totals[channels..], beta)?) } else { None };
        Ok((Some(tensor(dx, x.shape())?), Some(rounded(&totals[..channels], gamma)?), dbeta))
    }
}
