//! Convolutions over the pixels of images.

use crate::convolution::{DEPTH, GRADIENT_SHARED, cut, rows_per_part};
use crate::launch::{Address, Argument, Element, Launch, arguments};

/// A convolution over each image of (height, width, images, channels), with zeros around it.
#[derive(Clone, Copy, Debug)]
pub struct SpatialConvolution {
    /// How it computes.
    pub element: Element,
    /// Height of what goes in.
    pub height: usize,
    /// Width of what goes in.
    pub width: usize,
    /// Images.
    pub images: usize,
    /// Channels that go in.
    pub inputs: usize,
    /// Channels that come out.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    /// Pixels from an output to the next.
    pub stride: usize,
    /// Zeros above and below, left and right; less than the kernel's sides.
    pub padding: (usize, usize),
}

/// The fewest steps of [`DEPTH`] channels that a part of a product has.
const LEAST_STEPS: usize = 12;

impl SpatialConvolution {
    /// Height and width of what comes out.
    pub fn output(&self) -> (usize, usize) {
        let side = |size, kernel, padding| (size + 2 * padding - kernel) / self.stride + 1;
        (side(self.height, self.kernel.0, self.padding.0), side(self.width, self.kernel.1, self.padding.1))
    }

    /// Rows that go in.
    pub fn rows(&self) -> usize {
        self.height * self.width * self.images
    }

    /// Rows that come out.
    pub fn output_rows(&self) -> usize {
        let (height, width) = self.output();
        height * width * self.images
    }

    /// Taps of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel.0 * self.kernel.1
    }

    /// How outputs find their inputs: the height and width of what is read, the width of what is written, and so on.
    fn space(&self) -> Vec<Argument> {
        let (_, out_width) = self.output();
        let (pad_y, pad_x) = self.padding;
        arguments![self.height, self.width, out_width, self.images, self.kernel.1, pad_y, pad_x, self.stride, 1usize]
    }

    /// The other way: an input's gradient comes from the outputs that read it.
    fn space_back(&self) -> Vec<Argument> {
        let (out_height, out_width) = self.output();
        let (pad_y, pad_x) = (self.kernel.0 - 1 - self.padding.0, self.kernel.1 - 1 - self.padding.1);
        arguments![out_height, out_width, self.width, self.images, self.kernel.1, pad_y, pad_x, 1usize, self.stride]
    }

    /// Into how many parts a product of so many rows, inputs and outputs is cut, and the steps of each.
    fn cut(&self, [rows, inputs, outputs]: [usize; 3]) -> (usize, usize) {
        let steps = self.taps() * inputs.div_ceil(DEPTH);
        if self.element != Element::F32Bf16 {
            return (1, steps);
        }
        cut(rows.div_ceil(128) * outputs.div_ceil(64), steps, LEAST_STEPS)
    }

    fn product(
        &self,
        [x, weight, bias, y]: [Address; 4],
        sizes @ [rows, inputs, outputs]: [usize; 3],
        space: Vec<Argument>,
    ) -> Launch {
        let plain = self.element == Element::F32;
        let (tile, block) = if plain { (64, 256) } else { (128, 128) };
        // Three stages of rows and columns of 40 elements of two bytes, without the last row's padding.
        let shared = if plain { 0 } else { 3 * (128 + 64) * 40 * 2 - 16 };
        let (parts, steps) = self.cut(sizes);
        let mut arguments = arguments![x, weight, bias, y, rows, inputs, outputs, self.taps(), steps];
        arguments.extend(space);
        let name = format!("spatial_conv_{}", self.element.product());
        Launch::new(name, [rows.div_ceil(tile), outputs.div_ceil(64), parts], block, shared, arguments)
    }

    /// In how many parts [`forward`](Self::forward) gives its result.
    pub fn forward_parts(&self) -> usize {
        self.cut([self.output_rows(), self.inputs, self.outputs]).0
    }

    /// In how many parts [`to_input`](Self::to_input) gives its result.
    pub fn to_input_parts(&self) -> usize {
        self.cut([self.rows(), self.outputs, self.inputs]).0
    }

    /// [`forward_parts`](Self::forward_parts) of `y` (output rows, outputs), for [`crate::sum_parts`] where they are several; of `x`
    /// (rows, inputs) of the operands' type, a weight packed by [`crate::pack_weight`], and `bias` f32 (outputs), or none.
    pub fn forward(&self, x: Address, weight: Address, bias: Address, y: Address) -> Launch {
        self.product([x, weight, bias, y], [self.output_rows(), self.inputs, self.outputs], self.space())
    }

    /// [`to_input_parts`](Self::to_input_parts) of the gradient to the input, with the weight packed
    /// [`Turned`](crate::Packing::Turned); `dy` is of the operands' type.
    pub fn to_input(&self, dy: Address, turned: Address, dx: Address) -> Launch {
        self.product([dy, turned, Address::NONE, dx], [self.rows(), self.outputs, self.inputs], self.space_back())
    }

    fn tiles(&self) -> usize {
        self.outputs.div_ceil(64) * self.inputs.div_ceil(64)
    }

    fn rows_per_part(&self) -> usize {
        rows_per_part(self.output_rows(), self.tiles() * self.taps())
    }

    /// How many parts the gradient of the weight is summed in.
    pub fn parts(&self) -> usize {
        self.output_rows().div_ceil(self.rows_per_part())
    }

    /// The weight's gradient in [`parts`](Self::parts) of (taps, outputs, inputs) f32, for [`crate::sum_taps`]; `x` and `dy` are
    /// of the operands' type.
    pub fn to_weight(&self, x: Address, dy: Address, parts: Address) -> Launch {
        let plain = self.element == Element::F32;
        let mut arguments =
            arguments![x, dy, parts, self.output_rows(), self.inputs, self.outputs, self.rows_per_part()];
        arguments.extend(self.space());
        Launch::new(
            format!("spatial_gradient_{}", self.element.operand()),
            [self.tiles(), self.taps(), self.parts()],
            if plain { 256 } else { 128 },
            if plain { 0 } else { GRADIENT_SHARED },
            arguments,
        )
    }
}
