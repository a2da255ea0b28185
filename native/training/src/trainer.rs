//! One step of training, data-parallel: each worker thread runs its share of the batch forward, the loss is taken of
//! all outputs together, each worker runs its share backward, and the summed gradients move the weights.
//!
//! Workers of one thread each beat threads inside an operation: most operations between the products are memory-bound
//! and single-threaded. On a GPU there is one worker, and losses alone are taken in main memory.

use crate::muon::Muon;
use crate::objective::Objective;
use crate::optimizer::{AdamW, Update};
use crate::state::{State, with_values};
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, bail};
use kinora_kernels::{Precision, add, backward, sum_of_squares};
use kinora_networks::network::Network;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Backpropagation recurses over the graph of a whole network.
const STACK: usize = 64 << 20;

/// Networks in training, with the state of their optimiser.
pub struct Trainer {
    pub(crate) networks: Vec<Arc<Network>>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) steps: u64,
    workers: Vec<ThreadPool>,
}

/// One parameter of one network.
pub(crate) struct Slot {
    pub network: usize,
    pub name: String,
    pub value: Tensor,
    pub state: State,
}

/// A factor on the learning rate of the parameters whose names contain a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    /// The text; the last entry that matches counts.
    pub name_contains: String,
    /// The factor; 0 leaves the parameters as they are.
    pub scale: f64,
}

/// How a step is done.
#[derive(Clone, Debug)]
pub struct StepOptions {
    /// The arithmetic of the networks; sums, statistics and weights are f32 in both.
    pub precision: Precision,
    /// The optimiser's constants.
    pub adamw: AdamW,
    /// What moves the matrices inside the networks in AdamW's place, by its learning rate and weight decay.
    pub muon: Option<Muon>,
    /// Factors on its learning rate.
    pub rates: Vec<Rate>,
    /// The largest norm of the whole gradient; a longer one is scaled down to it.
    pub clip: Option<f64>,
    /// Decay of the moving average, 0 to 1.
    pub ema_decay: f64,
}

/// What a step saw.
#[derive(Clone, Debug, PartialEq)]
pub struct StepResult {
    /// The weighted sum of the losses.
    pub loss: f64,
    /// Each objective's loss, unweighted.
    pub losses: Vec<f64>,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Whether the loss or the gradient was not finite; then nothing has changed.
    pub skipped: bool,
}

/// A worker's share of a call: what it gave, with the graph behind it.
struct Part {
    objective: usize,
    call: usize,
    output: Tensor,
}

impl Trainer {
    /// A trainer of networks whose parameters are trainable, with `workers` threads, or one where they are on a GPU, and
    /// optionally a moving average.
    ///
    /// # Errors
    /// There are no networks or workers, the networks are not all in one place, or the threads cannot be had.
    pub fn new(networks: Vec<Arc<Network>>, workers: usize, ema: bool) -> Result<Self> {
        if networks.is_empty() || workers == 0 {
            bail!("a trainer needs networks and workers, not {} and {workers}", networks.len());
        }
        let device = networks[0].parameters().device().clone();
        let mut slots = Vec::new();
        for (network, owner) in networks.iter().enumerate() {
            if !owner.parameters().device().same_device(&device) {
                bail!("networks 0 and {network} are on different devices");
            }
            for (name, value) in owner.parameters().tensors() {
                // Left out of training.
                if !value.is_variable() {
                    continue;
                }
                let state = State::new(&value, ema)?;
                slots.push(Slot { network, name, value, state });
            }
            if slots.last().is_none_or(|slot| slot.network != network) {
                bail!("network {network} is not trainable: make or load it as trainable");
            }
        }
        let pool = |_| ThreadPoolBuilder::new().num_threads(1).stack_size(STACK).build();
        let workers = if device.is_cpu() { workers } else { 1 };
        let workers = (0..workers).map(pool).collect::<std::result::Result<_, _>>();
        Ok(Self { networks, slots, steps: 0, workers: workers.map_err(candle_core::Error::wrap)? })
    }

