//! What recorded runs do not show: refusals, faults by their definitions, gradients against finite differences.

use super::*;
use crate::disturbed::{difference, disturbed, noise, values};
use crate::parameters::Parameters;
use candle_core::{DType, Device, Tensor, Var};
use kinora_kernels::Precision;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};

/// A layer with weights from a seed, or from `state`.
fn layer(kind: &str, config: &Value, state: Option<HashMap<String, Tensor>>) -> Layer {
    let parameters = match state {
        Some(state) => Parameters::loaded(state, false),
        None => Parameters::seeded(3, false),
    };
    Layer::new(&format!("{PREFIX}{kind}"), config, parameters).unwrap_or_else(|error| panic!("{kind}: {error:?}"))
}

/// A layer whose weights are neither zero nor the identity.
fn alive(kind: &str, config: &Value) -> Layer {
    let state = disturbed(layer(kind, config, None).parameters());
    layer(kind, config, Some(state))
}

fn run_with(layer: &Layer, inputs: &[(&str, &Tensor)], options: Value) -> candle_core::Result<Tensor> {
    let named = inputs.iter().map(|(name, tensor)| ((*name).to_owned(), (*tensor).clone())).collect();
    let Value::Object(options) = options else { panic!("options") };
    let call = layer.call(vec![], named, vec![], &options, &|| Ok(())).unwrap();
    layer.run(&call, Precision::F32)
}

fn run(layer: &Layer, inputs: &[(&str, &Tensor)]) -> Tensor {
    run_with(layer, inputs, json!({})).unwrap()
}

fn small_unet() -> Value {
    json!({
        "dim": 4, "dim_mult": [1, 2], "self_attns": [false, true], "temporal_compression": [false, true],
        "resnet_block_depths": [1, 1], "attn_dim_head": 4, "attn_heads": 2,
    })
}

fn row(numbers: &[f32]) -> Tensor {
    Tensor::new(numbers, &Device::Cpu).unwrap()
}

#[test]
fn a_new_convolution_is_that_of_each_frame_but_a_new_network_is_not() {
    let conv = layer("PseudoConv3d", &json!({ "dim": 3, "dim_out": 5 }), None);
    let clip = noise(&[2, 3, 4, 6, 5], 1);
    let frames = run_with(&conv, &[("x", &clip)], json!({ "enable_time": false })).unwrap();
    assert_eq!(difference(&run(&conv, &[("x", &clip)]), &frames), 0.0);
    let picture = run(&conv, &[("x", &clip.narrow(2, 1, 1).unwrap().squeeze(2).unwrap())]);
    assert!(difference(&picture.unsqueeze(2).unwrap(), &frames.narrow(2, 1, 1).unwrap()) < 1e-6);

    let unet = layer("SpaceTimeUnet", &small_unet(), None);
    let (clip, timestep) = (noise(&[1, 3, 2, 8, 8], 2), row(&[500.0]));
    let inputs = [("x", &clip), ("timestep", &timestep)];
    let frames = run_with(&unet, &inputs, json!({ "enable_time": false })).unwrap();
    assert!(difference(&run(&unet, &inputs), &frames) > 1e-3);
}

#[test]
fn the_larger_half_of_an_odd_width_stays_in_its_frame() {
    // An inner width of 5, and every weight one: the inner channels of a frame are equal.
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
    let state = HashMap::from([
        ("proj_in.0.weight".to_string(), ones(&[10, 4, 1, 1, 1])),
        ("proj_out.0.gamma".to_string(), ones(&[5])),
        ("proj_out.1.weight".to_string(), ones(&[4, 5, 1, 1, 1])),
    ]);
    let feed_forward = layer("FeedForward", &json!({ "dim": 4, "mult": 2 }), Some(state));
    let y = values(&run(&feed_forward, &[("x", &ones(&[1, 4, 2, 1, 1]))]));
    // First frame: three equal numbers and two zeros. Second frame: five equal numbers. Both scaled to length √5.
    let expected = [3.0 / 3f32.sqrt() * 5f32.sqrt(), 5.0];
    for (i, y) in y.iter().enumerate() {
        assert!((y - expected[i % 2]).abs() < 1e-5, "{y} at {i}");
    }
}

