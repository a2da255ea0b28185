//! Tensors in safetensors files.

use std::collections::BTreeMap;

use kinora_networks::tensor_file::{self, StoredAs, TensorFile};
use serde_json::{Map, Value, json};

use super::Verb;
use crate::context::{Context, Refusal};
use crate::fields::{Fields, check_shape, fields};
use crate::handles;

/// The verb of a name, if it is one of this file's.
pub fn find(name: &str) -> Option<Verb> {
    Some(match name {
        "tensor.save" => save,
        "tensor.load" => load,
        _ => return None,
    })
}

/// Reports progress tensor by tensor and stops when the job is cancelled.
pub(super) fn watching(context: &Context) -> impl FnMut(usize, usize) -> bool + '_ {
    |done, all| {
        context.progress(done as u32, all as u32);
        context.check_cancelled().is_ok()
    }
}

/// The texts of an optional field `metadata`.
pub(super) fn metadata(f: &Fields) -> Result<BTreeMap<String, String>, Refusal> {
    let mut metadata = BTreeMap::new();
    if f.has("metadata") {
        let given = f.map_of("metadata")?;
        for key in given.keys() {
            metadata.insert(key.to_owned(), given.str(key)?.to_owned());
        }
    }
    Ok(metadata)
}

fn save(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["tensors", "path", "metadata"])?;
    let path = f.path("path")?;
    let named = f.map_of("tensors")?;
    let mut tensors = BTreeMap::new();
    for name in named.keys() {
        if name.is_empty() || name == "__metadata__" {
            return Err(named.refuse(name, "cannot be the name of a tensor"));
        }
        tensors.insert(name.to_owned(), named.tensor(name)?);
    }
    if tensors.is_empty() {
        return Err(f.refuse("tensors", "must hold at least one tensor"));
    }
    let bytes = tensor_file::write(&path, &tensors, StoredAs::F32, &metadata(&f)?, &mut watching(context))?;
    Ok(json!({ "bytes": bytes }))
}

fn load(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["path"])?;
    let path = f.path("path")?;
    let TensorFile { tensors, metadata } = tensor_file::read(&path, &mut watching(context))?;
    for (name, tensor) in &tensors {
        check_shape(tensor.dims())
            .map_err(|why| Refusal::bad_file(format!("{}: tensor {name:?} {why}", path.display())))?;
    }
    let tensors: Map<String, Value> =
        tensors.into_iter().map(|(name, tensor)| (name, handles::insert(tensor).into())).collect();
    Ok(json!({ "tensors": tensors, "metadata": metadata }))
}
