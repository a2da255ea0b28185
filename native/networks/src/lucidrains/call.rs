//! The arguments of a call, and what can be wrong with a layer.

use candle_core::{Result, Tensor, bail};
use std::collections::BTreeMap;

/// Why a layer cannot be made or run.
#[derive(Debug)]
pub enum LayerError {
    /// Its kind, its configuration or an argument of the call is not known here; one sentence says which.
    Unsupported(String),
    /// Weights or inputs do not fit, or the work failed.
    Other(candle_core::Error),
}

impl From<candle_core::Error> for LayerError {
    fn from(error: candle_core::Error) -> Self {
        Self::Other(error)
    }
}

/// What a layer is called with.
pub struct Call<'a> {
    /// Tensors by the names of the parameters of the peer's `forward`.
    pub tensors: BTreeMap<String, Tensor>,
    /// The peer's `enable_time`, where it is given.
    pub enable_time: Option<bool>,
    /// Whole numbers that are passed by position.
    pub ints: Vec<usize>,
    /// Called between the blocks of long networks; stops the run by failing.
    pub check: &'a dyn Fn() -> Result<()>,
}

impl Call<'_> {
    /// An input that must be given.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        match self.tensors.get(name) {
            Some(tensor) => Ok(tensor),
            None => bail!("the input {name} is missing"),
        }
    }

    /// An input that may be given.
    pub fn optional(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }
}
