//! Nearest, mean and filtered resizing, and pixel-unshuffle.

use crate::launch::{Address, Element, Launch, arguments};

/// (height, width, row) to (2 height, 2 width, row), times `scale`.
pub fn spread2(element: Element, x: Address, y: Address, [height, width, row]: [usize; 3], scale: f32) -> Launch {
    each(format!("spread2_{}", element.stored()), 4 * height * width * row, arguments![x, y, height, width, row, scale])
}

/// (2 height, 2 width, row) to (height, width, row): `scale` times the sum of four.
pub fn gather2(element: Element, x: Address, y: Address, [height, width, row]: [usize; 3], scale: f32) -> Launch {
    each(format!("gather2_{}", element.stored()), height * width * row, arguments![x, y, height, width, row, scale])
}

/// (outer, from, inner) to (outer, to, inner) by a table: for each new place the first old one and how many (int), and
/// `stride` weights (f32).
pub fn resize_axis(
    element: Element,
    [x, y]: [Address; 2],
    [first, count, weights]: [Address; 3],
    [outer, from, to, inner]: [usize; 4],
    stride: usize,
) -> Launch {
    let arguments = arguments![x, first, count, weights, y, outer, from, to, inner, stride];
    each(format!("resize_axis_{}", element.stored()), outer * to * inner, arguments)
}

/// Frames (images, height p, width p, channels) to a grid (height, width, images, channels p²), or back.
pub fn patchify(
    element: Element,
    [x, y]: [Address; 2],
    [images, height, width, channels]: [usize; 4],
    p: usize,
    inverse: bool,
) -> Launch {
    let count = images * height * width * channels * p * p;
    each(format!("patchify_{}", element.stored()), count, arguments![x, y, images, height, width, channels, p, inverse])
}

/// A thread a value.
fn each(kernel: String, count: usize, arguments: Vec<crate::Argument>) -> Launch {
    Launch::new(kernel, [count.div_ceil(256), 1, 1], 256, 0, arguments)
}
