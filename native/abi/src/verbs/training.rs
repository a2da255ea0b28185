//! Trainers: steps, averages, checkpoints.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;
use kinora_networks::network::Network;
use kinora_training::muon::Muon;
use kinora_training::objective::{Call, Loss, Objective};
use kinora_training::optimizer::AdamW;
use kinora_training::{CheckpointError, Rate, StepOptions, Trainer};
use serde_json::{Map, Value, json};

use super::Verb;
use super::networks::{PRECISIONS, described, inputs, run_refusal};
use super::tensor_files::{metadata, watching};
use crate::context::{Context, Refusal};
use crate::fields::{Fields, fields};
use crate::handles::{self, Object};

/// The verb of a name, if it is one of this file's.
pub fn find(name: &str) -> Option<Verb> {
    Some(match name {
        "trainer.create" => create,
        "trainer.step" => step,
        "trainer.ema" => ema,
        "trainer.save" => save,
        "trainer.load" => load,
        _ => return None,
    })
}

/// A trainer; one call at a time changes it.
struct Training(Mutex<Trainer>);

impl Object for Training {
    const KIND: &'static str = "trainer";
}

impl Training {
    fn lock(&self) -> MutexGuard<'_, Trainer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<CheckpointError> for Refusal {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::File(error) => error.into(),
            CheckpointError::Foreign(message) => Self::bad_file(message),
            CheckpointError::Tensor(error) => error.into(),
        }
    }
}

fn create(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["networks", "workers", "ema"])?;
    let networks = f
        .whole_numbers("networks", 0..=u32::MAX.into())?
        .into_iter()
        .map(|handle| handles::get::<Network>(handle as u32).map_err(|refusal| refusal.at("networks")))
        .collect::<Result<Vec<Arc<Network>>, _>>()?;
    let cores = rayon::current_num_threads() as u32;
    let workers = f.u32_or("workers", 1..=256, cores)? as usize;
    let trainer = Trainer::new(networks, workers, f.flag("ema")?)
        .map_err(|error| f.refuse("networks", format_args!("cannot be trained: {}", Refusal::from(error))))?;
    let workers = trainer.workers();
    Ok(json!({ "trainer": handles::insert(Training(Mutex::new(trainer))), "workers": workers }))
}

fn call(f: &Fields) -> Result<Call, Refusal> {
    let (network, output) = (f.usize("network", 0..=255)?, f.str("output")?.to_owned());
    Ok(Call { network, inputs: inputs(f)?, output })
}

const CALL: [&str; 3] = ["network", "inputs", "output"];
const LOGIT_SCALE: std::ops::RangeInclusive<f64> = -20.0..=20.0;

fn objective(f: &Fields) -> Result<Objective, Refusal> {
    let weight = f.number_or("weight", 0.0..=1e6, 1.0)?;
    let only = |known: &[&str]| {
        let unknown = f.keys().find(|key| !["type", "weight"].contains(key) && !known.contains(key));
        unknown.map_or(Ok(()), |key| Err(f.refuse(key, "is not a field of this objective")))
    };
    let (calls, loss) = match f.str("type")? {
        "regression" => {
            only(&["network", "inputs", "output", "target", "sample_weights"])?;
            let sample_weights = f.optional("sample_weights", |f| f.numbers("sample_weights", 0.0..=1e9))?;
            let sample_weights = sample_weights.unwrap_or_default().into_iter().map(|weight| weight as f32).collect();
            (vec![call(f)?], Loss::Regression { target: f.tensor("target")?, sample_weights })
        }
        "contrastive" => {
            only(&["a", "b", "logit_scale", "label_smoothing"])?;
            let calls = vec![call(&f.nested("a", &CALL)?)?, call(&f.nested("b", &CALL)?)?];
            let logit_scale = f.number("logit_scale", LOGIT_SCALE)?;
            (
                calls,
                Loss::Contrastive { logit_scale, label_smoothing: f.number_or("label_smoothing", 0.0..=0.999, 0.0)? },
            )
        }
        "retrieval" => {
            only(&["text", "bank", "targets", "logit_scale"])?;
            let (bank, targets): (Tensor, Tensor) = (f.tensor("bank")?, f.tensor("targets")?);
            let logit_scale = f.number("logit_scale", LOGIT_SCALE)?;
            (vec![call(&f.nested("text", &CALL)?)?], Loss::Retrieval { bank, targets, logit_scale })
        }
        other => {
            let other: String = other.chars().take(64).collect();
            return Err(f.refuse("type", format_args!("must be regression, contrastive or retrieval, not {other:?}")));
        }
    };
    Ok(Objective { weight, calls, loss })
}

