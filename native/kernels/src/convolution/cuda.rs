//! Products over gathered rows on a GPU.

use super::GatheredProduct;
use crate::Precision;
use crate::cublas::{Matrix, Products, product, products};
use crate::cudnn::{self, Pass, PixelConvolution};
use crate::gpu::{Floats, Scratch, argument, element, run, with_addresses};
use crate::taps::Taps;
use candle_core::cuda_backend::CudaDevice;
use candle_core::{CudaStorage, Layout, Result, Shape, Tensor, bail};
use kinora_cuda::{
    Address, Convolution, ConvolutionTensors, Element, Fused, Launch, Packing, SpatialConvolution, add_row, bias_parts,
    pack_weight, round_bf16, sum_parts, sum_taps, to_bias,
};

/// The kernels of an operation.
enum Kernels {
    /// One tap or three over frames.
    Frames(Convolution),
    /// Taps over pixels, or any number of them over frames.
    Pixels(SpatialConvolution),
}

impl Kernels {
    fn of(taps: Taps, inputs: usize, outputs: usize, element: Element) -> Result<Self> {
        let frames = |rows, frames, taps| Self::Frames(Convolution { element, rows, frames, inputs, outputs, taps });
        Ok(match taps {
            Taps::Dense { rows } => frames(rows, 1, 1),
            Taps::Time { rows, kernel: 1, .. } => frames(rows, 1, 1),
            Taps::Time { rows, frames: length, kernel: 3 } => frames(rows, length, 3),
            Taps::Time { rows, frames, kernel } => Self::Pixels(SpatialConvolution {
                element,
                height: rows / frames,
                width: frames,
                images: 1,
                inputs,
                outputs,
                kernel: (1, kernel),
                stride: 1,
                padding: (0, kernel / 2),
            }),
            Taps::Space(space) => {
                if space.padding >= space.kernel.0 || space.padding >= space.kernel.1 {
                    bail!("conv2d on a GPU needs a padding below the kernel's sides {:?}", space.kernel);
                }
                Self::Pixels(SpatialConvolution {
                    element,
                    height: space.height,
                    width: space.width,
                    images: space.images,
                    inputs,
                    outputs,
                    kernel: space.kernel,
                    stride: space.stride,
                    padding: (space.padding, space.padding),
                })
            }
            Taps::SpaceTransposed(_) | Taps::TimeTransposed { .. } => bail!("a transposed convolution is no operation"),
        })
    }

    fn forward(&self, x: Address, weight: Address, bias: Address, y: Address) -> Launch {
        let (residual, before) = (Address::NONE, Address::NONE);
        match self {
            Self::Frames(conv) => {
                conv.forward(ConvolutionTensors { x, weight, bias, residual, before, y }, Fused::None)
            }
            Self::Pixels(conv) => conv.forward(x, weight, bias, y),
        }
    }

    fn to_input(&self, dy: Address, turned: Address, dx: Address) -> Launch {
        match self {
            Self::Frames(conv) => conv.to_input(dy, turned, dx),
            Self::Pixels(conv) => conv.to_input(dy, turned, dx),
        }
    }

    fn to_weight(&self, x: Address, dy: Address, parts: Address) -> Launch {
        match self {
            Self::Frames(conv) => conv.to_weight(x, dy, parts),
            Self::Pixels(conv) => conv.to_weight(x, dy, parts),
        }
    }

    /// In how many parts a pass gives its result.
    fn forward_parts(&self) -> usize {
        match self {
            Self::Frames(conv) => conv.forward_parts(),
            Self::Pixels(conv) => conv.forward_parts(),
        }
    }

    fn to_input_parts(&self) -> usize {
        match self {
            Self::Frames(conv) => conv.to_input_parts(),
            Self::Pixels(conv) => conv.to_input_parts(),
        }
    }

    /// How many parts the weight's gradient is summed in.
    fn parts(&self) -> usize {
        match self {
            Self::Frames(conv) => conv.parts(),
            Self::Pixels(conv) => conv.parts(),
        }
    }
}

/// What kernels read of an operation's f32 numbers: they themselves, or what they are rounded to.
enum Operands {
    Given(Address),
    Rounded(Scratch),
}

