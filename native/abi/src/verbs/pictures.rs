//! Pictures in tensors `[..., height, width, channels]`: crop, resize, warp, and frames between two.

use kinora_kernels::motion;
use kinora_kernels::resample::{self, Filter, Frames};
use rayon::prelude::*;
use serde_json::Value;

use super::Verb;
use super::tensors::{Floats, made, zeros};
use crate::context::{Context, Refusal};
use crate::fields::{Fields, check_shape, fields};

/// The verb of a name, if it is one of this file's.
pub fn find(name: &str) -> Option<Verb> {
    Some(match name {
        "tensor.crop" => crop,
        "tensor.resize" => resize,
        "tensor.affine" => affine,
        "tensor.between" => between,
        _ => return None,
    })
}

/// The longest side of a picture.
pub(super) const MAX_SIDE: usize = 1 << 15;

/// The filters of `tensor.resize`.
const FILTERS: [(&str, Filter); 5] = [
    ("nearest", Filter::Nearest),
    ("area", Filter::Area),
    ("bilinear", Filter::Bilinear),
    ("bicubic", Filter::Bicubic),
    ("lanczos3", Filter::Lanczos3),
];

/// The last three axes of a tensor of pictures.
fn picture(f: &Fields, shape: &[usize]) -> Result<[usize; 3], Refusal> {
    match shape {
        [.., height, width, channels] => Ok([*height, *width, *channels]),
        _ => Err(f.refuse(
            "tensor",
            format_args!("must have at least 3 axes, [..., height, width, channels], not {shape:?}"),
        )),
    }
}

fn with_size(shape: &[usize], height: usize, width: usize) -> Vec<usize> {
    let mut shape = shape.to_vec();
    let rank = shape.len();
    shape[rank - 3] = height;
    shape[rank - 2] = width;
    shape
}

/// Offsets of crops: one for each sample, or one for all.
pub(super) fn offsets(
    f: &Fields,
    field: &str,
    samples: usize,
    size: usize,
    window: usize,
) -> Result<Vec<usize>, Refusal> {
    let given = f.whole_numbers(field, 0..=(size - window) as u64)?;
    match given.len() {
        1 => Ok(vec![given[0] as usize; samples]),
        n if n == samples => Ok(given.into_iter().map(|n| n as usize).collect()),
        n => Err(f.refuse(field, format_args!("must hold 1 number or one for each of {samples} samples, not {n}"))),
    }
}

fn crop(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["tensor", "top", "left", "height", "width"])?;
    let tensor = f.tensor("tensor")?;
    let shape = tensor.dims();
    let [height, width, channels] = picture(&f, shape)?;
    let samples = if shape.len() > 3 { shape[0] } else { 1 };
    let new_height = f.usize("height", 1..=height)?;
    let new_width = f.usize("width", 1..=width)?;
    let top = offsets(&f, "top", samples, height, new_height)?;
    let left = offsets(&f, "left", samples, width, new_width)?;
    let new_shape = with_size(shape, new_height, new_width);
    let mut out = zeros(&new_shape)?;
    let floats = Floats::of(&tensor)?;
    let guard = floats.lock();
    let source = guard.values()?;
    let frame = height * width * channels;
    let per_sample = source.len() / frame / samples;
    let row = new_width * channels;
    out.par_chunks_mut(new_height * row).enumerate().for_each(|(i, out)| {
        let sample = i / per_sample;
        for (y, out) in out.chunks_exact_mut(row).enumerate() {
            let start = i * frame + ((top[sample] + y) * width + left[sample]) * channels;
            out.copy_from_slice(&source[start..][..row]);
        }
    });
    made(out, &new_shape)
}

fn resize(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["tensor", "height", "width", "filter"])?;
    let tensor = f.tensor("tensor")?;
    let [height, width, channels] = picture(&f, tensor.dims())?;
    let new_height = f.usize("height", 1..=MAX_SIDE)?;
    let new_width = f.usize("width", 1..=MAX_SIDE)?;
    let filter = f.choice("filter", &FILTERS)?;
    let shape = with_size(tensor.dims(), new_height, new_width);
    // Both passes: the one between has the old height and the new width.
    for shape in [&shape, &with_size(tensor.dims(), height, new_width)] {
        check_shape(shape).map_err(|why| Refusal::new(format!("the result {why}")))?;
    }
    let floats = Floats::of(&tensor)?;
    let guard = floats.lock();
    let frames = Frames { values: guard.values()?, height, width, channels };
    made(resample::resize(frames, new_height, new_width, filter), &shape)
}

fn affine(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["tensor", "matrices", "fill"])?;
    let tensor = f.tensor("tensor")?;
    let shape = tensor.dims();
    let [height, width, channels] = picture(&f, shape)?;
    let fill = f.number_or("fill", -f64::MAX..=f64::MAX, 0.0)? as f32;
    let frames = tensor.elem_count() / (height * width * channels);
    let samples = if shape.len() > 3 { shape[0] } else { 1 };
    let given = f.array("matrices")?;
    let mut matrices = Vec::with_capacity(given.len());
    for (i, matrix) in given.iter().enumerate() {
        let numbers: Option<Vec<f64>> = matrix.as_array().map(|m| m.iter().filter_map(Value::as_f64).collect());
        let matrix = numbers.and_then(|m| <[f64; 6]>::try_from(m).ok());
        matrices.push(matrix.ok_or_else(|| {
            f.refuse("matrices", format_args!("must hold lists of 6 numbers, not so at position {i}"))
        })?);
    }
    let each = match matrices.len() {
        1 => frames,
        n if n == samples => frames / samples,
        n if n == frames => 1,
        n => {
            let rest = format!(
                "must hold 1 matrix, one for each of {samples} samples, or one for each of {frames} frames, not {n}"
            );
            return Err(f.refuse("matrices", rest));
        }
    };
    let matrices: Vec<[f64; 6]> = (0..frames).map(|i| matrices[i / each]).collect();
    let floats = Floats::of(&tensor)?;
    let guard = floats.lock();
    let frames = Frames { values: guard.values()?, height, width, channels };
    made(resample::affine(frames, &matrices, fill), shape)
}

/// The farthest that `tensor.between` looks: its work grows with the square.
const MAX_REACH: usize = 16;

fn between(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["from", "to", "shares", "reach"])?;
    let [from, to] = [f.tensor("from")?, f.tensor("to")?];
    let shape = from.dims();
    let [height, width, channels] = picture(&f, shape)?;
    if to.dims() != shape {
        return Err(f.refuse("to", format_args!("must have the shape of from, {shape:?}, not {:?}", to.dims())));
    }
    let frames = from.elem_count() / (height * width * channels);
    let shares = f.numbers("shares", 0.0..=1.0)?;
    if shares.len() != frames {
        let rest = format!("must hold one number for each of {frames} frames, not {}", shares.len());
        return Err(f.refuse("shares", rest));
    }
    let shares: Vec<f32> = shares.into_iter().map(|share| share as f32).collect();
    let reach = f.usize("reach", 1..=MAX_REACH)?;
    // What each displacement costs at each pixel is held for a frame at a time.
    check_shape(&[(2 * reach + 1).pow(2), height, width])
        .map_err(|why| Refusal::new(format!("the costs of all displacements {why}")))?;
    let [from, to] = [Floats::of(&from)?, Floats::of(&to)?];
    let [from, to] = [from.lock(), to.lock()];
    let side = |values| Frames { values, height, width, channels };
    made(motion::between(side(from.values()?), side(to.values()?), &shares, reach), shape)
}
