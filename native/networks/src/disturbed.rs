//! For tests: noise, and networks none of whose layers is zero or the identity any more.

use crate::parameters::Parameters;
use candle_core::{Device, Tensor};
use kinora_kernels::philox::fill_normal;
use std::collections::HashMap;

/// Normal numbers that depend on the seed alone.
pub(crate) fn noise(shape: &[usize], seed: u64) -> Tensor {
    let mut values = vec![0f32; shape.iter().product()];
    fill_normal(&mut values, seed, 0, 0);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The parameters with a little noise on each, so that every one of them matters.
pub(crate) fn disturbed(parameters: &Parameters) -> HashMap<String, Tensor> {
    let disturb = |(i, (name, tensor)): (usize, (String, Tensor))| {
        let change = (noise(tensor.dims(), 1000 + i as u64) * 0.1).unwrap();
        (name, (tensor.detach() + change).unwrap())
    };
    parameters.tensors().into_iter().enumerate().map(disturb).collect()
}

/// Every number of a tensor, in order.
pub(crate) fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference between two tensors of one shape.
pub(crate) fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// What `work` gives in a pool of this many threads.
pub(crate) fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}
