//! Every operation on the GPU beside the same on the CPU: results, and gradients to all inputs.
//!
//! Built with the feature `cuda` only, and fails where there is no GPU: `deno task cuda:build` runs it on a device that is
//! the processor, `deno task test --gpu` on a GPU.
#![cfg(feature = "cuda")]

use candle_core::{Device, Result, Tensor, Var};
use kinora_kernels::*;

#[allow(dead_code)] // other tests draw sizes too
mod random;
use random::{Random, values};

fn tensor(shape: &[usize], seed: u64) -> Tensor {
    Random(seed).tensor(shape)
}

/// A result and the gradients of its sum weighted by some numbers, on the host.
fn run(device: &Device, inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Vec<f32>> {
    let var = |x: &Tensor| Var::from_tensor(&x.to_device(device).unwrap()).unwrap();
    let vars: Vec<Var> = inputs.iter().map(var).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = f(&tensors).unwrap();
    let weights = tensor(y.dims(), 77).to_device(device).unwrap();
    let mut all = vec![values(&y)];
    let gradients = backward(&(&y * &weights).unwrap().sum_all().unwrap()).unwrap();
    all.extend(vars.iter().map(|var| values(gradients.get(var.as_tensor()).expect("a gradient to each input"))));
    all
}

/// On both devices, in f32 and bf16. `tolerance` is that of f32, relative to a tensor's largest number.
#[track_caller]
fn alike(what: &str, shapes: &[&[usize]], tolerance: f32, f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let inputs: Vec<Tensor> = shapes.iter().enumerate().map(|(i, s)| tensor(s, i as u64 + 1)).collect();
    let gpu = gpu().expect("these tests need a GPU").device;
    for precision in [Precision::F32, Precision::Bf16] {
        let f = |inputs: &[Tensor]| with_precision(precision, || f(inputs));
        let (cpu, cuda) = (run(&Device::Cpu, &inputs, &f), run(&gpu, &inputs, &f));
        // Operands that differ in their last bit may round to different numbers of bf16.
        let tolerance = if precision == Precision::Bf16 { tolerance.max(3e-3) } else { tolerance };
        for (i, (cpu, cuda)) in cpu.iter().zip(&cuda).enumerate() {
            assert_eq!(cpu.len(), cuda.len(), "{what}");
            let largest = cpu.iter().fold(0f32, |most, x| most.max(x.abs()));
            assert!(largest > 0.0, "{what}: number {i} says nothing");
            for (at, (a, b)) in cpu.iter().zip(cuda).enumerate() {
                let close = (a - b).abs() <= tolerance * largest;
                assert!(close, "{what} in {precision:?}, tensor {i} at {at}: {b} is not {a}");
            }
        }
    }
}

fn weight(x: &Tensor) -> Weight {
    Weight::fixed(x.clone())
}

#[test]
fn linear_layers() {
    alike("linear", &[&[3, 20, 12], &[7, 12], &[7]], 1e-5, |x| linear(&x[0], &weight(&x[1]), Some(&x[2])));
    alike("without a bias", &[&[5, 9], &[6, 9]], 1e-5, |x| linear(&x[0], &weight(&x[1]), None));
    // Wide enough for bf16.
    alike("wide", &[&[1, 40, 64], &[48, 64], &[48]], 1e-5, |x| linear(&x[0], &weight(&x[1]), Some(&x[2])));
}

#[test]
fn convolutions_over_pixels() {
    let conv = |stride, padding| move |x: &[Tensor]| conv2d(&x[0], &weight(&x[1]), Some(&x[2]), stride, padding);
    alike("3x3", &[&[5, 4, 3, 6], &[7, 6, 3, 3], &[7]], 1e-5, conv(1, 1));
    alike("of one image", &[&[3, 6, 1, 5], &[4, 5, 3, 3], &[4]], 1e-5, conv(1, 1));
    alike("without zeros around", &[&[5, 4, 2, 6], &[7, 6, 3, 3], &[7]], 1e-5, conv(1, 0));
    alike("5x5", &[&[6, 5, 4, 3], &[2, 3, 5, 5], &[2]], 1e-5, conv(1, 2));
    alike("1x3", &[&[3, 5, 2, 6], &[4, 6, 1, 3], &[4]], 1e-5, conv(1, 0));
    alike("3x1", &[&[4, 3, 5, 6], &[4, 6, 3, 1], &[4]], 1e-5, conv(1, 0));
    // What cuDNN does not take: strides, and what the one on the host refuses.
    alike("stride 2", &[&[6, 5, 2, 6], &[7, 6, 3, 3], &[7]], 1e-5, conv(2, 1));
    alike("9 channels", &[&[4, 3, 2, 9], &[5, 9, 3, 3], &[5]], 1e-5, conv(1, 1));
    alike("11 channels", &[&[4, 3, 2, 11], &[5, 11, 3, 3], &[5]], 1e-5, conv(1, 1));
    alike("1x1", &[&[4, 4, 2, 6], &[7, 6, 1, 1], &[7]], 1e-5, conv(1, 0));
    alike("wide", &[&[4, 5, 2, 64], &[48, 64, 3, 3], &[48]], 1e-5, conv(1, 1));
    alike("without a bias", &[&[5, 4, 3, 6], &[7, 6, 3, 3]], 1e-5, |x| conv2d(&x[0], &weight(&x[1]), None, 1, 1));
}

#[test]
fn convolutions_over_frames() {
    for taps in [1, 3, 5] {
        let over_frames = |x: &[Tensor]| temporal_conv(&x[0], &weight(&x[1]), Some(&x[2]), 4);
        alike("over frames", &[&[2, 3, 8, 6], &[7, 6, taps], &[7]], 1e-5, over_frames);
    }
}

#[test]
fn attentions() {
    let options = |sequences, causal| AttentionOptions { heads: 2, sequences, causal, key_mask: None };
    alike("over pixels with context", &[&[2, 3, 4, 48], &[2, 3, 32], &[2, 6, 6]], 2e-5, |x| {
        attention(&x[0], Some(&x[1]), Some(&x[2]), &options(Sequences::Space, false))
    });
    alike("over frames", &[&[2, 2, 10, 48], &[2, 5, 5]], 2e-5, |x| {
        attention(&x[0], None, Some(&x[1]), &options(Sequences::Frames(5), true))
    });
    alike("of rows with a mask", &[&[2, 4, 48]], 2e-5, |x| {
        let mask = Tensor::new(&[[1f32, 1., 0., 0.], [1., 1., 1., 1.]], x[0].device())?;
        attention(&x[0], None, None, &AttentionOptions { key_mask: Some(mask), ..options(Sequences::Rows, false) })
    });
}

#[test]
fn norms() {
    for silu in [false, true] {
        alike("group", &[&[3, 2, 4, 12], &[2, 24]], 2e-5, |x| group_norm(&x[0], &x[1], 3, 1e-5, silu));
    }
    alike("layer", &[&[5, 7, 20], &[20], &[20]], 2e-5, |x| layer_norm(&x[0], &x[1], &x[2], 1e-5));
    alike("rms", &[&[5, 7, 20], &[20]], 2e-5, |x| rms_norm(&x[0], &x[1], 1e-6));
    for clips in [1, 2] {
        let shapes: [&[usize]; 4] = [&[3, 5, 6, 20], &[clips, 40], &[3, 5, 6, 20], &[7, 20, 3, 3]];
        alike("rms with scale-shift", &shapes[..2], 2e-5, |x| rms_norm_silu(&x[0], &x[1], 1e-6));
        alike("and a residual", &shapes[..3], 2e-5, |x| rms_norm_silu_add(&x[0], &x[1], &x[2], 1e-6));
        let [x, gains, _, kernel] = shapes;
        alike("before a convolution", &[x, gains, kernel], 2e-5, |x| {
            rms_norm_silu_conv2d(&x[0], &x[1], 1e-6, &weight(&x[2]), None, 1, 1)
        });
    }
}

#[test]
fn the_rest() {
    alike("silu", &[&[3, 70]], 1e-5, |x| silu(&x[0]));
    alike("gelu", &[&[3, 70]], 1e-5, |x| gelu(&x[0]));
    alike("geglu", &[&[3, 70]], 1e-5, |x| geglu(&x[0]));
    alike("add", &[&[3, 70], &[3, 70]], 1e-6, |x| add(&x[0], &x[1]));
    alike("concatenate", &[&[2, 3, 5], &[2, 3, 4]], 1e-6, |x| concatenate(&x[0], &x[1]));
    alike("scaled", &[&[2, 3, 5], &[2, 3, 4]], 1e-6, |x| concatenate_scaled(&x[0], 0.75, &x[1]));
    alike("given back", &[&[2, 3, 2, 5], &[2, 3, 2, 5]], 1e-6, |x| {
        let both = add(&x[0], &x[1])?;
        let y = concatenate(&both, &x[1])?;
        spent(&both)?;
        Ok(y)
    });
    alike("pixel shuffle", &[&[2, 3, 6, 12]], 1e-6, |x| pixel_shuffle(&x[0], 2));
    alike("pixel unshuffle", &[&[4, 6, 2, 3]], 1e-6, |x| pixel_unshuffle(&x[0], 2));
    alike("patchify", &[&[2, 3, 4, 6, 3]], 1e-6, |x| patchify(&x[0], 2));
    alike("unpatchify", &[&[2, 3, 6, 12]], 1e-6, |x| unpatchify(&x[0], 2, 2, 3));
    alike("nearest", &[&[2, 3, 2, 5]], 1e-6, |x| upsample_nearest2(&x[0]));
    alike("mean", &[&[4, 6, 2, 5]], 1e-6, |x| average_pool2(&x[0]));
}

#[test]
fn a_weight_that_is_changed_is_packed_anew() {
    let gpu = gpu().expect("these tests need a GPU").device;
    let var = Var::from_tensor(&tensor(&[4, 6, 3], 1).to_device(&gpu).unwrap()).unwrap();
    let version = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let kernel = Weight::new(var.as_tensor().clone(), version.clone());
    let x = tensor(&[2, 1, 3, 6], 2).to_device(&gpu).unwrap();
    let sum = || values(&temporal_conv(&x, &kernel, None, 3).unwrap()).iter().map(|y| y.abs()).sum::<f32>();
    let before = sum();
    var.set(&(var.as_tensor() * 2.0).unwrap()).unwrap();
    assert_eq!(sum(), before, "as long as nobody says so");
    version.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(sum(), 2.0 * before);
}

#[test]
fn what_a_gpu_does_not_do_is_refused() {
    let gpu = gpu().expect("these tests need a GPU").device;
    let x = tensor(&[2, 2, 2, 3 * 129], 1).to_device(&gpu).unwrap();
    let options = AttentionOptions { heads: 1, sequences: Sequences::Space, causal: false, key_mask: None };
    let error = attention(&x, None, None, &options).unwrap_err().to_string();
    assert!(error.contains("heads of at most 128 channels"), "{error}");
    let other = tensor(&[2, 2, 2, 3 * 129], 3);
    assert!(add(&x, &other).is_err(), "tensors on different devices");
}
