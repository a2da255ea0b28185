//! What this library is and what the machine can do.

use serde_json::{Value, json};

use super::Verb;
use crate::context::{Context, Refusal};
use crate::fields::fields;
use crate::{ABI_VERSION, handles};

/// The verb of a name, if it is one of this file's.
pub fn find(name: &str) -> Option<Verb> {
    (name == "info").then_some(info as Verb)
}

fn info(_: &Context, request: &Value) -> Result<Value, Refusal> {
    fields(request, &[])?;
    let (live, tensor_bytes) = handles::live();
    let isa = kinora_kernels::isa();
    let (gpu, without) = match kinora_kernels::gpu() {
        Ok(gpu) => {
            let cudnn = match gpu.cudnn {
                Ok(version) => json!({ "version": version }),
                Err(reason) => json!({ "unused": reason }),
            };
            let (major, minor) = gpu.capability;
            let known = json!({ "name": gpu.name, "capability": [major, minor], "memory": gpu.memory, "cudnn": cudnn });
            (known, None)
        }
        Err(error) => (Value::Null, Some(Refusal::from(error).message)),
    };
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "abi": ABI_VERSION,
        "isa": isa.name(),
        "precisions": super::networks::PRECISIONS.map(|(name, _)| name),
        "fast_bf16": isa.fast_bf16(),
        "threads": rayon::current_num_threads(),
        "cuda": kinora_kernels::BUILT_FOR_GPUS,
        "gpu": gpu,
        "no_gpu": without,
        "handles": live,
        "tensor_bytes": tensor_bytes,
    }))
}