    /// Number of worker threads.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Updates done so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One update. `check` is called between blocks of the networks, from worker threads, and stops the step by
    /// failing; then nothing has changed.
    ///
    /// # Errors
    /// Inputs that do not fit a network or each other, or what `check` gave.
    pub fn step(
        &mut self,
        objectives: &[Objective],
        options: &StepOptions,
        check: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<StepResult> {
        if objectives.is_empty() {
            bail!("a step needs at least one objective");
        }
        let parts = self.forward(objectives, options.precision, check)?;
        let mut losses = Vec::new();
        let mut gradients = HashMap::new();
        for (i, objective) in objectives.iter().enumerate() {
            let outputs = (0..objective.calls.len()).map(|call| {
                let of_call = |part: &&Part| part.objective == i && part.call == call;
                let rows: Vec<_> = parts.iter().flatten().filter(of_call).map(|part| part.output.detach()).collect();
                Tensor::cat(&rows, 0)
            });
            let (loss, of_outputs) = objective.evaluate(&outputs.collect::<Result<Vec<_>>>()?)?;
            losses.push(loss);
            gradients.extend(of_outputs.into_iter().enumerate().map(|(call, gradient)| ((i, call), gradient)));
        }
        let loss = losses.iter().zip(objectives).map(|(loss, objective)| loss * objective.weight).sum::<f64>();
        if !loss.is_finite() {
            return Ok(StepResult { loss, losses, gradient_norm: f64::NAN, skipped: true });
        }
        let stores = self.backward(parts, &gradients)?;
        check()?;
        let (gradient_norm, skipped) = self.update(&stores, options)?;
        Ok(StepResult { loss, losses, gradient_norm, skipped })
    }

    /// Runs every call, its samples spread over the workers in order: the parts of each worker.
    fn forward(
        &self,
        objectives: &[Objective],
        precision: Precision,
        check: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<Vec<Vec<Part>>> {
        let mut batches = Vec::new();
        for (objective, Objective { calls, .. }) in objectives.iter().enumerate() {
            for (call, what) in calls.iter().enumerate() {
                if what.network >= self.networks.len() {
                    bail!("there is no network {}: the trainer has {}", what.network, self.networks.len());
                }
                batches.push((objective, call, what, what.inputs.batch()?));
            }
        }
        on_workers(&self.workers, |worker| {
            let mut parts = Vec::new();
            for &(objective, call, what, batch) in &batches {
                let (start, end) = (batch * worker / self.workers.len(), batch * (worker + 1) / self.workers.len());
                if start == end {
                    continue;
                }
                let inputs = what.inputs.rows(start, end - start)?;
                let outputs = self.networks[what.network].forward(&inputs, precision, &|| check())?;
                let Some(output) = outputs.get(what.output.as_str()) else {
                    let names: Vec<_> = outputs.keys().copied().collect();
                    bail!("network {} gives {}, not {:?}", what.network, names.join(", "), what.output);
                };
                parts.push(Part { objective, call, output: output.clone() });
            }
            Ok(parts)
        })
    }

    /// The gradients of each worker's share.
    fn backward(
        &self,
        parts: Vec<Vec<Part>>,
        gradients: &HashMap<(usize, usize), Tensor>,
    ) -> Result<Vec<Option<GradStore>>> {
        let mut starts = HashMap::new();
        let mut shares = Vec::new();
        for worker in parts {
            let mut share = Vec::new();
            for Part { objective, call, output } in worker {
                let start = starts.entry((objective, call)).or_insert(0);
                let rows = output.dim(0)?;
                share.push((output, gradients[&(objective, call)].narrow(0, *start, rows)?));
                *start += rows;
            }
            shares.push(Mutex::new(share));
        }
        on_workers(&self.workers, |worker| {
            let share = std::mem::take(&mut *shares[worker].lock().expect("no panic while held"));
            // The slope of this sum in the output is the gradient of the loss.
            let mut sum: Option<Tensor> = None;
            for (output, gradient) in share {
                let part = (output * gradient.contiguous()?)?.sum_all()?;
                sum = Some(match sum {
                    Some(sum) => (sum + part)?,
                    None => part,
                });
            }
            sum.map(|sum| backward(&sum)).transpose()
        })
    }

    /// Sums the workers' gradients, clips them and moves the weights: the norm, and whether it was not finite.
    fn update(&mut self, stores: &[Option<GradStore>], options: &StepOptions) -> Result<(f64, bool)> {
        let sums = on_workers(&self.workers, |worker| {
            let share = self.slots.iter().skip(worker).step_by(self.workers.len());
            share.map(|slot| gradient_of(slot, stores)).collect::<Result<Vec<_>>>()
        })?;
        let mut sums: Vec<_> = sums.into_iter().map(Vec::into_iter).collect();
        let workers = sums.len();
        let sums: Vec<_> = (0..self.slots.len()).map(|slot| sums[slot % workers].next().flatten()).collect();
        let norm = length(&sums.iter().flatten().collect::<Vec<_>>())?;
        if !norm.is_finite() {
            return Ok((norm, true));
        }
        self.steps += 1;
        let gradient_scale = options.clip.map_or(1.0, |clip| (clip / norm.max(1e-12)).min(1.0)) as f32;
        let step = self.steps;
        let mut parts: Vec<_> = self.slots.iter_mut().zip(sums).collect();
        // Large ones first, so that the workers end together.
        parts.sort_by_key(|(slot, _)| slot.value.elem_count());
        let parts = Mutex::new(parts);
        on_workers(&self.workers, |_| {
            loop {
                let next = parts.lock().expect("no panic while held").pop();
                let Some((slot, gradient)) = next else { return Ok(()) };
                if let Some(gradient) = gradient {
                    slot.update(&gradient, step, gradient_scale, options)?;
                }
            }
        })?;
        for network in &self.networks {
            network.parameters().touch();
        }
        Ok((norm, false))
    }

    /// A copy of a network for inference: with the averaged weights, or the current ones where no average is kept.
    ///
    /// # Errors
    /// There is no such network.
    pub fn averaged(&self, network: usize) -> Result<Network> {
        let Some(owner) = self.networks.get(network) else {
            bail!("there is no network {network}: the trainer has {}", self.networks.len());
        };
        let mut values: HashMap<_, _> = owner.parameters().tensors().into_iter().collect();
        for slot in self.slots.iter().filter(|slot| slot.network == network) {
            let value = match slot.state.average(&slot.value)? {
                Some(average) => average,
                None => slot.value.copy()?.detach(),
            };
            values.insert(slot.name.clone(), value);
        }
        owner.with_values(values)
    }
}

impl Slot {
    /// Moves the values against the gradient.
    fn update(&mut self, gradient: &Tensor, step: u64, gradient_scale: f32, options: &StepOptions) -> Result<()> {
        let rate = options.rates.iter().rev().find(|rate| self.name.contains(&rate.name_contains));
        let mut adamw = options.adamw;
        adamw.learning_rate *= rate.map_or(1.0, |rate| rate.scale);
        if adamw.learning_rate == 0.0 {
            return Ok(());
        }
        if self.value.rank() < 2 {
            adamw.weight_decay = 0.0;
        }
        let muon = options.muon.as_ref().filter(|muon| muon.moves(&self.name, self.value.dims()));
        let update = Update { adamw, step, gradient_scale, ema_decay: options.ema_decay as f32 };
        self.state.update(&self.value, gradient, update, muon)
    }
}

/// The sum of the workers' gradients of a parameter, in the workers' order.
fn gradient_of(slot: &Slot, stores: &[Option<GradStore>]) -> Result<Option<Tensor>> {
    let mut sum: Option<Tensor> = None;
    for gradient in stores.iter().flatten().filter_map(|store| store.get(&slot.value)) {
        sum = Some(match sum {
            None => gradient.clone(),
            Some(sum) => add(&sum, gradient)?,
        });
    }
    Ok(sum)
}

/// The length of a gradient in parts, all in main memory or all on a GPU.
fn length(parts: &[&Tensor]) -> Result<f64> {
    if parts.iter().any(|part| !part.device().is_cpu()) {
        return Ok(sum_of_squares(parts)?.sqrt());
    }
    let square = |part: &&Tensor| {
        with_values(part, |values| {
            let blocks = values.chunks(4096);
            Ok(blocks.map(|block| f64::from(block.iter().map(|value| value * value).sum::<f32>())).sum::<f64>())
        })
    };
    Ok(parts.iter().map(square).sum::<Result<f64>>()?.sqrt())
}

/// Runs `work` on every worker at once; operations within it stay on the worker's one thread.
fn on_workers<R: Send>(workers: &[ThreadPool], work: impl Fn(usize) -> Result<R> + Sync) -> Result<Vec<R>> {
    let work = &work;
    std::thread::scope(|scope| {
        let running: Vec<_> = workers
            .iter()
            .enumerate()
            .map(|(worker, pool)| scope.spawn(move || pool.install(|| work(worker))))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}