#[test]
fn an_even_temporal_kernel_adds_a_frame() {
    let conv = alive("PseudoConv3d", &json!({ "dim": 2, "kernel_size": 3, "temporal_kernel_size": 4 }));
    let clip = noise(&[1, 2, 3, 1, 1], 5);
    let y = run(&conv, &[("x", &clip)]);
    assert_eq!(y.dims(), [1, 2, 4, 1, 1]);
    let frames = values(&run_with(&conv, &[("x", &clip)], json!({ "enable_time": false })).unwrap());
    let weights = conv.parameters().tensors();
    let (w, b) = (values(&weights["temporal_conv.weight"]), values(&weights["temporal_conv.bias"]));
    for (at, y) in values(&y).into_iter().enumerate() {
        let (output, frame) = (at / 4, at % 4);
        let mut expected = b[output];
        for input in 0..2 {
            for tap in 0..4 {
                if let Some(source) = (frame + tap).checked_sub(2).filter(|source| *source < 3) {
                    expected += w[(output * 2 + input) * 4 + tap] * frames[input * 3 + source];
                }
            }
        }
        assert!((y - expected).abs() < 1e-5, "{y} is not {expected}");
    }
    let even = layer("PseudoConv3d", &json!({ "dim": 2, "kernel_size": 2 }), None);
    assert_eq!(run(&even, &[("x", &noise(&[1, 2, 3, 4], 6))]).dims(), [1, 2, 4, 5]);
    assert!(run_with(&even, &[("x", &noise(&[1, 2, 3, 3, 4], 6))], json!({})).is_err());
}

#[test]
fn zero_and_tiny_rows_are_divided_by_the_least_length() {
    let state = HashMap::from([("gamma".to_string(), row(&[2.0, 3.0]))]);
    let norm = layer("RMSNorm", &json!({ "chan": 2 }), Some(state));
    let x = Var::from_tensor(&Tensor::new(&[[0f32, 0.0], [3e-13, 0.0]], &Device::Cpu).unwrap()).unwrap();
    let y = run(&norm, &[("x", x.as_tensor())]);
    let root = 2f32.sqrt();
    for (y, expected) in values(&y).into_iter().zip([0.0, 0.0, 0.3 * root * 2.0, 0.0]) {
        assert!((y - expected).abs() < 1e-6);
    }
    // There the norm is a multiplication.
    let gradient = y.sum_all().unwrap().backward().unwrap().get(x.as_tensor()).unwrap().clone();
    for (gradient, gain) in values(&gradient).into_iter().zip([2.0, 3.0, 2.0, 3.0]) {
        assert!((gradient / (1e12 * root * gain) - 1.0).abs() < 1e-5, "{gradient}");
    }
}

#[test]
fn halving_and_doubling_frames_keep_the_order_of_channels() {
    // The first output channel takes channel 1 of the second frame of each pair.
    let weight = row(&[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]).reshape((2, 4, 1, 1, 1)).unwrap();
    let config = json!({ "dim": 2, "downsample_space": false, "downsample_time": true });
    let down = layer("Downsample", &config, Some(HashMap::from([("down_time.1.weight".to_string(), weight)])));
    let clip = noise(&[1, 2, 4, 1, 1], 7);
    let (x, y) = (values(&clip), values(&run(&down, &[("x", &clip)])));
    assert_eq!(y, [x[5], x[7], 0.0, 0.0]);

    let config = json!({ "dim": 1, "upsample_space": false, "upsample_time": true });
    let state = HashMap::from([
        ("up_time.0.weight".to_string(), row(&[1.0, 10.0]).reshape((2, 1, 1, 1, 1)).unwrap()),
        ("up_time.0.bias".to_string(), row(&[0.0, 0.5])),
    ]);
    let up = layer("Upsample", &config, Some(state));
    let clip = row(&[2.0, 3.0]).reshape((1, 1, 2, 1, 1)).unwrap();
    assert_eq!(values(&run(&up, &[("x", &clip)])), [2.0, 20.5, 3.0, 30.5]);
}

