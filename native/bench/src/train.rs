//! The optimiser's step over all parameters of a network.

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Storage, Tensor, bail};
use kinora_networks::parameters::Parameters;
use kinora_training::optimizer::{AdamW, Moments, Update};
use std::sync::{Arc, Mutex};

/// `torch.optim.AdamW(lr=1e-4)` in all its constants.
const ADAMW: AdamW = AdamW { learning_rate: 1e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };

/// AdamW over every parameter.
pub struct Optimiser {
    parameters: Arc<Parameters>,
    slots: Vec<(Tensor, Mutex<Moments>)>,
    steps: u64,
}

/// Runs `work` on the values of a contiguous f32 tensor.
fn with_values<R>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => work(&storage.as_slice::<f32>()?[layout.start_offset()..][..tensor.elem_count()]),
        _ => bail!("the bench runs in main memory"),
    }
}

impl Optimiser {
    /// With moments of zero.
    pub fn new(parameters: &Arc<Parameters>) -> Result<Self> {
        let slot = |tensor: Tensor| {
            let moments = with_values(&tensor, |values| Ok(Moments::new(values, false)))?;
            Ok((tensor, Mutex::new(moments)))
        };
        let slots = parameters.tensors().into_values().map(slot).collect::<Result<_>>()?;
        Ok(Self { parameters: parameters.clone(), slots, steps: 0 })
    }

    /// Moves every parameter against its gradient.
    pub fn step(&mut self, gradients: &GradStore) -> Result<()> {
        self.steps += 1;
        let update = Update { adamw: ADAMW, step: self.steps, gradient_scale: 1.0, ema_decay: 0.0 };
        for (tensor, moments) in &self.slots {
            let Some(gradient) = gradients.get(tensor) else { continue };
            with_values(gradient, |gradient| tensor.inplace_op1(&Move { update, gradient, moments }))?;
        }
        self.parameters.touch();
        Ok(())
    }
}

/// An update of a parameter's values where they lie.
struct Move<'a> {
    update: Update,
    gradient: &'a [f32],
    moments: &'a Mutex<Moments>,
}

impl InplaceOp1 for Move<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(values) = storage else { bail!("weights are f32") };
        let values = &mut values[layout.start_offset()..][..self.gradient.len()];
        self.update.apply(values, self.gradient, &mut self.moments.lock().expect("no panic while held"));
        Ok(())
    }
}
