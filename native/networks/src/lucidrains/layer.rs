//! Any of the layers: made from its kind and configuration, run by the names of its inputs.

use super::config::Checked;
use super::*;
use crate::parameters::{Builder, Parameters};
use candle_core::{Result, Tensor};
use kinora_kernels::{Precision, with_precision};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the kinds of these layers begin with.
pub const PREFIX: &str = "lucidrains.";

type Run = Box<dyn Fn(&Call) -> Result<Tensor> + Send + Sync>;

/// A class of the peer.
struct Class {
    name: &'static str,
    /// The tensors that its `forward` takes, in order.
    inputs: &'static [&'static str],
    /// Whether its `forward` takes `enable_time`.
    time: bool,
    /// Whether its `forward` takes whole numbers instead of tensors.
    ints: bool,
    make: fn(&Value, &Builder) -> std::result::Result<Run, LayerError>,
}

/// A class whose constructor reads one configuration.
macro_rules! class {
    ($name:literal, $inputs:expr, $time:expr, $ints:expr, $config:ident, |$c:ident, $b:ident| $new:expr) => {
        Class {
            name: $name,
            inputs: &$inputs,
            time: $time,
            ints: $ints,
            make: |json, $b| {
                let $c: $config = read(json)?;
                let layer = $new?;
                Ok(Box::new(move |call| layer.run(call)))
            },
        }
    };
}

const CLASSES: [Class; 14] = [
    class!("Attend", ["q", "k", "v", "bias"], false, false, AttendConfig, |c, _b| Ok::<_, LayerError>(Attend::new(&c))),
    class!("Attention", ["x", "rel_pos_bias"], false, false, AttentionConfig, |c, b| Attention::new(&c, b)),
    class!("Block", ["x", "scale_shift"], true, false, BlockConfig, |c, b| Block::new(&c, b)),
    class!("ContinuousPositionBias", [], false, true, ContinuousPositionBiasConfig, |c, b| {
        ContinuousPositionBias::new(&c, b)
    }),
    class!("Downsample", ["x"], true, false, DownsampleConfig, |c, b| Downsample::new(&c, b)),
    class!("FeedForward", ["x"], true, false, FeedForwardConfig, |c, b| FeedForward::new(&c, b)),
    class!("GEGLU", ["x"], false, false, GegluConfig, |_c, _b| Ok::<_, LayerError>(Geglu)),
    class!("PseudoConv3d", ["x"], true, false, PseudoConv3dConfig, |c, b| PseudoConv3d::new(&c, b)),
    class!("RMSNorm", ["x"], false, false, RmsNormConfig, |c, b| RmsNorm::new(&c, b)),
    class!("ResnetBlock", ["x", "timestep_emb"], true, false, ResnetBlockConfig, |c, b| ResnetBlock::new(&c, b)),
    class!("SinusoidalPosEmb", ["x"], false, false, SinusoidalPosEmbConfig, |c, _b| SinusoidalPosEmb::new(&c)),
    class!("SpaceTimeUnet", ["x", "timestep"], true, false, SpaceTimeUnetConfig, |c, b| SpaceTimeUnet::new(&c, b)),
    class!("SpatioTemporalAttention", ["x"], true, false, SpatioTemporalAttentionConfig, |c, b| {
        SpatioTemporalAttention::new(&c, b)
    }),
    class!("Upsample", ["x"], true, false, UpsampleConfig, |c, b| Upsample::new(&c, b)),
];

fn read<T: DeserializeOwned + Checked>(json: &Value) -> std::result::Result<T, LayerError> {
    let config: T = serde_path_to_error::deserialize(json).map_err(|error| {
        LayerError::Unsupported(match error.path().to_string().as_str() {
            "." => format!("config: {}", error.inner()),
            field => format!("config.{field}: {}", error.inner()),
        })
    })?;
    config.check().map_err(|why| LayerError::Unsupported(format!("config: {why}")))?;
    Ok(config)
}

/// The kinds of these layers, prefix included.
pub fn kinds() -> impl Iterator<Item = String> {
    CLASSES.iter().map(|class| format!("{PREFIX}{}", class.name))
}

/// One layer with its parameters.
pub struct Layer {
    class: &'static Class,
    parameters: Arc<Parameters>,
    run: Run,
}

impl Layer {
    /// Makes the layer of a kind from parameters, which are named as in the peer's state dict.
    ///
    /// # Errors
    /// [`LayerError::Unsupported`] when the kind or the configuration is not known; otherwise the parameters lack a
    /// tensor, have it in another shape, or have one that the layer does not.
    pub fn new(kind: &str, config: &Value, parameters: Arc<Parameters>) -> std::result::Result<Self, LayerError> {
        static TABLE: [Class; 14] = CLASSES;
        let found = kind.strip_prefix(PREFIX).and_then(|name| TABLE.iter().find(|class| class.name == name));
        let Some(class) = found else {
            let kind: String = kind.chars().take(64).collect();
            return Err(LayerError::Unsupported(format!("kind {kind:?} is not known")));
        };
        let run = (class.make)(config, &parameters.builder())?;
        if let [name, ..] = parameters.unused().as_slice() {
            let message = format!("the tensor {name:?} has no place in {kind} with this config");
            return Err(LayerError::Other(candle_core::Error::Msg(message)));
        }
        Ok(Self { class, parameters, run })
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Arc<Parameters> {
        &self.parameters
    }

    /// Puts the arguments of a call in their places: `positional` in the order of the peer's `forward`, `named` by its
    /// names, and `options`, which are no tensors.
    ///
    /// # Errors
    /// [`LayerError::Unsupported`] when the layer has no such argument, otherwise one is given twice.
    pub fn call<'a>(
        &self,
        positional: Vec<Tensor>,
        named: BTreeMap<String, Tensor>,
        ints: Vec<usize>,
        options: &serde_json::Map<String, Value>,
        check: &'a dyn Fn() -> Result<()>,
    ) -> std::result::Result<Call<'a>, LayerError> {
        let Class { name, inputs, time, ints: takes_ints, .. } = *self.class;
        let unsupported = |what: String| Err(LayerError::Unsupported(format!("{PREFIX}{name} takes no {what}")));
        if positional.len() > inputs.len() {
            return unsupported(format!("{} tensors by position", positional.len()));
        }
        if !ints.is_empty() && !takes_ints {
            return unsupported("whole numbers by position".into());
        }
        let mut tensors: BTreeMap<String, Tensor> =
            inputs.iter().map(|name| (*name).to_owned()).zip(positional).collect();
        for (input, tensor) in named {
            if !inputs.contains(&input.as_str()) {
                return unsupported(format!("input {input:?}"));
            }
            if tensors.insert(input.clone(), tensor).is_some() {
                let message = format!("the input {input} is given by position and by name");
                return Err(LayerError::Other(candle_core::Error::Msg(message)));
            }
        }
        let mut enable_time = None;
        for (option, value) in options {
            match (option.as_str(), value) {
                ("enable_time", Value::Bool(value)) if time => enable_time = Some(*value),
                _ => return unsupported(format!("argument {option} = {value}")),
            }
        }
        Ok(Call { tensors, enable_time, ints, check })
    }

    /// Runs the layer: the peer's `forward` in evaluation, in its own order of axes.
    ///
    /// # Errors
    /// An input is missing or of a shape that the layer does not take.
    pub fn run(&self, call: &Call, precision: Precision) -> Result<Tensor> {
        with_precision(precision, || (self.run)(call))
    }
}
