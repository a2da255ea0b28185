//! Temporal convolutions and linear layers.

use crate::launch::{Address, Element, Launch, arguments};

/// A convolution over the frames of each clip, or with one tap a linear layer.
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    /// How it computes.
    pub element: Element,
    /// Rows: pixels x clips x frames.
    pub rows: usize,
    /// Frames of a clip; it divides `rows`.
    pub frames: usize,
    /// Channels that go in.
    pub inputs: usize,
    /// Channels that come out.
    pub outputs: usize,
    /// 1 or 3.
    pub taps: usize,
}

/// What is done to the result before it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fused {
    /// Nothing.
    #[default]
    None = 0,
    /// x * sigmoid(x)
    Silu = 1,
    /// x * Φ(x)
    Gelu = 2,
}

/// How a weight (outputs, inputs, taps) is laid out for a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// (taps, outputs, inputs): as the kernels of convolutions read it.
    Packed = 0,
    /// (taps, inputs, outputs) with the taps in reverse: as the same kernels read it for the gradient to the input.
    Turned = 1,
    /// (outputs, taps, inputs): cuDNN's, with channels last.
    ChannelsLast = 2,
}

/// The memory of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct ConvolutionTensors {
    /// (rows, inputs), of the operands' type.
    pub x: Address,
    /// Packed by [`pack_weight`].
    pub weight: Address,
    /// f32 (outputs), or none.
    pub bias: Address,
    /// (rows, outputs), added last, or none.
    pub residual: Address,
    /// (rows, outputs): what the activation was given, or none.
    pub before: Address,
    /// (rows, outputs)
    pub y: Address,
}

/// Blocks that keep a large GPU busy, about: what work is cut into is reckoned from them. It is the same for every GPU, so that
/// sums have one order everywhere.
pub(crate) const BLOCKS: usize = 528;
/// Rows whose sums one part of a bias's gradient has.
const BIAS_ROWS: usize = 256;
/// Shared memory of a gradient by matrices: three stages of twice 32 rows of 72 elements of two bytes, without the last row's
/// padding.
pub(crate) const GRADIENT_SHARED: usize = 3 * 2 * 32 * 72 * 2 - 16;

/// Rows whose products one part of a weight's gradient sums, of `blocks` blocks to a part: whole steps of 32, and enough of them
/// that the parts are worth adding up.
pub(crate) fn rows_per_part(rows: usize, blocks: usize) -> usize {
    rows.div_ceil(BLOCKS.div_ceil(blocks)).next_multiple_of(32).max(512)
}

/// Channels that a block of a product takes at a time.
pub(crate) const DEPTH: usize = 32;

/// Into how many parts a product of `blocks` blocks of `steps` steps is cut, and the steps of each: at least `least`.
pub(crate) fn cut(blocks: usize, steps: usize, least: usize) -> (usize, usize) {
    let parts = (BLOCKS / 2 / blocks).max(1);
    let each = steps.div_ceil(parts).max(least.min(steps));
    (steps.div_ceil(each), each)
}

impl Convolution {
    /// In how many parts [`forward`](Self::forward) gives its result if nothing is fused.
    pub fn forward_parts(&self) -> usize {
        self.cut().0
    }

    /// In how many parts [`to_input`](Self::to_input) gives its result.
    pub fn to_input_parts(&self) -> usize {
        self.back().cut().0
    }

    fn cut(&self) -> (usize, usize) {
        let steps = self.inputs.div_ceil(DEPTH);
        match self.element {
            Element::F32Bf16 => cut(self.rows.div_ceil(128) * self.outputs.div_ceil(64), steps, 2),
            _ => (1, steps),
        }
    }

    /// The same kernel that gives the gradient to the input.
    fn back(&self) -> Self {
        Self { inputs: self.outputs, outputs: self.inputs, ..*self }
    }

    /// The convolution itself: [`forward_parts`](Self::forward_parts) of `y`, for [`sum_parts`] where they are several. With an
    /// activation, a residual or what the activation is given, it is one.
    pub fn forward(&self, tensors: ConvolutionTensors, activation: Fused) -> Launch {
        let ConvolutionTensors { x, weight, bias, residual, before, y } = tensors;
        let fused = activation != Fused::None || residual != Address::NONE || before != Address::NONE;
        let (parts, steps) = if fused { (1, self.inputs.div_ceil(DEPTH)) } else { self.cut() };
        let plain = self.element == Element::F32;
        let (tile, block) = if plain { (64, 256) } else { (128, 128) };
        // Two stages of rows and columns of 40 elements of two bytes, and 16 bytes of zeros.
        let shared = if plain { 0 } else { 4 * (128 + self.taps - 1 + self.taps * 64) * 40 + 16 };
        Launch::new(
            format!("temporal_conv{}_{}", self.taps, self.element.product()),
            [self.rows.div_ceil(tile), self.outputs.div_ceil(64), parts],
            block,
            shared,
            arguments![
                x,
                weight,
                bias,
                residual,
                before,
                y,
                self.rows,
                self.frames,
                self.inputs,
                self.outputs,
                activation as i32,
                steps
            ],
        )
    }

