//! Between frames and the grid that networks work on: pixel-unshuffle, nearest up-sampling and average pooling.

#[cfg(feature = "cuda")]
mod cuda;

use crate::device::on_gpus;
use crate::graph::apply1;
use crate::spent::used_up;
use crate::storage::{each_chunk, slice, tensor, uninitialised, with_values};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

/// Frames (batch, frames, height, width, channels) to a grid (height / p, width / p, batch x frames, channels x p²).
///
/// The order of the new channels is that of torch's `pixel_unshuffle`: channel, then row, then column in the patch.
/// Errors when `p` does not divide the sides.
pub fn patchify(x: &Tensor, p: usize) -> Result<Tensor> {
    let (batch, frames, height, width, channels) = x.dims5()?;
    if p == 0 || height % p != 0 || width % p != 0 {
        bail!("patchify: {height}x{width} is not a multiple of {p}");
    }
    let patches = Patches { images: batch * frames, height: height / p, width: width / p, channels, p };
    apply1(&x.contiguous()?, Patchify { patches, batch, frames, inverse: false })
}

/// The inverse of [`patchify`]: a grid of `batch` x `frames` images back to frames.
pub fn unpatchify(x: &Tensor, p: usize, batch: usize, frames: usize) -> Result<Tensor> {
    let (height, width, images, channels) = x.dims4()?;
    if p == 0 || channels % (p * p) != 0 || images != batch * frames {
        bail!("unpatchify: {:?} is not {batch} x {frames} images of patches of {p}", x.shape());
    }
    let patches = Patches { images, height, width, channels: channels / (p * p), p };
    apply1(&x.contiguous()?, Patchify { patches, batch, frames, inverse: true })
}

/// Each pixel twice in both directions: (h, w, n, c) to (2h, 2w, n, c).
pub fn upsample_nearest2(x: &Tensor) -> Result<Tensor> {
    x.dims4()?;
    apply1(&x.contiguous()?, Scale2 { up: true })
}

/// The mean of each 2x2 block: (h, w, n, c) with even sides to (h / 2, w / 2, n, c).
pub fn average_pool2(x: &Tensor) -> Result<Tensor> {
    let (height, width, _, _) = x.dims4()?;
    if height % 2 != 0 || width % 2 != 0 {
        bail!("average_pool2: {height}x{width} has an odd side");
    }
    apply1(&x.contiguous()?, Scale2 { up: false })
}

/// `p` x `p` pixels of an image side by side, on the grid: (h, w, n, c) to (h / p, w / p, n, c p²), in the order of
/// [`patchify`]. Errors when `p` does not divide the sides.
pub fn pixel_unshuffle(x: &Tensor, p: usize) -> Result<Tensor> {
    let (height, width, images, channels) = x.dims4()?;
    if p == 0 || height % p != 0 || width % p != 0 {
        bail!("pixel_unshuffle: {height}x{width} is not a multiple of {p}");
    }
    shuffled(x, Shuffle { height: height / p, width: width / p, images, channels, p, inverse: false })
}

/// The inverse of [`pixel_unshuffle`].
pub fn pixel_shuffle(x: &Tensor, p: usize) -> Result<Tensor> {
    let (height, width, images, channels) = x.dims4()?;
    if p == 0 || channels % (p * p) != 0 {
        bail!("pixel_shuffle: {channels} channels are no patches of {p}x{p}");
    }
    shuffled(x, Shuffle { height, width, images, channels: channels / (p * p), p, inverse: true })
}

fn shuffled(x: &Tensor, shuffle: Shuffle) -> Result<Tensor> {
    if x.device().is_cpu() {
        return apply1(&x.contiguous()?, shuffle);
    }
    let Shuffle { images, p, inverse, .. } = shuffle;
    let (from, to) = if inverse { (p, 1) } else { (1, p) };
    patchify(&unpatchify(x, from, images, 1)?, to)
}

/// Between images and patches of them.
#[derive(Clone, Copy)]
struct Shuffle {
    /// Of the grid of patches.
    height: usize,
    width: usize,
    images: usize,
    /// Of an image.
    channels: usize,
    p: usize,
    /// From patches to images.
    inverse: bool,
}

impl Shuffle {
    fn permute(self, from: &[f32]) -> Vec<f32> {
        let Shuffle { height, width, images, channels, p, inverse } = self;
        let parts = p * p;
        let mut to = uninitialised(from.len());
        // A line of patches a task: so many lines of pixels, on either side.
        let len = (from.len() / height.max(1)).max(1);
        each_chunk(&mut to, len, |y, to| {
            let from = &from[y * len..][..to.len()];
            for x in 0..width {
                for image in 0..images {
                    let patch = (x * images + image) * channels * parts;
                    for part in 0..parts {
                        let pixel = (((part / p) * width + x) * p + part % p) * images + image;
                        let pixel = pixel * channels..(pixel + 1) * channels;
                        let patch = patch + part..patch + channels * parts;
                        if inverse {
                            to[pixel].iter_mut().zip(from[patch].iter().step_by(parts)).for_each(|(to, v)| *to = *v);
                        } else {
                            to[patch].iter_mut().step_by(parts).zip(&from[pixel]).for_each(|(to, v)| *to = *v);
                        }
                    }
                }
            }
        });
        to
    }
}

