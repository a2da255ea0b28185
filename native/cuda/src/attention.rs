//! Attention over frames, pixels or rows.

use crate::launch::{Address, Argument, Element, Launch, arguments};

/// What attends to what.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// How it is stored; it computes in f32.
    pub element: Element,
    /// Number of sequences.
    pub sequences: usize,
    /// Tokens of a sequence.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Channels of a head, at most 128.
    pub size: usize,
    /// Rows from a sequence to the next: `tokens` for frames of a pixel, 1 for pixels of an image.
    pub sequence_stride: usize,
    /// Rows from a token to the next: 1 for frames of a pixel, the images for pixels of an image.
    pub token_stride: usize,
    /// Contexts, each of the same number of sequences; 0 for none.
    pub contexts: usize,
    /// Tokens of a context.
    pub context_length: usize,
    /// Whether a token sees only itself and earlier ones.
    pub causal: bool,
}

/// The memory of attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionTensors {
    /// Rows of q, k, v.
    pub qkv: Address,
    /// (contexts, context_length, 2C), or none.
    pub context: Address,
    /// (heads, tokens, tokens) f32, or none.
    pub bias: Address,
    /// (sequences, tokens) f32, or none.
    pub key_mask: Address,
    /// Rows of C.
    pub y: Address,
    /// (sequences, heads, tokens) f32: written by the forward pass, read by the backward.
    pub lse: Address,
}

/// Keys, or queries, in shared memory at a time, at most.
const TOGETHER: usize = 32;

impl Attention {
    /// The kernel's head size: 32, 64 or 128.
    fn width(&self) -> usize {
        assert!(self.size >= 1 && self.size <= 128, "heads of 1 to 128 channels");
        self.size.next_power_of_two().max(32)
    }

    fn name(&self, what: &str) -> String {
        format!("{what}_{}_d{}", self.element.stored(), self.width())
    }

    /// Tokens of a block: 16 channels are a thread's, 128 threads a block.
    fn together(&self) -> usize {
        128 / (self.width() / 16)
    }

    /// Bytes of a tile's keys and values.
    fn shared(&self) -> usize {
        let context = if self.contexts == 0 { 0 } else { self.context_length };
        2 * (context + self.tokens).min(TOGETHER) * self.width() * 4
    }

    fn shape(&self) -> Vec<Argument> {
        let per_context = self.sequences.checked_div(self.contexts).unwrap_or(1);
        let length = if self.contexts == 0 { 0 } else { self.context_length };
        arguments![
            self.sequences,
            self.tokens,
            self.heads,
            self.size,
            self.sequence_stride,
            self.token_stride,
            length,
            per_context,
            self.causal,
            1.0 / (self.size as f32).sqrt()
        ]
    }

    fn launch(&self, kernel: String, grid: [usize; 3], shared: usize, mut arguments: Vec<Argument>) -> Launch {
        arguments.extend(self.shape());
        Launch::new(kernel, grid, 128, shared, arguments)
    }

    /// y, and lse where there is memory for it.
    pub fn forward(&self, t: AttentionTensors) -> Launch {
        self.launch(
            self.name("attention"),
            [self.sequences, self.heads, self.tokens.div_ceil(self.together())],
            self.shared(),
            arguments![t.qkv, t.context, t.bias, t.key_mask, t.y, t.lse],
        )
    }

    /// The gradient to q, in `dqkv`, and `delta` (sequences, heads, tokens) f32 for the launches after it.
    pub fn to_queries(&self, t: AttentionTensors, dy: Address, delta: Address, dqkv: Address) -> Launch {
        self.launch(
            self.name("attention_dq"),
            [self.sequences, self.heads, self.tokens.div_ceil(self.together())],
            self.shared(),
            arguments![t.qkv, t.context, t.bias, t.key_mask, t.y, dy, t.lse, delta, dqkv],
        )
    }

    /// The gradients to k and v: of the sequences' own, in `dqkv`, or `of_context`, in `dcontext`.
    pub fn to_keys(
        &self,
        t: AttentionTensors,
        dy: Address,
        delta: Address,
        dqkv: Address,
        dcontext: Address,
        of_context: bool,
    ) -> Launch {
        let (runs, keys) =
            if of_context { (self.contexts, self.context_length) } else { (self.sequences, self.tokens) };
        self.launch(
            self.name("attention_dkv"),
            [runs, self.heads, keys.div_ceil(self.together())],
            (2 * self.width() + 2) * self.tokens.min(TOGETHER) * 4,
            arguments![t.qkv, t.context, t.bias, t.key_mask, dy, t.lse, delta, dqkv, dcontext, of_context],
        )
    }

    /// Sequences that one part of the bias's gradient sums: sixteen parts or fewer.
    fn sequences_per_part(&self) -> usize {
        self.sequences.div_ceil(16).max(8)
    }

    /// How many parts the bias's gradient is summed in.
    pub fn parts(&self) -> usize {
        self.sequences.div_ceil(self.sequences_per_part())
    }

    /// The bias's gradient in [`parts`](Self::parts) of (heads, tokens, tokens) f32, for [`crate::sum_parts`].
    pub fn to_bias(&self, t: AttentionTensors, dy: Address, delta: Address, parts: Address) -> Launch {
        let tiles = self.tokens.div_ceil(16);
        let mut launch = self.launch(
            format!("attention_dbias_{}", self.element.stored()),
            [tiles * tiles, self.heads, self.parts()],
            0,
            arguments![t.qkv, t.context, t.bias, t.key_mask, dy, t.lse, delta, parts, self.sequences_per_part()],
        );
        launch.block = 256;
        launch
    }
}
