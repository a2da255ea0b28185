//! Rows of a table by id, numbers as sinusoids and as conditioning vectors, and vectors of unit length.

use crate::linear::Linear;
use crate::parameters::Builder;
use candle_core::{D, DType, Device, Result, Tensor, bail};
use kinora_kernels::silu;

/// The rows of `table` (V, C) for `ids` of any shape, which gains the axis C. Differentiable in `table`: rows named
/// several times collect the sum of their gradients.
///
/// # Errors
/// When an id is no whole number from 0 to V - 1.
pub fn rows(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (count, width) = table.dims2()?;
    let numbers = ids.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    if let Some(bad) = numbers.iter().find(|id| !(id.fract() == 0.0 && (0.0..count as f32).contains(*id))) {
        bail!("tokens must be whole numbers from 0 to {}, not {bad}", count - 1);
    }
    let numbers: Vec<u32> = numbers.into_iter().map(|id| id as u32).collect();
    let mut shape = ids.dims().to_vec();
    shape.push(width);
    let length = numbers.len();
    table.index_select(&Tensor::from_vec(numbers, length, table.device())?, 0)?.reshape(shape)
}

/// `x` (..., E) with every vector of the last axis scaled to length 1. A zero vector stays zero.
pub fn unit_length(x: &Tensor) -> Result<Tensor> {
    // The floor under the root keeps the gradient finite at zero and is far below f32's rounding elsewhere.
    let length = (x.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
    x.broadcast_div(&length)
}

/// Sinusoidal features (B, `width`) of `values`, cosines in the first half and sines in the second, with the
/// frequencies 10000^(-i / half) (as `Timesteps(flip_sin_to_cos=True, downscale_freq_shift=0)` in diffusers).
pub fn sinusoidal(values: &[f32], width: usize) -> Result<Tensor> {
    let half = width / 2;
    let mut features = vec![0.0; values.len() * width];
    for (row, &value) in features.chunks_exact_mut(width).zip(values) {
        for i in 0..half {
            // In f64: at 1000 an f32 product would lose three digits of the phase.
            let phase = f64::from(value) * (-(10_000f64.ln()) * i as f64 / half as f64).exp();
            row[i] = phase.cos() as f32;
            row[half + i] = phase.sin() as f32;
        }
    }
    Tensor::from_vec(features, (values.len(), width), &Device::Cpu)
}

/// Two linear layers with SiLU between, on sinusoids: how a number becomes a conditioning vector.
pub struct ScalarEmbedding {
    features: usize,
    linear_1: Linear,
    linear_2: Linear,
}

impl ScalarEmbedding {
    /// From `features` sinusoids over `inner` channels to `outputs`; `zero` starts with no effect.
    pub fn new(features: usize, inner: usize, outputs: usize, zero: bool, b: &Builder) -> Result<Self> {
        let last = if zero { Linear::zeros } else { Linear::new };
        Ok(Self {
            features,
            linear_1: Linear::new(features, inner, &b.pp("linear_1"))?,
            linear_2: last(inner, outputs, &b.pp("linear_2"))?,
        })
    }

    /// Where its parameters are.
    pub fn device(&self) -> &Device {
        self.linear_1.device()
    }

    /// One vector for each number: (B, outputs).
    pub fn forward(&self, values: &[f32]) -> Result<Tensor> {
        let x = sinusoidal(values, self.features)?.to_device(self.device())?;
        self.linear_2.forward(&silu(&self.linear_1.forward(&x)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    #[test]
    fn repeated_rows_sum_their_gradients() {
        let table =
            Var::from_tensor(&Tensor::arange(0f32, 12., &Device::Cpu).unwrap().reshape((4, 3)).unwrap()).unwrap();
        let ids = Tensor::new(&[[1f32, 3., 1.], [0., 1., 3.]], &Device::Cpu).unwrap();
        let picked = rows(table.as_tensor(), &ids).unwrap();
        assert_eq!(picked.dims(), [2, 3, 3]);
        assert_eq!(picked.to_vec3::<f32>().unwrap()[0][1], [9., 10., 11.]);
        let scale = Tensor::arange(1f32, 19., &Device::Cpu).unwrap().reshape((2, 3, 3)).unwrap();
        let gradients = (picked * scale).unwrap().sum_all().unwrap().backward().unwrap();
        let gradient = gradients.get(&table).unwrap().to_vec2::<f32>().unwrap();
        // Row 1 is read at places 0, 2 and 4; row 2 never.
        assert_eq!(gradient[1], [1. + 7. + 13., 2. + 8. + 14., 3. + 9. + 15.]);
        assert_eq!(gradient[2], [0.; 3]);
        assert_eq!(gradient[3], [4. + 16., 5. + 17., 6. + 18.]);
    }

    #[test]
    fn ids_outside_the_table_are_refused() {
        let table = Tensor::zeros((4, 3), DType::F32, &Device::Cpu).unwrap();
        for bad in [-1f32, 4., 0.5, f32::NAN, f32::INFINITY] {
            let error = rows(&table, &Tensor::new(&[bad], &Device::Cpu).unwrap()).unwrap_err().to_string();
            assert!(error.contains("tokens must be whole numbers from 0 to 3"), "{error}");
        }
    }

    #[test]
    fn unit_length_is_safe_at_zero() {
        let x = Var::new(&[[3f32, 4.], [0., 0.]], &Device::Cpu).unwrap();
        let y = unit_length(x.as_tensor()).unwrap();
        assert_eq!(y.to_vec2::<f32>().unwrap(), [[0.6, 0.8], [0., 0.]]);
        let gradients = y.sum_all().unwrap().backward().unwrap();
        assert!(gradients.get(&x).unwrap().to_vec2::<f32>().unwrap().iter().flatten().all(|g| g.is_finite()));
    }

    #[test]
    fn sinusoids_start_with_cosines() {
        let features = sinusoidal(&[0., 1000.], 8).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(features[0], [1., 1., 1., 1., 0., 0., 0., 0.]);
        // 1000 * 10000^(-1/4) = 100, 10000^(-2/4) = .01 -> 10, .001 -> 1
        let wanted = [
            1000f64.cos(),
            100f64.cos(),
            10f64.cos(),
            1f64.cos(),
            1000f64.sin(),
            100f64.sin(),
            10f64.sin(),
            1f64.sin(),
        ];
        for (got, wanted) in features[1].iter().zip(wanted) {
            assert!((*got as f64 - wanted).abs() < 1e-6, "{got} {wanted}");
        }
    }
}
