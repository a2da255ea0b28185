//! Single layers, as the networks use them.

use crate::case::{Tensors, Work, take};
use candle_core::{Result, Tensor, Var, bail};
use kinora_kernels::{AttentionOptions, Sequences, Weight, attention, backward_from, conv2d, linear, temporal_conv};
use kinora_networks::norms::GroupNorm;
use kinora_networks::parameters::{Init, Parameters};
use serde_json::Value;
use std::sync::Arc;

/// Groups of the norm, and what is added to its variance.
const GROUPS: (usize, f64) = (32, 1e-5);

type Forward = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// A layer with its inputs.
pub struct Layer {
    parameters: Arc<Parameters>,
    inputs: Vec<(&'static str, Tensor)>,
    cotangent: Tensor,
    forward: Forward,
    train: bool,
}

fn whole(config: &Value, name: &str) -> Result<usize> {
    match config[name].as_u64() {
        Some(value) => Ok(value as usize),
        None => bail!("config.{name} must be a whole number"),
    }
}

impl Layer {
    /// Activations are (height, width, frames, channels); `g` is what the output's gradient is taken with.
    pub fn new(kind: &str, config: &Value, mut inputs: Tensors, state: Tensors, train: bool) -> Result<Self> {
        let cotangent = take(&mut inputs, "g")?;
        let shape = |name: &str| state.get(name).map(|tensor| tensor.shape().clone());
        let (weight, bias) = (shape("weight"), shape("bias"));
        let parameters = Parameters::loaded(state, train).on(cotangent.device());
        let b = parameters.builder();
        let kernel = || -> Result<(Weight, Tensor)> {
            let (Some(weight), Some(bias)) = (weight, bias) else { bail!("weight and bias are needed") };
            Ok((b.weight("weight", weight, Init::Zeros)?, b.vector("bias", bias, Init::Zeros)?))
        };
        let mut names = vec!["x"];
        let forward: Forward = match kind {
            "conv3x3" => {
                let (weight, bias) = kernel()?;
                Box::new(move |x| conv2d(&x[0], &weight, Some(&bias), 1, 1))
            }
            "conv1x1" | "linear" => {
                let (weight, bias) = kernel()?;
                Box::new(move |x| linear(&x[0], &weight, Some(&bias)))
            }
            "temporal_conv" => {
                let frames = whole(config, "frames")?;
                let (weight, bias) = kernel()?;
                Box::new(move |x| temporal_conv(&x[0], &weight, Some(&bias), frames))
            }
            "temporal_attention" | "spatial_attention" => {
                let sequences = match kind {
                    "spatial_attention" => Sequences::Space,
                    _ => Sequences::Frames(whole(config, "frames")?),
                };
                let heads = whole(config, "heads")?;
                let options = AttentionOptions { heads, sequences, causal: false, key_mask: None };
                Box::new(move |x| attention(&x[0], None, None, &options))
            }
            "norm" => {
                names.push("scale_shift");
                let channels = cotangent.dims()[3];
                let norm = GroupNorm::new(channels, GROUPS.0, GROUPS.1, &b)?;
                Box::new(move |x| norm.forward_scaled(&x[0], &x[1]))
            }
            kind => bail!("there is no layer {kind:?}"),
        };
        let input = |name| {
            let tensor = take(&mut inputs, name)?;
            Ok((name, if train { Var::from_tensor(&tensor)?.as_tensor().clone() } else { tensor }))
        };
        let inputs = names.into_iter().map(input).collect::<Result<_>>()?;
        Ok(Self { parameters, inputs, cotangent, forward, train })
    }

    fn output(&self) -> Result<Tensor> {
        let inputs: Vec<_> = self.inputs.iter().map(|(_, tensor)| tensor.clone()).collect();
        // A step of training has changed the weights: they are packed anew.
        if self.train {
            self.parameters.touch();
        }
        (self.forward)(&inputs)
    }
}

impl Work for Layer {
    /// In training the output's gradient is given.
    fn run(&mut self) -> Result<()> {
        let y = self.output()?;
        if self.train {
            backward_from(&y, &self.cotangent)?;
        }
        Ok(())
    }

    fn results(&mut self) -> Result<Tensors> {
        let y = self.output()?;
        let mut results = Tensors::new();
        if self.train {
            let gradients = (&y * &self.cotangent)?.sum_all()?.backward()?;
            let of = |tensor: &Tensor| gradients.get(tensor).cloned().map_or_else(|| tensor.zeros_like(), Ok);
            for (name, tensor) in &self.inputs {
                results.insert(format!("d{name}"), of(tensor)?);
            }
            for (name, tensor) in self.parameters.tensors() {
                results.insert(format!("d{name}"), of(&tensor)?);
            }
        }
        results.insert("y".to_owned(), y.detach());
        Ok(results)
    }
}
