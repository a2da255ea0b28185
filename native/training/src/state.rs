//! What the optimiser keeps of a parameter, in main memory or on the parameter's GPU, and its step.

use crate::muon::Muon;
use crate::optimizer::{Moments, Update};
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Storage, Tensor, bail};
use std::sync::Mutex;

/// What is kept of one parameter.
pub enum State {
    /// In main memory.
    Host(Moments),
    /// On a GPU.
    Gpu {
        /// Mean of gradients; Muon's momentum.
        mean: Tensor,
        /// Mean of squared gradients.
        square: Tensor,
        /// Moving average of the values, where one is kept.
        ema: Option<Tensor>,
    },
}

impl State {
    /// Of a new parameter: zero moments; the average starts as the values.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(value: &Tensor, ema: bool) -> Result<Self> {
        if value.device().is_cpu() {
            return with_values(value, |values| Ok(Self::Host(Moments::new(values, ema))));
        }
        let average = if ema { Some(value.copy()?.detach()) } else { None };
        Ok(Self::Gpu { mean: value.zeros_like()?, square: value.zeros_like()?, ema: average })
    }

    /// Moves the parameter's values, where they lie, against a gradient; with `muon` along its direction.
    ///
    /// # Errors
    /// The gradient does not fit.
    pub fn update(&mut self, value: &Tensor, gradient: &Tensor, update: Update, muon: Option<&Muon>) -> Result<()> {
        match (self, muon) {
            (Self::Host(moments), None) => {
                with_values(gradient, |gradient| in_place(value, |values| update.apply(values, gradient, moments)))
            }
            (Self::Host(moments), Some(muon)) => {
                let direction = with_values(gradient, |gradient| {
                    muon.direction(gradient, update.gradient_scale, value.dims(), moments)
                })?;
                in_place(value, |values| update.apply_direction(values, &direction, moments))
            }
            (Self::Gpu { mean, square, ema }, None) => {
                update.numbers().run(value, &gradient.contiguous()?, Some([mean, square]), ema.as_ref())
            }
            (Self::Gpu { mean, ema, .. }, Some(muon)) => {
                let gradient = (gradient * f64::from(update.gradient_scale))?;
                *mean = ((&*mean * muon.momentum)? + &gradient)?;
                let direction = muon.turned(&((&*mean * muon.momentum)? + gradient)?)?;
                update.numbers_of_direction().run(value, &direction.contiguous()?, None, ema.as_ref())
            }
        }
    }

    /// Mean, mean square and moving average, where one is kept, in the shape of the parameter.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn tensors(&self, value: &Tensor) -> Result<(Tensor, Tensor, Option<Tensor>)> {
        match self {
            Self::Host(Moments { mean, square, .. }) => {
                let shaped = |values: &[f32]| Tensor::from_slice(values, value.shape(), &Device::Cpu);
                Ok((shaped(mean)?, shaped(square)?, self.average(value)?))
            }
            Self::Gpu { mean, square, .. } => Ok((mean.copy()?, square.copy()?, self.average(value)?)),
        }
    }

    /// Whether a moving average is kept.
    pub fn averages(&self) -> bool {
        matches!(self, Self::Host(Moments { ema: Some(_), .. }) | Self::Gpu { ema: Some(_), .. })
    }

    /// A copy of the moving average where one is kept, in the shape and on the device of the parameter.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn average(&self, value: &Tensor) -> Result<Option<Tensor>> {
        match self {
            Self::Host(Moments { ema, .. }) => {
                ema.as_ref().map(|ema| Tensor::from_slice(ema, value.shape(), &Device::Cpu)).transpose()
            }
            // Steps change it in place.
            Self::Gpu { ema, .. } => ema.as_ref().map(Tensor::copy).transpose(),
        }
    }

    /// Takes over what [`State::tensors`] gave.
    ///
    /// # Errors
    /// The tensors cannot be read.
    pub fn set(&mut self, (mean, square, ema): (Tensor, Tensor, Option<Tensor>), value: &Tensor) -> Result<()> {
        let device = value.device();
        *self = if device.is_cpu() {
            let values = |tensor: &Tensor| with_values(tensor, |values| Ok(values.to_vec()));
            Self::Host(Moments {
                mean: values(&mean)?,
                square: values(&square)?,
                ema: ema.as_ref().map(values).transpose()?,
            })
        } else {
            let there = |tensor: &Tensor| tensor.to_device(device)?.contiguous();
            Self::Gpu { mean: there(&mean)?, square: there(&square)?, ema: ema.as_ref().map(there).transpose()? }
        };
        Ok(())
    }
}

/// Runs `work` on the values of a contiguous f32 tensor.
pub(crate) fn with_values<R>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => work(&storage.as_slice::<f32>()?[layout.start_offset()..][..tensor.elem_count()]),
        _ => bail!("these numbers are not in main memory"),
    }
}

/// Runs `work` on the values of a tensor in main memory, where they lie.
fn in_place(tensor: &Tensor, work: impl FnMut(&mut [f32])) -> Result<()> {
    tensor.inplace_op1(&InPlace(Mutex::new(work)))
}

struct InPlace<F>(Mutex<F>);

impl<F: FnMut(&mut [f32])> InplaceOp1 for InPlace<F> {
    fn name(&self) -> &'static str {
        "move"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(values) = storage else { bail!("weights are f32") };
        let values = &mut values[layout.start_offset()..][..layout.shape().elem_count()];
        (self.0.lock().expect("no panic while held"))(values);
        Ok(())
    }
}
