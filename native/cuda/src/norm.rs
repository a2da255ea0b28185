//! Group, layer and RMS norm.

use crate::convolution::{BLOCKS, Fused};
use crate::launch::{Address, Argument, Element, Launch, arguments};

/// Group norm with scale-shift on (pixels, images, channels).
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm {
    /// How it is stored.
    pub element: Element,
    /// Height x width.
    pub pixels: usize,
    /// Images: clips x frames.
    pub images: usize,
    /// Channels; `groups` divides them.
    pub channels: usize,
    /// Groups.
    pub groups: usize,
    /// Rows of the scale-shift; it divides `images`.
    pub clips: usize,
    /// Added to the variance.
    pub eps: f32,
    /// What follows.
    pub activation: Fused,
}

impl GroupNorm {
    /// Groups of a block: at least 32 neighbouring channels where there are as many.
    fn together(&self) -> usize {
        32usize.div_ceil(self.channels / self.groups).min(self.groups)
    }

    /// In how many parts of its pixels an image is taken.
    pub fn parts(&self) -> usize {
        let blocks = self.images * self.groups.div_ceil(self.together());
        let most = (BLOCKS / blocks).clamp(1, 32).min(self.pixels.div_ceil(32));
        // As many as have a pixel.
        self.pixels.div_ceil(self.pixels.div_ceil(most))
    }

    /// Shared memory has `lined` numbers for each channel and line of a block, `channels` for each channel, and two for each
    /// group.
    fn launch(&self, what: &str, lined: usize, channels: usize, mut arguments: Vec<Argument>) -> Launch {
        let together = self.together();
        let wide = together * (self.channels / self.groups);
        // Threads lie side by side over the channels, and in lines over the pixels.
        let lines = 256 / wide.next_power_of_two().min(256);
        arguments.extend(arguments![
            self.pixels,
            self.images,
            self.channels,
            self.groups,
            self.images / self.clips,
            together,
            self.eps,
            self.activation as i32
        ]);
        Launch::new(
            format!("{what}_{}", self.element.stored()),
            [self.images, self.groups.div_ceil(together), self.parts()],
            256,
            (lined * lines * wide + channels * wide + 2 * together) * 4,
            arguments,
        )
    }

    /// `moments` (images, groups, [`parts`](Self::parts), 2) f32, for [`forward`](Self::forward).
    pub fn moments(&self, x: Address, moments: Address) -> Launch {
        self.launch("group_norm_of_parts", 1, 0, arguments![x, moments])
    }

    /// y, and `statistics` (images, groups, 2) f32. `scale_shift` is (clips, 2C) f32.
    pub fn forward(
        &self,
        x: Address,
        scale_shift: Address,
        moments: Address,
        y: Address,
        statistics: Address,
    ) -> Launch {
        self.launch("group_norm", 0, 0, arguments![x, scale_shift, moments, y, statistics])
    }

    /// `slopes` (images, [`parts`](Self::parts), 2C) f32, for [`backward`](Self::backward): summed over the parts of a clip's
    /// images by [`crate::sum_parts`] they are the scale-shift's gradient.
    pub fn slopes(
        &self,
        x: Address,
        scale_shift: Address,
        statistics: Address,
        dy: Address,
        slopes: Address,
    ) -> Launch {
        self.launch("group_norm_slopes_of_parts", 2, 0, arguments![x, scale_shift, statistics, dy, slopes])
    }

    /// dx.
    pub fn backward(
        &self,
        x: Address,
        scale_shift: Address,
        statistics: Address,
        dy: Address,
        slopes: Address,
        dx: Address,
    ) -> Launch {
        self.launch("group_norm_backward", 0, 2, arguments![x, scale_shift, statistics, dy, slopes, dx])
    }
}

/// Layer norm or RMS norm of rows.
#[derive(Clone, Copy, Debug)]
pub struct RowNorm {
    /// How it is stored.
    pub element: Element,
    /// Rows: pixels x images.
    pub rows: usize,
    /// Images, where clips have gains of their own; otherwise 1.
    pub images: usize,
    /// Rows of gains; it divides `images`.
    pub clips: usize,
    /// Channels of a row.
    pub channels: usize,
    /// Layer norm, otherwise RMS norm.
    pub centre: bool,
    /// Added to the variance; for RMS norm the least divisor.
    pub eps: f32,
    /// What follows.
    pub activation: Fused,
}

impl RowNorm {
    fn launch(&self, what: &str, blocks: usize, mut arguments: Vec<Argument>) -> Launch {
        arguments.extend(arguments![
            self.rows / self.clips,
            self.images,
            self.images / self.clips,
            self.channels,
            self.centre,
            self.eps,
            self.activation as i32
        ]);
        Launch::new(format!("{what}_{}", self.element.stored()), [blocks, self.clips, 1], 256, 0, arguments)
    }

    /// y. `gamma` and `beta` (or none) are f32 (channels); those of the next clip follow after 2 x channels numbers.
    pub fn forward(&self, x: Address, gamma: Address, beta: Address, y: Address) -> Launch {
        self.launch("row_norm", (self.rows / self.clips).div_ceil(8), arguments![x, gamma, beta, y])
    }

    /// How many parts the gradients of a clip's gamma and beta are summed in.
    pub fn parts(&self) -> usize {
        (self.rows / self.clips).div_ceil(32)
    }

    /// dx, and for each clip [`parts`](Self::parts) of (2C) f32: gamma's gradient, then beta's.
    pub fn backward(
        &self,
        x: Address,
        gamma: Address,
        beta: Address,
        dy: Address,
        dx: Address,
        parts: Address,
    ) -> Launch {
        let mut launch = self.launch("row_norm_backward", self.parts(), arguments![x, gamma, beta, dy, dx, parts]);
        // Rows of up to 512 channels stay in registers: so many values a lane.
        if let Some(values) = [2, 4, 8, 16].into_iter().find(|values| self.channels <= 32 * values)
            && self.element.stored() == "f32"
        {
            launch.kernel += &format!("_v{values}");
        }
        launch
    }
}
