//! Collections of pictures on disk: safetensors files, memory-mapped, read by row.

use std::collections::BTreeMap;

use kinora_networks::tensor_file::{open, to_f32};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use super::Verb;
use super::pictures::offsets;
use super::tensors::{made, zeros};
use crate::context::{Context, Refusal};
use crate::fields::fields;
use crate::handles::{self, Object};

/// The verb of a name, if it is one of this file's.
pub fn find(name: &str) -> Option<Verb> {
    Some(match name {
        "store.open" => open_store,
        "store.gather" => gather,
        _ => return None,
    })
}

/// Where one array lies in the file.
struct Array {
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// An opened file. It must not be shortened while it is open: the pages behind the new end would be gone.
pub(super) struct Store {
    map: Mmap,
    arrays: BTreeMap<String, Array>,
}

impl Object for Store {
    const KIND: &'static str = "store";
}

fn open_store(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["path"])?;
    let path = f.path("path")?;
    let file = open(&path)?;
    // SAFETY: the mapping is read-only and private to this process. Another process that shortens the file would
    // end this one with SIGBUS, as the documentation of the type says; files of this project are replaced by rename.
    let map = unsafe { Mmap::map(&file) }
        .map_err(|error| Refusal::from(error).at(format_args!("cannot map {}", path.display())))?;
    let named = |error: safetensors::SafeTensorError| Refusal::from(error).at(path.display());
    let (_, header) = SafeTensors::read_metadata(&map).map_err(named)?;
    // Checks that the offsets cover the file without gaps, and shapes against offsets.
    let views = SafeTensors::deserialize(&map).map_err(named)?;
    let base = map.as_ptr() as usize;
    let mut arrays = BTreeMap::new();
    for (name, view) in views.iter() {
        if view.shape().is_empty() || view.shape().contains(&0) {
            let shape = view.shape();
            let why = format!("{}: array {name:?} must have rows, which its shape {shape:?} has not", path.display());
            return Err(Refusal::bad_file(why));
        }
        let start = view.data().as_ptr() as usize - base;
        let array = Array { dtype: view.dtype(), shape: view.shape().to_vec(), start, end: start + view.data().len() };
        arrays.insert(name.to_owned(), array);
    }
    let tensors: BTreeMap<_, _> = arrays
        .iter()
        .map(|(name, array)| (name.clone(), json!({ "dtype": format!("{:?}", array.dtype), "shape": array.shape })))
        .collect();
    let metadata: BTreeMap<_, _> = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    let store = handles::insert(Store { map, arrays });
    Ok(json!({ "store": store, "tensors": tensors, "metadata": metadata }))
}

fn gather(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["store", "name", "rows", "crop"])?;
    let store = f.object::<Store>("store")?;
    let name = f.str("name")?;
    let array = store.arrays.get(name).ok_or_else(|| {
        let names: Vec<_> = store.arrays.keys().map(String::as_str).collect();
        f.refuse("name", format_args!("must be one of {}, not {name:?}", names.join(", ")))
    })?;
    let (count, inner_shape) = (array.shape[0], &array.shape[1..]);
    let rows = f.whole_numbers("rows", 0..=count as u64 - 1)?;
    if rows.is_empty() {
        return Err(f.refuse("rows", "must hold at least one row"));
    }
    let bytes = &store.map[array.start..array.end];
    let row_bytes = bytes.len() / count;
    let item = row_bytes / inner_shape.iter().product::<usize>().max(1);
    if item == 0 {
        return Err(
            f.refuse("name", format_args!("must name an array of whole numbers or floats, not {:?}", array.dtype))
        );
    }
    let mut shape = array.shape.clone();
    shape[0] = rows.len();
    // Without a crop a row is one run of bytes; with one, a run for each line of each frame.
    let mut runs = vec![(0, row_bytes); rows.len()];
    let mut lines = Lines { frames: 1, frame_bytes: row_bytes, height: 1, line_bytes: row_bytes };
    if f.has("crop") {
        let crop = f.nested("crop", &["top", "left", "size"])?;
        let [.., height, width, channels] = *inner_shape else {
            return Err(f.refuse(
                "crop",
                format_args!("needs pictures [rows, ..., height, width, channels], not {:?}", array.shape),
            ));
        };
        let size = crop.usize("size", 1..=height.min(width))?;
        let top = offsets(&crop, "top", rows.len(), height, size)?;
        let left = offsets(&crop, "left", rows.len(), width, size)?;
        let pixel = channels * item;
        lines = Lines {
            frames: row_bytes / (height * width * pixel),
            frame_bytes: height * width * pixel,
            height: size,
            line_bytes: width * pixel,
        };
        runs = top.iter().zip(&left).map(|(top, left)| ((top * width + left) * pixel, size * pixel)).collect();
        let rank = shape.len();
        (shape[rank - 3], shape[rank - 2]) = (size, size);
    }
    let mut out = zeros(&shape)?;
    let per_row = out.len() / rows.len();
    let readable = out.par_chunks_mut(per_row).zip(&rows).zip(&runs).try_for_each(|((out, &row), &(start, run))| {
        let row = &bytes[row as usize * row_bytes..][..row_bytes];
        for (i, out) in out.chunks_exact_mut(run / item).enumerate() {
            let (frame, line) = (i / lines.height, i % lines.height);
            debug_assert!(frame < lines.frames);
            let from = &row[frame * lines.frame_bytes + line * lines.line_bytes + start..][..run];
            if array.dtype == Dtype::U8 {
                for (out, &byte) in out.iter_mut().zip(from) {
                    *out = f32::from(byte) / 127.5 - 1.0;
                }
            } else {
                out.copy_from_slice(&to_f32(array.dtype, from)?);
            }
        }
        Some(())
    });
    readable.ok_or_else(|| {
        f.refuse("name", format_args!("must name an array of whole numbers or floats, not {:?}", array.dtype))
    })?;
    made(out, &shape)
}

/// How a row is cut into lines.
struct Lines {
    frames: usize,
    frame_bytes: usize,
    height: usize,
    line_bytes: usize,
}
