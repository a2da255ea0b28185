//! Tensors: noise, arithmetic, shape.
//!
//! All are f32. Arithmetic is plain IEEE: NaN and infinities go in and come out, `tensor.stats` says whether there are
//! any.

use std::ops::Deref;

use candle_core::{DType, Device, Storage, Tensor};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::Verb;
use crate::context::{Context, Refusal};
use crate::fields::{Fields, MAX_SAFE_INTEGER, check_shape, fields};
use crate::{handles, memory};

/// The verb of a name, if it is one of this file's.
pub fn find(name: &str) -> Option<Verb> {
    Some(match name {
        "tensor.info" => info,
        "tensor.noise" => noise,
        "tensor.combine" => combine,
        "tensor.cat" => cat,
        "tensor.gather" => gather,
        "tensor.reshape" => reshape,
        "tensor.normalize" => normalize,
        "tensor.matmul" => matmul,
        "tensor.stats" => stats,
        _ => return None,
    })
}

/// Numbers a task of a parallel loop.
pub(super) const BLOCK: usize = 1 << 14;

/// The numbers of a tensor, row-major, for as long as this lives.
pub(super) struct Floats(Tensor);

impl Floats {
    pub(super) fn of(tensor: &Tensor) -> Result<Self, Refusal> {
        Ok(Self(tensor.to_dtype(DType::F32)?.contiguous()?))
    }

    pub(super) fn lock(&self) -> FloatsGuard<impl Deref<Target = Storage> + '_> {
        let (storage, layout) = self.0.storage_and_layout();
        FloatsGuard { storage, start: layout.start_offset(), len: self.0.elem_count() }
    }
}

/// Read access to the storage behind [`Floats`].
pub(super) struct FloatsGuard<G> {
    storage: G,
    start: usize,
    len: usize,
}

impl<G: Deref<Target = Storage>> FloatsGuard<G> {
    pub(super) fn values(&self) -> Result<&[f32], Refusal> {
        match &*self.storage {
            Storage::Cpu(storage) => Ok(&storage.as_slice::<f32>()?[self.start..][..self.len]),
            _ => Err(Refusal::failed("the tensor is not in main memory")),
        }
    }
}

/// Room for the numbers of a shape, all zero.
pub(super) fn zeros(shape: &[usize]) -> Result<Vec<f32>, Refusal> {
    let count = check_shape(shape).map_err(|why| Refusal::new(format!("the result {why}")))?;
    let mut values = memory(count)?;
    values.resize(count, 0.0);
    Ok(values)
}

/// The reply with one new tensor.
pub(super) fn made(values: Vec<f32>, shape: &[usize]) -> Result<Value, Refusal> {
    Ok(json!({ "tensor": handles::insert(Tensor::from_vec(values, shape, &Device::Cpu)?) }))
}

/// A field that counts from the first axis, below `rank`.
fn axis(f: &Fields, rank: usize) -> Result<usize, Refusal> {
    f.usize("axis", 0..=rank - 1)
}

fn info(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["tensor"])?;
    Ok(json!({ "shape": f.tensor("tensor")?.dims() }))
}

fn noise(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["shape", "seeds", "stream", "frames", "shared"])?;
    let shape = f.shape("shape")?;
    let (batch, frames) = match shape[..] {
        [_] => return Err(f.refuse("shape", "must have at least 2 axes: [B, E] or [B, F, ...]")),
        [batch, _] => (batch, 1),
        [batch, frames, ..] => (batch, frames),
        [] => unreachable!("shapes have axes"),
    };
    let seeds = f.whole_numbers("seeds", 0..=MAX_SAFE_INTEGER)?;
    if seeds.len() != batch {
        return Err(
            f.refuse("seeds", format_args!("must hold one seed for each of {batch} samples, not {}", seeds.len()))
        );
    }
    let stream = f.u32_or("stream", 0..=u32::MAX, 0)?;
    let shared = f.flag("shared")?;
    let ids: Vec<u32> = match f.optional("frames", |f| f.whole_numbers("frames", 0..=u32::MAX.into()))? {
        Some(_) if shared => return Err(f.refuse("frames", "cannot be given together with shared")),
        Some(ids) if ids.len() != frames => {
            return Err(f.refuse(
                "frames",
                format_args!("must hold one number for each of {frames} frames, not {}", ids.len()),
            ));
        }
        Some(ids) => ids.into_iter().map(|id| id as u32).collect(),
        None if shared => vec![0; frames],
        None => (0..frames as u32).collect(),
    };
    let mut values = zeros(&shape)?;
    let frame = values.len() / (batch * frames);
    values.par_chunks_mut(frame).enumerate().for_each(|(i, out)| {
        kinora_kernels::philox::fill_normal(out, seeds[i / frames], stream, ids[i % frames]);
    });
    made(values, &shape)
}

/// One addend of `tensor.combine`.
struct Term {
    values: Floats,
    scales: Vec<f32>,
    // The frame axis is 1 where the result's is not.
    still: bool,
}

