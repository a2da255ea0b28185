//! Noise, a sampler's update, and the interpolation's input.

use crate::launch::{Address, Argument, Launch, arguments};

/// Blocks in y; the kernels go on from there.
const MOST_BLOCKS: usize = 65_535;

/// `out` (rows, length) f32 of N(0, 1): a row's numbers depend on its seed (u64), its frame (u32) and the stream.
///
/// # Panics
/// When there are more than 65,535 rows.
pub fn normal_noise(out: Address, seeds: Address, frames: Address, stream: u32, rows: usize, length: usize) -> Launch {
    assert!(rows <= MOST_BLOCKS, "more rows than a grid has");
    let length_argument = Argument::Long(i64::try_from(length).expect("a length fits in 63 bits"));
    let mut arguments = arguments![out, seeds, frames];
    arguments.extend([Argument::Unsigned(stream), length_argument]);
    Launch::new("normal_noise".into(), [length.div_ceil(1024), rows, 1], 256, 0, arguments)
}

/// A linear combination of up to 16 tensors (samples, frames, inner) f32.
#[derive(Clone, Debug)]
pub struct Combine {
    /// The tensors, and whether each has one frame for all.
    pub terms: Vec<(Address, bool)>,
    /// What is added.
    pub offset: f32,
    /// The range of the result.
    pub clamp: Option<(f32, f32)>,
    /// Samples.
    pub samples: usize,
    /// Frames of a sample.
    pub frames: usize,
    /// Values of a frame.
    pub inner: usize,
}

impl Combine {
    /// `scales` is f32 (terms, samples).
    ///
    /// # Panics
    /// With more than 16 terms.
    pub fn launch(&self, scales: Address, out: Address) -> Launch {
        let mut values = [0; 16];
        let mut still = 0;
        for (i, (address, one_frame)) in self.terms.iter().enumerate() {
            values[i] = address.0;
            still |= u32::from(*one_frame) << i;
        }
        let (low, high) = self.clamp.unwrap_or_default();
        let mut arguments = vec![Argument::Memories(values)];
        arguments.extend(arguments![scales, out, self.terms.len()]);
        arguments.push(Argument::Unsigned(still));
        arguments.extend(arguments![
            self.offset,
            self.clamp.is_some(),
            low,
            high,
            self.samples,
            self.frames,
            self.inner
        ]);
        let rows = (self.samples * self.frames).min(MOST_BLOCKS);
        Launch::new("combine".into(), [self.inner.div_ceil(256), rows, 1], 256, 0, arguments)
    }
}

/// The interpolation's input: noisy frames, known ones (or blends of them), and where frames are masked.
#[derive(Clone, Copy, Debug)]
pub struct MaskedFrames {
    /// Samples.
    pub samples: usize,
    /// Frames of the window.
    pub length: usize,
    /// Frames in `known`.
    pub known_frames: usize,
    /// Height x width.
    pub pixels: usize,
    /// Channels of a frame.
    pub channels: usize,
}

impl MaskedFrames {
    /// `out` (samples, length, pixels, 2 channels + 1) f32; `before` and `after` are int, `share` and `masked` f32, all
    /// (length).
    pub fn launch(
        &self,
        [noisy, known]: [Address; 2],
        [before, after]: [Address; 2],
        [share, masked]: [Address; 2],
        out: Address,
    ) -> Launch {
        let rows = (self.samples * self.length).min(MOST_BLOCKS);
        Launch::new(
            "masked_frames".into(),
            [(self.pixels * (2 * self.channels + 1)).div_ceil(256), rows, 1],
            256,
            0,
            arguments![
                noisy,
                known,
                before,
                after,
                share,
                masked,
                out,
                self.samples,
                self.length,
                self.known_frames,
                self.pixels,
                self.channels
            ],
        )
    }
}
