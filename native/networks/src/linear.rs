//! Linear layers.

use crate::parameters::{Builder, Init};
use candle_core::{Device, Result, Tensor};
use kinora_kernels::{Weight, linear};

/// A linear layer: (..., inputs) to (..., outputs).
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

impl Linear {
    /// `weight` (outputs, inputs) and `bias` (outputs) under `b`, uniform within 1/sqrt(inputs): torch's default.
    pub fn new(inputs: usize, outputs: usize, b: &Builder) -> Result<Self> {
        let weight = b.weight("weight", (outputs, inputs), Init::Kaiming)?;
        let bias = b.vector("bias", outputs, Init::Uniform((inputs as f64).powf(-0.5)))?;
        Ok(Self { weight, bias: Some(bias) })
    }

    /// Starts as zero: what is added to a network without changing it.
    pub fn zeros(inputs: usize, outputs: usize, b: &Builder) -> Result<Self> {
        let weight = b.weight("weight", (outputs, inputs), Init::Zeros)?;
        Ok(Self { weight, bias: Some(b.vector("bias", outputs, Init::Zeros)?) })
    }

    /// Without a bias.
    pub fn no_bias(inputs: usize, outputs: usize, b: &Builder) -> Result<Self> {
        Ok(Self { weight: b.weight("weight", (outputs, inputs), Init::Kaiming)?, bias: None })
    }

    /// Where its parameters are.
    pub fn device(&self) -> &Device {
        self.weight.tensor().device()
    }

    /// (..., inputs) to (..., outputs).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, &self.weight, self.bias.as_ref())
    }
}
