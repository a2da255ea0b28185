//! Objectives of the text side: two towers that agree, and texts that find their pictures.
//!
//! Everything is made of candle primitives that have a correct backward (its fused softmax has none), with the largest
//! logit of each row taken off first, so that no exponential overflows.

use candle_core::{D, Result, Tensor, bail};

/// Symmetric contrastive loss (CLIP): row i of `a` belongs to row i of `b` and to no other.
///
/// `a` and `b` are (B, E) of unit length; `logit_scale` is one number, the natural logarithm of the factor on the
/// products (as `logit_scale` in transformers' CLIP). `label_smoothing` in 0..1 spreads that share of the target over
/// all rows. Gives a scalar: the mean of the losses of both directions.
///
/// # Errors
/// When the shapes differ, a batch is empty, or `label_smoothing` is not in 0..1.
pub fn contrastive(a: &Tensor, b: &Tensor, logit_scale: &Tensor, label_smoothing: f64) -> Result<Tensor> {
    let (batch, _) = a.dims2()?;
    if a.dims() != b.dims() || batch == 0 {
        bail!("contrastive: a {:?} and b {:?} must have one shape and at least one row", a.dims(), b.dims());
    }
    if !(0.0..1.0).contains(&label_smoothing) {
        bail!("label_smoothing must be 0 to below 1, not {label_smoothing}");
    }
    let logits = scaled_products(a, b, logit_scale)?;
    // Both directions have the same pairs, so only the log-sum-exps differ: along rows and along columns.
    let pairs = (a.mul(b)?.sum_all()? / batch as f64)?.mul(&factor(logit_scale)?)?;
    let rows = log_sum_exp(&logits)?.mean_all()?;
    let columns = log_sum_exp(&logits.t()?.contiguous()?)?.mean_all()?;
    let normalisers = ((rows + columns)? * 0.5)?;
    let hits = (pairs * (1.0 - label_smoothing))?;
    normalisers - (hits + (logits.mean_all()? * label_smoothing)?)?
}

/// Cross-entropy of finding pictures by text, with any number of right answers a text.
///
/// `text` is (B, E) and `bank` (N, E), both of unit length; `targets` (B, N) holds a distribution a row (a text with k
/// right answers: 1/k at each); `logit_scale` as in [`contrastive`]. Gives a scalar, the mean over the texts.
/// `bank` may be a constant (image tower frozen) or tracked.
///
/// # Errors
/// When the shapes do not fit each other.
pub fn retrieval(text: &Tensor, bank: &Tensor, targets: &Tensor, logit_scale: &Tensor) -> Result<Tensor> {
    let ((batch, width), (count, bank_width)) = (text.dims2()?, bank.dims2()?);
    if width != bank_width || targets.dims() != [batch, count] || batch == 0 || count == 0 {
        bail!("retrieval: text {:?}, bank {:?} and targets {:?} do not fit", text.dims(), bank.dims(), targets.dims());
    }
    let logits = scaled_products(text, bank, logit_scale)?;
    let normaliser = log_sum_exp(&logits)?.mul(&targets.sum_keepdim(D::Minus1)?)?;
    (normaliser.sum_all()? - logits.mul(targets)?.sum_all()?)? / batch as f64
}

/// exp(logit_scale) as a scalar.
fn factor(logit_scale: &Tensor) -> Result<Tensor> {
    logit_scale.reshape(())?.exp()
}

fn scaled_products(a: &Tensor, b: &Tensor, logit_scale: &Tensor) -> Result<Tensor> {
    a.matmul(&b.t()?)?.broadcast_mul(&factor(logit_scale)?)
}

