//! Reading candle's storage as slices and making tensors of vectors.

use crate::team::{Workers, workers};
use candle_core::{CpuStorage, DType, Device, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;

/// The contiguous f32 values of an op's argument.
pub(crate) fn slice<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(values) = storage else { bail!("{op} computes in f32, got {:?}", storage_dtype(storage)) };
    match layout.contiguous_offsets() {
        Some((start, end)) => match values.get(start..end) {
            Some(values) => Ok(values),
            None => bail!("{op}: the values of its argument have been given back"),
        },
        None => bail!("{op} needs a contiguous argument"),
    }
}

fn storage_dtype(storage: &CpuStorage) -> DType {
    candle_core::backend::BackendStorage::dtype(storage)
}

/// Runs `work` on a tensor's values, which are made contiguous first.
pub(crate) fn with_values<R>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => work(slice("kernel", storage, layout)?),
        _ => bail!("this op has no implementation for {:?}", tensor.device()),
    }
}

/// A CPU tensor of the values.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}

/// A vector whose elements the caller writes before reading any of them.
pub(crate) fn uninitialised(len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    #[allow(clippy::uninit_vec)]
    unsafe {
        values.set_len(len);
    }
    values
}

/// Runs `work` on each chunk of `values` with its index, on all threads of the current pool.
pub(crate) fn each_chunk(values: &mut [f32], len: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    match workers() {
        Workers::Alone => values.chunks_mut(len).enumerate().for_each(|(i, chunk)| work(i, chunk)),
        Workers::Team(team) => team.each(values.chunks_mut(len).enumerate(), |(i, chunk)| work(i, chunk)),
        Workers::Pool => values.par_chunks_mut(len).enumerate().for_each(|(i, chunk)| work(i, chunk)),
    }
}

/// Runs `work` on each of `tasks`, on all threads of the current pool.
pub(crate) fn each_task<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Sync + Send) {
    match workers() {
        Workers::Alone => tasks.into_iter().for_each(work),
        Workers::Team(team) => team.each(tasks.into_iter(), work),
        Workers::Pool => tasks.into_par_iter().with_max_len(1).for_each(work),
    }
}

/// The sums of `len` numbers over parts that `work` fills in from zero, on all threads of the current pool. Parts are
/// added up in their order, so that threads do not change a bit.
pub(crate) fn sum_parts(parts: usize, len: usize, work: impl Fn(usize, &mut [f64]) + Sync + Send) -> Vec<f64> {
    let mut sums = vec![0f64; parts.max(1) * len];
    each_task(sums.chunks_mut(len.max(1)).take(parts).enumerate().collect(), |(i, sums)| work(i, sums));
    let (total, rest) = sums.split_at_mut(len);
    for part in rest.chunks_exact(len.max(1)) {
        for (to, from) in total.iter_mut().zip(part) {
            *to += from;
        }
    }
    sums.truncate(len);
    sums
}

/// An array whose disjoint parts several tasks write.
pub(crate) struct Rows {
    data: *mut f32,
    len: usize,
}

unsafe impl Send for Rows {}
unsafe impl Sync for Rows {}

impl Rows {
    pub fn new(values: &mut [f32]) -> Self {
        Self { data: values.as_mut_ptr(), len: values.len() }
    }

    /// Where number `at` lies.
    #[inline(always)]
    pub fn at(&self, at: usize) -> *mut f32 {
        debug_assert!(at <= self.len);
        self.data.wrapping_add(at)
    }

    /// # Safety
    /// No two slices that live at the same time overlap, and the array outlives them.
    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    pub unsafe fn slice(&self, at: usize, len: usize) -> &mut [f32] {
        debug_assert!(at + len <= self.len);
        unsafe { std::slice::from_raw_parts_mut(self.data.add(at), len) }
    }
}