impl Operands {
    fn of(device: &CudaDevice, precision: Precision, x: Address, count: usize) -> Result<Self> {
        if precision != Precision::Bf16 {
            return Ok(Self::Given(x));
        }
        // Two of bf16 take the place of one f32.
        let rounded = Scratch::new(device, count.div_ceil(2))?;
        run(device, &round_bf16(x, rounded.at(), count))?;
        Ok(Self::Rounded(rounded))
    }

    fn at(&self) -> Address {
        match self {
            Self::Given(at) => *at,
            Self::Rounded(rounded) => rounded.at(),
        }
    }
}

/// Runs a kernel that gives its result of `count` numbers in `parts`.
fn in_parts(
    device: &CudaDevice,
    to: Address,
    count: usize,
    parts: usize,
    launch: impl FnOnce(Address) -> Launch,
) -> Result<()> {
    if parts == 1 {
        return run(device, &launch(to));
    }
    let partial = Scratch::new(device, parts * count)?;
    run(device, &launch(partial.at()))?;
    run(device, &sum_parts(partial.at(), to, 1, parts, count))
}

/// The sizes of a linear layer's matrices.
struct Matrices {
    rows: usize,
    inputs: usize,
    outputs: usize,
}

impl Matrices {
    fn x(&self, at: Address) -> Matrix {
        Matrix { at, rows: self.rows, columns: self.inputs }
    }

    fn weight(&self, at: Address) -> Matrix {
        Matrix { at, rows: self.outputs, columns: self.inputs }
    }

    fn y(&self, at: Address) -> Matrix {
        Matrix { at, rows: self.rows, columns: self.outputs }
    }
}

impl GatheredProduct {
    fn kernels(&self) -> Result<Kernels> {
        let (outputs, inputs, _) = self.weight.sizes();
        Kernels::of(self.taps, inputs, outputs, element(self.precision))
    }

    /// Runs a product by cuBLASLt: `of` says of which matrices, and which are turned. Gives false, having done nothing, where
    /// this is no single product of matrices or cuBLASLt does not take it.
    fn by_cublas(
        &self,
        device: &CudaDevice,
        of: impl FnOnce(Matrices) -> ([Matrix; 3], [bool; 2]),
        bias: Address,
    ) -> Result<bool> {
        let (outputs, inputs, taps) = self.weight.sizes();
        if taps != 1 || matches!(self.taps, Taps::Space(_)) {
            return Ok(false);
        }
        let rows = self.dims.iter().product::<usize>() / outputs;
        let (matrices, turned) = of(Matrices { rows, inputs, outputs });
        product(device, self.precision, matrices, turned, bias)
    }

    /// Runs a pass of a convolution over pixels by cuDNN, on x, the weight and y, one of which is its result. Gives false
    /// where this is none, or one that cuDNN does not take.
    fn by_cudnn(&self, device: &CudaDevice, pass: Pass, [x, weight, y]: [Address; 3]) -> Result<bool> {
        let (outputs, inputs, taps) = self.weight.sizes();
        let Taps::Space(space) = self.taps else { return Ok(false) };
        let rounded = self.precision == Precision::Bf16;
        // Our own are quicker than TF32's.
        if rounded && products().map_err(candle_core::Error::msg)? != Products::Nvidias {
            return Ok(false);
        }
        let convolution = PixelConvolution { space, inputs, outputs, rounded };
        if !cudnn::takes(device, convolution, pass)? {
            return Ok(false);
        }
        if pass != Pass::ToWeight {
            let packed = self.packed(device, weight, Packing::ChannelsLast)?;
            return cudnn::run(device, convolution, pass, [x, packed, y]);
        }
        let gradient = Scratch::new(device, outputs * inputs * taps)?;
        let done = cudnn::run(device, convolution, pass, [x, gradient.at(), y])?;
        if done {
            // Back from channels last.
            run(device, &sum_taps(gradient.at(), weight, [outputs, 1, inputs, taps]))?;
        }
        Ok(done)
    }

    /// The weight as a product reads it; cuDNN reads f32.
    fn packed(&self, device: &CudaDevice, weight: Address, packing: Packing) -> Result<Address> {
        let (outputs, inputs, taps) = self.weight.sizes();
        let count = outputs * inputs * taps;
        let precision = if packing == Packing::ChannelsLast { Precision::F32 } else { self.precision };
        self.weight.packed_on_gpu(precision, packing, || {
            // Two of bf16 take the place of one f32.
            let len = if precision == Precision::Bf16 { count.div_ceil(2) } else { count };
            let packed = Floats::new(device, len)?;
            let sizes = [outputs, inputs, taps];
            run(device, &pack_weight(element(precision), [weight, packed.at()], sizes, packing))?;
            Ok(packed)
        })
    }

