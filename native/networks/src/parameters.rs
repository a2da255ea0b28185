//! The named parameters of a network: made from a seed, or taken from a checkpoint.

use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use kinora_kernels::Weight;
use kinora_kernels::philox::{fill_normal, philox4x32_10};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How a parameter starts when no checkpoint holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// 0.
    Zeros,
    /// 1.
    Ones,
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform within plus and minus this bound.
    Uniform(f64),
    /// Uniform within ±1/√fan_in: torch's default for linear layers and convolutions.
    Kaiming,
    /// The identity over channels: the middle tap of output i reads input i.
    Dirac,
    /// This value.
    Constant(f64),
}

/// Every parameter of one network, by name.
pub struct Parameters {
    tensors: Mutex<BTreeMap<String, Tensor>>,
    version: Arc<AtomicU64>,
    /// What of the checkpoint no parameter was made of yet.
    source: Mutex<HashMap<String, Tensor>>,
    initialised: Mutex<Vec<String>>,
    seed: u64,
    trainable: bool,
    trained: Option<Vec<String>>,
    allow_missing: bool,
    declared: bool,
    device: Device,
}

impl Parameters {
    /// Parameters drawn from a seed: a parameter depends on the seed and its name alone.
    pub fn seeded(seed: u64, trainable: bool) -> Arc<Self> {
        Arc::new(Self::with(HashMap::new(), seed, trainable, true))
    }

    /// Parameters of a checkpoint, each of which must be there.
    pub fn loaded(source: HashMap<String, Tensor>, trainable: bool) -> Arc<Self> {
        Arc::new(Self::with(source, 0, trainable, false))
    }

    /// Parameters of a checkpoint where it has them, and of the seed where it does not: how a network grows new layers.
    ///
    /// A tensor that only lacks input channels (axis 1) is padded with zeros, so that the new channels start unheard.
    pub fn grown(source: HashMap<String, Tensor>, seed: u64, trainable: bool) -> Arc<Self> {
        Arc::new(Self::with(source, seed, trainable, true))
    }

    /// Parameters without values, for networks that are never run: each takes no more memory than one number, whatever its
    /// shape, so that a network of any size can be asked for the names and shapes of its tensors.
    pub fn declared() -> Arc<Self> {
        Arc::new(Self { declared: true, ..Self::with(HashMap::new(), 0, false, true) })
    }

    /// The same parameters in the memory of a device, before a network is made of them.
    pub fn on(self: Arc<Self>, device: &Device) -> Arc<Self> {
        let mut own = Arc::into_inner(self).expect("no network is made of them yet");
        own.device = device.clone();
        Arc::new(own)
    }

    /// Leaves out of training what has none of `texts` in its name, before a network is made: it costs no gradient.
    pub fn training_only(self: Arc<Self>, texts: Vec<String>) -> Arc<Self> {
        let mut own = Arc::into_inner(self).expect("no network is made of them yet");
        own.trained = Some(texts);
        Arc::new(own)
    }

    /// Where they are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn with(source: HashMap<String, Tensor>, seed: u64, trainable: bool, allow_missing: bool) -> Self {
        kinora_kernels::keep_candle_on_the_calling_thread();
        Self {
            tensors: Mutex::default(),
            version: Arc::default(),
            source: Mutex::new(source),
            initialised: Mutex::default(),
            seed,
            trainable,
            trained: None,
            allow_missing,
            declared: false,
            device: Device::Cpu,
        }
    }

    /// The top of the tree of names.
    pub fn builder(self: &Arc<Self>) -> Builder {
        Builder { parameters: self.clone(), prefix: String::new() }
    }

    /// Every parameter by name, in the order of names.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.tensors.lock().expect("no panic while held").clone()
    }

    /// Names that no checkpoint held.
    pub fn initialised(&self) -> Vec<String> {
        self.initialised.lock().expect("no panic while held").clone()
    }

    /// Names of the checkpoint that the network does not have.
    pub fn unused(&self) -> Vec<String> {
        let mut unused: Vec<_> = self.source.lock().expect("no panic while held").keys().cloned().collect();
        unused.sort();
        unused
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        self.tensors.lock().expect("no panic while held").values().map(Tensor::elem_count).sum()
    }

    /// Says that values were changed in place: packed forms are made anew.
    pub fn touch(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    fn get(&self, name: String, shape: Shape, init: Init) -> Result<Tensor> {
        let found = self.source.lock().expect("no panic while held").remove(&name);
        let tensor = match found {
            Some(found) => fit(&name, &found, &shape, self.allow_missing)?,
            None if self.declared => Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(shape)?,
            None if self.allow_missing => {
                self.initialised.lock().expect("no panic while held").push(name.clone());
                draw(&shape, init, self.seed ^ fnv1a(&name))?
            }
            None => bail!("the checkpoint has no tensor {name:?} of shape {:?}", shape.dims()),
        };
        let tensor = tensor.to_device(&self.device)?;
        let tensor = tensor.detach();
        let trained = match &self.trained {
            Some(texts) => texts.iter().any(|text| name.contains(text)),
            None => true,
        };
        let tensor = if self.trainable && trained { Var::from_tensor(&tensor)?.as_tensor().clone() } else { tensor };
        let mut tensors = self.tensors.lock().expect("no panic while held");
        if tensors.insert(name.clone(), tensor.clone()).is_some() {
            bail!("the parameter {name:?} is declared twice");
        }
        Ok(tensor)
    }
}

