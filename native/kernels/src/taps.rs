//! Which input row feeds which output row: what tells a linear layer, a convolution and a temporal convolution apart.
//!
//! Activations are rows of channels in the order (height, width, batch x frames). A tap is one position of a kernel;
//! border positions have no source and count as zero.

use std::ops::Range;

/// How output rows are made of input rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taps {
    /// One tap: row to row.
    Dense { rows: usize },
    /// A two-dimensional kernel over (height, width).
    Space(Space),
    /// The transpose of [`Taps::Space`]: gradients back to the input.
    SpaceTransposed(Space),
    /// A kernel over the `frames` of each clip; rows are (pixels, clips, frames).
    Time { rows: usize, frames: usize, kernel: usize },
    /// The transpose of [`Taps::Time`].
    TimeTransposed { rows: usize, frames: usize, kernel: usize },
}

/// The geometry of a two-dimensional convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Space {
    pub height: usize,
    pub width: usize,
    /// Images: batch x frames.
    pub images: usize,
    pub kernel: (usize, usize),
    pub stride: usize,
    pub padding: usize,
}

impl Space {
    /// Height and width of the output.
    pub fn output(&self) -> (usize, usize) {
        let side = |size: usize, kernel: usize| (size + 2 * self.padding - kernel) / self.stride + 1;
        (side(self.height, self.kernel.0), side(self.width, self.kernel.1))
    }
}

impl Taps {
    /// Number of taps.
    pub fn count(&self) -> usize {
        match self {
            Taps::Dense { .. } => 1,
            Taps::Space(space) | Taps::SpaceTransposed(space) => space.kernel.0 * space.kernel.1,
            Taps::Time { kernel, .. } | Taps::TimeTransposed { kernel, .. } => *kernel,
        }
    }

    /// Number of output rows.
    pub fn rows(&self) -> usize {
        match self {
            Taps::Dense { rows } | Taps::Time { rows, .. } | Taps::TimeTransposed { rows, .. } => *rows,
            Taps::Space(space) => space.output().0 * space.output().1 * space.images,
            Taps::SpaceTransposed(space) => space.height * space.width * space.images,
        }
    }

    /// The same taps, from outputs back to inputs.
    pub fn transposed(&self) -> Taps {
        match *self {
            Taps::Dense { rows } => Taps::Dense { rows },
            Taps::Space(space) => Taps::SpaceTransposed(space),
            Taps::SpaceTransposed(space) => Taps::Space(space),
            Taps::Time { rows, frames, kernel } => Taps::TimeTransposed { rows, frames, kernel },
            Taps::TimeTransposed { rows, frames, kernel } => Taps::Time { rows, frames, kernel },
        }
    }

    /// The input rows around output rows `first..first + count`, if they are few more: all of which those are made.
    pub fn around(&self, first: usize, count: usize) -> Option<Range<usize>> {
        match *self {
            Taps::Dense { .. } => Some(first..first + count),
            Taps::Time { rows, kernel, .. } | Taps::TimeTransposed { rows, kernel, .. } => {
                Some(first.saturating_sub(kernel / 2)..rows.min(first + count + kernel / 2))
            }
            Taps::Space(_) | Taps::SpaceTransposed(_) => None,
        }
    }

