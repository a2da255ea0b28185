//! Any stage network: made from its `config.json`, run by the names of its inputs and outputs.

use crate::clip_image::{ClipImage, ClipImageConfig};
use crate::clip_text::{ClipText, ClipTextConfig};
use crate::parameters::Parameters;
use crate::prior::{Prior, PriorConfig, PriorInputs};
use crate::unet::{Conditioning, UNet};
use crate::unet_config::UNetConfig;
use candle_core::{Device, Result, Tensor, bail};
use kinora_kernels::{Precision, with_precision};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The sizes of a network, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkConfig {
    /// `UNetPseudo3DModel`.
    UNet(UNetConfig),
    /// `CLIPTextModelWithProjection`.
    ClipText(ClipTextConfig),
    /// `KinoraImageEncoder`.
    ClipImage(ClipImageConfig),
    /// `PriorTransformer`.
    Prior(PriorConfig),
}

/// The names that `_class_name` may have.
pub const CLASSES: [&str; 4] =
    ["UNetPseudo3DModel", "CLIPTextModelWithProjection", "KinoraImageEncoder", "PriorTransformer"];

impl NetworkConfig {
    /// Reads and checks the contents of a `config.json`.
    ///
    /// # Errors
    /// One sentence that names the field that is missing, unknown or out of range.
    pub fn parse(json: &Value) -> std::result::Result<Self, String> {
        fn read<T: DeserializeOwned>(json: &Value) -> std::result::Result<T, String> {
            serde_path_to_error::deserialize(json).map_err(|error| match error.path().to_string().as_str() {
                "." => error.inner().to_string(),
                field => format!("{field}: {}", error.inner()),
            })
        }
        let class = json.as_object().and_then(|map| map.get("_class_name")).and_then(Value::as_str);
        match class {
            Some("UNetPseudo3DModel") => {
                let config: UNetConfig = read(json)?;
                config.validate()?;
                Ok(Self::UNet(config))
            }
            Some("CLIPTextModelWithProjection") => {
                let config: ClipTextConfig = read(json)?;
                config.validate()?;
                Ok(Self::ClipText(config))
            }
            Some("KinoraImageEncoder") => {
                let config: ClipImageConfig = read(json)?;
                config.validate()?;
                Ok(Self::ClipImage(config))
            }
            Some("PriorTransformer") => {
                let config: PriorConfig = read(json)?;
                config.validate()?;
                Ok(Self::Prior(config))
            }
            Some(other) => {
                let other: String = other.chars().take(64).collect();
                Err(format!("_class_name must be one of {}, not {other:?}", CLASSES.join(", ")))
            }
            None => Err(format!("_class_name must be one of {}", CLASSES.join(", "))),
        }
    }

    /// The whole configuration, defaults included.
    pub fn to_json(&self) -> Value {
        let json = match self {
            Self::UNet(config) => serde_json::to_value(config),
            Self::ClipText(config) => serde_json::to_value(config),
            Self::ClipImage(config) => serde_json::to_value(config),
            Self::Prior(config) => serde_json::to_value(config),
        };
        json.expect("configs are plain data")
    }
}

/// One input of a network: a tensor whose first axis counts samples, or a number a sample.
#[derive(Clone, Debug)]
pub enum Input {
    /// First axis: samples.
    Tensor(Tensor),
    /// One a sample.
    Numbers(Vec<f32>),
}

/// The inputs of a network by name.
#[derive(Clone, Debug, Default)]
pub struct Inputs(pub BTreeMap<String, Input>);

impl Inputs {
    /// Number of samples.
    ///
    /// # Errors
    /// There is no input, or two disagree. An empty list of numbers says nothing and fits all.
    pub fn batch(&self) -> Result<usize> {
        let mut batch = None;
        for (name, input) in &self.0 {
            let count = match input {
                Input::Tensor(tensor) => tensor.dim(0)?,
                Input::Numbers(numbers) if numbers.is_empty() => continue,
                Input::Numbers(numbers) => numbers.len(),
            };
            match batch {
                Some(batch) if batch != count => bail!("{name} has {count} samples where others have {batch}"),
                _ => batch = Some(count),
            }
        }
        match batch {
            Some(batch) => Ok(batch),
            None => bail!("there are no inputs"),
        }
    }