#[test]
fn one_timestep_serves_all_clips_and_one_clip_all_timesteps() {
    let unet = alive("SpaceTimeUnet", &small_unet());
    let clip = noise(&[1, 3, 2, 4, 4], 8);
    let twice = Tensor::cat(&[&clip, &clip], 0).unwrap();
    let of = |x: &Tensor, timesteps: &[f32]| run(&unet, &[("x", x), ("timestep", &row(timesteps))]);
    let both = of(&twice, &[9.0, 700.0]);
    assert!(difference(&of(&clip, &[9.0, 700.0]), &both) < 1e-5);
    let same = of(&twice, &[9.0]);
    assert!(difference(&same.narrow(0, 1, 1).unwrap(), &both.narrow(0, 0, 1).unwrap()) < 1e-5);
    assert!(run_with(&unet, &[("x", &twice), ("timestep", &row(&[9.0; 3]))], json!({})).is_err());
}

#[test]
fn gradients_are_the_slopes() {
    let config = json!({
        "dim": 4, "dim_mult": [2], "self_attns": [true], "temporal_compression": [true], "resnet_block_depths": [1],
        "attn_dim_head": 4, "attn_heads": 1, "causal_time_attn": true,
    });
    let unet = alive("SpaceTimeUnet", &config);
    let x = Var::from_tensor(&noise(&[1, 3, 2, 4, 2], 9)).unwrap();
    let timestep = Var::from_tensor(&row(&[3.5])).unwrap();
    let cotangent = noise(x.dims(), 10);
    let of = |x: &Tensor, timestep: &Tensor| {
        let y = run(&unet, &[("x", x), ("timestep", timestep)]);
        (y * &cotangent).unwrap().sum_all().unwrap()
    };
    let gradients = of(x.as_tensor(), timestep.as_tensor()).backward().unwrap();
    let loss = |x: &Tensor, timestep: &Tensor| f64::from(of(x, timestep).to_scalar::<f32>().unwrap());
    let step = 1e-2;
    for (at, var) in [&x, &timestep].into_iter().enumerate() {
        let gradient = gradients.get(var.as_tensor()).unwrap();
        let direction = noise(var.dims(), 11);
        let slope: f32 = (gradient * &direction).unwrap().sum_all().unwrap().to_scalar().unwrap();
        let moved = |by: f64| {
            let moved = (var.as_detached_tensor() + (&direction * by).unwrap()).unwrap();
            if at == 0 { loss(&moved, &timestep) } else { loss(&x, &moved) }
        };
        let found = (moved(step) - moved(-step)) / (2.0 * step);
        assert!((found - f64::from(slope)).abs() < 2e-2 * (1.0 + found.abs()), "{at}: {slope} is not {found}");
    }
}

#[test]
fn what_is_not_known_is_unsupported_and_named() {
    for (kind, config, named) in [
        ("PseudoConv2d", json!({}), "PseudoConv2d"),
        ("PseudoConv3d", json!({}), "dim"),
        ("PseudoConv3d", json!({ "dim": 0 }), "dim"),
        ("PseudoConv3d", json!({ "dim": "x" }), "dim"),
        ("PseudoConv3d", json!([]), "config"),
        ("PseudoConv3d", json!({ "dim": 1, "kernel_size": 0 }), "kernel_size"),
        ("FeedForward", json!({ "dim": 4, "depth": 1 }), "depth"),
        ("FeedForward", json!({ "dim": 1, "mult": 1 }), "mult"),
        ("SinusoidalPosEmb", json!({ "dim": 3 }), "dim"),
        ("Attention", json!({ "dim": 4, "heads": 65536, "dim_head": 65536 }), "heads"),
        ("SpatioTemporalAttention", json!({ "dim": 4, "flash": true }), "pos_bias"),
        ("Downsample", json!({ "dim": 4, "downsample_space": false }), "downsample_time"),
        ("Upsample", json!({ "dim": 4, "upsample_space": false }), "upsample_time"),
        ("SpaceTimeUnet", json!({ "dim": 8, "self_attns": [true] }), "self_attns"),
        ("SpaceTimeUnet", json!({ "dim": 8, "flash_attn": true }), "attn_pos_bias"),
        ("SpaceTimeUnet", json!({ "dim": 7 }), "condition_on_timestep"),
        ("SpaceTimeUnet", json!({ "dim": 8, "dim_mult": [1, 2, 4, 60000] }), "dim_mult"),
        ("SpaceTimeUnet", json!({ "dim": 8, "resnet_block_depths": [0, 1, 1, 1] }), "resnet_block_depths"),
    ] {
        match Layer::new(&format!("{PREFIX}{kind}"), &config, Parameters::seeded(0, false)) {
            Err(LayerError::Unsupported(why)) => assert!(why.contains(named), "{kind} {config}: {why}"),
            Err(other) => panic!("{kind} {config}: {other:?}"),
            Ok(_) => panic!("{kind} {config} was accepted"),
        }
    }
    let conv = layer("PseudoConv3d", &json!({ "dim": 2, "anything": true }), None);
    let x = noise(&[1, 2, 3, 4, 4], 1);
    let named = |name: &str| BTreeMap::from([(name.to_owned(), x.clone())]);
    let call = |positional, named, ints, options: Value| {
        let Value::Object(options) = options else { panic!("options") };
        conv.call(positional, named, ints, &options, &|| Ok(())).map(|_| ())
    };
    assert!(call(vec![x.clone()], BTreeMap::new(), vec![], json!({ "enable_time": true })).is_ok());
    for refused in [
        call(vec![x.clone(), x.clone()], BTreeMap::new(), vec![], json!({})),
        call(vec![], named("y"), vec![], json!({})),
        call(vec![], named("x"), vec![3], json!({})),
        call(vec![], named("x"), vec![], json!({ "enable_time": 1 })),
        call(vec![], named("x"), vec![], json!({ "time": true })),
    ] {
        assert!(matches!(refused, Err(LayerError::Unsupported(_))), "{refused:?}");
    }
    assert!(matches!(call(vec![x.clone()], named("x"), vec![], json!({})), Err(LayerError::Other(_))));
}

