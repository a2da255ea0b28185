//! Single layers of other projects, forward and back.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor, Var};
use kinora_networks::lucidrains::{self, Layer, LayerError};
use kinora_networks::parameters::Parameters;
use serde_json::{Map, Value, json};

use super::Verb;
use super::networks::{PRECISIONS, device, run_refusal};
use crate::context::{Context, Refusal};
use crate::fields::{Fields, fields};
use crate::handles;

/// The verb of a name, if it is one of this file's.
pub fn find(name: &str) -> Option<Verb> {
    Some(match name {
        "layer.run" => run,
        "layer.kinds" => kinds,
        _ => return None,
    })
}

/// The largest size that is passed by position.
const LARGEST_INT: u64 = 1 << 20;

fn kinds(_: &Context, request: &Value) -> Result<Value, Refusal> {
    fields(request, &[])?;
    Ok(json!({ "kinds": lucidrains::kinds().collect::<Vec<_>>() }))
}

fn tensors(f: &Fields, field: &str) -> Result<BTreeMap<String, Tensor>, Refusal> {
    if !f.has(field) {
        return Ok(BTreeMap::new());
    }
    let given = f.map_of(field)?;
    given.keys().map(|name| Ok((name.to_owned(), given.tensor(name)?))).collect()
}

fn texts<'a>(f: &Fields<'a>, field: &str) -> Result<Vec<&'a str>, Refusal> {
    Ok(f.optional(field, |f| f.texts(field))?.unwrap_or_default())
}

fn refusal(context: &Context, error: LayerError) -> Refusal {
    match error {
        LayerError::Unsupported(message) => Refusal::unsupported(message),
        LayerError::Other(error) => run_refusal(context, error),
    }
}

fn run(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let known = [
        "kind",
        "config",
        "call",
        "ints",
        "state",
        "inputs",
        "positional",
        "gradients",
        "cotangent",
        "precision",
        "device",
    ];
    let f = fields(request, &known)?;
    let device = device(&f)?;
    let nothing = Value::Object(Map::new());
    let config = if f.has("config") { f.value("config")? } else { &nothing };
    let options = f.optional("call", |f| f.value("call"))?.unwrap_or(&nothing);
    let Value::Object(options) = options else { return Err(f.refuse("call", "must be an object")) };
    let ints = f.optional("ints", |f| f.whole_numbers("ints", 1..=LARGEST_INT))?.unwrap_or_default();
    let precision = f.choice("precision", &PRECISIONS)?;
    let gradients = texts(&f, "gradients")?;
    let cotangent = f.optional("cotangent", |f| f.tensor("cotangent"))?;
    let cotangent = cotangent.map(|cotangent| cotangent.to_device(&device)).transpose()?;
    let state: HashMap<_, _> = tensors(&f, "state")?.into_iter().collect();
    let mut inputs = tensors(&f, "inputs")?;
    for input in inputs.values_mut() {
        *input = input.to_device(&device)?;
    }

    let of_state = gradients.iter().any(|name| name.starts_with("state/"));
    let layer = Layer::new(f.str("kind")?, config, Parameters::loaded(state, of_state).on(&device));
    let layer = layer.map_err(|error| refusal(context, error))?;
    let mut wanted = Vec::new();
    let parameters = layer.parameters().tensors();
    for &name in &gradients {
        let of = if let Some(input) = name.strip_prefix("in/") {
            inputs.get_mut(input).map(|input| -> Result<Tensor, Refusal> {
                // Asked for twice, it stays the variable that it is.
                if !input.is_variable() {
                    *input = Var::from_tensor(input)?.as_tensor().clone();
                }
                Ok(input.clone())
            })
        } else {
            name.strip_prefix("state/").and_then(|name| parameters.get(name)).cloned().map(Ok)
        };
        let of = of.ok_or_else(|| f.refuse("gradients", format_args!("must name inputs and weights, not {name:?}")))?;
        wanted.push((name, of?));
    }
    let positional = texts(&f, "positional")?
        .into_iter()
        .map(|name| {
            inputs.remove(name).ok_or_else(|| f.refuse("positional", format_args!("must name inputs, not {name:?}")))
        })
        .collect::<Result<_, _>>()?;

    let check = || context.check_cancelled().map_err(candle_core::Error::wrap);
    let ints = ints.into_iter().map(|int| int as usize).collect();
    let call = layer.call(positional, inputs, ints, options, &check).map_err(|error| refusal(context, error))?;
    let y = layer.run(&call, precision).map_err(|error| run_refusal(context, error))?;
    let mut found = vec![("out/y".to_owned(), y.clone())];
    if !wanted.is_empty() {
        let Some(cotangent) = cotangent else {
            return Err(f.refuse("cotangent", "is missing: gradients are of sum(y * cotangent)"));
        };
        if cotangent.shape() != y.shape() {
            let (given, needed) = (cotangent.dims(), y.dims());
            return Err(f.refuse("cotangent", format_args!("must have the output's shape {needed:?}, not {given:?}")));
        }
        check()?;
        let gradients = (&y * &cotangent)?.sum_all()?.backward()?;
        for (name, of) in wanted {
            let gradient = gradients.get(&of).cloned().map_or_else(|| of.zeros_like(), Ok)?;
            found.push((format!("grad/{name}"), gradient));
        }
    }
    context.check_cancelled()?;
    let tensors: Map<String, Value> = found
        .into_iter()
        .map(|(name, tensor)| {
            let tensor = tensor.contiguous()?.detach().to_device(&Device::Cpu)?;
            Ok((name, handles::insert(tensor).into()))
        })
        .collect::<Result<_, Refusal>>()?;
    Ok(json!({ "tensors": tensors }))
}
