//! What a training step makes smaller: a run of one or two networks, and a loss of what they give.

use crate::objectives_text::{contrastive, retrieval};
use candle_core::{Result, Tensor, Var, bail};
use kinora_networks::network::Inputs;

/// A run of one of a trainer's networks.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which network.
    pub network: usize,
    /// What it is given.
    pub inputs: Inputs,
    /// Which of its outputs the loss is of.
    pub output: String,
}

/// A loss.
#[derive(Clone, Debug)]
pub enum Loss {
    /// The mean square of the difference to a target, sample by sample: every diffusion loss.
    Regression {
        /// What the output should be, in its shape.
        target: Tensor,
        /// What each sample's loss is multiplied by; empty for 1.
        sample_weights: Vec<f32>,
    },
    /// [`contrastive`] of the outputs of two calls.
    Contrastive {
        /// Natural logarithm of the factor on the products.
        logit_scale: f64,
        /// 0 to below 1.
        label_smoothing: f64,
    },
    /// [`retrieval`] of a bank of embeddings by the output of a call.
    Retrieval {
        /// (N, E), constant.
        bank: Tensor,
        /// (B, N), a distribution a row.
        targets: Tensor,
        /// As in [`Loss::Contrastive`].
        logit_scale: f64,
    },
}

/// A loss, what it is of, and its weight in the sum.
#[derive(Clone, Debug)]
pub struct Objective {
    /// Factor in the sum.
    pub weight: f64,
    /// One call; two for [`Loss::Contrastive`].
    pub calls: Vec<Call>,
    /// The loss of their outputs.
    pub loss: Loss,
}

impl Objective {
    /// The loss of whole outputs and its gradient in each of them, times the weight.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn evaluate(&self, outputs: &[Tensor]) -> Result<(f64, Vec<Tensor>)> {
        let (loss, gradients) = match (&self.loss, outputs) {
            (Loss::Regression { target, sample_weights }, [output]) => regression(output, target, sample_weights)?,
            (Loss::Contrastive { logit_scale, label_smoothing }, [a, b]) => {
                let (a, b) = (Var::from_tensor(a)?, Var::from_tensor(b)?);
                let scale = Tensor::new(*logit_scale as f32, a.device())?;
                let loss = contrastive(&a, &b, &scale, *label_smoothing)?;
                gradients_of(&loss, &[&a, &b])?
            }
            (Loss::Retrieval { bank, targets, logit_scale }, [text]) => {
                let text = Var::from_tensor(text)?;
                let scale = Tensor::new(*logit_scale as f32, text.device())?;
                let loss = retrieval(&text, bank, targets, &scale)?;
                gradients_of(&loss, &[&text])?
            }
            _ => bail!("this loss is not one of {} outputs", outputs.len()),
        };
        let gradients = gradients.into_iter().map(|gradient| gradient * self.weight).collect::<Result<_>>()?;
        Ok((loss, gradients))
    }
}

fn gradients_of(loss: &Tensor, of: &[&Var]) -> Result<(f64, Vec<Tensor>)> {
    let store = loss.backward()?;
    let gradients = of.iter().map(|var| match store.get(var.as_tensor()) {
        Some(gradient) => Ok(gradient.clone()),
        None => var.zeros_like(),
    });
    Ok((f64::from(loss.to_scalar::<f32>()?), gradients.collect::<Result<_>>()?))
}

fn regression(output: &Tensor, target: &Tensor, sample_weights: &[f32]) -> Result<(f64, Vec<Tensor>)> {
    let batch = output.dim(0)?;
    if output.dims() != target.dims() {
        bail!("target is {:?} where the network gives {:?}", target.shape(), output.shape());
    }
    if !sample_weights.is_empty() && sample_weights.len() != batch {
        bail!("sample_weights has {} numbers for {batch} samples", sample_weights.len());
    }
    let shape = output.dims().to_vec();
    let difference = (output.detach() - target.detach())?.reshape((batch, ()))?;
    let count = output.elem_count() as f64;
    let weighted = if sample_weights.is_empty() {
        difference.clone()
    } else {
        difference.broadcast_mul(&Tensor::from_slice(sample_weights, (batch, 1), output.device())?)?
    };
    // Row sums first: the sum of a large batch in f32 would lose digits.
    let rows = (&weighted * &difference)?.sum(1)?.to_vec1::<f32>()?;
    let loss = rows.into_iter().map(f64::from).sum::<f64>() / count;
    Ok((loss, vec![(weighted * (2.0 / count))?.reshape(shape)?]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn regression_is_the_weighted_mean_square_and_its_slope() {
        let output = Tensor::new(&[[1f32, 2.0], [0.0, -1.0]], &Device::Cpu).unwrap();
        let target = Tensor::new(&[[0f32, 0.0], [1.0, 1.0]], &Device::Cpu).unwrap();
        let (loss, gradients) = regression(&output, &target, &[]).unwrap();
        assert!((loss - (1.0 + 4.0 + 1.0 + 4.0) / 4.0).abs() < 1e-6);
        assert_eq!(gradients[0].to_vec2::<f32>().unwrap(), [[0.5, 1.0], [-0.5, -1.0]]);
        let (loss, gradients) = regression(&output, &target, &[2.0, 0.0]).unwrap();
        assert!((loss - 2.5).abs() < 1e-6);
        assert_eq!(gradients[0].to_vec2::<f32>().unwrap(), [[1.0, 2.0], [0.0, 0.0]]);
        assert!(regression(&output, &target.t().unwrap().narrow(0, 0, 1).unwrap(), &[]).is_err());
    }
}