    /// The inputs of some of the samples.
    pub fn rows(&self, start: usize, count: usize) -> Result<Self> {
        let mut rows = BTreeMap::new();
        for (name, input) in &self.0 {
            let part = match input {
                Input::Tensor(tensor) => Input::Tensor(tensor.narrow(0, start, count)?.contiguous()?),
                Input::Numbers(numbers) if numbers.is_empty() => Input::Numbers(Vec::new()),
                Input::Numbers(numbers) => Input::Numbers(numbers[start..start + count].to_vec()),
            };
            rows.insert(name.clone(), part);
        }
        Ok(Self(rows))
    }

    /// The same in the memory of a device.
    fn on(&self, device: &Device) -> Result<Self> {
        let moved = self.0.iter().map(|(name, input)| {
            let input = match input {
                Input::Tensor(tensor) => Input::Tensor(tensor.to_device(device)?),
                Input::Numbers(numbers) => Input::Numbers(numbers.clone()),
            };
            Ok((name.clone(), input))
        });
        Ok(Self(moved.collect::<Result<_>>()?))
    }

    fn only(&self, known: &[&str]) -> Result<()> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => bail!("unknown input {unknown:?}: this network takes {}", known.join(", ")),
            None => Ok(()),
        }
    }

    fn optional(&self, name: &str) -> Result<Option<&Tensor>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Input::Tensor(tensor)) => Ok(Some(tensor)),
            Some(Input::Numbers(_)) => bail!("the input {name} must be a tensor, not a list of numbers"),
        }
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        match self.optional(name)? {
            Some(tensor) => Ok(tensor),
            None => bail!("the input {name} is missing"),
        }
    }

    fn numbers(&self, name: &str) -> Result<&[f32]> {
        match self.0.get(name) {
            None => Ok(&[]),
            Some(Input::Numbers(numbers)) => Ok(numbers),
            Some(Input::Tensor(_)) => bail!("the input {name} must be a list with one number a sample, not a tensor"),
        }
    }
}

/// What a network gives, by name.
pub type Outputs = BTreeMap<&'static str, Tensor>;

/// A network with its parameters.
pub struct Network {
    config: NetworkConfig,
    parameters: Arc<Parameters>,
    body: Body,
}

enum Body {
    UNet(Box<UNet>),
    ClipText(ClipText),
    ClipImage(ClipImage),
    Prior(Box<Prior>),
}

impl Network {
    /// Makes the network of a configuration from parameters.
    ///
    /// # Errors
    /// The parameters cannot give what the network needs; the message names the tensor.
    pub fn new(config: NetworkConfig, parameters: Arc<Parameters>) -> Result<Self> {
        let b = parameters.builder();
        let body = match &config {
            NetworkConfig::UNet(config) => Body::UNet(Box::new(UNet::new(config, b)?)),
            NetworkConfig::ClipText(config) => Body::ClipText(ClipText::new(config, b)?),
            NetworkConfig::ClipImage(config) => Body::ClipImage(ClipImage::new(config, b)?),
            NetworkConfig::Prior(config) => Body::Prior(Box::new(Prior::new(config, b)?)),
        };
        Ok(Self { config, parameters, body })
    }

