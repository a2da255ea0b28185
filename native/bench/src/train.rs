//! The optimiser's step over all parameters of a network.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};
use kinora_networks::parameters::Parameters;
use kinora_training::optimizer::{AdamW, Update};
use kinora_training::state::State;
use std::sync::Arc;

/// `torch.optim.AdamW(lr=1e-4)` in all its constants.
const ADAMW: AdamW = AdamW { learning_rate: 1e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };

/// AdamW over every parameter.
pub struct Optimiser {
    parameters: Arc<Parameters>,
    slots: Vec<(Tensor, State)>,
    steps: u64,
}

impl Optimiser {
    /// With moments of zero.
    pub fn new(parameters: &Arc<Parameters>) -> Result<Self> {
        let slot = |tensor: Tensor| Ok((tensor.clone(), State::new(&tensor, false)?));
        let slots = parameters.tensors().into_values().map(slot).collect::<Result<_>>()?;
        Ok(Self { parameters: parameters.clone(), slots, steps: 0 })
    }

    /// Moves every parameter against its gradient.
    pub fn step(&mut self, gradients: &GradStore) -> Result<()> {
        self.steps += 1;
        let update = Update { adamw: ADAMW, step: self.steps, gradient_scale: 1.0, ema_decay: 0.0 };
        for (tensor, state) in &mut self.slots {
            if let Some(gradient) = gradients.get(tensor) {
                state.update(tensor, gradient, update, None)?;
            }
        }
        self.parameters.touch();
        Ok(())
    }
}
