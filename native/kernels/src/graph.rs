//! Operations in candle's graph whose gradients do not go through candle's hands.
//!
//! candle adds every gradient that a backward gives to zeros of its argument's shape: three passes over memory for what is
//! there already, and three times its room. Between operations of this crate gradients are handed over as they are. candle's
//! graph then joins tokens of one number: a token stands for an operation, its arguments are the tokens of those that made
//! the operation's arguments, and the result hangs on it for whoever else uses it.
//!
//! ```text
//! x ── token ──────────── token ── y        what candle walks: one number an operation
//!        │  gradient of h   │
//!        └──────────────────┘               what is handed over
//! ```

use crate::device::on_gpus;
use crate::spent::kept_gradient;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, InplaceOp1, Layout, Result, Shape, Tensor, TensorId};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

/// Applies an operation to `x`.
pub(crate) fn apply1<C: CustomOp1 + Send + Sync + 'static>(x: &Tensor, op: C) -> Result<Tensor> {
    if !linked(&[x]) {
        return x.apply_op1(op);
    }
    let value = x.apply_op1_no_bwd(&op)?;
    link(&[x], value, Box::new(move |args, y, dy| Ok(vec![op.bwd(&args[0], y, dy)?])))
}

/// Applies an operation to `a` and `b`.
pub(crate) fn apply2<C: CustomOp2 + Send + Sync + 'static>(a: &Tensor, b: &Tensor, op: C) -> Result<Tensor> {
    if !linked(&[a, b]) {
        return a.apply_op2(b, op);
    }
    let value = a.apply_op2_no_bwd(b, &op)?;
    let back: Backward = Box::new(move |args, y, dy| {
        let (a, b) = op.bwd(&args[0], &args[1], y, dy)?;
        Ok(vec![a, b])
    });
    link(&[a, b], value, back)
}

/// Applies an operation to `a`, `b` and `c`.
pub(crate) fn apply3<C: CustomOp3 + Send + Sync + 'static>(
    a: &Tensor,
    b: &Tensor,
    c: &Tensor,
    op: C,
) -> Result<Tensor> {
    if !linked(&[a, b, c]) {
        return a.apply_op3(b, c, op);
    }
    let value = a.apply_op3_no_bwd(b, c, &op)?;
    let back: Backward = Box::new(move |args, y, dy| {
        let (a, b, c) = op.bwd(&args[0], &args[1], &args[2], y, dy)?;
        Ok(vec![a, b, c])
    });
    link(&[a, b, c], value, back)
}

/// Gives the gradients of an operation's arguments, from them, its result and the gradient of that.
type Backward = Box<dyn Fn(&[Tensor], &Tensor, &Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync>;

/// Whether an operation is part of a graph.
fn linked(args: &[&Tensor]) -> bool {
    args.iter().any(|arg| arg.track_op())
}

/// The gradient of a result, added up as its users hand it over.
#[derive(Default)]
struct Handed(Mutex<Option<Tensor>>);

impl Handed {
    /// Tells whether it is the first: candle is told once to go where it belongs.
    fn add(&self, gradient: Tensor) -> Result<bool> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = held.is_none();
        *held = Some(match held.take() {
            Some(sum) => crate::add(&sum, &gradient)?,
            None => gradient.detach(),
        });
        Ok(first)
    }

    fn take(&self) -> Option<Tensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What stands for a tensor in candle's graph: the token of the operation that made it, or itself.
#[derive(Clone)]
struct Node {
    tensor: Tensor,
    handed: Option<Arc<Handed>>,
}

/// The tokens of results that are alive.
static TOKENS: LazyLock<Mutex<HashMap<TensorId, Node>>> = LazyLock::new(Mutex::default);

impl Node {
    fn of(tensor: &Tensor) -> Self {
        let tokens = TOKENS.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(&tensor.id()).cloned().unwrap_or_else(|| Self { tensor: tensor.clone(), handed: None })
    }
}

/// The result of an operation, with `value`'s numbers, in the graph.
fn link(args: &[&Tensor], value: Tensor, backward: Backward) -> Result<Tensor> {
    let nodes: Vec<Node> = args.iter().map(|arg| Node::of(arg)).collect();
    let node = |i: usize| nodes[i.min(nodes.len() - 1)].tensor.clone();
    let (a, b, c) = (node(0), node(1), node(2));
    let (handed, result) = (Arc::new(Handed::default()), Arc::new(OnceLock::new()));
    let args = args.iter().map(|&arg| arg.clone()).collect();
    let token = a.apply_op3(&b, &c, Token { backward, args, nodes, handed: handed.clone(), result: result.clone() })?;
    let shape = value.shape().clone();
    let numbers = Mutex::new(None);
    value.inplace_op1(&Take(&numbers))?;
    let id = Arc::new(OnceLock::new());
    let y = token.apply_op1(Lifted { numbers, shape, handed: handed.clone(), id: id.clone() })?;
    // Without its place in the graph: the token would hold what holds it.
    result.get_or_init(|| y.detach());
    id.get_or_init(|| y.id());
    let token = Node { tensor: token, handed: Some(handed) };
    TOKENS.lock().unwrap_or_else(PoisonError::into_inner).insert(y.id(), token);
    Ok(y)
}

/// A result's numbers, on their way to the tensor that hangs on its token.
enum Numbers {
    Cpu(CpuStorage),
    #[cfg(feature = "cuda")]
    Gpu(candle_core::CudaStorage),
}

/// Room for one number on a GPU, which nothing reads.
#[cfg(feature = "cuda")]
pub(crate) fn one(device: &candle_core::CudaDevice) -> Result<candle_core::CudaStorage> {
    Ok(crate::gpu::Floats::new(device, 1)?.storage())
}

/// Moves the numbers out of a tensor.
struct Take<'a>(&'a Mutex<Option<Numbers>>);