/// log(sum(exp(x))) over the last axis, which stays with length 1.
fn log_sum_exp(x: &Tensor) -> Result<Tensor> {
    // Any constant may be taken off; as a constant it has no gradient.
    let most = x.max_keepdim(D::Minus1)?.detach();
    x.broadcast_sub(&most)?.exp()?.sum_keepdim(D::Minus1)?.log()? + most
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// Numbers in -1..1 that look random and never change.
    fn numbers(count: usize, seed: u64) -> Vec<f64> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        (0..count).map(next).collect()
    }

    fn var(shape: (usize, usize), seed: u64) -> Var {
        Var::from_vec(numbers(shape.0 * shape.1, seed), shape, &Device::Cpu).unwrap()
    }

    fn scale(value: f64) -> Var {
        Var::from_vec(vec![value], (), &Device::Cpu).unwrap()
    }

    /// Compares the gradient of `loss` in every number of `vars` with central differences, in f64.
    fn check_gradients(vars: &[&Var], loss: &dyn Fn() -> Tensor) {
        let gradients = loss().backward().unwrap();
        for (which, var) in vars.iter().enumerate() {
            let gradient = gradients.get(var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let values = var.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for i in 0..values.len() {
                let at = |value: f64| {
                    let mut moved = values.clone();
                    moved[i] = value;
                    var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
                    loss().to_scalar::<f64>().unwrap()
                };
                let step = 1e-5;
                let slope = (at(values[i] + step) - at(values[i] - step)) / (2.0 * step);
                at(values[i]);
                assert!(
                    (slope - gradient[i]).abs() < 1e-8,
                    "input {which}, number {i}: {slope} against {}",
                    gradient[i]
                );
            }
        }
    }

    /// The definition, with torch's label smoothing: cross-entropy against (1 - s) one-hot + s / B.
    fn slow_contrastive(a: &[Vec<f64>], b: &[Vec<f64>], scale: f64, smoothing: f64) -> f64 {
        let count = a.len();
        let dot = |x: &[f64], y: &[f64]| scale.exp() * x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let mut total = 0.0;
        for i in 0..count {
            let logits = [
                (0..count).map(|j| dot(&a[i], &b[j])).collect::<Vec<_>>(),
                (0..count).map(|j| dot(&a[j], &b[i])).collect(),
            ];
            for logits in logits {
                let normaliser = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
                for (j, logit) in logits.iter().enumerate() {
                    let target = if i == j { 1.0 - smoothing } else { 0.0 } + smoothing / count as f64;
                    total -= target * (logit - normaliser) / (2 * count) as f64;
                }
            }
        }
        total
    }

    #[test]
    fn contrastive_is_its_definition() {
        let (a, b, s) = (var((5, 3), 1), var((5, 3), 2), scale(0.7));
        for smoothing in [0.0, 0.05, 0.9] {
            let got = contrastive(&a, &b, &s, smoothing).unwrap().to_scalar::<f64>().unwrap();
            let wanted = slow_contrastive(&a.to_vec2().unwrap(), &b.to_vec2().unwrap(), 0.7, smoothing);
            assert!((got - wanted).abs() < 1e-12, "{got} {wanted}");
        }
    }

    #[test]
    fn contrastive_gradients() {
        let (a, b, s) = (var((4, 3), 3), var((4, 3), 4), scale(0.7));
        check_gradients(&[&a, &b, &s], &|| contrastive(&a, &b, &s, 0.05).unwrap());
    }

    #[test]
    fn retrieval_gradients() {
        let (text, bank, s) = (var((3, 4), 5), var((6, 4), 6), scale(1.1));
        let targets = [[1.0, 0., 0., 0., 0., 0.], [0., 0.5, 0., 0., 0.5, 0.], [0., 0., 0.25, 0.25, 0.25, 0.25]];
        let targets = Tensor::new(&targets, &Device::Cpu).unwrap();
        check_gradients(&[&text, &bank, &s], &|| retrieval(&text, &bank, &targets, &s).unwrap());
    }

    #[test]
    fn retrieval_with_one_target_each_is_one_direction() {
        let (text, bank, s) = (var((3, 4), 7), var((3, 4), 8), scale(0.4));
        let targets = Tensor::eye(3, candle_core::DType::F64, &Device::Cpu).unwrap();
        let forth = retrieval(&text, &bank, &targets, &s).unwrap().to_scalar::<f64>().unwrap();
        let back = retrieval(&bank, &text, &targets, &s).unwrap().to_scalar::<f64>().unwrap();
        let both = contrastive(&text, &bank, &s, 0.0).unwrap().to_scalar::<f64>().unwrap();
        assert!(((forth + back) / 2.0 - both).abs() < 1e-12);
    }

    #[test]
    fn large_logits_stay_finite() {
        let a = Tensor::new(&[[1f32, 0.], [0., 1.]], &Device::Cpu).unwrap();
        let s = Tensor::new(300f32.ln(), &Device::Cpu).unwrap();
        assert_eq!(contrastive(&a, &a, &s, 0.0).unwrap().to_scalar::<f32>().unwrap(), 0.0);
        let wrong = Tensor::new(&[[0f32, 1.], [1., 0.]], &Device::Cpu).unwrap();
        let loss = contrastive(&a, &wrong, &s, 0.0).unwrap().to_scalar::<f32>().unwrap();
        assert!((loss - 300.0).abs() < 1e-2, "{loss}");
    }

    #[test]
    fn shapes_are_checked() {
        let (a, b, s) = (var((4, 3), 1), var((3, 3), 2), scale(0.0));
        assert!(contrastive(&a, &b, &s, 0.0).is_err());
        assert!(contrastive(&a, &a, &s, 1.0).is_err());
        assert!(retrieval(&a, &b, &var((4, 4), 1), &s).is_err());
    }
}