fn step(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["trainer", "objectives", "precision", "optimizer", "rates", "clip", "ema_decay"])?;
    let training = f.object::<Training>("trainer")?;
    let known = [
        "type",
        "weight",
        "network",
        "inputs",
        "output",
        "target",
        "sample_weights",
        "a",
        "b",
        "text",
        "bank",
        "targets",
        "logit_scale",
        "label_smoothing",
    ];
    let objectives = f.each("objectives", &known)?.iter().map(objective).collect::<Result<Vec<_>, _>>()?;
    let o = f.nested("optimizer", &["learning_rate", "beta1", "beta2", "epsilon", "weight_decay", "muon"])?;
    let default = AdamW::default();
    let adamw = AdamW {
        learning_rate: o.number("learning_rate", 0.0..=1e3)?,
        beta1: o.number_or("beta1", 0.0..=0.999_999, default.beta1)?,
        beta2: o.number_or("beta2", 0.0..=0.999_999, default.beta2)?,
        epsilon: o.number_or("epsilon", 1e-20..=1.0, default.epsilon)?,
        weight_decay: o.number_or("weight_decay", 0.0..=1e3, default.weight_decay)?,
    };
    let muon = o.optional("muon", |o| {
        let m = o.nested("muon", &["momentum", "except"])?;
        let except = m.texts("except")?.into_iter().map(str::to_owned).collect();
        Ok(Muon { momentum: m.number("momentum", 0.0..=0.9999)?, except })
    })?;
    let mut rates = Vec::new();
    if f.has("rates") {
        for rate in f.each("rates", &["names_with", "scale"])? {
            rates.push(Rate {
                name_contains: rate.str("names_with")?.to_owned(),
                scale: rate.number("scale", 0.0..=1e3)?,
            });
        }
    }
    let options = StepOptions {
        precision: f.choice("precision", &PRECISIONS)?,
        adamw,
        muon,
        rates,
        clip: f.optional("clip", |f| f.number("clip", 1e-12..=1e12))?,
        ema_decay: f.number_or("ema_decay", 0.0..=1.0, 0.0)?,
    };
    let cancelled = context.cancel_flag();
    let check = move || {
        if cancelled.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(candle_core::Error::wrap(Refusal::cancelled()));
        }
        Ok(())
    };
    let result = training.lock().step(&objectives, &options, &check).map_err(|error| run_refusal(context, error))?;
    // What is not finite has no JSON form and becomes null.
    Ok(json!({
        "loss": result.loss,
        "losses": result.losses,
        "gradient_norm": result.gradient_norm,
        "skipped": result.skipped,
    }))
}

fn ema(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["trainer", "network"])?;
    let training = f.object::<Training>("trainer")?;
    let network = f.usize("network", 0..=255)?;
    let averaged = training.lock().averaged(network).map_err(|error| f.refuse("network", Refusal::from(error)))?;
    Ok(described(averaged, Map::new()))
}

fn save(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["trainer", "path", "metadata"])?;
    let training = f.object::<Training>("trainer")?;
    let path = f.path("path")?;
    let bytes = training.lock().save(&path, metadata(&f)?, &mut watching(context))?;
    Ok(json!({ "bytes": bytes }))
}

fn load(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["trainer", "path"])?;
    let training = f.object::<Training>("trainer")?;
    let path = f.path("path")?;
    let mut trainer = training.lock();
    let metadata = trainer.load(&path, &mut watching(context))?;
    Ok(json!({ "step": trainer.steps(), "metadata": metadata }))
}
