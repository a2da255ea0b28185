//! The memory of a step of training: values that no gradient needs any more are given back before the graph is.
//!
//! A graph keeps every operation's arguments and result until it is dropped as a whole, whether a backward reads them or
//! not. Most do not: a sum, a concatenation or a rearrangement needs no values for its gradient, and what an operation
//! gave is read by the backwards of its users alone, which come first.

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, TensorId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

type Gradients = HashMap<TensorId, (Tensor, Tensor)>;

thread_local! {
    /// Variables with their gradients, while [`backward`] runs on this thread.
    static GRADIENTS: RefCell<Option<Gradients>> = const { RefCell::new(None) };
}

/// Gives back the values of an activation that only operations made so far have read, and whose backwards do not read it:
/// [`add`](crate::add), [`concatenate`](crate::concatenate), rearrangements, and the operation that made it.
///
/// The tensor stays in the graph. Reading it fails from now on, and so does reading what shares its values. On a GPU, and
/// for a part of another tensor, nothing is done.
pub fn spent(x: &Tensor) -> Result<()> {
    let whole = x.is_contiguous() && x.layout().start_offset() == 0;
    if !whole || x.is_variable() || !x.device().is_cpu() {
        return Ok(());
    }
    x.inplace_op1(&GiveBack)
}

struct GiveBack;

impl InplaceOp1 for GiveBack {
    fn name(&self) -> &'static str {
        "spent"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        if let CpuStorage::F32(values) = storage
            && values.len() == layout.shape().elem_count()
        {
            *values = Vec::new();
        }
        Ok(())
    }
}

/// The gradients of `loss`, as [`Tensor::backward`] gives them, in less memory: an activation is given back as soon as
/// no backward needs it any more, so that a graph goes backward once, and none of its tensors is read afterwards but
/// variables and what was given to it.
///
/// # Errors
/// An operation in the graph has no backward.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    struct Restore(Option<Gradients>);
    impl Drop for Restore {
        fn drop(&mut self) {
            GRADIENTS.set(self.0.take());
        }
    }
    let _restore = Restore(GRADIENTS.replace(Some(HashMap::new())));
    let mut store = loss.backward()?;
    let gradients = GRADIENTS.take().unwrap_or_default();
    for (weight, gradient) in gradients.into_values() {
        let gradient = match store.remove(&weight) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        store.insert(&weight, gradient);
    }
    Ok(store)
}

/// Called by a backward with what its operation gave, which it does not read.
pub(crate) fn used_up(result: &Tensor) -> Result<()> {
    match GRADIENTS.with_borrow(Option::is_some) {
        true => spent(result),
        false => Ok(()),
    }
}

/// The gradient of a variable: kept until the end of [`backward`]. Any other is given back, for candle to add to zeros.
pub(crate) fn kept_gradient(weight: &Tensor, gradient: Tensor) -> Result<Option<Tensor>> {
    if !weight.is_variable() {
        return Ok(Some(gradient));
    }
    GRADIENTS.with_borrow_mut(|gradients| match gradients {
        None => Ok(Some(gradient)),
        Some(gradients) => {
            match gradients.entry(weight.id()) {
                Entry::Vacant(entry) => {
                    entry.insert((weight.clone(), gradient));
                }
                Entry::Occupied(mut entry) => {
                    let sum = (&entry.get().1 + gradient)?;
                    entry.get_mut().1 = sum;
                }
            }
            Ok(None)
        }
    })
}