    /// The gradient to the input, with the weight packed [`Turned`](Packing::Turned); `dy` is of the operands' type.
    pub fn to_input(&self, dy: Address, turned: Address, dx: Address) -> Launch {
        let none = Address::NONE;
        self.back().forward(
            ConvolutionTensors { x: dy, weight: turned, bias: none, residual: none, before: none, y: dx },
            Fused::None,
        )
    }

    fn tiles(&self) -> usize {
        self.outputs.div_ceil(64) * self.inputs.div_ceil(64)
    }

    fn rows_per_part(&self) -> usize {
        rows_per_part(self.rows, self.tiles() * self.taps)
    }

    /// How many parts the gradient of the weight is summed in.
    pub fn parts(&self) -> usize {
        self.rows.div_ceil(self.rows_per_part())
    }

    /// The weight's gradient in [`parts`](Self::parts) of (taps, outputs, inputs) f32, for [`sum_taps`]; `x` and `dy` are of the
    /// operands' type.
    pub fn to_weight(&self, x: Address, dy: Address, parts: Address) -> Launch {
        let plain = self.element == Element::F32;
        Launch::new(
            format!("weight_gradient_{}", self.element.operand()),
            [self.tiles(), self.taps, self.parts()],
            if plain { 256 } else { 128 },
            if plain { 0 } else { GRADIENT_SHARED },
            arguments![x, dy, parts, self.rows, self.frames, self.inputs, self.outputs, self.rows_per_part()],
        )
    }
}

/// How many parts the gradient of a bias is summed in.
pub fn bias_parts(rows: usize) -> usize {
    rows.div_ceil(BIAS_ROWS)
}

/// The gradient of a bias in [`bias_parts`] of (outputs) f32, for [`sum_parts`]; `dy` is as it is stored.
pub fn to_bias(element: Element, dy: Address, parts: Address, rows: usize, outputs: usize) -> Launch {
    column_sums(element, dy, parts, rows, outputs, BIAS_ROWS)
}

/// (outputs, inputs, taps) in f32, packed. [`sum_taps`] of one part undoes [`Packing::ChannelsLast`].
pub fn pack_weight(
    element: Element,
    [weight, packed]: [Address; 2],
    [outputs, inputs, taps]: [usize; 3],
    packing: Packing,
) -> Launch {
    Launch::new(
        format!("pack_weight_{}", element.operand()),
        [(outputs * inputs).div_ceil(256), 1, 1],
        256,
        0,
        arguments![weight, packed, outputs, inputs, taps, packing as i32],
    )
}

/// The sums of the columns of (rows, columns), in parts of `rows_per_part` rows: (parts, columns) f32.
pub fn column_sums(
    element: Element,
    x: Address,
    parts: Address,
    rows: usize,
    columns: usize,
    rows_per_part: usize,
) -> Launch {
    Launch::new(
        format!("column_sums_{}", element.stored()),
        [columns.div_ceil(32), rows.div_ceil(rows_per_part), 1],
        256,
        0,
        arguments![x, parts, rows, columns, rows_per_part],
    )
}

/// (groups, parts, count) f32 summed over the parts to (groups, count).
pub fn sum_parts(from: Address, to: Address, groups: usize, parts: usize, count: usize) -> Launch {
    sums(from, to, [groups, parts, count, 1])
}

/// (groups, parts, taps, plane) f32 summed over the parts to (groups, plane, taps).
pub fn sum_taps(from: Address, to: Address, [groups, parts, plane, taps]: [usize; 4]) -> Launch {
    sums(from, to, [groups, parts, plane * taps, taps])
}

fn sums(from: Address, to: Address, [groups, parts, count, taps]: [usize; 4]) -> Launch {
    // More threads for a value where there are few of them.
    let mut lines = 1;
    while lines < 32 && lines < parts && groups * (count * lines).div_ceil(256) < BLOCKS {
        lines *= 2;
    }
    let arguments = arguments![from, to, parts, count, taps, lines];
    Launch::new("sum_parts".into(), [(count * lines).div_ceil(256), groups, 1], 256, 0, arguments)
}
