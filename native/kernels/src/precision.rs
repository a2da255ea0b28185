//! The precision that ops compute in: chosen by the caller, never implied.

use std::cell::Cell;

/// How products are computed. Sums, statistics and stored activations are f32 in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// True f32.
    #[default]
    F32,
    /// Operands of products rounded to bf16, sums in f32. Products of fewer than 48 channels on either side, of pictures
    /// of fewer than 16 pixels, and of one row a sample (embeddings of timesteps) stay in f32, and so does attention
    /// between its projections. A network of nothing else is computed in f32 altogether.
    Bf16,
    /// f32 as three products of bf16: each operand is split in a high and a low part, and of the four products the one of both
    /// low parts is left out. Relative errors are about 1e-5, between those of f32 and of bf16. What [`Bf16`](Self::Bf16)
    /// leaves in f32 stays there. It pays where bf16 has tiles of its own; on a GPU it is true f32.
    Bf16x3,
}

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// The precision of ops called on this thread; [`Precision::F32`] unless within [`with_precision`].
pub fn precision() -> Precision {
    CURRENT.with(Cell::get)
}

/// Runs `work` with every op it calls on this thread computing in `precision`. An op's backward keeps its own.
pub fn with_precision<R>(precision: Precision, work: impl FnOnce() -> R) -> R {
    struct Restore(Precision);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.with(|current| current.set(self.0));
        }
    }
    let _restore = Restore(CURRENT.with(|current| current.replace(precision)));
    work()
}
