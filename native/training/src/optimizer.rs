//! AdamW with gradient clipping and a moving average of the weights, in one pass over memory.

use kinora_kernels::Step;
use rayon::prelude::*;

/// The constants of AdamW (Loshchilov & Hutter 2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// Share of a weight that `learning_rate` times this takes off; only kernels and tables decay, not biases and gains.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// What is kept for one parameter.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Mean of gradients.
    pub mean: Vec<f32>,
    /// Mean of squared gradients.
    pub square: Vec<f32>,
    /// Moving average of the values, where one is kept.
    pub ema: Option<Vec<f32>>,
}

impl Moments {
    /// Zero moments; the average starts as the values.
    pub fn new(values: &[f32], ema: bool) -> Self {
        Self { mean: vec![0.0; values.len()], square: vec![0.0; values.len()], ema: ema.then(|| values.to_vec()) }
    }
}

/// One update of one parameter.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// The constants; `learning_rate` and `weight_decay` as they apply to this parameter.
    pub adamw: AdamW,
    /// Number of this update, from 1.
    pub step: u64,
    /// What the gradient is multiplied by (clipping).
    pub gradient_scale: f32,
    /// Decay of the moving average, 0 to 1.
    pub ema_decay: f32,
}

/// Numbers a task: some tens of microseconds.
const BLOCK: usize = 1 << 15;

impl Update {
    /// What it multiplies and adds.
    pub fn numbers(&self) -> Step {
        let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay } = self.adamw;
        let step = self.step.min(i32::MAX as u64) as i32;
        Step {
            rate: (learning_rate / (1.0 - beta1.powi(step))) as f32,
            correction: (1.0 / (1.0 - beta2.powi(step))) as f32,
            keep: (1.0 - learning_rate * weight_decay) as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            epsilon: epsilon as f32,
            gradient_scale: self.gradient_scale,
            ema_decay: self.ema_decay,
        }
    }

    /// The same of a step along a direction, which [`Muon`](crate::muon::Muon) gives.
    pub fn numbers_of_direction(&self) -> Step {
        Step { rate: self.adamw.learning_rate as f32, ..self.numbers() }
    }

    /// Moves `values` against `gradient` and updates the moments and the average.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn apply(&self, values: &mut [f32], gradient: &[f32], moments: &mut Moments) {
        let Moments { mean, square, ema } = moments;
        assert!(values.len() == gradient.len() && values.len() == mean.len() && values.len() == square.len());
        let Step { rate, correction, keep, beta1, beta2, epsilon, gradient_scale: scale, ema_decay: decay } =
            self.numbers();
        let update = |values: &mut [f32], gradient: &[f32], mean: &mut [f32], square: &mut [f32]| {
            for (((value, gradient), mean), square) in values.iter_mut().zip(gradient).zip(mean).zip(square) {
                let gradient = gradient * scale;
                *mean = beta1 * *mean + (1.0 - beta1) * gradient;
                *square = beta2 * *square + (1.0 - beta2) * gradient * gradient;
                *value = *value * keep - rate * *mean / ((*square * correction).sqrt() + epsilon);
            }
        };
        let blocks = values
            .par_chunks_mut(BLOCK)
            .zip(gradient.par_chunks(BLOCK))
            .zip(mean.par_chunks_mut(BLOCK))
            .zip(square.par_chunks_mut(BLOCK));
        match ema {
            None => blocks.for_each(|(((values, gradient), mean), square)| update(values, gradient, mean, square)),
            Some(ema) => {
                blocks.zip(ema.par_chunks_mut(BLOCK)).for_each(|((((values, gradient), mean), square), ema)| {
                    update(values, gradient, mean, square);
                    average(values, ema, decay);
                })
            }
        }
    }

    /// Moves `values` against `direction` and updates the average.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn apply_direction(&self, values: &mut [f32], direction: &[f32], moments: &mut Moments) {
        assert_eq!(values.len(), direction.len());
        let Step { rate, keep, .. } = self.numbers_of_direction();
        for (value, direction) in values.iter_mut().zip(direction) {
            *value = *value * keep - rate * direction;
        }
        if let Some(ema) = &mut moments.ema {
            average(values, ema, self.ema_decay);
        }
    }
}

fn average(values: &[f32], ema: &mut [f32], decay: f32) {
    for (ema, value) in ema.iter_mut().zip(values) {
        *ema = decay * *ema + (1.0 - decay) * value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torch.optim.AdamW(lr=.1, betas=(.9, .99), eps=1e-8, weight_decay=.01) on one weight of 1 with gradients .5, -2, 1.
    #[test]
    fn follows_the_definition() {
        let (mut w, mut m, mut v) = (1f64, 0f64, 0f64);
        let mut values = vec![1f32];
        let mut moments = Moments::new(&values, true);
        let adamw = AdamW { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.01 };
        let mut ema = 1f64;
        for (i, g) in [0.5f64, -2.0, 1.0].into_iter().enumerate() {
            let step = i as u64 + 1;
            w *= 1.0 - 0.1 * 0.01;
            m = 0.9 * m + 0.1 * g;
            v = 0.99 * v + 0.01 * g * g;
            let (mc, vc) = (m / (1.0 - 0.9f64.powi(step as i32)), v / (1.0 - 0.99f64.powi(step as i32)));
            w -= 0.1 * mc / (vc.sqrt() + 1e-8);
            ema = 0.75 * ema + 0.25 * w;
            let update = Update { adamw, step, gradient_scale: 0.5, ema_decay: 0.75 };
            update.apply(&mut values, &[2.0 * g as f32], &mut moments);
        }
        assert!((f64::from(values[0]) - w).abs() < 1e-6);
        assert!((f64::from(moments.ema.unwrap()[0]) - ema).abs() < 1e-6);
    }
}
