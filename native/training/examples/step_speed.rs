//! Time of a training step of a U-Net on random data: `cargo run --release --example step_speed -- BATCH FRAMES SIDE STEPS CONFIG`.

use candle_core::{Device, Tensor};
use kinora_kernels::Precision;
use kinora_networks::network::{Input, Inputs, Network, NetworkConfig};
use kinora_networks::parameters::Parameters;
use kinora_training::objective::{Call, Loss, Objective};
use kinora_training::optimizer::AdamW;
use kinora_training::{StepOptions, Trainer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| args.get(i).map_or(default, |text| text.parse().expect("a number"));
    let (batch, frames, side, steps) = (number(0, 64), number(1, 1), number(2, 64), number(3, 3));
    let workers = number(5, 2);
    let decoder = r#"{"_class_name": "UNetPseudo3DModel", "in_channels": 3, "patch_size": 4, "block_out_channels": [128, 192, 256],
        "attention": [false, true, true], "mid_attention": true, "time_embedding_dim": 512, "image_embedding_dim": 256, "context_tokens": 4}"#;
    let json: serde_json::Value = match args.get(4) {
        Some(path) if path != "-" => serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON"),
        _ => {
            let mut json: serde_json::Value = serde_json::from_str(decoder).unwrap();
            if frames > 1 {
                json["temporal"] = true.into();
                json["fps_conditioning"] = true.into();
            }
            json
        }
    };
    let channels = json["in_channels"].as_u64().unwrap() as usize;
    let config = NetworkConfig::parse(&json).expect("a configuration");
    let network = Arc::new(Network::new(config, Parameters::seeded(1, true)).unwrap());
    let mut trainer = Trainer::new(vec![network.clone()], workers, true).unwrap();
    let shape = |channels: usize| (batch, frames, side, side, channels);
    let random = |channels: usize| Tensor::randn(0f32, 1.0, shape(channels), &Device::Cpu).unwrap();
    let mut inputs = BTreeMap::from([
        ("sample".to_string(), Input::Tensor(random(channels))),
        ("timestep".to_string(), Input::Numbers(vec![500.0; batch])),
    ]);
    if let Some(width) = json["image_embedding_dim"].as_u64() {
        let embedding = Tensor::randn(0f32, 0.06, (batch, width as usize), &Device::Cpu).unwrap();
        inputs.insert("image_embedding".into(), Input::Tensor(embedding));
    }
    if json["fps_conditioning"] == true {
        inputs.insert("fps".into(), Input::Numbers(vec![8.0; batch]));
    }
    if json["augmentation_conditioning"] == true {
        inputs.insert("augmentation".into(), Input::Numbers(vec![0.1; batch]));
    }
    let objective = Objective {
        weight: 1.0,
        calls: vec![Call { network: 0, inputs: Inputs(inputs), output: "sample".into() }],
        loss: Loss::Regression { target: random(3), sample_weights: Vec::new() },
    };
    let precision = if std::env::var("F32").is_ok() { Precision::F32 } else { Precision::Bf16 };
    let options =
        StepOptions { precision, adamw: AdamW::default(), rates: Vec::new(), clip: Some(1.0), ema_decay: 0.99 };
    println!("{} parameters, {:?}, {workers} workers", network.parameters().count(), kinora_kernels::isa());
    for step in 0..steps {
        let start = Instant::now();
        let result = trainer.step(std::slice::from_ref(&objective), &options, &|| Ok(())).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "step {step}: {seconds:.2} s, {:.1} frames/s, loss {:.4}",
            (batch * frames) as f64 / seconds,
            result.loss
        );
    }
}