#[test]
fn weights_and_inputs_that_do_not_fit_are_refused() {
    let config = json!({ "dim": 2, "kernel_size": 1 });
    let state = layer("PseudoConv3d", &config, None).parameters().tensors();
    let refusal = |name: &str, tensor: Option<Tensor>| {
        let mut state: HashMap<_, _> = state.clone().into_iter().collect();
        match tensor {
            Some(tensor) => state.insert(name.into(), tensor),
            None => state.remove(name),
        };
        match Layer::new("lucidrains.PseudoConv3d", &config, Parameters::loaded(state, false)) {
            Err(LayerError::Other(error)) => assert!(error.to_string().contains(name), "{error}"),
            _ => panic!("{name} was not refused"),
        }
    };
    refusal("spatial_conv.bias", None);
    refusal("spatial_conv.bias", Some(noise(&[3], 1)));
    refusal("temporal_conv.bias", Some(noise(&[2], 1)));

    let unet = layer("SpaceTimeUnet", &small_unet(), None);
    let timestep = row(&[9.0]);
    let why = |x: &[usize], timestep: Option<&Tensor>| {
        let x = noise(x, 1);
        let inputs: Vec<_> = [("x", &x)].into_iter().chain(timestep.map(|t| ("timestep", t))).collect();
        run_with(&unet, &inputs, json!({})).unwrap_err().to_string()
    };
    assert!(why(&[1, 3, 3, 4, 4], Some(&timestep)).contains("multiple of 2, not 3"));
    assert!(why(&[1, 3, 2, 6, 4], Some(&timestep)).contains("multiples of 4, not 6x4"));
    assert!(why(&[1, 4, 2, 4, 4], Some(&timestep)).contains("3 channels, not 4"));
    assert!(why(&[1, 3, 2, 4], Some(&timestep)).contains("multiples of 4, not 2x4"));
    assert!(why(&[3, 2, 4], Some(&timestep)).contains("b, c, f, h, w"));
    assert!(why(&[1, 3, 2, 4, 4], None).contains("timestep is missing"));

    let block = layer("ResnetBlock", &json!({ "dim": 2, "dim_out": 2 }), None);
    let (x, code) = (noise(&[1, 2, 2, 3, 3], 1), noise(&[1, 4], 2));
    assert!(run_with(&block, &[("x", &x), ("timestep_emb", &code)], json!({})).is_err());
    let bias = layer("ContinuousPositionBias", &json!({ "dim": 4, "heads": 2 }), None);
    for ints in [vec![], vec![2, 3], vec![1 << 20]] {
        let call = bias.call(vec![], BTreeMap::new(), ints, &Map::new(), &|| Ok(())).unwrap();
        assert!(bias.run(&call, Precision::F32).is_err());
    }
}
