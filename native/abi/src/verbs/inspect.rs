//! What a file is, found out without trust in what it says of itself.

use kinora_media::inspect::Inspected;
use kinora_networks::network::NetworkConfig;
use kinora_networks::weights_file::{Declared, WeightsFile, declared};
use serde_json::{Map, Value, json};

use super::Verb;
use super::networks::config_json;
use crate::context::{Context, Refusal};
use crate::fields::{Fields, fields};

/// The verb of a name, if it is one of this file's.
pub fn find(name: &str) -> Option<Verb> {
    Some(match name {
        "inspect.weights" => weights,
        "inspect.media" => media,
        "inspect.config" => config,
        _ => return None,
    })
}

/// Tensors that a reply lists at most.
const LISTED: usize = 1000;

/// The tensors of the network in an optional field `network`.
fn network(f: &Fields) -> Result<Option<Declared>, Refusal> {
    f.optional("network", |f| {
        let network = f.nested("network", &["class", "config"])?;
        let empty = Value::Object(Map::new());
        let config = if network.has("config") { network.value("config")? } else { &empty };
        declared(network.str("class")?, config).map_err(|why| f.refuse("network", format_args!("is not valid: {why}")))
    })
}

fn weights(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["path", "network"])?;
    let path = f.path("path")?;
    let network = network(&f)?;
    let mut file = WeightsFile::open(&path)?;
    if let Some(network) = &network {
        file.fits(network, &mut || context.check_cancelled().is_ok())?;
    }
    let numbers = file.entries.iter().fold(0u64, |sum, entry| sum.saturating_add(entry.numbers()));
    let listed: Vec<Value> = file
        .entries
        .iter()
        .take(LISTED)
        .map(|entry| json!({ "name": entry.name, "dtype": entry.dtype.to_string(), "shape": entry.shape }))
        .collect();
    Ok(json!({
        "format": "safetensors",
        "bytes": file.bytes,
        "count": file.entries.len(),
        "numbers": numbers,
        "tensors": listed,
        "metadata": file.metadata,
    }))
}

fn media(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["path"])?;
    let path = f.path("path")?;
    let check = || context.check_cancelled().map_err(|_| kinora_media::Error::Cancelled);
    let Inspected { format, bytes, width, height, frames, duration_ms, codec, decoded } =
        kinora_media::inspect::inspect(&path, &check)?;
    Ok(json!({
        "format": format,
        "bytes": bytes,
        "width": width,
        "height": height,
        "frames": frames,
        "duration_ms": duration_ms,
        "codec": codec,
        "decoded": decoded,
    }))
}

fn config(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let path = fields(request, &["path"])?.path("path")?;
    let json = config_json(&path)?;
    let bad = |why: String| Refusal::bad_file(format!("{}: {why}", path.display()));
    let class = json.as_object().and_then(|fields| fields.get("_class_name")).and_then(Value::as_str);
    let Some(class) = class else {
        return Err(bad("it is not a network's configuration: it has no _class_name".into()));
    };
    // A layer of another project has no config.json.
    NetworkConfig::parse(&json).map_err(&bad)?;
    let network = declared(class, &json).map_err(bad)?;
    let numbers: usize = network.values().map(|shape| shape.iter().product::<usize>()).sum();
    Ok(json!({ "format": "config", "class": class, "count": network.len(), "numbers": numbers }))
}
