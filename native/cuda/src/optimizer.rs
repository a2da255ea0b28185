//! An optimiser's step.

use crate::launch::{Address, Argument, Launch, arguments};

/// AdamW's step of one parameter of `count` f32 numbers.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Numbers.
    pub count: usize,
    /// The learning rate over what the mean of gradients lacks.
    pub rate: f32,
    /// What the mean of squares is multiplied by.
    pub correction: f32,
    /// What a value is multiplied by before it moves.
    pub keep: f32,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squares.
    pub beta2: f32,
    /// Added to the root of the mean square.
    pub epsilon: f32,
    /// What the gradient is multiplied by.
    pub gradient_scale: f32,
    /// Decay of the moving average.
    pub ema_decay: f32,
}

impl AdamW {
    /// Moves `value` and changes `moments`, mean and mean square, and `ema`, which may be none. Without moments `gradient` is
    /// a direction: `value * keep - rate * gradient`.
    pub fn launch(&self, value: Address, gradient: Address, [mean, square]: [Address; 2], ema: Address) -> Launch {
        let mut all = arguments![value, gradient, mean, square, ema];
        all.push(long(self.count));
        all.extend(arguments![
            self.rate,
            self.correction,
            self.keep,
            self.beta1,
            self.beta2,
            self.epsilon,
            self.gradient_scale,
            self.ema_decay
        ]);
        Launch::new("adamw".into(), [self.count.div_ceil(256), 1, 1], 256, 0, all)
    }
}

/// Numbers whose squares one part of [`sum_squares`] sums.
pub const SQUARES_PER_PART: usize = 4096;

/// The sums of the squares of each 4096 of `count` f32 numbers to `parts`.
pub fn sum_squares(x: Address, parts: Address, count: usize) -> Launch {
    let mut all = arguments![x, parts];
    all.push(long(count));
    Launch::new("sum_squares".into(), [count.div_ceil(SQUARES_PER_PART), 1, 1], 256, 0, all)
}

fn long(count: usize) -> Argument {
    Argument::Long(i64::try_from(count).expect("a count fits in 63 bits"))
}
