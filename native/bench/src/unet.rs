//! The whole SpaceTimeUnet, by the code that runs recorded layers and checkpoints of its project.

use crate::Error;
use crate::case::{Tensors, Work, take};
use crate::train::Optimiser;
use candle_core::{Result, Tensor, bail};
use kinora_kernels::{Precision, backward};
use kinora_networks::lucidrains::{Layer, LayerError};
use kinora_networks::parameters::Parameters;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The network with its inputs, and its optimiser in training.
pub struct Unet {
    layer: Layer,
    x: Tensor,
    timestep: Tensor,
    target: Tensor,
    precision: Precision,
    optimiser: Option<Optimiser>,
}

fn plain(error: LayerError) -> Error {
    match error {
        LayerError::Unsupported(message) => message.into(),
        LayerError::Other(error) => error.into(),
    }
}

impl Unet {
    /// `x` and `target` are (1, 3, frames, height, width), `timestep` is (1).
    pub fn new(
        config: &Value,
        mut inputs: Tensors,
        state: Tensors,
        train: bool,
        precision: Precision,
    ) -> std::result::Result<Self, Error> {
        let mut input = |name| take(&mut inputs, name);
        let (x, timestep, target) = (input("x")?, input("timestep")?, input("target")?);
        let parameters = Parameters::loaded(state, train).on(x.device());
        let layer = Layer::new("lucidrains.SpaceTimeUnet", config, parameters).map_err(plain)?;
        let optimiser = if train { Some(Optimiser::new(layer.parameters())?) } else { None };
        Ok(Self { layer, x, timestep, target, precision, optimiser })
    }

    fn forward(&self) -> Result<Tensor> {
        let given = vec![self.x.clone(), self.timestep.clone()];
        let call = match self.layer.call(given, BTreeMap::new(), Vec::new(), &Map::new(), &|| Ok(())) {
            Ok(call) => call,
            Err(LayerError::Other(error)) => return Err(error),
            Err(LayerError::Unsupported(message)) => bail!("{message}"),
        };
        self.layer.run(&call, self.precision)
    }

    fn loss(&self) -> Result<Tensor> {
        (self.forward()? - &self.target)?.sqr()?.mean_all()
    }
}

impl Work for Unet {
    fn run(&mut self) -> Result<()> {
        if self.optimiser.is_none() {
            self.forward()?;
            return Ok(());
        }
        let gradients = backward(&self.loss()?)?;
        self.optimiser.as_mut().expect("looked at above").step(&gradients)
    }

    fn results(&mut self) -> Result<Tensors> {
        if self.optimiser.is_none() {
            return Ok(Tensors::from([("y".to_owned(), self.forward()?)]));
        }
        let loss = self.loss()?;
        let gradients = backward(&loss)?;
        let mut results = Tensors::from([("loss".to_owned(), loss.detach())]);
        for (name, tensor) in self.layer.parameters().tensors() {
            let gradient = gradients.get(&tensor).cloned().map_or_else(|| tensor.zeros_like(), Ok)?;
            results.insert(format!("gradient/{name}"), gradient);
        }
        Ok(results)
    }
}