impl CustomOp1 for Shuffle {
    fn name(&self) -> &'static str {
        if self.inverse { "pixel_shuffle" } else { "pixel_unshuffle" }
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Shuffle { height, width, images, channels, p, inverse } = *self;
        let y = self.permute(slice(self.name(), x, layout)?);
        let shape = match inverse {
            true => (height * p, width * p, images, channels),
            false => (height, width, images, channels * p * p),
        };
        Ok((CpuStorage::F32(y), Shape::from(shape)))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        used_up(y)?;
        let back = Self { inverse: !self.inverse, ..*self };
        Ok(Some(tensor(with_values(grad, |dy| Ok(back.permute(dy)))?, x.shape())?))
    }
}

struct Patchify {
    patches: Patches,
    batch: usize,
    frames: usize,
    inverse: bool,
}

#[derive(Clone, Copy)]
struct Patches {
    images: usize,
    /// Of the grid.
    height: usize,
    width: usize,
    channels: usize,
    p: usize,
}

impl Patches {
    /// Calls `visit(frame index, grid index)` for each element of a pixel of the grid.
    #[inline(always)]
    fn for_pixel(self, image: usize, y: usize, x: usize, mut visit: impl FnMut(usize, usize)) {
        let Patches { images, height, width, channels, p } = self;
        let grid = ((y * width + x) * images + image) * channels * p * p;
        for dy in 0..p {
            let frame = ((image * height + y) * p + dy) * width * p + x * p;
            for dx in 0..p {
                for c in 0..channels {
                    visit((frame + dx) * channels + c, grid + (c * p + dy) * p + dx);
                }
            }
        }
    }

    fn permute(self, from: &[f32], inverse: bool) -> Vec<f32> {
        let mut to = uninitialised(from.len());
        if inverse {
            // A frame a task.
            let len = (from.len() / self.images.max(1)).max(1);
            each_chunk(&mut to, len, |image, to| {
                for y in 0..self.height {
                    for x in 0..self.width {
                        self.for_pixel(image, y, x, |frame, grid| to[frame - image * len] = from[grid]);
                    }
                }
            });
        } else {
            // A line of the grid a task.
            let len = (from.len() / self.height.max(1)).max(1);
            each_chunk(&mut to, len, |y, to| {
                for x in 0..self.width {
                    for image in 0..self.images {
                        self.for_pixel(image, y, x, |frame, grid| to[grid - y * len] = from[frame]);
                    }
                }
            });
        }
        to
    }
}

impl Patchify {
    /// Of the result.
    fn shape(&self) -> Shape {
        let Patches { images, height, width, channels, p } = self.patches;
        if self.inverse {
            Shape::from((self.batch, self.frames, height * p, width * p, channels))
        } else {
            Shape::from((height, width, images, channels * p * p))
        }
    }
}

impl CustomOp1 for Patchify {
    fn name(&self) -> &'static str {
        "patchify"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = self.patches.permute(slice(self.name(), x, layout)?, self.inverse);
        Ok((CpuStorage::F32(y), self.shape()))
    }

    on_gpus!(x layout);

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        used_up(y)?;
        #[cfg(feature = "cuda")]
        if grad.device().is_cuda() {
            return self.gpu_backward(x, grad);
        }
        let dx = with_values(grad, |dy| Ok(self.patches.permute(dy, !self.inverse)))?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}

struct Scale2 {
    up: bool,
}

/// Each of the four pixels `scale` times the one they come from; `height` and `width` are those of `from`.
fn spread(from: &[f32], height: usize, width: usize, row: usize, scale: f32) -> Vec<f32> {
    let mut to = uninitialised(from.len() * 4);
    each_chunk(&mut to, (4 * from.len() / height.max(1)).max(1), |y, to| {
        for (x, to) in to.chunks_exact_mut(row).enumerate() {
            let source = (y * width + x % (2 * width) / 2) * row;
            for (to, from) in to.iter_mut().zip(&from[source..source + row]) {
                *to = from * scale;
            }
        }
    });
    to
}

/// `scale` times the sum of four pixels; `height` and `width` are those of the result.
fn gather(from: &[f32], height: usize, width: usize, row: usize, scale: f32) -> Vec<f32> {
    let mut to = uninitialised(from.len() / 4);
    each_chunk(&mut to, (from.len() / 4 / height.max(1)).max(1), |y, to| {
        for (x, to) in to.chunks_exact_mut(row).enumerate() {
            let corner = (2 * y * 2 * width + 2 * x) * row;
            let below = corner + 2 * width * row;
            for (i, to) in to.iter_mut().enumerate() {
                let sum = (from[corner + i] + from[corner + row + i]) + (from[below + i] + from[below + row + i]);
                *to = sum * scale;
            }
        }
    });
    to
}

impl CustomOp1 for Scale2 {
    fn name(&self) -> &'static str {
        if self.up { "upsample_nearest2" } else { "average_pool2" }
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (height, width, images, channels) = layout.shape().dims4()?;
        let (x, row) = (slice(self.name(), x, layout)?, images * channels);
        Ok(if self.up {
            let y = spread(x, height, width, row, 1.0);
            (CpuStorage::F32(y), Shape::from((2 * height, 2 * width, images, channels)))
        } else {
            let y = gather(x, height / 2, width / 2, row, 0.25);
            (CpuStorage::F32(y), Shape::from((height / 2, width / 2, images, channels)))
        })
    }

    on_gpus!(x layout);

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        used_up(y)?;
        #[cfg(feature = "cuda")]
        if grad.device().is_cuda() {
            return self.gpu_backward(x, grad);
        }
        let (height, width, images, channels) = x.dims4()?;
        let row = images * channels;
        let dx = with_values(grad, |dy| {
            Ok(if self.up { gather(dy, height, width, row, 1.0) } else { spread(dy, height / 2, width / 2, row, 0.25) })
        })?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}
