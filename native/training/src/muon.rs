//! Muon (Jordan et al. 2024): momentum whose singular values are all made about 1, for the matrices inside a network.

use crate::optimizer::Moments;
use candle_core::{Device, Result, Tensor};
use kinora_kernels::{Weight, linear};

/// Which matrices move by Muon, and how; everything else moves by AdamW.
#[derive(Clone, Debug, PartialEq)]
pub struct Muon {
    /// Decay of the sum of gradients, 0 to below 1.
    pub momentum: f64,
    /// Parts of the names of matrices that AdamW moves: tables, first and last layers.
    pub except: Vec<String>,
}

/// Iterations, and the factors of each: they raise small singular values fast and leave large ones between .7 and 1.2.
const ITERATIONS: usize = 5;
const FACTORS: [f64; 3] = [3.4445, -4.775, 2.0315];
/// Narrower matrices are left to AdamW.
const LEAST_SIDE: usize = 8;
/// Makes a step as long as AdamW's usually is, so that both take one learning rate (Liu et al. 2025, "Muon is scalable").
const ROOT_MEAN_SQUARE: f64 = 0.2;

impl Muon {
    /// Whether a parameter moves by Muon: rows are outputs, columns inputs and taps.
    pub fn moves(&self, name: &str, shape: &[usize]) -> bool {
        let (rows, columns) = sides(shape);
        shape.len() >= 2
            && rows.min(columns) >= LEAST_SIDE
            && !self.except.iter().any(|part| name.contains(part.as_str()))
    }

    /// Adds a gradient, times `scale`, to the momentum and gives the direction of the step.
    ///
    /// # Errors
    /// Those of tensors.
    pub fn direction(&self, gradient: &[f32], scale: f32, shape: &[usize], moments: &mut Moments) -> Result<Vec<f32>> {
        let momentum = self.momentum as f32;
        let ahead = moments.mean.iter_mut().zip(gradient).map(|(mean, gradient)| {
            let gradient = gradient * scale;
            *mean = momentum * *mean + gradient;
            momentum * *mean + gradient
        });
        let ahead = Tensor::from_vec(ahead.collect::<Vec<f32>>(), shape, &Device::Cpu)?;
        self.turned(&ahead)?.flatten_all()?.to_vec1()
    }

    /// The direction of the step for a momentum, which is where the matrix is.
    ///
    /// # Errors
    /// Those of tensors.
    pub fn turned(&self, momentum: &Tensor) -> Result<Tensor> {
        let (rows, columns) = sides(momentum.dims());
        let length = ROOT_MEAN_SQUARE * (rows.max(columns) as f64).sqrt();
        (orthogonal(&momentum.reshape((rows, columns))?)? * length)?.reshape(momentum.shape())
    }
}

fn sides(shape: &[usize]) -> (usize, usize) {
    let rows = shape.first().copied().unwrap_or(1);
    (rows, shape.iter().skip(1).product())
}

/// The nearest matrix with orthonormal rows or columns, about: `Q x` with a polynomial `Q` of `x xᵀ`, all in the size of the
/// shorter side.
fn orthogonal(x: &Tensor) -> Result<Tensor> {
    let (rows, columns) = x.dims2()?;
    if rows > columns {
        return orthogonal(&x.t()?.contiguous()?)?.t()?.contiguous();
    }
    let norm = f64::from(x.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt();
    let x = (x / norm.max(1e-12))?;
    let one = Tensor::eye(rows, x.dtype(), &Device::Cpu)?.to_device(x.device())?;
    let mut product = times(&x, &x)?;
    let mut whole: Option<Tensor> = None;
    for iteration in 1..=ITERATIONS {
        let [a, b, c] = FACTORS;
        let factor = (((&product * b)? + (times(&product, &product)? * c)?)? + (&one * a)?)?;
        whole = Some(match &whole {
            None => factor.clone(),
            Some(whole) => times(&factor, whole)?,
        });
        if iteration < ITERATIONS {
            product = times(&times(&factor, &product)?, &factor)?;
        }
    }
    times(&whole.expect("there are iterations"), &x.t()?.contiguous()?)
}

/// `a bᵀ`; what is transposed is mostly symmetric.
fn times(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    linear(a, &Weight::fixed(b.clone()), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(rows: usize, columns: usize, seed: u64) -> Tensor {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let values = (0..rows * columns).map(|_| next()).collect::<Vec<_>>();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    /// Five iterations as published, on the matrix itself.
    fn published(x: &Tensor) -> Tensor {
        let norm = x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        let mut x = (x / f64::from(norm).sqrt()).unwrap();
        for _ in 0..ITERATIONS {
            let a = x.matmul(&x.t().unwrap()).unwrap();
            let b = ((&a * FACTORS[1]).unwrap() + (a.matmul(&a).unwrap() * FACTORS[2]).unwrap()).unwrap();
            x = ((&x * FACTORS[0]).unwrap() + b.matmul(&x).unwrap()).unwrap();
        }
        x
    }

    fn largest(x: &Tensor) -> f32 {
        x.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn gives_what_the_published_iteration_gives() {
        for (rows, columns) in [(16, 16), (24, 90), (32, 33)] {
            let x = noise(rows, columns, 7);
            let difference = largest(&(orthogonal(&x).unwrap() - published(&x)).unwrap());
            assert!(difference < 2e-3, "{rows} x {columns}: {difference}");
            let turned = orthogonal(&x.t().unwrap().contiguous().unwrap()).unwrap();
            assert!(largest(&(turned.t().unwrap() - orthogonal(&x).unwrap()).unwrap()) < 2e-3);
        }
    }

    #[test]
    fn singular_values_come_near_one() {
        let y = orthogonal(&noise(20, 200, 3)).unwrap();
        let gram = y.matmul(&y.t().unwrap()).unwrap().to_vec2::<f32>().unwrap();
        for (i, row) in gram.iter().enumerate() {
            assert!((0.4..1.6).contains(&row[i]), "{i}: {}", row[i]);
        }
    }

    #[test]
    fn a_step_is_as_long_as_said_and_momentum_builds_up() {
        let muon = Muon { momentum: 0.5, except: vec!["table".into()] };
        assert!(muon.moves("conv.weight", &[16, 4, 3, 3]) && !muon.moves("table.weight", &[16, 36]));
        assert!(!muon.moves("bias", &[64]) && !muon.moves("conv.weight", &[64, 3, 1, 1]));
        let gradient = noise(16, 36, 1).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let mut moments = Moments::new(&vec![0.0; 16 * 36], false);
        for _ in 0..2 {
            let step = muon.direction(&gradient, 2.0, &[16, 4, 3, 3], &mut moments).unwrap();
            let square = step.iter().map(|value| f64::from(value * value)).sum::<f64>() / step.len() as f64;
            assert!((square.sqrt() / ROOT_MEAN_SQUARE - 1.0).abs() < 0.2, "{square}");
        }
        let wanted = gradient.iter().map(|value| 2.0 * value * 1.5);
        assert!(moments.mean.iter().zip(wanted).all(|(mean, wanted)| (mean - wanted).abs() < 1e-6));
    }
}
