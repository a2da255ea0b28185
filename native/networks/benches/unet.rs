//! How fast a U-Net of the embedded cascade's size runs and learns:
//! `cargo bench -p kinora-networks -- [threads] [bf16|f32]`.
//!
//! Prints seconds and GFLOP/s (2 for each multiplication with a weight or in attention; a backward counts twice a
//! forward). With several threads, all of them share a forward, and each learns from a batch of its own. Times are the
//! best of a few runs; on one thread they are the thread's own, so that a busy machine matters less.

use candle_core::{Device, Tensor};
use kinora_kernels::philox::fill_normal;
use kinora_kernels::{Precision, isa, with_precision};
use kinora_networks::parameters::Parameters;
use kinora_networks::unet::{Conditioning, UNet};
use kinora_networks::unet_config::UNetConfig;
use std::time::{Duration, Instant};

const CONFIG: &str = r#"{
    "_class_name": "UNetPseudo3DModel", "in_channels": 3, "patch_size": 4, "block_out_channels": [128, 192, 256],
    "attention": [false, true, true], "mid_attention": true, "attention_head_dim": 32, "time_embedding_dim": 256,
    "image_embedding_dim": 256, "context_tokens": 4, "temporal": true, "fps_conditioning": true
}"#;
const SIDE: usize = 64;

fn noise(shape: &[usize], seed: u64) -> Tensor {
    let mut values = vec![0f32; shape.iter().product()];
    fill_normal(&mut values, seed, 0, 0);
    Tensor::from_vec(values, shape, &Device::Cpu).expect("the values fill the shape")
}

/// Multiplications and additions of one forward pass over `clips` clips of `frames` frames.
fn operations(config: &UNetConfig, parameters: &Parameters, clips: usize, frames: usize) -> f64 {
    let top = SIDE / config.patch_size;
    let levels = config.block_out_channels.len();
    let mut sum = 0.0;
    for (name, weight) in parameters.tensors() {
        if weight.dims().len() < 2 || (frames == 1 && name.contains("temporal")) || name.contains("position_bias") {
            continue;
        }
        let number = |prefix: &str| {
            let rest = name.strip_prefix(prefix)?;
            rest.split('.').next()?.parse::<usize>().ok()
        };
        let level = match (number("down_blocks."), number("up_blocks.")) {
            (Some(level), _) => level + usize::from(name.contains("downsampler")),
            (_, Some(block)) => levels - 1 - block,
            _ if name.starts_with("mid_block") => levels - 1,
            _ => 0,
        };
        let side = top >> level;
        let once_a_clip = name.contains("emb") || name.contains("context");
        let rows = if once_a_clip { clips } else { clips * frames * side * side };
        sum += 2.0 * (rows * weight.elem_count()) as f64;
        if name.ends_with("to_qkv.weight") {
            let keys = if name.contains("temporal") { frames } else { side * side + config.context_tokens };
            sum += 4.0 * (clips * frames * side * side * keys * weight.dims()[1]) as f64;
        }
    }
    sum
}

/// Time that this thread has run, which other processes on the machine do not count into; Linux only.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

fn best(runs: usize, threads: usize, mut work: impl FnMut()) -> Duration {
    let time = |_| {
        let (start, before) = (Instant::now(), processor_time());
        work();
        match (before, processor_time()) {
            (Some(before), Some(after)) if threads == 1 => after - before,
            _ => start.elapsed(),
        }
    };
    (0..runs).map(time).min().expect("at least one run")
}

fn main() {
    let threads = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(1);
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
    let workers: Vec<_> = (0..threads).map(|_| pool(1)).collect();
    let pool = pool(threads);
    let config: UNetConfig = serde_json::from_str(CONFIG).expect("the configuration above is valid");
    let parameters = Parameters::seeded(1, true);
    let network = UNet::new(&config, parameters.builder()).expect("the configuration above is valid");
    println!("{} on {threads} threads, {:.2}M parameters", isa().name(), parameters.count() as f64 / 1e6);
    for (clips, frames) in [(1, 16), (32, 1)] {
        let x = noise(&[clips, frames, SIDE, SIDE, 3], 1);
        let given = Conditioning {
            timestep: vec![500.0; clips],
            image_embedding: Some(noise(&[clips, 256], 2)),
            fps: vec![8.0; clips],
            ..Conditioning::default()
        };
        let operations = operations(&config, &parameters, clips, frames);
        let wanted = |precision: &Precision| {
            let words: Vec<_> =
                std::env::args().skip(1).filter(|word| ["bf16", "f32"].contains(&word.as_str())).collect();
            words.is_empty() || words.contains(&format!("{precision:?}").to_lowercase())
        };
        for precision in [Precision::Bf16, Precision::F32].into_iter().filter(wanted) {
            let forward = || with_precision(precision, || network.forward(&x, &given, &|| Ok(())).expect("it fits"));
            let both = || {
                let loss = forward().sqr().and_then(|y| y.mean_all()).expect("a loss");
                loss.backward().expect("every layer has a backward");
            };
            // As in training: a batch for each worker of one thread, and the weights packed anew after each step.
            let step = || {
                parameters.touch();
                std::thread::scope(|scope| {
                    for worker in &workers {
                        scope.spawn(|| worker.install(both));
                    }
                });
            };
            let run = pool.install(|| {
                forward();
                best(5, threads, || drop(forward()))
            });
            step();
            let learn = match threads {
                1 => workers[0].install(|| {
                    best(5, 1, || {
                        parameters.touch();
                        both();
                    })
                }),
                _ => best(5, threads, step),
            };
            let rate = |factor: f64, time: Duration| factor * operations / time.as_secs_f64() / 1e9;
            println!(
                "{clips:2} x {frames:2} frames, {precision:?}: {:.2} GFLOP; forward {:.3} s, {:.0} GFLOP/s; \
                 forward and backward {:.3} s, {:.0} GFLOP/s",
                operations / 1e9,
                run.as_secs_f64(),
                rate(1.0, run),
                learn.as_secs_f64(),
                rate(3.0 * threads as f64, learn),
            );
        }
    }
}
