//! A layer's kernel together with its packed forms.

use crate::minimal;
use crate::operands::{Path, path};
use crate::product::{Panels, Strides};
use crate::{Precision, storage};
use candle_core::{Result, Tensor};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// From so many rows on a product takes so much longer than packing its kernel that the packed form is not kept. Packing
/// takes as long as about 60 rows in f32, or 140 with minimal filtering, whose form is nearly twice the kernel.
const MANY_ROWS: usize = 4096;

/// A kernel of shape (out, in, taps...) and its packed forms, which are made on first use and again after a change.
///
/// A form is kept from its second use on, and for few rows alone: what is used once or for long products is packed into
/// memory that is there already, where keeping it takes as much again as the kernel, or twice as much.
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
    form: Form,
    version: u64,
    /// None before the second use.
    panels: Option<Arc<Panels>>,
}

/// By which tiles a kernel is multiplied, from out to in channels or the other way, for minimal filtering or not.
#[derive(Clone, Copy, PartialEq)]
struct Form {
    path: Path,
    transposed: bool,
    filtering: bool,
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

    /// The kernel packed for a product with `rows`: from in to out channels, or `transposed` from out to in; for minimal
    /// `filtering` or not.
    pub(crate) fn panels(
        &self,
        precision: Precision,
        transposed: bool,
        filtering: bool,
        rows: usize,
    ) -> Result<Arc<Panels>> {
        let path = path(precision);
        let form = Form { path, transposed, filtering };
        let version = self.version.load(Ordering::Acquire);
        let mut packed = self.packed.lock().expect("packing does not panic");
        let found = packed.iter().position(|packed| packed.form == form);
        if let Some(Packed { panels: Some(panels), version: of, .. }) = found.map(|found| &packed[found])
            // Versions count the changes of variables.
            && (*of == version || !self.tensor.is_variable())
        {
            return Ok(panels.clone());
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
        let kept = if self.tensor.is_variable() {
            // Training packs every form anew in every step and uses it once, but for workers, which share it.
            packed.clear();
            rayon::current_num_threads() == 1
        } else {
            found.is_some() && rows < MANY_ROWS
        };
        packed.retain(|packed| packed.form != form);
        packed.push(Packed { form, version, panels: kept.then(|| panels.clone()) });
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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};

    #[test]
    fn forms_of_a_fixed_kernel_are_kept_from_their_second_use_on_for_few_rows() -> Result<()> {
        let weight = Weight::fixed(Tensor::zeros((20, 30), DType::F32, &Device::Cpu)?);
        let form = |transposed, rows| weight.panels(Precision::F32, transposed, false, rows);
        let first = form(false, 1)?;
        assert!(!Arc::ptr_eq(&first, &form(false, MANY_ROWS)?));
        let kept = form(false, 1)?;
        assert!(!Arc::ptr_eq(&first, &kept));
        form(true, 1)?;
        for rows in [1, MANY_ROWS] {
            assert!(Arc::ptr_eq(&kept, &form(false, rows)?));
        }
        Ok(())
    }

    #[test]
    fn a_change_of_a_variable_is_seen() -> Result<()> {
        let (variable, version) = (Var::zeros((20, 30), DType::F32, &Device::Cpu)?, Arc::new(AtomicU64::new(0)));
        let weight = Weight::new(variable.as_tensor().clone(), version.clone());
        let first = |value: f32| -> Result<()> {
            let panels = weight.panels(Precision::F32, false, false, 1)?;
            assert_eq!(unsafe { *panels.at(0).cast::<f32>() }, value);
            Ok(())
        };
        for value in [0.0, 1.0, 2.0] {
            variable.set(&Tensor::full(value, (20, 30), &Device::Cpu)?)?;
            version.fetch_add(1, Ordering::AcqRel);
            first(value)?;
            first(value)?;
        }
        Ok(())
    }
}
