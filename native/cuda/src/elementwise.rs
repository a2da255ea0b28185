//! Activations, sums, and channels side by side.

use crate::convolution::Fused;
use crate::launch::{Address, Argument, Element, Launch, arguments};

fn each(kernel: &str, element: Element, count: usize, arguments: Vec<Argument>) -> Launch {
    Launch::new(format!("{kernel}_{}", element.stored()), [count.div_ceil(256), 1, 1], 256, 0, arguments)
}

fn long(count: usize) -> Argument {
    Argument::Long(i64::try_from(count).expect("a count fits in 63 bits"))
}

/// `y` = activation(`x`), `count` values.
pub fn activation(element: Element, x: Address, y: Address, count: usize, what: Fused) -> Launch {
    let mut arguments = arguments![x, y];
    arguments.extend([long(count), Argument::Int(what as i32)]);
    each("activation", element, count, arguments)
}

/// `dx` = `dy` times the activation's derivative at `x`.
pub fn activation_backward(element: Element, [x, dy, dx]: [Address; 3], count: usize, what: Fused) -> Launch {
    let mut arguments = arguments![x, dy, dx];
    arguments.extend([long(count), Argument::Int(what as i32)]);
    each("activation_backward", element, count, arguments)
}

/// (rows, 2 `channels`) to `y` (rows, `channels`): the first half times the GELU of the second.
pub fn geglu(element: Element, x: Address, y: Address, rows: usize, channels: usize) -> Launch {
    let mut arguments = arguments![x, y];
    arguments.extend([long(rows * channels), Argument::from(channels)]);
    each("geglu", element, rows * channels, arguments)
}

/// `dx` (rows, 2 `channels`) of `dy` (rows, `channels`).
pub fn geglu_backward(element: Element, [x, dy, dx]: [Address; 3], rows: usize, channels: usize) -> Launch {
    let mut arguments = arguments![x, dy, dx];
    arguments.extend([long(rows * channels), Argument::from(channels)]);
    each("geglu_backward", element, rows * channels, arguments)
}

/// `y` = `a` + `b`.
pub fn add(element: Element, [a, b, y]: [Address; 3], count: usize) -> Launch {
    let mut arguments = arguments![a, b, y];
    arguments.push(long(count));
    each("add", element, count, arguments)
}

/// `y` = `x` as bf16, of `count` f32 values: what products read.
pub fn round_bf16(x: Address, y: Address, count: usize) -> Launch {
    let mut arguments = arguments![x, y];
    arguments.push(long(count));
    Launch::new("round_bf16".into(), [count.div_ceil(2048), 1, 1], 256, 0, arguments)
}

/// `y` (rows, `channels`) += `row` (`channels`), in f32.
pub fn add_row(y: Address, row: Address, rows: usize, channels: usize) -> Launch {
    let count = rows * channels;
    let mut arguments = arguments![y, row];
    arguments.extend([long(count), Argument::from(channels)]);
    Launch::new("add_row".into(), [count.div_ceil(256), 1, 1], 256, 0, arguments)
}

/// `a` (rows, `left`) and `b` (rows, `right`) to `both` (rows, `left` + `right`), or back with `inverse`; a side may be
/// none then.
pub fn concatenate(
    element: Element,
    [a, b, both]: [Address; 3],
    rows: usize,
    [left, right]: [usize; 2],
    inverse: bool,
) -> Launch {
    let count = rows * (left + right);
    let mut arguments = arguments![a, b, both, left, right];
    arguments.extend([long(count), Argument::from(inverse)]);
    each("concatenate", element, count, arguments)
}
