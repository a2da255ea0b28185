//! A case: one layer or network with its inputs and weights, ready to run.

use crate::{Error, layers, unet};
use candle_core::{Device, Tensor};
use kinora_kernels::{Precision, with_precision};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Tensors by name.
pub type Tensors = HashMap<String, Tensor>;

/// Which case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The kind of layer, or `unet`.
    pub layer: String,
    /// What the layer needs to know besides its tensors' shapes.
    #[serde(default)]
    pub config: Value,
    /// `forward` or `train`.
    pub pass: Pass,
    /// `f32`, `bf16` or `bf16x3`.
    pub dtype: Dtype,
    /// `cpu` or `cuda`.
    #[serde(default)]
    pub device: Place,
}

/// Where it is run, by its name in options.
#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The processor.
    #[default]
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
}

/// What is timed.
#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// The result alone, without what a gradient needs.
    Forward,
    /// Forward and backward; for a network the loss and the optimiser's step as well.
    Train,
}

/// The arithmetic, by its name in reports.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// True f32.
    F32,
    /// Operands rounded to bf16.
    Bf16,
    /// Three products of bf16 for one of f32.
    Bf16x3,
}

impl Dtype {
    fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
            Self::Bf16x3 => Precision::Bf16x3,
        }
    }
}

/// What can be timed and checked.
pub trait Work {
    /// Does what is timed.
    fn run(&mut self) -> candle_core::Result<()>;
    /// What is compared with the peer, by name; values that a step changes are those before the first [`Work::run`].
    fn results(&mut self) -> candle_core::Result<Tensors>;
}

/// A loaded case.
pub struct Case {
    work: Box<dyn Work>,
    precision: Precision,
    device: Device,
}

impl Case {
    /// Makes the case from a file of inputs (`in/NAME`) and weights (`state/NAME`).
    pub fn new(wanted: &Wanted, file: &Path) -> Result<Self, Error> {
        let device = match wanted.device {
            Place::Cpu => Device::Cpu,
            Place::Cuda => kinora_kernels::gpu()?.device,
        };
        let read = kinora_networks::tensor_file::read(file, &mut |_, _| true)?;
        let (mut inputs, mut state) = (Tensors::new(), Tensors::new());
        for (name, tensor) in read.tensors {
            match (name.strip_prefix("in/"), name.strip_prefix("state/")) {
                (Some(name), _) => inputs.insert(name.to_owned(), tensor.to_device(&device)?),
                (_, Some(name)) => state.insert(name.to_owned(), tensor),
                _ => return Err(format!("the tensor {name:?} is neither an input nor a weight").into()),
            };
        }
        let train = wanted.pass == Pass::Train;
        let work: Box<dyn Work> = match wanted.layer.as_str() {
            "unet" => {
                Box::new(unet::Unet::new(&wanted.config["network"], inputs, state, train, wanted.dtype.precision())?)
            }
            layer => Box::new(layers::Layer::new(layer, &wanted.config, inputs, state, train)?),
        };
        Ok(Self { work, precision: wanted.dtype.precision(), device })
    }

    /// Runs it once, to its end.
    pub fn run(&mut self) -> candle_core::Result<()> {
        with_precision(self.precision, || self.work.run())?;
        self.device.synchronize()
    }

    /// Runs it once for its results.
    pub fn results(&mut self) -> candle_core::Result<Tensors> {
        with_precision(self.precision, || self.work.results())
    }
}

/// An input that must be there.
pub fn take(tensors: &mut Tensors, name: &str) -> candle_core::Result<Tensor> {
    match tensors.remove(name) {
        Some(tensor) => Ok(tensor),
        None => candle_core::bail!("the input {name:?} is missing"),
    }
}
