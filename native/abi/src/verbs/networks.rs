//! Networks: make, load, grow, run, save.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use kinora_kernels::Precision;
use kinora_networks::network::{Input, Inputs, Network, NetworkConfig};
use kinora_networks::parameters::Parameters;
use kinora_networks::tensor_file::{self, StoredAs, write_atomically};
use serde_json::{Map, Value, json};

use super::Verb;
use super::tensor_files::{metadata, watching};
use crate::context::{Context, Refusal};
use crate::fields::{Fields, MAX_SAFE_INTEGER, fields};
use crate::handles::{self, Object};

/// The verb of a name, if it is one of this file's.
pub fn find(name: &str) -> Option<Verb> {
    Some(match name {
        "network.create" => create,
        "network.load" => load,
        "network.grow" => grow,
        "network.info" => info,
        "network.forward" => forward,
        "network.save" => save,
        _ => return None,
    })
}

impl Object for Network {
    const KIND: &'static str = "network";
}

const CONFIG_FILE: &str = "config.json";
const WEIGHTS_FILE: &str = "diffusion_pytorch_model.safetensors";
const LONGEST_CONFIG: u64 = 1 << 20;

/// The precisions by name.
pub(super) const PRECISIONS: [(&str, Precision); 3] =
    [("f32", Precision::F32), ("bf16", Precision::Bf16), ("bf16x3", Precision::Bf16x3)];

fn config_of(f: &Fields) -> Result<NetworkConfig, Refusal> {
    NetworkConfig::parse(f.value("config")?).map_err(|why| f.refuse("config", format_args!("is not valid: {why}")))
}

fn config_file(folder: &Path) -> Result<NetworkConfig, Refusal> {
    let path = folder.join(CONFIG_FILE);
    NetworkConfig::parse(&config_json(&path)?).map_err(|why| Refusal::bad_file(format!("{}: {why}", path.display())))
}

/// The JSON of a configuration, which is never long.
pub(super) fn config_json(path: &Path) -> Result<Value, Refusal> {
    let length = tensor_file::open(path)?.metadata()?.len();
    if length > LONGEST_CONFIG {
        return Err(Refusal::bad_file(format!("{} is too long for a configuration: {length} bytes", path.display())));
    }
    let text =
        fs::read(path).map_err(|error| Refusal::from(error).at(format_args!("cannot read {}", path.display())))?;
    serde_json::from_slice(&text)
        .map_err(|error| Refusal::bad_file(format!("{} is not valid JSON ({error})", path.display())))
}

fn weights_file(context: &Context, folder: &Path) -> Result<HashMap<String, Tensor>, Refusal> {
    let path = folder.join(WEIGHTS_FILE);
    let file = tensor_file::read_finite(&path, &mut watching(context))?;
    Ok(file.tensors.into_iter().collect())
}

/// The network of weights that must all find a place; what is wrong is the fault of the file in `folder`.
fn made_of(config: NetworkConfig, parameters: Arc<Parameters>, folder: &Path) -> Result<Network, Refusal> {
    let path = folder.join(WEIGHTS_FILE);
    let bad = |why: String| Refusal::bad_file(format!("{}: {why}", path.display()));
    let network = Network::new(config, parameters).map_err(|error| bad(Refusal::from(error).message))?;
    match network.parameters().unused().as_slice() {
        [] => Ok(network),
        [name, ..] => Err(bad(format!("the tensor {name:?} has no place in the network of {CONFIG_FILE}"))),
    }
}

/// Where a network or layer is to be: in main memory unless the request says otherwise. Refused before anything is read.
pub(super) fn device(f: &Fields) -> Result<Device, Refusal> {
    if !f.has("device") || !f.choice("device", &[("cpu", false), ("cuda", true)])? {
        return Ok(Device::Cpu);
    }
    let gpu = kinora_kernels::gpu();
    let why = |error| Refusal::unsupported(format!("device cannot be \"cuda\": {}", Refusal::from(error)));
    gpu.map(|gpu| gpu.device).map_err(why)
}

/// Which of the parameters of a trainable network are trained: all unless the request names some.
fn with_trained(f: &Fields, parameters: Arc<Parameters>) -> Result<Arc<Parameters>, Refusal> {
    Ok(match f.optional("trained", |f| f.texts("trained"))? {
        Some(texts) => parameters.training_only(texts.into_iter().map(str::to_owned).collect()),
        None => parameters,
    })
}

fn create(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["config", "seed", "trainable", "trained", "device"])?;
    let config = config_of(&f)?;
    let seed = f.u64("seed", 0..=MAX_SAFE_INTEGER)?;
    let trainable = f.flag("trainable")?;
    let device = device(&f)?;
    let network = Network::new(config, with_trained(&f, Parameters::seeded(seed, trainable).on(&device))?)?;
    Ok(described(network, Map::new()))
}