    /// The configuration it was made of.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Arc<Parameters> {
        &self.parameters
    }

    /// The same network with other values, for inference.
    pub fn with_values(&self, values: HashMap<String, Tensor>) -> Result<Self> {
        let parameters = Parameters::loaded(values, false).on(self.parameters.device());
        Self::new(self.config.clone(), parameters)
    }

    /// Runs the network where its parameters are: inputs are taken there, outputs are in main memory. `check` is called
    /// between blocks of long networks and stops the run by failing.
    ///
    /// | network | inputs | outputs |
    /// | --- | --- | --- |
    /// | U-Net | `sample` (B, F, H, W, C), `timestep`, and as configured `image_embedding` (B, E), `drop`, `fps`, `augmentation` | `sample` |
    /// | text tower | `tokens` (B, L) | `embedding`, `states`, `mask` |
    /// | image tower | `image` (B, H, W, C) | `embedding` |
    /// | prior | `sample`, `timestep`, `text_embedding`, `text_states`, `text_mask`, `drop` | `sample` |
    ///
    /// # Errors
    /// An input is missing, unknown, or of another shape than the network takes.
    pub fn forward(&self, inputs: &Inputs, precision: Precision, check: &dyn Fn() -> Result<()>) -> Result<Outputs> {
        let inputs = &inputs.on(self.parameters.device())?;
        let outputs = with_precision(precision, || -> Result<Outputs> {
            match &self.body {
                Body::UNet(network) => {
                    inputs.only(&["sample", "timestep", "image_embedding", "drop", "fps", "augmentation"])?;
                    let given = Conditioning {
                        timestep: inputs.numbers("timestep")?.to_vec(),
                        image_embedding: inputs.optional("image_embedding")?.cloned(),
                        drop: inputs.numbers("drop")?.to_vec(),
                        fps: inputs.numbers("fps")?.to_vec(),
                        augmentation: inputs.numbers("augmentation")?.to_vec(),
                    };
                    let sample = network.forward(inputs.tensor("sample")?, &given, check)?;
                    Ok(Outputs::from([("sample", sample)]))
                }
                Body::ClipText(network) => {
                    inputs.only(&["tokens"])?;
                    let output = network.forward(inputs.tensor("tokens")?)?;
                    Ok(Outputs::from([
                        ("embedding", output.embedding),
                        ("states", output.states),
                        ("mask", output.mask),
                    ]))
                }
                Body::ClipImage(network) => {
                    inputs.only(&["image"])?;
                    Ok(Outputs::from([("embedding", network.forward(inputs.tensor("image")?)?)]))
                }
                Body::Prior(network) => {
                    inputs.only(&["sample", "timestep", "text_embedding", "text_states", "text_mask", "drop"])?;
                    let sample = network.forward(PriorInputs {
                        sample: inputs.tensor("sample")?,
                        timestep: inputs.numbers("timestep")?,
                        text_embedding: inputs.tensor("text_embedding")?,
                        text_states: inputs.tensor("text_states")?,
                        text_mask: inputs.tensor("text_mask")?,
                        drop: inputs.numbers("drop")?,
                    })?;
                    Ok(Outputs::from([("sample", sample)]))
                }
            }
        })?;
        outputs.into_iter().map(|(name, output)| Ok((name, output.to_device(&Device::Cpu)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn unet() -> Value {
        json!({
            "_class_name": "UNetPseudo3DModel", "in_channels": 3, "block_out_channels": [32, 64],
            "attention": [false, true], "time_embedding_dim": 16,
        })
    }

    fn of<T: serde::Serialize>(config: T) -> Value {
        serde_json::to_value(config).unwrap()
    }

    /// Changes one field (takes it away when the value is null) and checks that the refusal names it.
    fn refused(config: &Value, field: &str, value: Value) {
        let mut config = config.clone();
        match &value {
            Value::Null => drop(config.as_object_mut().unwrap().remove(field)),
            value => config[field] = value.clone(),
        }
        let error = NetworkConfig::parse(&config).expect_err(&format!("{field} = {value} was accepted"));
        assert!(error.contains(field), "{field} = {value}: {error}");
    }

    #[test]
    fn the_configs_as_they_are_stay_what_they_are() {
        for config in
            [unet(), of(ClipTextConfig::default()), of(ClipImageConfig::default()), of(PriorConfig::default())]
        {
            let parsed = NetworkConfig::parse(&config).unwrap();
            assert_eq!(NetworkConfig::parse(&parsed.to_json()).unwrap(), parsed);
        }
    }

    #[test]
    fn refusals_name_the_field() {
        let config = unet();
        for (field, value) in [
            ("_class_name", json!("UNet2DModel")),
            ("_class_name", json!(7)),
            ("_class_name", Value::Null),
            ("in_channels", Value::Null),
            ("in_channels", json!(0)),
            ("in_channels", json!(65)),
            ("in_channels", json!(-1)),
            ("in_channels", json!(2.5)),
            ("in_channels", json!("3")),
            ("out_channels", json!(0)),
            ("patch_size", json!(0)),
            ("block_out_channels", json!([])),
            ("block_out_channels", json!([32])),
            ("block_out_channels", json!([32, 0])),
            ("block_out_channels", json!([32, 100_000])),
            ("block_out_channels", json!([32, "x"])),
            ("block_out_channels", json!(32)),
            ("block_out_channels", json!(vec![32; 9])),
            ("layers_per_block", json!(0)),
            ("attention", json!([true])),
            ("attention", json!([1, 0])),
            ("mid_attention", json!("yes")),
            ("attention_head_dim", json!(0)),
            ("attention_head_dim", json!(48)),
            ("feed_forward_mult", json!(17)),
            ("norm_num_groups", json!(0)),
            ("norm_num_groups", json!(24)),
            ("time_embedding_dim", json!(0)),
            ("image_embedding_dim", json!(0)),
            ("context_tokens", json!(4)),
            ("temporal_kernel_size", json!(4)),
            ("temporal_kernel_size", json!(0)),
            ("temporal_kernel_size", json!(17)),
            ("max_temporal_distance", json!(0)),
            ("atention", json!([true])),
        ] {
            refused(&config, field, value);
        }
        let config = of(ClipTextConfig::default());
        for (field, value) in [
            ("vocab_size", json!(3)),
            ("vocab_size", json!("many")),
            ("hidden_size", json!(0)),
            ("hidden_size", json!(255)),
            ("intermediate_size", json!(0)),
            ("num_hidden_layers", json!(0)),
            ("num_attention_heads", json!(0)),
            ("num_attention_heads", json!(3)),
            ("max_position_embeddings", json!(1)),
            ("projection_dim", json!(0)),
            ("hidden_act", json!("relu")),
            ("layer_norm_eps", json!(0.0)),
            ("layer_norm_eps", json!(1.0)),
            ("eos_token_id", json!(4096)),
            ("text_config", json!({})),
        ] {
            refused(&config, field, value);
        }
        let config = of(ClipImageConfig::default());
        for (field, value) in [
            ("sample_size", json!(4)),
            ("sample_size", json!(72)),
            ("in_channels", json!(0)),
            ("patch_size", json!(17)),
            ("block_out_channels", json!([])),
            ("block_out_channels", json!([64, 100])),
            ("projection_dim", json!(0)),
            ("norm_num_groups", json!(0)),
            ("norm_num_groups", json!(7)),
            ("norm_eps", json!(0)),
        ] {
            refused(&config, field, value);
        }
        let config = of(PriorConfig::default());
        for (field, value) in [
            ("num_attention_heads", json!(0)),
            ("attention_head_dim", json!(257)),
            ("num_layers", json!(0)),
            ("embedding_dim", json!(0)),
            ("num_embeddings", json!(0)),
            ("encoder_hid_dim", json!(0)),
            ("time_embed_dim", json!(0)),
            ("text_embedding_scale", json!(0)),
            ("null_text", json!("none")),
            ("causal", json!(1)),
        ] {
            refused(&config, field, value);
        }
        let odd = json!({ "num_attention_heads": 3, "attention_head_dim": 5 });
        let mut config = config;
        config.as_object_mut().unwrap().extend(odd.as_object().unwrap().clone());
        assert!(NetworkConfig::parse(&config).unwrap_err().contains("attention_head_dim"));
        assert!(NetworkConfig::parse(&Value::Null).unwrap_err().contains("_class_name"));
    }
}