fn combine(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["terms", "offset", "clamp"])?;
    let terms = f.each("terms", &["tensor", "scale"])?;
    if terms.is_empty() || terms.len() > 16 {
        return Err(f.refuse("terms", format_args!("must hold 1 to 16 terms, not {}", terms.len())));
    }
    let offset = f.number_or("offset", -f64::MAX..=f64::MAX, 0.0)? as f32;
    let clamp = f.optional("clamp", |f| f.numbers("clamp", -f64::MAX..=f64::MAX))?;
    let clamp = match clamp.as_deref() {
        None => None,
        Some([low, high]) if low <= high => Some((*low as f32, *high as f32)),
        Some(_) => return Err(f.refuse("clamp", "must be [low, high] with low <= high")),
    };
    let tensors = terms.iter().map(|term| term.tensor("tensor")).collect::<Result<Vec<_>, _>>()?;
    let frames = tensors.iter().map(|tensor| tensor.dims().get(1).copied().unwrap_or(1)).max().unwrap_or(1);
    let mut shape = tensors[0].dims().to_vec();
    let moving = shape.len() >= 3;
    if moving {
        shape[1] = frames;
    }
    let batch = shape[0];
    let mut parts = Vec::with_capacity(terms.len());
    for (term, tensor) in terms.iter().zip(&tensors) {
        let dims = tensor.dims();
        let fits = dims.len() == shape.len()
            && dims.iter().zip(&shape).enumerate().all(|(i, (a, b))| a == b || (moving && i == 1 && *a == 1));
        if !fits {
            return Err(term.refuse(
                "tensor",
                format_args!("has shape {dims:?}: shapes must be equal to {shape:?}, save for a frame axis of 1"),
            ));
        }
        let scales = match term.value("scale")? {
            Value::Array(_) => {
                let scales = term.numbers("scale", -f64::MAX..=f64::MAX)?;
                if scales.len() != batch {
                    let rest = format!("must hold one number for each of {batch} samples, not {}", scales.len());
                    return Err(term.refuse("scale", rest));
                }
                scales.into_iter().map(|scale| scale as f32).collect()
            }
            _ => vec![term.number("scale", -f64::MAX..=f64::MAX)? as f32; batch],
        };
        parts.push(Term { values: Floats::of(tensor)?, scales, still: moving && dims[1] != frames });
    }
    let mut out = zeros(&shape)?;
    let guards: Vec<_> = parts.iter().map(|part| part.values.lock()).collect();
    let sources = guards.iter().map(FloatsGuard::values).collect::<Result<Vec<_>, _>>()?;
    let frames = if moving { frames } else { 1 };
    let inner = out.len() / (batch * frames);
    out.par_chunks_mut(inner).enumerate().for_each(|(row, out)| {
        out.par_chunks_mut(BLOCK).enumerate().for_each(|(block, out)| {
            out.fill(offset);
            for (part, values) in parts.iter().zip(&sources) {
                let sample = row / frames;
                let start = (if part.still { sample } else { row }) * inner + block * BLOCK;
                let scale = part.scales[sample];
                for (out, value) in out.iter_mut().zip(&values[start..]) {
                    *out += scale * value;
                }
            }
            if let Some((low, high)) = clamp {
                for out in out.iter_mut() {
                    // Unlike min and max, clamp keeps NaN.
                    *out = out.clamp(low, high);
                }
            }
        });
    });
    made(out, &shape)
}

fn cat(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["tensors", "axis"])?;
    let tensors = f.tensors("tensors")?;
    let Some(first) = tensors.first() else {
        return Err(f.refuse("tensors", "must hold at least one tensor"));
    };
    let axis = axis(&f, first.rank())?;
    let mut shape = first.dims().to_vec();
    shape[axis] = 0;
    for (i, tensor) in tensors.iter().enumerate() {
        let dims = tensor.dims();
        let fits = dims.len() == shape.len() && (0..dims.len()).all(|k| k == axis || dims[k] == shape[k]);
        if !fits {
            return Err(f.refuse(
                "tensors",
                format_args!(
                    "must agree in every axis but {axis}: number {i} is {dims:?}, the first {:?}",
                    first.dims()
                ),
            ));
        }
        shape[axis] += dims[axis];
    }
    let mut out = zeros(&shape)?;
    let floats = tensors.iter().map(Floats::of).collect::<Result<Vec<_>, _>>()?;
    let guards: Vec<_> = floats.iter().map(Floats::lock).collect();
    let sources = guards.iter().map(FloatsGuard::values).collect::<Result<Vec<_>, _>>()?;
    let inner: usize = shape[axis + 1..].iter().product();
    let widths: Vec<usize> = tensors.iter().map(|tensor| tensor.dims()[axis] * inner).collect();
    out.par_chunks_mut(shape[axis] * inner).enumerate().for_each(|(row, mut out)| {
        for (source, &width) in sources.iter().zip(&widths) {
            let (here, rest) = std::mem::take(&mut out).split_at_mut(width);
            here.copy_from_slice(&source[row * width..][..width]);
            out = rest;
        }
    });
    made(out, &shape)
}