fn load(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["folder", "trainable", "trained", "device"])?;
    let folder = f.path("folder")?;
    let trainable = f.flag("trainable")?;
    let device = device(&f)?;
    let config = config_file(&folder)?;
    let parameters = with_trained(&f, Parameters::loaded(weights_file(context, &folder)?, trainable).on(&device))?;
    Ok(described(made_of(config, parameters, &folder)?, Map::new()))
}

fn grow(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["folder", "config", "seed", "trainable", "trained", "fresh", "device"])?;
    let folder = f.path("folder")?;
    let config = config_of(&f)?;
    let seed = f.u64("seed", 0..=MAX_SAFE_INTEGER)?;
    let trainable = f.flag("trainable")?;
    let device = device(&f)?;
    let fresh = f.optional("fresh", |f| f.texts("fresh"))?.unwrap_or_default();
    let mut weights = weights_file(context, &folder)?;
    for layer in fresh {
        let (before, prefix) = (weights.len(), format!("{layer}."));
        weights.retain(|name, _| !name.starts_with(&prefix));
        if weights.len() == before {
            return Err(f.refuse("fresh", format_args!("must name layers of the network, not {layer:?}")));
        }
    }
    let parameters = with_trained(&f, Parameters::grown(weights, seed, trainable).on(&device))?;
    let network = made_of(config, parameters, &folder)?;
    let initialised = json!(network.parameters().initialised());
    Ok(described(network, Map::from_iter([("initialised".into(), initialised)])))
}

/// The reply with a new network.
pub(super) fn described(network: Network, mut reply: Map<String, Value>) -> Value {
    reply.insert("config".into(), network.config().to_json());
    reply.insert("parameters".into(), network.parameters().count().into());
    reply.insert("network".into(), handles::insert(network).into());
    Value::Object(reply)
}

fn info(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let network = fields(request, &["network"])?.object::<Network>("network")?;
    Ok(json!({ "config": network.config().to_json(), "parameters": network.parameters().count() }))
}

/// Inputs by name: a handle, or a list with a number a sample.
pub(super) fn inputs(f: &Fields) -> Result<Inputs, Refusal> {
    let given = f.map_of("inputs")?;
    let mut inputs = BTreeMap::new();
    for name in given.keys() {
        let input = match given.value(name)? {
            Value::Array(_) => {
                let numbers = given.numbers(name, -f64::MAX..=f64::MAX)?;
                Input::Numbers(numbers.into_iter().map(|number| number as f32).collect())
            }
            _ => Input::Tensor(given.tensor(name)?),
        };
        inputs.insert(name.to_owned(), input);
    }
    Ok(Inputs(inputs))
}

/// What a run of a network failed with: the caller's cancelling, or what was wrong with the inputs.
pub(super) fn run_refusal(context: &Context, error: candle_core::Error) -> Refusal {
    match context.check_cancelled() {
        Err(cancelled) => cancelled,
        Ok(()) => Refusal::new(Refusal::from(error).message),
    }
}

fn forward(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["network", "inputs", "precision"])?;
    let network = f.object::<Network>("network")?;
    let inputs = inputs(&f)?;
    let precision = f.choice("precision", &PRECISIONS)?;
    inputs.batch().map_err(|error| f.refuse("inputs", format_args!("do not agree: {}", Refusal::from(error))))?;
    let check = || context.check_cancelled().map_err(candle_core::Error::wrap);
    let outputs = network.forward(&inputs, precision, &check).map_err(|error| run_refusal(context, error))?;
    context.check_cancelled()?;
    let outputs: Map<String, Value> = outputs
        .into_iter()
        .map(|(name, tensor)| Ok((name.to_owned(), handles::insert(tensor.contiguous()?.detach()).into())))
        .collect::<Result<_, Refusal>>()?;
    Ok(json!({ "outputs": outputs }))
}

fn save(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["network", "folder", "dtype", "metadata"])?;
    let network = f.object::<Network>("network")?;
    let folder = f.path("folder")?;
    let stored = f.choice("dtype", &[("f32", StoredAs::F32), ("f16", StoredAs::F16), ("bf16", StoredAs::Bf16)])?;
    let metadata = metadata(&f)?;
    fs::create_dir_all(&folder)
        .map_err(|error| Refusal::from(error).at(format_args!("cannot make {}", folder.display())))?;
    let tensors = network.parameters().tensors();
    let bytes = tensor_file::write(&folder.join(WEIGHTS_FILE), &tensors, stored, &metadata, &mut watching(context))?;
    let config = serde_json::to_string_pretty(&network.config().to_json())?;
    let path = folder.join(CONFIG_FILE);
    write_atomically(&path, |file| {
        use std::io::Write;
        writeln!(file, "{config}").map_err(|source| tensor_file::TensorFileError::Io {
            message: format!("cannot write {}", path.display()),
            source,
        })
    })?;
    Ok(json!({ "bytes": bytes }))
}
