//! Every op's backward against central differences, on every instruction set this machine has.

use candle_core::{Device, Result, Tensor, Var};
use kinora_kernels::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

mod paths;
mod random;
use random::{Random, values};

fn var(r: &mut Random, shape: &[usize]) -> Var {
    Var::from_tensor(&r.tensor(shape)).unwrap()
}

#[test]
fn every_path() {
    paths::every_other_test_on_every_path("every_path");
}

#[test]
fn the_path_asked_for_is_in_use() {
    paths::check_path();
}

/// Compares the gradient of a random projection of `f` with central differences, for some elements of each input.
fn check(name: &str, inputs: &[Var], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let mut random = Random(42);
    let tensors = |inputs: &[Var]| inputs.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>();
    let y = f(&tensors(inputs)).unwrap();
    let weights = random.tensor(y.dims());
    let loss = |inputs: &[Tensor]| -> f64 {
        let y = values(&f(inputs).unwrap());
        let w = values(&weights);
        y.iter().zip(w).map(|(y, w)| f64::from(*y) * f64::from(w)).sum()
    };
    let grads = (y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
    for (index, input) in inputs.iter().enumerate() {
        let grad = grads.get(input).unwrap_or_else(|| panic!("{name}: no gradient for input {index}"));
        let grad = values(grad);
        let numbers = values(input);
        let scale = grad.iter().fold(0.1f32, |most, g| most.max(g.abs()));
        for _ in 0..24 {
            let at = random.size(0, numbers.len() - 1);
            let step = 2e-2f32;
            let moved = |by: f32| {
                let mut moved = numbers.clone();
                moved[at] += by;
                let mut all = tensors(inputs);
                all[index] = Tensor::from_vec(moved, input.shape(), &Device::Cpu).unwrap();
                loss(&all)
            };
            // Of fourth order, so that a step wide enough for f32 is still exact enough.
            let near = moved(step) - moved(-step);
            let far = moved(2.0 * step) - moved(-2.0 * step);
            let expected = ((8.0 * near - far) / (12.0 * f64::from(step))) as f32;
            assert!(
                (grad[at] - expected).abs() < 1e-3 * scale + 2e-4,
                "{name}: input {index} at {at}: {} against {expected}",
                grad[at]
            );
        }
    }
}

#[test]
fn linear_gradients() {
    let mut r = Random(1);
    for (rows, inputs, outputs) in [(5, 7, 3), (40, 64, 33)] {
        let vars = [var(&mut r, &[2, rows, inputs]), var(&mut r, &[outputs, inputs]), var(&mut r, &[outputs])];
        check("linear", &vars, |v| linear(&v[0], &Weight::fixed(v[1].clone()), Some(&v[2])));
        check("linear without bias", &vars[..2], |v| linear(&v[0], &Weight::fixed(v[1].clone()), None));
    }
}

#[test]
fn conv2d_gradients() {
    let mut r = Random(2);
    for (h, w, n, i, o, k, stride) in [
        (5, 4, 3, 6, 5, 3, 1),
        (6, 8, 2, 32, 18, 3, 2),
        (7, 7, 1, 3, 4, 7, 1),
        (8, 9, 2, 3, 4, 7, 2),
        (4, 4, 2, 5, 3, 1, 1),
        (5, 5, 2, 5, 3, 1, 2),
    ] {
        let vars = [var(&mut r, &[h, w, n, i]), var(&mut r, &[o, i, k, k]), var(&mut r, &[o])];
        check("conv2d", &vars, |v| conv2d(&v[0], &Weight::fixed(v[1].clone()), Some(&v[2]), stride, k / 2));
    }
}

#[test]
fn temporal_conv_gradients() {
    let mut r = Random(3);
    for (frames, clips, i, o, k) in [(7, 2, 6, 5, 3), (1, 3, 4, 4, 3), (16, 1, 16, 8, 5)] {
        let vars = [var(&mut r, &[2, 3, clips * frames, i]), var(&mut r, &[o, i, k]), var(&mut r, &[o])];
        check("temporal_conv", &vars, |v| temporal_conv(&v[0], &Weight::fixed(v[1].clone()), Some(&v[2]), frames));
    }
}

#[test]
fn norm_gradients() {
    let mut r = Random(4);
    for silu in [false, true] {
        // 81 pixels are more than are added up together, 600 more than are split by images.
        for (h, w, n, clips, c, groups) in
            [(3, 2, 4, 2, 8, 4), (3, 2, 3, 1, 20, 1), (3, 2, 2, 2, 48, 3), (9, 9, 3, 1, 20, 5), (25, 24, 2, 2, 6, 3)]
        {
            let vars = [var(&mut r, &[h, w, n, c]), var(&mut r, &[clips, 2 * c])];
            check("group_norm", &vars, |v| group_norm(&v[0], &v[1], groups, 1e-5, silu));
        }
    }
    let vars = [var(&mut r, &[5, 3, 21]), var(&mut r, &[21]), var(&mut r, &[21])];
    check("layer_norm", &vars, |v| layer_norm(&v[0], &v[1], &v[2], 1e-5));
    check("rms_norm", &vars[..2], |v| rms_norm(&v[0], &v[1], 1e-12));
    for (n, clips, c) in [(4, 2, 8), (3, 1, 21), (2, 2, 48)] {
        let vars = [var(&mut r, &[3, 2, n, c]), var(&mut r, &[clips, 2 * c])];
        check("rms_norm_silu", &vars, |v| rms_norm_silu(&v[0], &v[1], 1e-12));
        let [x, gains] = vars;
        let vars = [x, gains, var(&mut r, &[3, 2, n, c])];
        check("rms_norm_silu_add", &vars, |v| rms_norm_silu_add(&v[0], &v[1], &v[2], 1e-12));
    }
}

#[test]
fn activation_and_grid_gradients() {
    let mut r = Random(5);
    let x = [var(&mut r, &[4, 6, 3, 8])];
    check("silu", &x, |v| silu(&v[0]));
    check("gelu", &x, |v| gelu(&v[0]));
    check("geglu", &x, |v| geglu(&v[0]));
    check("upsample_nearest2", &x, |v| upsample_nearest2(&v[0]));
    check("average_pool2", &x, |v| average_pool2(&v[0]));
    let frames = [var(&mut r, &[2, 3, 4, 6, 3])];
    check("patchify", &frames, |v| patchify(&v[0], 2));
    let two = [var(&mut r, &[3, 2, 4, 7]), var(&mut r, &[3, 2, 4, 7]), var(&mut r, &[3, 2, 4, 2])];
    check("add", &two[..2], |v| add(&v[0], &v[1]));
    check("add to itself", &two[..1], |v| add(&v[0], &v[0]));
    check("concatenate", &two[1..], |v| concatenate(&v[0], &v[1]));
    check("concatenate_scaled", &two[1..], |v| concatenate_scaled(&v[0], 0.75, &v[1]));
    let grid = [var(&mut r, &[2, 3, 6, 12])];
    check("unpatchify", &grid, |v| unpatchify(&v[0], 2, 2, 3));
    check("pixel_shuffle", &grid, |v| pixel_shuffle(&v[0], 2));
    check("pixel_unshuffle", &x, |v| pixel_unshuffle(&v[0], 2));
}

/// A block of lucidrains' network: held as a whole, and with its values given back and made again.
#[test]
fn less_memory_gives_the_same_bits() {
    let mut r = Random(12);
    let (x, gains) = (var(&mut r, &[6, 6, 4, 64]), var(&mut r, &[2, 128]));
    let (w, bias) = (var(&mut r, &[64, 64, 3, 3]), var(&mut r, &[64]));
    let weight = || Weight::fixed(w.as_tensor().clone());
    let (residual, skip) = (var(&mut r, &[6, 6, 4, 64]), var(&mut r, &[6, 6, 4, 64]));
    let inputs = [&x, &gains, &w, &bias, &residual, &skip];
    let all = |loss: &Tensor, store: &candle_core::backprop::GradStore| {
        let mut all = values(loss);
        inputs.iter().for_each(|v| all.extend(values(store.get(v).expect("a gradient"))));
        all
    };
    for precision in [Precision::F32, Precision::Bf16, Precision::Bf16x3] {
        with_precision(precision, || -> Result<()> {
            // The weight is used twice, so that its gradients are added up.
            let h = conv2d(&x, &weight(), Some(&bias), 1, 1)?;
            let h = conv2d(&rms_norm_silu(&h, &gains, 1e-12)?, &weight(), Some(&bias), 1, 1)?;
            let h = add(&rms_norm_silu(&h, &gains, 1e-12)?, &residual)?;
            let h = concatenate(&(skip.as_tensor() * 0.5)?, &h)?;
            let loss = h.sqr()?.mean_all()?;
            let expected = all(&loss, &loss.backward()?);

            let h = conv2d(&x, &weight(), Some(&bias), 1, 1)?;
            let h = rms_norm_silu_conv2d(&h, &gains, 1e-12, &weight(), Some(&bias), 1, 1)?;
            let h = rms_norm_silu_add(&h, &gains, &residual, 1e-12)?;
            let both = concatenate_scaled(&skip, 0.5, &h)?;
            spent(&h)?;
            let loss = both.sqr()?.mean_all()?;
            let store = backward(&loss)?;
            assert!(all(&loss, &store) == expected, "{precision:?}");
            let error = silu(&both).unwrap_err().to_string();
            assert!(error.contains("have been given back"), "{error}");
            assert!(silu(&h).is_err());
            values(&x);
            Ok(())
        })
        .unwrap();
    }
}

/// What shares its values with others, or belongs to somebody, is left alone.
#[test]
fn parts_and_variables_are_not_given_back() {
    let mut r = Random(13);
    let (x, v) = (r.tensor(&[3, 4]), var(&mut r, &[5]));
    let part = x.narrow(0, 1, 1).unwrap();
    spent(&part).unwrap();
    spent(&v).unwrap();
    assert_eq!((values(&x).len(), values(&v).len()), (12, 5));
    spent(&x).unwrap();
    assert!(silu(&x).is_err());
}

#[test]
fn attention_gradients() {
    let mut r = Random(7);
    let (heads, c) = (2, 12);
    let options = |sequences, causal| AttentionOptions { heads, sequences, causal, key_mask: None };
    for causal in [false, true] {
        // Two clips of two images share a context; 72 pixels are more than one tile of queries.
        for (h, w) in [(3, 2), (9, 8)] {
            let tokens = h * w;
            let all =
                [var(&mut r, &[h, w, 4, 3 * c]), var(&mut r, &[2, 3, 2 * c]), var(&mut r, &[heads, tokens, tokens])];
            let options = options(Sequences::Space, causal);
            check("space", &all[..1], |v| attention(&v[0], None, None, &options));
            check("space with context", &all[..2], |v| attention(&v[0], Some(&v[1]), None, &options));
            check("space with both", &all, |v| attention(&v[0], Some(&v[1]), Some(&v[2]), &options));
        }
        let time = [var(&mut r, &[2, 3, 10, 3 * c]), var(&mut r, &[heads, 5, 5])];
        let frames = options(Sequences::Frames(5), causal);
        check("frames", &time[..1], |v| attention(&v[0], None, None, &frames));
        check("frames with bias", &time, |v| attention(&v[0], None, Some(&v[1]), &frames));
        // More frames than a vector has lanes, heads of whole vectors and of a tail.
        for (frames, d) in [(16, 64), (19, 33), (33, 128)] {
            let time = [var(&mut r, &[2, 1, frames, 6 * d]), var(&mut r, &[heads, frames, frames])];
            let options = options(Sequences::Frames(frames), causal);
            check("many frames", &time[..1], |v| attention(&v[0], None, None, &options));
            check("many frames with bias", &time, |v| attention(&v[0], None, Some(&v[1]), &options));
        }
        let mask = Tensor::new(&[[1f32, 1., 0., 1.], [1., 0., 0., 0.]], &Device::Cpu).unwrap();
        let rows = [var(&mut r, &[2, 4, 3 * c]), var(&mut r, &[2, 3, 2 * c]), var(&mut r, &[heads, 4, 4])];
        for key_mask in [None, Some(mask)] {
            let options = AttentionOptions { key_mask, ..options(Sequences::Rows, causal) };
            check("rows", &rows[..1], |v| attention(&v[0], None, None, &options));
            check("rows with both", &rows, |v| attention(&v[0], Some(&v[1]), Some(&v[2]), &options));
        }
    }
}

#[test]
fn a_weight_changed_in_place_is_packed_anew() {
    let mut r = Random(10);
    let (x, w, other) = (r.tensor(&[5, 20]), var(&mut r, &[7, 20]), r.tensor(&[7, 20]));
    let version = Arc::new(AtomicU64::new(0));
    let weight = Weight::new(w.as_tensor().clone(), version.clone());
    let before = values(&linear(&x, &weight, None).unwrap());
    w.set(&other).unwrap();
    version.fetch_add(1, Ordering::AcqRel);
    let after = values(&linear(&x, &weight, None).unwrap());
    assert_ne!(before, after);
    assert_eq!(after, values(&linear(&x, &Weight::fixed(other), None).unwrap()));
}

/// A backward pass computes in the precision of its forward, wherever it is called.
#[test]
fn backward_keeps_the_precision_of_its_forward() {
    let mut r = Random(11);
    let (x, w) = (var(&mut r, &[1, 9, 56]), var(&mut r, &[50, 56]));
    let weight = Weight::fixed(w.as_tensor().clone());
    let gradient = |inside: Precision, outside: Precision| {
        let y = with_precision(inside, || linear(&x, &weight, None)).unwrap();
        let scale = Tensor::arange(0f32, 50., &Device::Cpu).unwrap();
        let loss = y.broadcast_mul(&scale).unwrap().sum_all().unwrap();
        let gradients = with_precision(outside, || loss.backward()).unwrap();
        [values(gradients.get(&x).unwrap()), values(gradients.get(&w).unwrap())]
    };
    let rounded = gradient(Precision::Bf16, Precision::F32);
    assert_eq!(rounded, gradient(Precision::Bf16, Precision::Bf16));
    assert_ne!(rounded, gradient(Precision::F32, Precision::Bf16));
}

#[test]
fn threads_do_not_change_a_bit() {
    let mut r = Random(8);
    let x = var(&mut r, &[9, 9, 5, 40]);
    let (w, t) = (var(&mut r, &[48, 40, 3, 3]), var(&mut r, &[48, 48, 3]));
    let (ss, bias) = (var(&mut r, &[1, 96]), var(&mut r, &[1, 5, 5]));
    let run = || {
        let y = conv2d(&x, &Weight::fixed(w.as_tensor().clone()), None, 1, 1)?;
        let y = temporal_conv(&y, &Weight::fixed(t.as_tensor().clone()), None, 5)?;
        let y = group_norm(&y, &ss, 8, 1e-5, true)?;
        let options = AttentionOptions { heads: 2, sequences: Sequences::Space, causal: false, key_mask: None };
        let y = attention(&y, None, None, &options)?;
        let frames = AttentionOptions { sequences: Sequences::Frames(5), heads: 1, ..options };
        let y = attention(&Tensor::cat(&[&y, &y, &y], 3)?, None, Some(&bias), &frames)?;
        let grads = y.sqr()?.sum_all()?.backward()?;
        let mut all = y.flatten_all()?.to_vec1::<f32>()?;
        for v in [&x, &w, &t, &ss, &bias] {
            all.extend(grads.get(v).expect("a gradient").flatten_all()?.to_vec1::<f32>()?);
        }
        Result::Ok(all)
    };
    let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run).unwrap();
    assert_eq!(with(1), with(2));
    assert_eq!(with(1), with(3));
}

#[test]
fn threads_do_not_change_a_bit_of_sums_over_many_rows() {
    let mut r = Random(9);
    let x = var(&mut r, &[24, 24, 8, 24]);
    let (gains, gamma, beta) = (var(&mut r, &[2, 48]), var(&mut r, &[24]), var(&mut r, &[24]));
    let (w, bias) = (var(&mut r, &[40, 24]), var(&mut r, &[40]));
    let run = || {
        let y = rms_norm_silu(&x, &gains, 1e-12)?;
        let y = layer_norm(&y, &gamma, &beta, 1e-5)?;
        let y = linear(&y, &Weight::fixed(w.as_tensor().clone()), Some(&bias))?;
        let grads = y.sqr()?.sum_all()?.backward()?;
        let mut all = y.flatten_all()?.to_vec1::<f32>()?;
        for v in [&x, &gains, &gamma, &beta, &w, &bias] {
            all.extend(grads.get(v).expect("a gradient").flatten_all()?.to_vec1::<f32>()?);
        }
        Result::Ok(all)
    };
    let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run).unwrap();
    assert_eq!(with(1), with(2));
    assert_eq!(with(1), with(3));
}
