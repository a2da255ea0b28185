//! Random tensors and sizes that are the same on every run.

use candle_core::{Device, Tensor};

pub struct Random(pub u64);

impl Random {
    /// -1 to 1.
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / 8_388_608.0 - 1.0
    }

    /// A whole number from `low` to `high`.
    pub fn size(&mut self, low: usize, high: usize) -> usize {
        low + (self.next().abs() * (high - low + 1) as f32) as usize % (high - low + 1)
    }

    pub fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.next()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }
}

/// Every number of a tensor, in order.
pub fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}
