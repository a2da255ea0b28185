//! The memory of a step of training: values that no gradient needs any more are given back before the graph is.
//!
//! A graph keeps every operation's arguments and result until it is dropped as a whole, whether a backward reads them or
//! not. Most do not: a sum, a concatenation or a rearrangement needs no values for its gradient, and what an operation
//! gave is read by the backwards of its users alone, which come first.

use crate::device::on_gpus;
use crate::graph::apply1;
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp1, InplaceOp1, Layout, Result, Shape, Tensor, TensorId, bail};
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

/// [`backward`] from a tensor whose gradient is known: as that of `sum(y * gradient)`, which is not computed.
///
/// # Errors
/// The shapes differ, or an operation in the graph has no backward.
pub fn backward_from(y: &Tensor, gradient: &Tensor) -> Result<GradStore> {
    if y.shape() != gradient.shape() {
        bail!("backward: a gradient {:?} does not fit {:?}", gradient.shape(), y.shape());
    }
    backward(&apply1(y, From(gradient.detach()))?)
}

/// A number whose gradient is given.
struct From(Tensor);

impl CustomOp1 for From {
    fn name(&self) -> &'static str {
        "from"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    on_gpus!(y of_y);

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}

#[cfg(feature = "cuda")]
impl From {
    fn gpu_forward(&self, (y, _): (&candle_core::CudaStorage, &Layout)) -> Result<(candle_core::CudaStorage, Shape)> {
        Ok((crate::graph::one(&y.device)?, Shape::from(())))
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Weight, linear, philox::normal};
    use candle_core::{Device, Var};

    #[test]
    fn a_backward_begins_with_a_given_gradient() -> Result<()> {
        let of = |shape: (usize, usize), seed| Tensor::from_vec(normal(shape.0 * shape.1, seed), shape, &Device::Cpu);
        let (x, w) = (Var::from_tensor(&of((7, 5), 1)?)?, Var::from_tensor(&of((4, 5), 2)?)?);
        let (weight, gradient) = (Weight::fixed(w.as_tensor().clone()), of((7, 4), 3)?);
        let y = || linear(&x, &weight, None);
        let expected = backward(&(y()? * &gradient)?.sum_all()?)?;
        let found = backward_from(&y()?, &gradient)?;
        for of in [&x, &w] {
            let values = |store: &GradStore| store.get(of).expect("a gradient").flatten_all()?.to_vec1::<f32>();
            assert_eq!(values(&found)?, values(&expected)?);
        }
        assert!(backward_from(&y()?, &of((4, 7), 3)?).is_err());
        // The given one is the caller's still.
        gradient.sum_all()?;
        Ok(())
    }
}
