//! Optimiser, moving average, objectives and the data-parallel training step.

mod checkpoint;
pub mod muon;
pub mod objective;
pub mod objectives_text;
pub mod optimizer;
pub mod state;
mod trainer;

pub use checkpoint::CheckpointError;
pub use trainer::{Rate, StepOptions, StepResult, Trainer};
