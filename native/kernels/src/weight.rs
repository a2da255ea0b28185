//! A layer's kernel together with its packed forms.

use crate::minimal;
use crate::operands::{Path, path};
use crate::product::{Panels, Strides};
use crate::{Precision, storage};
use candle_core::{Result, Tensor};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A kernel of shape (out, in, taps...) and its packed forms, which are made on first use and again after a change.
#[derive(Clone)]
pub struct Weight {
    tensor: Tensor,
    version: Arc<AtomicU64>,
    packed: Arc<Mutex<Vec<Packed>>>,
    #[cfg(feature = "cuda")]
    packed_on_gpu: Arc<Mutex<Vec<PackedOnGpu>>>,
}

#[cfg(feature = "cuda")]
struct PackedOnGpu {
    precision: Precision,
    packing: kinora_cuda::Packing,
    version: u64,
    values: crate::gpu::Floats,
}

struct Packed {
    path: Path,
    transposed: bool,
    filtering: bool,
    version: u64,
    panels: Arc<Panels>,
}

impl Weight {
    /// Wraps a kernel. Whoever changes the values of `tensor` in place adds one to `version` afterwards.
    pub fn new(tensor: Tensor, version: Arc<AtomicU64>) -> Self {
        Self {
            tensor,
            version,
            packed: Arc::default(),
            #[cfg(feature = "cuda")]
            packed_on_gpu: Arc::default(),
        }
    }

    /// Wraps a kernel whose values never change.
    pub fn fixed(tensor: Tensor) -> Self {
        Self::new(tensor, Arc::default())
    }

    /// The kernel: (out, in), (out, in, k) or (out, in, kh, kw).
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// (out, in, taps).
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        let dims = self.tensor.dims();
        (dims[0], dims[1], dims[2..].iter().product())
    }

    /// The kernel packed for a product: from in to out channels, or `transposed` from out to in; for minimal `filtering`
    /// or not.
    pub(crate) fn panels(&self, precision: Precision, transposed: bool, filtering: bool) -> Result<Arc<Panels>> {
        let path = path(precision);
        let version = self.version.load(Ordering::Acquire);
        let mut packed = self.packed.lock().expect("packing does not panic");
        let found = packed.iter().position(|p| (p.path, p.transposed, p.filtering) == (path, transposed, filtering));
        if let Some(found) = found {
            // Versions count the changes of variables.
            if packed[found].version == version || !self.tensor.is_variable() {
                return Ok(packed[found].panels.clone());
            }
            packed.swap_remove(found);
        }
        let (outputs, inputs, taps) = self.sizes();
        let panels = storage::with_values(&self.tensor, |data| {
            let (isa, format) = (path.isa, path.format);
            // k grows, whichever side it is.
            let (data, outputs, inputs) = match transposed {
                true => (path.kernel(data, data.len()), outputs * path.parts(), inputs),
                false => (path.kernel(data, inputs * taps), outputs, inputs * path.parts()),
            };
            Ok(if filtering {
                minimal::pack(isa, format, &data, outputs, inputs, transposed)
            } else if transposed {
                let at = Strides { tap: 1, k: inputs * taps, n: taps };
                Panels::pack(isa, format, &data, taps, outputs, inputs, at)
            } else {
                let at = Strides { tap: 1, k: taps, n: inputs * taps };
                Panels::pack(isa, format, &data, taps, inputs, outputs, at)
            })
        })?;
        let panels = Arc::new(panels);
        // Training packs every form anew in every step and uses it once, but for workers, which share it.
        if self.tensor.is_variable() {
            if rayon::current_num_threads() > 1 {
                return Ok(panels);
            }
            packed.clear();
        }
        packed.push(Packed { path, transposed, filtering, version, panels: panels.clone() });
        Ok(panels)
    }

    /// The kernel packed by a GPU, on first use and again after a change.
    #[cfg(feature = "cuda")]
    pub(crate) fn packed_on_gpu(
        &self,
        precision: Precision,
        packing: kinora_cuda::Packing,
        pack: impl FnOnce() -> Result<crate::gpu::Floats>,
    ) -> Result<kinora_cuda::Address> {
        let version = self.version.load(Ordering::Acquire);
        let mut packed = self.packed_on_gpu.lock().expect("packing does not panic");
        if let Some(found) = packed.iter().position(|p| p.precision == precision && p.packing == packing) {
            // Versions count the changes of variables.
            if packed[found].version == version || !self.tensor.is_variable() {
                return Ok(packed[found].values.at());
            }
            packed.swap_remove(found);
        }
        let values = pack()?;
        let at = values.at();
        packed.push(PackedOnGpu { precision, packing, version, values });
        Ok(at)
    }
}
