//! The verbs of requests: one file an area, each with a `find` from name to function.

use serde_json::Value;

use crate::context::{Context, Refusal};

mod data;
mod film;
mod info;
mod inspect;
mod layers;
mod media;
mod networks;
mod pictures;
mod stores;
mod tensor_files;
mod tensors;
mod tokenizer;
mod training;

/// The work behind a verb: reads the request, replies with JSON or refuses.
pub type Verb = fn(&Context, &Value) -> Result<Value, Refusal>;

/// The function of the verb that a request names.
pub fn of(request: &Value) -> Result<Verb, Refusal> {
    let name =
        request.as_object().and_then(|map| map.get("verb")).and_then(Value::as_str).ok_or_else(|| {
            Refusal::new("the request must be a JSON object with a verb, such as {\"verb\": \"info\"}")
        })?;
    info::find(name)
        .or_else(|| tensors::find(name))
        .or_else(|| pictures::find(name))
        .or_else(|| tensor_files::find(name))
        .or_else(|| stores::find(name))
        .or_else(|| networks::find(name))
        .or_else(|| layers::find(name))
        .or_else(|| training::find(name))
        .or_else(|| tokenizer::find(name))
        .or_else(|| media::find(name))
        .or_else(|| film::find(name))
        .or_else(|| data::find(name))
        .or_else(|| inspect::find(name))
        .ok_or_else(|| {
            let name: String = name.chars().take(64).collect();
            Refusal::new(format!("unknown verb {name:?}"))
        })
}