fn gather(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["tensor", "axis", "indices"])?;
    let tensor = f.tensor("tensor")?;
    let axis = axis(&f, tensor.rank())?;
    let mut shape = tensor.dims().to_vec();
    let size = shape[axis];
    let indices = f.whole_numbers("indices", 0..=size as u64 - 1)?;
    if indices.is_empty() {
        return Err(f.refuse("indices", "must hold at least one index"));
    }
    shape[axis] = indices.len();
    let mut out = zeros(&shape)?;
    let floats = Floats::of(&tensor)?;
    let guard = floats.lock();
    let source = guard.values()?;
    let inner: usize = shape[axis + 1..].iter().product();
    out.par_chunks_mut(inner).with_min_len(BLOCK.div_ceil(inner)).enumerate().for_each(|(i, out)| {
        let (outer, index) = (i / indices.len(), indices[i % indices.len()] as usize);
        out.copy_from_slice(&source[(outer * size + index) * inner..][..inner]);
    });
    made(out, &shape)
}

fn reshape(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["tensor", "shape"])?;
    let tensor = f.tensor("tensor")?;
    let shape = f.shape("shape")?;
    if shape.iter().product::<usize>() != tensor.elem_count() {
        let rest =
            format!("must hold {} numbers as {:?} does, which {shape:?} does not", tensor.elem_count(), tensor.dims());
        return Err(f.refuse("shape", rest));
    }
    Ok(json!({ "tensor": handles::insert(tensor.reshape(shape)?) }))
}

/// Rows of length 0 have no direction and stay 0.
fn normalize(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["tensor", "length"])?;
    let tensor = f.tensor("tensor")?;
    let length = f.number_or("length", f64::MIN_POSITIVE..=1e30, 1.0)?;
    let shape = tensor.dims().to_vec();
    let row = shape[shape.len() - 1];
    let floats = Floats::of(&tensor)?;
    let mut out = zeros(&shape)?;
    let guard = floats.lock();
    let source = guard.values()?;
    out.par_chunks_mut(row).zip(source.par_chunks(row)).with_min_len(BLOCK.div_ceil(row)).for_each(|(out, row)| {
        let norm = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        let scale = (length / norm.max(1e-12)) as f32;
        for (out, value) in out.iter_mut().zip(row) {
            *out = scale * value;
        }
    });
    made(out, &shape)
}

fn matmul(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["a", "b"])?;
    let (a, b) = (f.tensor("a")?, f.tensor("b")?);
    let (&[m, k], &[n, other]) = (a.dims(), b.dims()) else {
        return Err(f.refuse(
            "a",
            format_args!("and b must have 2 axes, [M, K] and [N, K], not {:?} and {:?}", a.dims(), b.dims()),
        ));
    };
    if k != other {
        return Err(f.refuse("b", format_args!("must have rows of {k} numbers as a has, not {other}")));
    }
    check_shape(&[m, n]).map_err(|why| Refusal::new(format!("the result {why}")))?;
    let product = a.to_dtype(DType::F32)?.matmul(&b.to_dtype(DType::F32)?.t()?)?;
    Ok(json!({ "tensor": handles::insert(product.contiguous()?) }))
}

/// Sums over finite numbers, in f64.
#[derive(Clone, Copy)]
struct Sums {
    count: u64,
    sum: f64,
    squares: f64,
    min: f32,
    max: f32,
}

fn stats(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["tensor"])?;
    let floats = Floats::of(&f.tensor("tensor")?)?;
    let guard = floats.lock();
    let values = guard.values()?;
    let none = Sums { count: 0, sum: 0.0, squares: 0.0, min: f32::INFINITY, max: f32::NEG_INFINITY };
    // Blocks of fixed size, added up in order: the same sums with any number of threads.
    let blocks: Vec<Sums> = values
        .par_chunks(BLOCK)
        .map(|block| {
            block.iter().filter(|value| value.is_finite()).fold(none, |s, &value| {
                let wide = f64::from(value);
                Sums {
                    count: s.count + 1,
                    sum: s.sum + wide,
                    squares: s.squares + wide * wide,
                    min: s.min.min(value),
                    max: s.max.max(value),
                }
            })
        })
        .collect();
    let all = blocks.iter().fold(none, |a, b| Sums {
        count: a.count + b.count,
        sum: a.sum + b.sum,
        squares: a.squares + b.squares,
        min: a.min.min(b.min),
        max: a.max.max(b.max),
    });
    let n = all.count as f64;
    // With no finite number the four are null: 0 / 0 and the infinities have no JSON form.
    Ok(json!({
        "min": all.min,
        "max": all.max,
        "mean": all.sum / n,
        "rms": (all.squares / n).sqrt(),
        "finite": all.count == values.len() as u64,
    }))
}
