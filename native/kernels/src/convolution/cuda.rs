//! Products over gathered rows on a GPU.

use super::GatheredProduct;
use crate::Precision;
use crate::cublas::{Matrix, product};
use crate::cudnn::{self, Pass, PixelConvolution};
use crate::gpu::{Floats, argument, element, run, with_addresses};
use crate::taps::Taps;
use candle_core::cuda_backend::CudaDevice;
use candle_core::{CudaStorage, Layout, Result, Shape, Tensor, bail};
use kinora_cuda::{
    Address, Convolution, ConvolutionTensors, Element, Fused, Launch, Packing, SpatialConvolution, add_row,
    column_sums, pack_weight, sum_parts,
};

/// Rows that one part of a bias's gradient sums.
const ROWS_PER_PART: usize = 4096;

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

    /// How many parts the weight's gradient is summed in.
    fn parts(&self) -> usize {
        match self {
            Self::Frames(conv) => conv.parts(),
            Self::Pixels(conv) => conv.parts(),
        }
    }
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
        let (Taps::Space(space), Precision::F32) = (self.taps, self.precision) else { return Ok(false) };
        let convolution = PixelConvolution { space, inputs, outputs };
        if !cudnn::takes(device, convolution, pass)? {
            return Ok(false);
        }
        if pass != Pass::ToWeight {
            let packed = self.packed(device, weight, Packing::ChannelsLast)?;
            return cudnn::run(device, convolution, pass, [x, packed, y]);
        }
        let gradient = Floats::new(device, outputs * inputs * taps)?;
        let done = cudnn::run(device, convolution, pass, [x, gradient.at(), y])?;
        if done {
            // Back from channels last.
            let sizes = [outputs, taps, inputs];
            run(device, &pack_weight(Element::F32, [gradient.at(), weight], sizes, Packing::ChannelsLast))?;
        }
        Ok(done)
    }

    /// The weight as a product reads it.
    fn packed(&self, device: &CudaDevice, weight: Address, packing: Packing) -> Result<Address> {
        let (outputs, inputs, taps) = self.weight.sizes();
        let count = outputs * inputs * taps;
        self.weight.packed_on_gpu(self.precision, packing, || {
            // Two of bf16 take the place of one f32.
            let len = if self.precision == Precision::Bf16 { count.div_ceil(2) } else { count };
            let packed = Floats::new(device, len)?;
            let (element, sizes) = (element(self.precision), [outputs, inputs, taps]);
            run(device, &pack_weight(element, [weight, packed.at()], sizes, packing))?;
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
            run(device, &kernels.forward(x, weight, bias, y.at()))?;
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
            let dx = if x.track_op() {
                let dx = Floats::new(device, x.elem_count())?;
                if !self.by_cublas(device, |m| ([m.y(dy), m.weight(kernel), m.x(dx.at())], [false, true]), none)?
                    && !self.by_cudnn(device, Pass::ToInput, [dx.at(), kernel, dy])?
                {
                    let turned = self.packed(device, kernel, Packing::Turned)?;
                    run(device, &kernels.to_input(dy, turned, dx.at()))?;
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
                    let parts = Floats::new(device, kernels.parts() * count)?;
                    run(device, &kernels.to_weight(from, dy, parts.at()))?;
                    run(device, &sum_parts(parts.at(), dw.at(), 1, kernels.parts(), count))?;
                }
                Some(dw.tensor(weight.shape()))
            } else {
                None
            };
            let db = if self.has_bias && bias.track_op() {
                let rows = grad.elem_count() / outputs;
                let number = rows.div_ceil(ROWS_PER_PART);
                let (parts, db) = (Floats::new(device, number * outputs)?, Floats::new(device, outputs)?);
                run(device, &column_sums(Element::F32, dy, parts.at(), rows, outputs, ROWS_PER_PART))?;
                run(device, &sum_parts(parts.at(), db.at(), 1, number, outputs))?;
                Some(db.tensor(bias.shape()))
            } else {
                None
            };
            Ok((dx, dw, db))
        })
    }
}