    pub(super) fn gpu_forward(
        &self,
        (x, x_layout): (&CudaStorage, &Layout),
        (weight, weight_layout): (&CudaStorage, &Layout),
        (bias, bias_layout): (&CudaStorage, &Layout),
    ) -> Result<(CudaStorage, Shape)> {
        let op = candle_core::CustomOp3::name(self);
        let (device, kernels, shape) = (&x.device, self.kernels()?, Shape::from(self.dims.clone()));
        let (x, weight) = (argument(op, x, x_layout)?, argument(op, weight, weight_layout)?);
        let bias = if self.has_bias { argument(op, bias, bias_layout)? } else { Address::NONE };
        let y = Floats::new(device, shape.elem_count())?;
        if self.by_cublas(device, |m| ([m.x(x), m.weight(weight), m.y(y.at())], [false, false]), bias)? {
            return Ok((y.storage(), shape));
        }
        if self.by_cudnn(device, Pass::Forward, [x, weight, y.at()])? {
            if self.has_bias {
                let (outputs, _, _) = self.weight.sizes();
                run(device, &add_row(y.at(), bias, shape.elem_count() / outputs, outputs))?;
            }
        } else {
            let weight = self.packed(device, weight, Packing::Packed)?;
            let x = Operands::of(device, self.precision, x, x_layout.shape().elem_count())?;
            in_parts(device, y.at(), shape.elem_count(), kernels.forward_parts(), |y| {
                kernels.forward(x.at(), weight, bias, y)
            })?;
        }
        Ok((y.storage(), shape))
    }

    pub(super) fn gpu_backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (outputs, inputs, taps) = self.weight.sizes();
        let (kernels, count) = (self.kernels()?, outputs * inputs * taps);
        with_addresses(candle_core::CustomOp3::name(self), [x, weight, grad], |device, [from, kernel, dy]| {
            let none = Address::NONE;
            // Rounded at most once, for both gradients.
            let mut operands_of_dy = None;
            let mut dy_operands = || -> Result<Address> {
                if operands_of_dy.is_none() {
                    operands_of_dy = Some(Operands::of(device, self.precision, dy, grad.elem_count())?);
                }
                Ok(operands_of_dy.as_ref().map_or(dy, Operands::at))
            };
            let dx = if x.track_op() {
                let dx = Floats::new(device, x.elem_count())?;
                if !self.by_cublas(device, |m| ([m.y(dy), m.weight(kernel), m.x(dx.at())], [false, true]), none)?
                    && !self.by_cudnn(device, Pass::ToInput, [dx.at(), kernel, dy])?
                {
                    let (turned, dy) = (self.packed(device, kernel, Packing::Turned)?, dy_operands()?);
                    in_parts(device, dx.at(), x.elem_count(), kernels.to_input_parts(), |dx| {
                        kernels.to_input(dy, turned, dx)
                    })?;
                }
                Some(dx.tensor(x.shape()))
            } else {
                None
            };
            let dw = if weight.track_op() {
                let dw = Floats::new(device, count)?;
                if !self.by_cublas(device, |m| ([m.y(dy), m.x(from), m.weight(dw.at())], [true, true]), none)?
                    && !self.by_cudnn(device, Pass::ToWeight, [from, dw.at(), dy])?
                {
                    let parts = Scratch::new(device, kernels.parts() * count)?;
                    let x = Operands::of(device, self.precision, from, x.elem_count())?;
                    run(device, &kernels.to_weight(x.at(), dy_operands()?, parts.at()))?;
                    run(device, &sum_taps(parts.at(), dw.at(), [1, kernels.parts(), outputs * inputs, taps]))?;
                }
                Some(dw.tensor(weight.shape()))
            } else {
                None
            };
            let db = if self.has_bias && bias.track_op() {
                let rows = grad.elem_count() / outputs;
                let number = bias_parts(rows);
                let (parts, db) = (Scratch::new(device, number * outputs)?, Floats::new(device, outputs)?);
                run(device, &to_bias(Element::F32, dy, parts.at(), rows, outputs))?;
                run(device, &sum_parts(parts.at(), db.at(), 1, number, outputs))?;
                Some(db.tensor(bias.shape()))
            } else {
                None
            };
            Ok((dx, dw, db))
        })
    }
}