    /// Writes the source rows of output rows `first..first + sources.len()` for one tap; -1 where there is none.
    pub fn fill(&self, first: usize, tap: usize, sources: &mut [i32]) {
        match *self {
            Taps::Dense { .. } => {
                for (i, source) in sources.iter_mut().enumerate() {
                    *source = (first + i) as i32;
                }
            }
            Taps::Space(space) => {
                let (_, width) = space.output();
                let offset = |tap: usize| tap as isize - space.padding as isize;
                let (dy, dx) = (offset(tap / space.kernel.1), offset(tap % space.kernel.1));
                fill_pixels(first, width, space.images, sources, |y, x| {
                    let (y, x) = ((y * space.stride) as isize + dy, (x * space.stride) as isize + dx);
                    inside(y, space.height)
                        .zip(inside(x, space.width))
                        .map(|(y, x)| (y * space.width + x) * space.images)
                });
            }
            Taps::SpaceTransposed(space) => {
                let (height, width) = space.output();
                let offset = |tap: usize| space.padding as isize - tap as isize;
                let (dy, dx) = (offset(tap / space.kernel.1), offset(tap % space.kernel.1));
                let back = |at: isize, size: usize| {
                    let stride = space.stride as isize;
                    if at.rem_euclid(stride) == 0 { inside(at.div_euclid(stride), size) } else { None }
                };
                fill_pixels(first, space.width, space.images, sources, |y, x| {
                    back(y as isize + dy, height)
                        .zip(back(x as isize + dx, width))
                        .map(|(y, x)| (y * width + x) * space.images)
                });
            }
            Taps::Time { frames, kernel, .. } => {
                fill_frames(first, frames, tap as isize - (kernel / 2) as isize, sources)
            }
            Taps::TimeTransposed { frames, kernel, .. } => {
                fill_frames(first, frames, (kernel / 2) as isize - tap as isize, sources);
            }
        }
    }
}

fn inside(at: isize, size: usize) -> Option<usize> {
    (at >= 0 && (at as usize) < size).then_some(at as usize)
}

/// Rows of one pixel are neighbours, so the source is looked up once a pixel.
fn fill_pixels(
    first: usize,
    width: usize,
    images: usize,
    sources: &mut [i32],
    source_of: impl Fn(usize, usize) -> Option<usize>,
) {
    let mut row = first;
    let mut filled = 0;
    while filled < sources.len() {
        let (pixel, image) = (row / images, row % images);
        let run = (images - image).min(sources.len() - filled);
        match source_of(pixel / width, pixel % width) {
            Some(source) => {
                for (i, to) in sources[filled..filled + run].iter_mut().enumerate() {
                    *to = (source + image + i) as i32;
                }
            }
            None => sources[filled..filled + run].fill(-1),
        }
        filled += run;
        row += run;
    }
}

fn fill_frames(first: usize, frames: usize, offset: isize, sources: &mut [i32]) {
    let mut frame = first % frames;
    for (i, source) in sources.iter_mut().enumerate() {
        let at = frame as isize + offset;
        *source = if at >= 0 && at < frames as isize { ((first + i) as isize + offset) as i32 } else { -1 };
        frame = if frame + 1 == frames { 0 } else { frame + 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposed_taps_connect_the_same_rows() {
        let space = Space { height: 5, width: 4, images: 3, kernel: (3, 3), stride: 2, padding: 1 };
        for taps in [Taps::Space(space), Taps::Time { rows: 21, frames: 7, kernel: 3 }] {
            let back = taps.transposed();
            for tap in 0..taps.count() {
                let mut forward = vec![0; taps.rows()];
                let mut backward = vec![0; back.rows()];
                taps.fill(0, tap, &mut forward);
                back.fill(0, tap, &mut backward);
                for (output, &input) in forward.iter().enumerate().filter(|(_, input)| **input >= 0) {
                    assert_eq!(backward[input as usize], output as i32);
                }
                let connected = |rows: &[i32]| rows.iter().filter(|&&row| row >= 0).count();
                assert_eq!(connected(&forward), connected(&backward));
            }
        }
    }

    #[test]
    fn rows_are_made_of_those_around_them() {
        for taps in [Taps::Dense { rows: 30 }, Taps::Time { rows: 30, frames: 10, kernel: 5 }] {
            for taps in [taps, taps.transposed()] {
                for (first, count) in [(0, 1), (7, 9), (28, 2), (0, 30)] {
                    let around = taps.around(first, count).unwrap();
                    assert!(around.end <= 30);
                    for tap in 0..taps.count() {
                        let mut sources = vec![0; count];
                        taps.fill(first, tap, &mut sources);
                        assert!(sources.iter().all(|&row| row < 0 || around.contains(&(row as usize))), "{taps:?}");
                    }
                }
            }
        }
    }
}
