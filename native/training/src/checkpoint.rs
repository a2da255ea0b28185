//! A trainer's whole state in one file: weights, moving average, moments, number of steps.

use crate::trainer::Trainer;
use candle_core::{Tensor, Var};
use kinora_networks::tensor_file::{self, StoredAs, TensorFile, TensorFileError};
use std::collections::BTreeMap;
use std::path::Path;

/// Why a state could not be saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file.
    #[error(transparent)]
    File(#[from] TensorFileError),
    /// The file is not a state of this trainer.
    #[error("{0}")]
    Foreign(String),
    /// Tensors.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Where a trainer's steps stand in the metadata.
const STEPS: &str = "kinora.steps";

impl Trainer {
    /// Writes the state and the caller's metadata; gives the file's length.
    ///
    /// # Errors
    /// The file cannot be written, or `check` said to stop.
    pub fn save(
        &self,
        path: &Path,
        mut metadata: BTreeMap<String, String>,
        check: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<usize, CheckpointError> {
        metadata.insert(STEPS.into(), self.steps.to_string());
        let mut tensors = BTreeMap::new();
        for slot in &self.slots {
            let name = |kind: &str| format!("{}.{kind}/{}", slot.network, slot.name);
            let (mean, square, ema) = slot.state.tensors(&slot.value)?;
            tensors.insert(name("weight"), slot.value.detach());
            tensors.insert(name("mean"), mean);
            tensors.insert(name("square"), square);
            if let Some(ema) = ema {
                tensors.insert(name("ema"), ema);
            }
        }
        Ok(tensor_file::write(path, &tensors, StoredAs::F32, &metadata, check)?)
    }

    /// Takes over a state that [`Trainer::save`] wrote, and gives the caller's metadata. On an error nothing has changed.
    ///
    /// # Errors
    /// The file cannot be read, or is not a state of networks with these parameters.
    pub fn load(
        &mut self,
        path: &Path,
        check: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<BTreeMap<String, String>, CheckpointError> {
        let TensorFile { tensors, mut metadata } = tensor_file::read(path, check)?;
        let foreign = |why: String| CheckpointError::Foreign(format!("{}: {why}", path.display()));
        let steps = metadata.remove(STEPS).and_then(|steps| steps.parse().ok());
        let Some(steps) = steps else { return Err(foreign("not a training state: it has no number of steps".into())) };
        let mut wanted = 0;
        let mut states = Vec::new();
        for slot in &self.slots {
            let get = |kind: &str| -> Result<Tensor, CheckpointError> {
                let name = format!("{}.{kind}/{}", slot.network, slot.name);
                let Some(tensor) = tensors.get(&name) else {
                    return Err(foreign(format!("it has no tensor {name:?}")));
                };
                if tensor.dims() != slot.value.dims() {
                    let (have, want) = (tensor.dims(), slot.value.dims());
                    return Err(foreign(format!("the tensor {name:?} has shape {have:?}, not {want:?}")));
                }
                Ok(tensor.clone())
            };
            let ema = slot.state.averages().then(|| get("ema")).transpose()?;
            wanted += 3 + usize::from(ema.is_some());
            states.push((get("weight")?, (get("mean")?, get("square")?, ema)));
        }
        if tensors.len() != wanted {
            return Err(foreign(format!("it has {} tensors where this training has {wanted}", tensors.len())));
        }
        for (slot, (weight, state)) in self.slots.iter_mut().zip(states) {
            Var::from_tensor(&slot.value)?.set(&weight.to_device(slot.value.device())?)?;
            slot.state.set(state, &slot.value)?;
        }
        for network in &self.networks {
            network.parameters().touch();
        }
        self.steps = steps;
        Ok(metadata)
    }
}
