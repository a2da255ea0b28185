//! Kinora's side of `deno task bench`: reads requests from stdin, one JSON object a line, and answers each with one line.
//!
//! One case is held at a time: `load` makes it from a file of inputs and weights, `results` writes what it gives, `compare`
//! runs it once and says how far its results are from those in another file, `time` runs it until time is up, `memory` says
//! what the process has taken, `peak` measures what the processor can do. Threads are those of `RAYON_NUM_THREADS`.

mod case;
mod compare;
mod layers;
mod memory;
mod peak;
mod train;
mod unet;

use case::{Case, Wanted};
use kinora_networks::tensor_file::{self, StoredAs};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What is asked for.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    /// What this side is.
    Hello,
    /// Makes a case.
    Load { wanted: Wanted, file: PathBuf },
    /// Runs the case once and writes its results.
    Results { file: PathBuf },
    /// Runs the case once and compares its results.
    Compare { with: PathBuf },
    /// Runs the case, once unmeasured when it is to be `warm`, then at least `least` times and for at least `seconds`.
    Time { seconds: f64, least: usize, warm: bool },
    /// Bytes of this process.
    Memory,
    /// The processor's arithmetic and memory at their best.
    Peak { seconds: f64 },
}

#[global_allocator]
static ALLOCATOR: kinora_kernels::buffers::KeptBuffers = kinora_kernels::buffers::KeptBuffers;

type Error = Box<dyn std::error::Error>;

fn answer(request: &str, case: &mut Option<Case>) -> Result<Value, Error> {
    let loaded = "no case is loaded";
    Ok(match serde_json::from_str(request)? {
        Request::Hello => json!({
            "version": env!("CARGO_PKG_VERSION"),
            "isa": kinora_kernels::isa().name(),
            "threads": rayon::current_num_threads(),
            "gpu": kinora_kernels::gpu().ok().map(|gpu| {
                let cudnn = match gpu.cudnn {
                    Ok(version) => json!({ "version": version }),
                    Err(reason) => json!({ "unused": reason }),
                };
                let (major, minor) = gpu.capability;
                json!({ "name": gpu.name, "capability": [major, minor], "memory": gpu.memory, "cudnn": cudnn })
            }),
        }),
        Request::Load { wanted, file } => {
            // The old one goes first: two would take twice the memory.
            *case = None;
            *case = Some(Case::new(&wanted, &file)?);
            json!({})
        }
        Request::Results { file } => {
            let results = case.as_mut().ok_or(loaded)?.results()?.into_iter().collect();
            tensor_file::write(&file, &results, StoredAs::F32, &BTreeMap::new(), &mut |_, _| true)?;
            json!({})
        }
        Request::Compare { with } => {
            let results = case.as_mut().ok_or(loaded)?.results()?;
            json!({ "error": compare::with_file(&results, &with)? })
        }
        Request::Time { seconds, least, warm } => {
            let case = case.as_mut().ok_or(loaded)?;
            if warm {
                case.run()?;
            }
            let (begin, mut times) = (Instant::now(), Vec::new());
            while times.len() < least || begin.elapsed() < Duration::from_secs_f64(seconds) {
                let start = Instant::now();
                case.run()?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            json!({ "ms": times })
        }
        Request::Memory => json!({ "peak": memory::peak_bytes() }),
        Request::Peak { seconds } => peak::measure(Duration::from_secs_f64(seconds)),
    })
}

fn main() -> Result<(), Error> {
    kinora_kernels::keep_candle_on_the_calling_thread();
    let mut case = None;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let reply = answer(&line?, &mut case).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        writeln!(out, "{reply}")?;
        out.flush()?;
    }
    Ok(())
}
