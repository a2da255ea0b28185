//! Between frames and the grid that networks work on: pixel-unshuffle, nearest up-sampling and average pooling.

use crate::storage::{slice, tensor, uninitialised, with_values};
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
    x.contiguous()?.apply_op1(Patchify { patches, batch, frames, inverse: false })
}

/// The inverse of [`patchify`]: a grid of `batch` x `frames` images back to frames.
pub fn unpatchify(x: &Tensor, p: usize, batch: usize, frames: usize) -> Result<Tensor> {
    let (height, width, images, channels) = x.dims4()?;
    if p == 0 || channels % (p * p) != 0 || images != batch * frames {
        bail!("unpatchify: {:?} is not {batch} x {frames} images of patches of {p}", x.shape());
    }
    let patches = Patches { images, height, width, channels: channels / (p * p), p };
    x.contiguous()?.apply_op1(Patchify { patches, batch, frames, inverse: true })
}

/// Each pixel twice in both directions: (h, w, n, c) to (2h, 2w, n, c).
pub fn upsample_nearest2(x: &Tensor) -> Result<Tensor> {
    x.dims4()?;
    x.contiguous()?.apply_op1(Scale2 { up: true })
}

/// The mean of each 2x2 block: (h, w, n, c) with even sides to (h / 2, w / 2, n, c).
pub fn average_pool2(x: &Tensor) -> Result<Tensor> {
    let (height, width, _, _) = x.dims4()?;
    if height % 2 != 0 || width % 2 != 0 {
        bail!("average_pool2: {height}x{width} has an odd side");
    }
    x.contiguous()?.apply_op1(Scale2 { up: false })
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
    /// Calls `visit(frame index, grid index)` for each element.
    fn for_each(self, mut visit: impl FnMut(usize, usize)) {
        let Patches { images, height, width, channels, p } = self;
        let grid_channels = channels * p * p;
        for y in 0..height {
            for x in 0..width {
                for image in 0..images {
                    let grid = ((y * width + x) * images + image) * grid_channels;
                    for dy in 0..p {
                        let frame = ((image * height + y) * p + dy) * width * p + x * p;
                        for dx in 0..p {
                            for c in 0..channels {
                                visit((frame + dx) * channels + c, grid + (c * p + dy) * p + dx);
                            }
                        }
                    }
                }
            }
        }
    }

    fn permute(self, from: &[f32], inverse: bool) -> Vec<f32> {
        let mut to = uninitialised(from.len());
        if inverse {
            self.for_each(|frame, grid| to[frame] = from[grid]);
        } else {
            self.for_each(|frame, grid| to[grid] = from[frame]);
        }
        to
    }
}

impl CustomOp1 for Patchify {
    fn name(&self) -> &'static str {
        "patchify"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = self.patches.permute(slice(self.name(), x, layout)?, self.inverse);
        let Patches { images, height, width, channels, p } = self.patches;
        let shape = if self.inverse {
            Shape::from((self.batch, self.frames, height * p, width * p, channels))
        } else {
            Shape::from((height, width, images, channels * p * p))
        };
        Ok((CpuStorage::F32(y), shape))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let dx = with_values(grad, |dy| Ok(self.patches.permute(dy, !self.inverse)))?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}

struct Scale2 {
    up: bool,
}

/// `to[small] += scale * sum of its four` or each of the four set from the small one.
fn spread(from: &[f32], height: usize, width: usize, row: usize, scale: f32) -> Vec<f32> {
    let mut to = uninitialised(from.len() * 4);
    for y in 0..2 * height {
        for x in 0..2 * width {
            let at = (y * 2 * width + x) * row;
            let source = ((y / 2) * width + x / 2) * row;
            for (to, from) in to[at..at + row].iter_mut().zip(&from[source..source + row]) {
                *to = from * scale;
            }
        }
    }
    to
}

fn gather(from: &[f32], height: usize, width: usize, row: usize, scale: f32) -> Vec<f32> {
    let mut to = uninitialised(from.len() / 4);
    for y in 0..height {
        for x in 0..width {
            let at = (y * width + x) * row;
            let corner = (2 * y * 2 * width + 2 * x) * row;
            let below = corner + 2 * width * row;
            for i in 0..row {
                let sum = (from[corner + i] + from[corner + row + i]) + (from[below + i] + from[below + row + i]);
                to[at + i] = sum * scale;
            }
        }
    }
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

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (height, width, images, channels) = x.dims4()?;
        let row = images * channels;
        let dx = with_values(grad, |dy| {
            Ok(if self.up { gather(dy, height, width, row, 1.0) } else { spread(dy, height / 2, width / 2, row, 0.25) })
        })?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}
