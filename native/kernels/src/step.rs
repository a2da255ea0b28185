//! An optimiser's step on a GPU. That on the CPU is the trainer's own.

use candle_core::{Result, Tensor};

/// AdamW's step of one parameter as the numbers that it takes.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The learning rate, over what the mean of gradients lacks so far.
    pub rate: f32,
    /// What the mean of squares is multiplied by for what it lacks.
    pub correction: f32,
    /// What a value is multiplied by before it moves: its decay.
    pub keep: f32,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squares.
    pub beta2: f32,
    /// Added to the root of the mean square.
    pub epsilon: f32,
    /// What the gradient is multiplied by (clipping).
    pub gradient_scale: f32,
    /// Decay of the moving average.
    pub ema_decay: f32,
}

impl Step {
    /// Moves `value` on its GPU, where it lies, and changes the mean and the mean square of its gradients and its moving
    /// average. Without moments `gradient` is a direction that is followed as it is.
    ///
    /// # Errors
    /// The tensors are not contiguous, of one size, and on one GPU.
    pub fn run(
        &self,
        value: &Tensor,
        gradient: &Tensor,
        moments: Option<[&Tensor; 2]>,
        ema: Option<&Tensor>,
    ) -> Result<()> {
        #[cfg(feature = "cuda")]
        return self.on_gpu(value, gradient, moments, ema);
        #[cfg(not(feature = "cuda"))]
        {
            let _ = (value, gradient, moments, ema);
            candle_core::bail!("this native library was built without CUDA")
        }
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(
        &self,
        value: &Tensor,
        gradient: &Tensor,
        moments: Option<[&Tensor; 2]>,
        ema: Option<&Tensor>,
    ) -> Result<()> {
        let [mean, square] = moments.unwrap_or([value, value]);
        let all = [value, gradient, mean, square, ema.unwrap_or(value)];
        let count = value.elem_count();
        // A copy of what is not contiguous would be moved in its place.
        if all.iter().any(|tensor| !tensor.is_contiguous() || tensor.elem_count() != count) {
            candle_core::bail!("step: tensors that are not contiguous or not of {count} numbers");
        }
        crate::gpu::with_addresses("step", all, |device, [value, gradient, mean, square, average]| {
            let none = kinora_cuda::Address::NONE;
            let given = |there: bool, address| if there { address } else { none };
            let adamw = kinora_cuda::AdamW {
                count,
                rate: self.rate,
                correction: self.correction,
                keep: self.keep,
                beta1: self.beta1,
                beta2: self.beta2,
                epsilon: self.epsilon,
                gradient_scale: self.gradient_scale,
                ema_decay: self.ema_decay,
            };
            let moments = [mean, square].map(|address| given(moments.is_some(), address));
            crate::gpu::run(device, &adamw.launch(value, gradient, moments, given(ema.is_some(), average)))
        })
    }
}

/// The sum of the squares of all numbers of tensors on a GPU: f32 within 4096 numbers, and f64 over them.
///
/// # Errors
/// The tensors are not f32 on a GPU.
pub fn sum_of_squares(tensors: &[&Tensor]) -> Result<f64> {
    #[cfg(feature = "cuda")]
    {
        let Some(first) = tensors.first() else { return Ok(0.0) };
        let parts = |tensor: &Tensor| tensor.elem_count().div_ceil(kinora_cuda::SQUARES_PER_PART);
        let candle_core::Device::Cuda(device) = first.device() else {
            candle_core::bail!("sum_of_squares: its tensors are not on a GPU")
        };
        // One buffer, so that the host waits once.
        let count = tensors.iter().map(|tensor| parts(tensor)).sum();
        let all = crate::gpu::Floats::new(device, count)?;
        let kinora_cuda::Address(mut at) = all.at();
        for &tensor in tensors {
            crate::gpu::with_addresses("sum_of_squares", [tensor], |device, [x]| {
                let to = kinora_cuda::Address(at);
                crate::gpu::run(device, &kinora_cuda::sum_squares(x, to, tensor.elem_count()))
            })?;
            at += 4 * parts(tensor) as u64;
        }
        Ok(all.tensor(count).to_vec1::<f32>()?.into_iter().map(f64::from).sum())
    }
    #[cfg(not(feature = "cuda"))]
    {
        let _ = tensors;
        candle_core::bail!("this native library was built without CUDA")
    }
}