/// The checkpoint's tensor in f32 and in the wanted shape.
fn fit(name: &str, found: &Tensor, shape: &Shape, grow: bool) -> Result<Tensor> {
    let found = found.to_dtype(DType::F32)?.contiguous()?;
    if found.shape() == shape {
        return Ok(found);
    }
    let (have, want) = (found.dims(), shape.dims());
    let same_but_inputs = have.len() == want.len()
        && have.len() >= 2
        && have[1] < want[1]
        && have.iter().zip(want).enumerate().all(|(axis, (have, want))| axis == 1 || have == want);
    if !(grow && same_but_inputs) {
        bail!("the tensor {name:?} has shape {have:?} where the network needs {want:?}");
    }
    found.pad_with_zeros(1, 0, want[1] - have[1])?.contiguous()
}

fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn draw(shape: &Shape, init: Init, seed: u64) -> Result<Tensor> {
    let dims = shape.dims();
    let count = shape.elem_count();
    let fan_in: usize = dims.iter().skip(1).product::<usize>().max(1);
    let normal = || {
        let mut values = vec![0f32; count];
        fill_normal(&mut values, seed, 0, 0);
        values
    };
    let uniform = |bound: f64| {
        let key = [seed as u32, (seed >> 32) as u32];
        let block = |i: usize| philox4x32_10([(i / 4) as u32, 0, 0, 1], key)[i % 4];
        let unit = |bits: u32| (f64::from(bits) + 0.5) / 2f64.powi(31) - 1.0;
        (0..count).map(|i| (unit(block(i)) * bound) as f32).collect::<Vec<_>>()
    };
    let values = match init {
        Init::Zeros => vec![0.0; count],
        Init::Ones => vec![1.0; count],
        Init::Constant(value) => vec![value as f32; count],
        Init::Normal(deviation) => normal().into_iter().map(|z| (f64::from(z) * deviation) as f32).collect(),
        Init::Uniform(bound) => uniform(bound),
        Init::Kaiming => uniform(1.0 / (fan_in as f64).sqrt()),
        Init::Dirac => {
            let taps: usize = dims.iter().skip(2).product();
            let mut values = vec![0.0; count];
            for i in 0..dims[0].min(dims[1]) {
                values[(i * dims[1] + i) * taps + taps / 2] = 1.0;
            }
            values
        }
    };
    Tensor::from_vec(values, shape.clone(), &Device::Cpu)
}

/// A place in the tree of names, from which layers take their parameters.
#[derive(Clone)]
pub struct Builder {
    parameters: Arc<Parameters>,
    prefix: String,
}

impl Builder {
    /// The place `name` below this one.
    pub fn pp(&self, name: impl Display) -> Builder {
        Builder { parameters: self.parameters.clone(), prefix: self.path(&name.to_string()) }
    }

    /// A kernel: (out, in, taps...).
    ///
    /// # Errors
    /// The checkpoint lacks it or holds it in another shape, or the name is taken.
    pub fn weight(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Weight> {
        let tensor = self.parameters.get(self.path(name), shape.into(), init)?;
        Ok(Weight::new(tensor, self.parameters.version.clone()))
    }

    /// A parameter that is not a kernel: a bias, a gain, a table.
    ///
    /// # Errors
    /// As [`Builder::weight`].
    pub fn vector(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        self.parameters.get(self.path(name), shape.into(), init)
    }

    fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_depends_on_seed_and_name_alone() {
        let draw = |names: &[&str]| {
            let parameters = Parameters::seeded(3, false);
            for name in names {
                parameters.builder().pp("a").weight(name, (4, 5), Init::Kaiming).unwrap();
            }
            parameters.tensors()["a.x"].to_vec2::<f32>().unwrap()
        };
        assert_eq!(draw(&["x", "y"]), draw(&["y", "x"]));
        let bound = 1.0 / 5f32.sqrt();
        assert!(draw(&["x"]).iter().flatten().all(|v| v.abs() <= bound));
    }

    #[test]
    fn growing_pads_inputs_with_zeros_and_refuses_other_shapes() {
        let one = |shape: (usize, usize)| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
        let source = || HashMap::from([("w".to_string(), one((2, 3)))]);
        let grown = Parameters::grown(source(), 0, false).builder().weight("w", (2, 5), Init::Kaiming).unwrap();
        assert_eq!(grown.tensor().to_vec2::<f32>().unwrap(), [[1., 1., 1., 0., 0.]; 2]);
        assert!(Parameters::grown(source(), 0, false).builder().weight("w", (3, 3), Init::Zeros).is_err());
        assert!(Parameters::loaded(source(), false).builder().weight("w", (2, 5), Init::Zeros).is_err());
        assert!(Parameters::loaded(source(), false).builder().weight("v", (2, 3), Init::Zeros).is_err());
    }

    #[test]
    fn dirac_is_the_identity() {
        let w = Parameters::seeded(0, false).builder().weight("w", (2, 2, 3), Init::Dirac).unwrap();
        assert_eq!(w.tensor().to_vec3::<f32>().unwrap(), [[[0., 1., 0.], [0., 0., 0.]], [[0., 0., 0.], [0., 1., 0.]]]);
    }
}