impl Take<'_> {
    fn keep(&self, numbers: Numbers) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(numbers);
    }
}

impl InplaceOp1 for Take<'_> {
    fn name(&self) -> &'static str {
        "take"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        self.keep(Numbers::Cpu(std::mem::replace(storage, CpuStorage::F32(Vec::new()))));
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut candle_core::CudaStorage, _: &Layout) -> Result<()> {
        let empty = one(&storage.device)?;
        self.keep(Numbers::Gpu(std::mem::replace(storage, empty)));
        Ok(())
    }
}

/// An operation, as one number.
struct Token {
    backward: Backward,
    args: Vec<Tensor>,
    nodes: Vec<Node>,
    handed: Arc<Handed>,
    result: Arc<OnceLock<Tensor>>,
}

impl CustomOp3 for Token {
    fn name(&self) -> &'static str {
        "token"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)))
    }

    on_gpus!(a of_a, b of_b, c of_c);

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        of_token: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (Some(gradient), Some(y)) = (self.handed.take(), self.result.get()) else {
            candle_core::bail!("a graph goes backward once at a time")
        };
        let gradients = (self.backward)(&self.args, y, &gradient)?;
        drop(gradient);
        let mut given = [None, None, None];
        for ((gradient, node), given) in gradients.into_iter().zip(&self.nodes).zip(&mut given) {
            *given = match (gradient, &node.handed) {
                (Some(gradient), Some(handed)) => handed.add(gradient)?.then(|| of_token.clone()),
                (Some(gradient), None) => kept_gradient(&node.tensor, gradient)?,
                (None, _) => None,
            };
        }
        let [a, b, c] = given;
        Ok((a, b, c))
    }
}

#[cfg(feature = "cuda")]
type OnGpu<'a> = (&'a candle_core::CudaStorage, &'a Layout);

#[cfg(feature = "cuda")]
impl Token {
    fn gpu_forward(&self, a: OnGpu, _: OnGpu, _: OnGpu) -> Result<(candle_core::CudaStorage, Shape)> {
        Ok((one(&a.0.device)?, Shape::from(1)))
    }
}

/// The result of a token's operation.
struct Lifted {
    numbers: Mutex<Option<Numbers>>,
    shape: Shape,
    handed: Arc<Handed>,
    id: Arc<OnceLock<TensorId>>,
}

impl CustomOp1 for Lifted {
    fn name(&self) -> &'static str {
        "result"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        match self.take() {
            Some(Numbers::Cpu(numbers)) => Ok((numbers, self.shape.clone())),
            _ => candle_core::bail!("a result is where its token is, and lifted once"),
        }
    }

    on_gpus!(token of_token);

    /// For users that are candle's own.
    fn bwd(&self, token: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        self.handed.add(gradient.clone())?.then(|| token.zeros_like()).transpose()
    }
}

impl Lifted {
    fn take(&self) -> Option<Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    #[cfg(feature = "cuda")]
    fn gpu_forward(&self, _: OnGpu) -> Result<(candle_core::CudaStorage, Shape)> {
        match self.take() {
            Some(Numbers::Gpu(numbers)) => Ok((numbers, self.shape.clone())),
            _ => candle_core::bail!("a result is where its token is, and lifted once"),
        }
    }
}

impl Drop for Lifted {
    fn drop(&mut self) {
        let Some(id) = self.id.get() else { return };
        let token = TOKENS.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        // With the lock released: what goes with it may be other results.
        drop(token);
    }
}

#[cfg(test)]
mod tests {
    use crate::{add, silu};
    use candle_core::{Device, Result, Tensor, Var};

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn gradients_of_users_of_both_kinds_are_added_up() -> Result<()> {
        let x = Var::from_vec(vec![-1f32, 0.25, 2.0], 3, &Device::Cpu)?;
        // One of candle's own, two of this crate's, and a view.
        let y = silu(&x)?;
        let loss = (((&y * 3.0)? + add(&silu(&y)?, &y)?)? + y.reshape((1, 3))?.squeeze(0)?)?.sum_all()?;
        let found = loss.backward()?;
        let found = values(found.get(&x).expect("a gradient"));
        let slope = |x: f64| {
            let s = 1.0 / (1.0 + (-x).exp());
            s * (1.0 + x * (1.0 - s))
        };
        for (found, x) in found.iter().zip([-1f64, 0.25, 2.0]) {
            let y = x / (1.0 + (-x).exp());
            let expected = slope(x) * (3.0 + slope(y) + 1.0 + 1.0);
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} is not {expected}");
        }
        // And again, from the same graph.
        let again = loss.backward()?;
        assert_eq!(found, values(again.get(&x).expect("a gradient")));
        Ok(())
    }

    #[test]
    fn nothing_is_left_of_a_graph() -> Result<()> {
        let x = Var::zeros(4, candle_core::DType::F32, &Device::Cpu)?;
        let (y, z) = {
            let y = silu(&x)?;
            (y.id(), silu(&y)?.id())
        };
        let tokens = super::TOKENS.lock().unwrap();
        assert!(!tokens.contains_key(&y) && !tokens.contains_key(&z));
        Ok(())
    }
}
