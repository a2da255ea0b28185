//! Every op's forward against a plain one in f64, on random shapes and on every instruction set this machine has.

use candle_core::{DType, Device, Tensor};
use kinora_kernels::*;

mod paths;
mod random;
use random::{Random, values};

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Bf16x3];

/// What an operand of a product becomes: bf16 rounds to eight bits, to nearest even.
fn operand(precision: Precision, value: f32) -> f64 {
    let rounded = match precision {
        Precision::F32 | Precision::Bf16x3 => value,
        Precision::Bf16 => {
            let bits = value.to_bits();
            f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
        }
    };
    f64::from(rounded)
}

/// What a product of so many channels in pictures of so many pixels computes in.
fn used(precision: Precision, inputs: usize, outputs: usize, pixels: usize) -> Precision {
    if inputs < 48 || outputs < 48 || pixels < 16 { Precision::F32 } else { precision }
}

fn operands(precision: Precision, x: &Tensor) -> Vec<f64> {
    values(x).into_iter().map(|value| operand(precision, value)).collect()
}

/// Of every other case as many as fill lines of any width.
fn channels(r: &mut Random, case: usize) -> usize {
    if case.is_multiple_of(2) { 32 * r.size(1, 3) } else { r.size(1, 100) }
}

/// Compares with a tolerance that grows with the number of terms in a sum.
fn close(name: &str, y: &Tensor, expected: &[f64], terms: usize, precision: Precision) {
    let y = values(y);
    assert_eq!(y.len(), expected.len(), "{name}");
    // What operands are split in loses some bits of each.
    let tolerance = if precision == Precision::Bf16x3 { 1e-5 } else { 1e-6 } * (4.0 + terms as f64);
    for (i, (y, e)) in y.iter().zip(expected).enumerate() {
        assert!((f64::from(*y) - e).abs() < tolerance * (1.0 + e.abs()), "{name} at {i}: {y} is not {e}");
    }
}

#[test]
fn every_path() {
    paths::every_other_test_on_every_path("every_path");
}

#[test]
fn the_path_asked_for_is_in_use() {
    paths::check_path();
}

#[test]
fn linear_is_its_definition() {
    let mut r = Random(1);
    for precision in PRECISIONS {
        for case in 0..12 {
            let (rows, inputs, outputs) = (r.size(1, 70), channels(&mut r, case), r.size(20, 90));
            let (x, w, b) = (r.tensor(&[1, rows, inputs]), r.tensor(&[outputs, inputs]), r.tensor(&[outputs]));
            let y = with_precision(precision, || linear(&x, &Weight::fixed(w.clone()), Some(&b))).unwrap();
            let precision = used(precision, inputs, outputs, usize::MAX);
            let (x, w, b) = (operands(precision, &x), operands(precision, &w), values(&b));
            let mut expected = Vec::new();
            for row in 0..rows {
                for o in 0..outputs {
                    let terms = (0..inputs).map(|i| x[row * inputs + i] * w[o * inputs + i]);
                    expected.push(f64::from(b[o]) + terms.sum::<f64>());
                }
            }
            close(&format!("linear {rows} {inputs} {outputs} {precision:?}"), &y, &expected, inputs, precision);
        }
    }
}

#[test]
fn conv2d_is_its_definition() {
    let mut r = Random(2);
    for precision in PRECISIONS {
        for case in 0..16 {
            let kernel = [1, 3, 3, 5, 7][case % 5];
            let (stride, padding) = (r.size(1, 3), r.size(0, kernel / 2));
            let (h, w) = (r.size(kernel, 9), r.size(kernel, 9));
            let (n, inputs, outputs) = (r.size(1, 5), channels(&mut r, case), r.size(20, 80));
            let x = r.tensor(&[h, w, n, inputs]);
            let (k, b) = (r.tensor(&[outputs, inputs, kernel, kernel]), r.tensor(&[outputs]));
            let y = with_precision(precision, || conv2d(&x, &Weight::fixed(k.clone()), Some(&b), stride, padding));
            let y = y.unwrap();
            let (oh, ow) = ((h + 2 * padding - kernel) / stride + 1, (w + 2 * padding - kernel) / stride + 1);
            assert_eq!(y.dims(), [oh, ow, n, outputs]);
            let precision = used(precision, inputs, outputs, oh * ow);
            let (x, k, b) = (operands(precision, &x), operands(precision, &k), values(&b));
            let mut expected = Vec::new();
            for (oy, ox, image, o) in product4(oh, ow, n, outputs) {
                let mut sum = f64::from(b[o]);
                for (ky, kx) in product2(kernel, kernel) {
                    let (iy, ix) = ((oy * stride + ky).wrapping_sub(padding), (ox * stride + kx).wrapping_sub(padding));
                    if iy < h && ix < w {
                        for i in 0..inputs {
                            let weight = k[((o * inputs + i) * kernel + ky) * kernel + kx];
                            sum += x[((iy * w + ix) * n + image) * inputs + i] * weight;
                        }
                    }
                }
                expected.push(sum);
            }
            let name = format!("conv2d {h}x{w}x{n} {inputs}-{outputs} k{kernel} s{stride} p{padding} {precision:?}");
            close(&name, &y, &expected, inputs * kernel * kernel, precision);
        }
    }
}

#[test]
fn temporal_conv_is_its_definition() {
    let mut r = Random(3);
    for precision in PRECISIONS {
        for case in 0..12 {
            let kernel = [1, 3, 5][case % 3];
            let (pixels, clips, frames) = (r.size(1, 30), r.size(1, 3), r.size(1, 20));
            let (inputs, outputs) = (channels(&mut r, case), r.size(20, 80));
            let x = r.tensor(&[pixels, 1, clips * frames, inputs]);
            let (k, b) = (r.tensor(&[outputs, inputs, kernel]), r.tensor(&[outputs]));
            let y = with_precision(precision, || temporal_conv(&x, &Weight::fixed(k.clone()), Some(&b), frames));
            let y = y.unwrap();
            let precision = used(precision, inputs, outputs, pixels);
            let (x, k, b) = (operands(precision, &x), operands(precision, &k), values(&b));
            let mut expected = Vec::new();
            for (pixel, clip, frame, o) in product4(pixels, clips, frames, outputs) {
                let mut sum = f64::from(b[o]);
                for tap in 0..kernel {
                    let at = (frame + tap).wrapping_sub(kernel / 2);
                    if at < frames {
                        for i in 0..inputs {
                            let row = (pixel * clips + clip) * frames + at;
                            sum += x[row * inputs + i] * k[(o * inputs + i) * kernel + tap];
                        }
                    }
                }
                expected.push(sum);
            }
            let name = format!("temporal_conv {pixels}x{clips}x{frames} {inputs}-{outputs} k{kernel} {precision:?}");
            close(&name, &y, &expected, inputs * kernel, precision);
        }
    }
}

#[test]
fn group_norm_is_its_definition() {
    let mut r = Random(4);
    for case in 0..12 {
        let (h, w, clips, frames) = (r.size(1, 6), r.size(1, 6), r.size(1, 3), r.size(1, 4));
        let (groups, width) = (r.size(1, 5), r.size(1, 20));
        // One value alone has no variance to speak of.
        if h * w * width < 3 {
            continue;
        }
        let (n, c, silu) = (clips * frames, groups * width, case % 2 == 1);
        let (x, ss) = (r.tensor(&[h, w, n, c]), r.tensor(&[clips, 2 * c]));
        let y = group_norm(&x, &ss, groups, 1e-5, silu).unwrap();
        let (x, ss) = (values(&x), values(&ss));
        let at = |pixel: usize, image: usize, channel: usize| f64::from(x[(pixel * n + image) * c + channel]);
        let mut expected = Vec::new();
        for (pixel, image, channel, _) in product4(h * w, n, c, 1) {
            let group = channel / width * width;
            let all: Vec<f64> = product2(h * w, width).map(|(p, i)| at(p, image, group + i)).collect();
            let (mean, variance) = moments(&all);
            let row = image / frames * 2 * c;
            let normal = (at(pixel, image, channel) - mean) / (variance + 1e-5).sqrt();
            let z = normal * f64::from(ss[row + channel]) + f64::from(ss[row + c + channel]);
            expected.push(if silu { z / (1.0 + (-z).exp()) } else { z });
        }
        close(&format!("group_norm {h}x{w}x{n}x{c} of {groups}"), &y, &expected, 10, Precision::F32);
    }
}

#[test]
fn row_norms_are_their_definitions() {
    let mut r = Random(5);
    for _ in 0..12 {
        let (rows, c) = (r.size(1, 300), r.size(3, 50));
        let (x, gamma, beta) = (r.tensor(&[rows, c]), r.tensor(&[c]), r.tensor(&[c]));
        let y = layer_norm(&x, &gamma, &beta, 1e-5).unwrap();
        let rms = rms_norm(&x, &gamma, 1e-12).unwrap();
        let (x, gamma, beta) = (values(&x), values(&gamma), values(&beta));
        let (mut expected, mut expected_rms) = (Vec::new(), Vec::new());
        for row in x.chunks(c) {
            let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            let (mean, variance) = moments(&row);
            let square = row.iter().map(|x| x * x).sum::<f64>() / c as f64;
            for i in 0..c {
                let (gamma, beta) = (f64::from(gamma[i]), f64::from(beta[i]));
                expected.push((row[i] - mean) / (variance + 1e-5).sqrt() * gamma + beta);
                expected_rms.push(row[i] / square.sqrt() * gamma);
            }
        }
        close(&format!("layer_norm {rows}x{c}"), &y, &expected, 10, Precision::F32);
        close(&format!("rms_norm {rows}x{c}"), &rms, &expected_rms, 10, Precision::F32);
    }
}

#[test]
fn scaled_norm_is_its_definition() {
    let mut r = Random(15);
    for _ in 0..6 {
        let (h, clips, frames, c) = (r.size(1, 40), r.size(1, 3), r.size(1, 5), r.size(3, 50));
        let (x, gains) = (r.tensor(&[h, 3, clips * frames, c]), r.tensor(&[clips, 2 * c]));
        let y = rms_norm_silu(&x, &gains, 1e-12).unwrap();
        let (of, of_clips) = (x, gains);
        let (x, gains) = (values(&of), values(&of_clips));
        let mut expected = Vec::new();
        for (row, x) in x.chunks(c).enumerate() {
            let gains = &gains[row % (clips * frames) / frames * 2 * c..][..2 * c];
            let square = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / c as f64;
            for i in 0..c {
                let z = f64::from(x[i]) / square.sqrt() * f64::from(gains[i]) + f64::from(gains[c + i]);
                expected.push(z / (1.0 + (-z).exp()));
            }
        }
        close(&format!("rms_norm_silu {h}x3x{clips}x{frames}x{c}"), &y, &expected, 10, Precision::F32);
        let residual = r.tensor(&[h, 3, clips * frames, c]);
        let sum: Vec<f32> = values(&y).iter().zip(values(&residual)).map(|(y, residual)| y + residual).collect();
        assert_eq!(values(&rms_norm_silu_add(&of, &of_clips, &residual, 1e-12).unwrap()), sum);
    }
}

#[test]
fn activations_are_their_definitions() {
    let mut r = Random(6);
    let x = (r.tensor(&[33, 38]) * 8.0).unwrap();
    let numbers: Vec<f64> = values(&x).iter().map(|x| f64::from(*x)).collect();
    let gelu_of = |x: f64| x * normal_distribution(x);
    close(
        "silu",
        &silu(&x).unwrap(),
        &numbers.iter().map(|x| x / (1.0 + (-x).exp())).collect::<Vec<_>>(),
        4,
        Precision::F32,
    );
    close("gelu", &gelu(&x).unwrap(), &numbers.iter().map(|x| gelu_of(*x)).collect::<Vec<_>>(), 4, Precision::F32);
    let gated = numbers.chunks(38).flat_map(|row| (0..19).map(|i| row[i] * gelu_of(row[19 + i])).collect::<Vec<_>>());
    close("geglu", &geglu(&x).unwrap(), &gated.collect::<Vec<_>>(), 4, Precision::F32);
}

#[test]
fn grids_are_their_definitions() {
    let mut r = Random(7);
    let x = r.tensor(&[3, 5, 2, 7]);
    let up = upsample_nearest2(&x).unwrap();
    assert_eq!(up.dims(), [6, 10, 2, 7]);
    let (old, new) = (values(&x), values(&up));
    for (y, x, rest, _) in product4(6, 10, 14, 1) {
        assert_eq!(new[(y * 10 + x) * 14 + rest], old[(y / 2 * 5 + x / 2) * 14 + rest]);
    }
    let down = average_pool2(&up).unwrap();
    assert_eq!(values(&down), old);
    let pooled =
        values(&average_pool2(&x.narrow(0, 0, 2).unwrap().narrow(1, 0, 4).unwrap().contiguous().unwrap()).unwrap());
    let mean =
        (0..2).flat_map(|y| (0..2).map(move |x| (y, x))).map(|(y, x)| old[(y * 5 + x) * 14 + 9]).sum::<f32>() / 4.0;
    assert!((pooled[9] - mean).abs() < 1e-6);

    let video = r.tensor(&[2, 3, 6, 9, 2]);
    let grid = patchify(&video, 3).unwrap();
    assert_eq!(grid.dims(), [2, 3, 6, 18]);
    let (video_values, grid_values) = (values(&video), values(&grid));
    for (image, y, x, c) in product4(6, 6, 9, 2) {
        // torch's pixel_unshuffle: channel, then row, then column in the patch.
        let channel = (c * 3 + y % 3) * 3 + x % 3;
        let to = ((y / 3 * 3 + x / 3) * 6 + image) * 18 + channel;
        assert_eq!(grid_values[to], video_values[((image * 6 + y) * 9 + x) * 2 + c]);
    }
    assert_eq!(values(&unpatchify(&grid, 3, 2, 3).unwrap()), video_values);

    let images = r.tensor(&[6, 9, 4, 5]);
    let patches = pixel_unshuffle(&images, 3).unwrap();
    assert_eq!(patches.dims(), [2, 3, 4, 45]);
    assert_eq!(values(&patches), values(&patchify(&unpatchify(&images, 1, 4, 1).unwrap(), 3).unwrap()));
    assert_eq!(values(&pixel_shuffle(&patches, 3).unwrap()), values(&images));
    assert!(pixel_unshuffle(&images, 2).is_err() && pixel_shuffle(&images, 2).is_err());
}

#[test]
fn joins_are_their_definitions() {
    let mut r = Random(10);
    // Enough for more than one task.
    let (a, b, c) = (r.tensor(&[40, 40, 3, 7]), r.tensor(&[40, 40, 3, 7]), r.tensor(&[40, 40, 3, 5]));
    let (x, y, z) = (values(&a), values(&b), values(&c));
    let sums: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
    assert_eq!(values(&add(&a, &b).unwrap()), sums);
    let both = concatenate(&a, &c).unwrap();
    assert_eq!(both.dims(), [40, 40, 3, 12]);
    let rows: Vec<f32> = x.chunks(7).zip(z.chunks(5)).flat_map(|(x, z)| [x, z].concat()).collect();
    assert_eq!(values(&both), rows);
    let rows: Vec<f32> = rows
        .chunks(12)
        .flat_map(|row| [row[..7].iter().map(|x| x * 0.75).collect(), row[7..].to_vec()].concat())
        .collect();
    assert_eq!(values(&concatenate_scaled(&a, 0.75, &c).unwrap()), rows);
    assert!(add(&a, &c).is_err() && concatenate(&a, &r.tensor(&[40, 40, 2, 5])).is_err());
}

/// What one attention may look like.
struct Case {
    sequences: Sequences,
    /// Of qkv without its channels.
    dims: Vec<usize>,
    context: Option<(usize, usize)>,
    bias: bool,
    causal: bool,
    mask: bool,
}

#[test]
fn attention_is_its_definition() {
    let mut r = Random(8);
    let mut cases = Vec::new();
    for causal in [false, true] {
        for bias in [false, true] {
            let (h, w, clips, frames) = (r.size(1, 4), r.size(1, 4), r.size(1, 3), r.size(1, 40));
            let images = vec![h, w, clips * frames];
            for context in [None, Some((clips, r.size(1, 5)))] {
                cases.push(Case {
                    sequences: Sequences::Space,
                    dims: images.clone(),
                    context,
                    bias,
                    causal,
                    mask: false,
                });
                for mask in [false, true] {
                    let dims = vec![clips * 2, r.size(1, 150)];
                    cases.push(Case { sequences: Sequences::Rows, dims, context, bias, causal, mask });
                }
            }
            let sequences = Sequences::Frames(frames);
            cases.push(Case { sequences, dims: images, context: None, bias, causal, mask: false });
        }
    }
    for (index, case) in cases.iter().enumerate() {
        let (heads, d) = (r.size(1, 3), r.size(1, 130));
        let c = heads * d;
        let qkv = r.tensor(&[&case.dims[..], &[3 * c]].concat());
        // The row of a token is sequence * stride.0 + token * stride.1.
        let (sequences, tokens, stride) = match case.sequences {
            Sequences::Rows => (case.dims[0], case.dims[1], (case.dims[1], 1)),
            Sequences::Space => (case.dims[2], case.dims[0] * case.dims[1], (1, case.dims[2])),
            Sequences::Frames(frames) => (case.dims.iter().product::<usize>() / frames, frames, (frames, 1)),
        };
        let row = |sequence: usize, token: usize| sequence * stride.0 + token * stride.1;
        let context = case.context.map(|(batch, length)| r.tensor(&[batch, length, 2 * c]));
        let bias = case.bias.then(|| r.tensor(&[heads, tokens, tokens]));
        let mask = case.mask.then(|| {
            let keep = (0..sequences * tokens).map(|i| f32::from(u8::from(i % tokens == 0 || r.next() > 0.0)));
            Tensor::from_vec(keep.collect::<Vec<_>>(), (sequences, tokens), &Device::Cpu).unwrap()
        });
        let options =
            AttentionOptions { heads, sequences: case.sequences, causal: case.causal, key_mask: mask.clone() };
        let y = attention(&qkv, context.as_ref(), bias.as_ref(), &options).unwrap();
        assert_eq!(y.dims(), [&case.dims[..], &[c]].concat());

        let qkv: Vec<f64> = values(&qkv).iter().map(|x| f64::from(*x)).collect();
        let context = context.map(|context| values(&context));
        let (bias, mask) = (bias.map(|bias| values(&bias)), mask.map(|mask| values(&mask)));
        let mut expected = vec![0.0; sequences * tokens * c];
        for (s, t, h, _) in product4(sequences, tokens, heads, 1) {
            let q = &qkv[row(s, t) * 3 * c + h * d..][..d];
            let mut seen: Vec<(f64, Vec<f64>)> = Vec::new();
            if let (Some(context), Some((batch, length))) = (&context, case.context) {
                for i in 0..length {
                    let at = (s / (sequences / batch) * length + i) * 2 * c + h * d;
                    let part = |at: usize| context[at..at + d].iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
                    seen.push((dot(q, &part(at)) / (d as f64).sqrt(), part(at + c)));
                }
            }
            for key in 0..tokens {
                let hidden = mask.as_ref().is_some_and(|mask| mask[s * tokens + key] == 0.0);
                if hidden || (case.causal && key > t) {
                    continue;
                }
                let at = row(s, key) * 3 * c + h * d;
                let bias = bias.as_ref().map_or(0.0, |bias| f64::from(bias[(h * tokens + t) * tokens + key]));
                let score = dot(q, &qkv[at + c..at + c + d]) / (d as f64).sqrt() + bias;
                seen.push((score, qkv[at + 2 * c..at + 2 * c + d].to_vec()));
            }
            let most = seen.iter().fold(f64::NEG_INFINITY, |most, (score, _)| most.max(*score));
            let sum: f64 = seen.iter().map(|(score, _)| (score - most).exp()).sum();
            for (score, value) in seen {
                for (i, v) in value.iter().enumerate() {
                    expected[row(s, t) * c + h * d + i] += (score - most).exp() / sum * v;
                }
            }
        }
        let Case { sequences, dims, context, bias, causal, mask } = case;
        let name = format!("attention {index}: {sequences:?} {dims:?} {heads}x{d} {context:?} {bias} {causal} {mask}");
        close(&name, &y, &expected, 20, Precision::F32);
    }
}

/// What is no number, or too large for one, is seen in all that is computed from it, and nowhere else.
#[test]
fn what_is_no_number_is_passed_on() {
    let mut r = Random(16);
    let set = |x: &Tensor, at: usize, value: f32| {
        let mut changed = values(x);
        changed[at] = value;
        Tensor::from_vec(changed, x.shape(), &Device::Cpu).unwrap()
    };
    // Pixels, and what makes one sequence or more.
    for (frames, pixels, heads, d) in [(16, 3, 2, 64), (5, 2, 1, 40), (70, 2, 2, 32), (140, 2, 1, 24)] {
        let (c, sequences) = (heads * d, Sequences::Frames(frames));
        let options = AttentionOptions { heads, sequences, causal: false, key_mask: None };
        let x = r.tensor(&[pixels, 1, frames, 3 * c]);
        for value in [f32::NAN, f32::INFINITY] {
            // The second frame's first number of q, k and v, in the first pixel.
            for part in 0..3 {
                let y = values(&attention(&set(&x, 3 * c + part * c, value), None, None, &options).unwrap());
                for (i, y) in y.iter().enumerate() {
                    let (frame, channel) = (i / c, i % c);
                    // An infinite key has infinite scores, whose weights are 0 where they are negative.
                    if part == 1 && value.is_infinite() && frame < frames && channel < d {
                        continue;
                    }
                    let reached = match part {
                        0 => frame == 1 && channel < d,
                        1 => frame < frames && channel < d,
                        _ => frame < frames && channel == 0,
                    };
                    assert_eq!(y.is_finite(), !reached, "{frames} frames, part {part}, {value} at {i}: {y}");
                }
            }
        }
    }
    let (x, ss) = (r.tensor(&[9, 9, 2, 24]), r.tensor(&[1, 48]));
    for value in [f32::NAN, f32::INFINITY] {
        let changed = set(&x, 24 * 2 * 80 + 7, value);
        for (i, y) in values(&group_norm(&changed, &ss, 4, 1e-5, true).unwrap()).iter().enumerate() {
            let (image, channel) = (i / 24 % 2, i % 24);
            assert_eq!(y.is_nan(), image == 0 && (6..12).contains(&channel), "group norm at {i}: {y}");
        }
        for (i, y) in values(&rms_norm_silu(&changed, &ss, 1e-12).unwrap()).iter().enumerate() {
            let expected = i / 24 == 2 * 80 && (value.is_nan() || i % 24 == 7);
            assert_eq!(y.is_nan(), expected, "rms norm at {i}: {y}");
        }
    }
}

/// Group norm of numbers far from zero, over more pixels than are read together.
#[test]
fn a_large_mean_does_not_cost_the_variance() {
    let mut r = Random(17);
    for (h, w, n, c) in [(13, 17, 3, 20), (25, 24, 2, 20)] {
        // The first pixel is unlike all others.
        let mut numbers = values(&(r.tensor(&[h, w, n, c]) + 1000.0).unwrap());
        numbers[..n * c].fill(-3000.0);
        let x = Tensor::from_vec(numbers.clone(), (h, w, n, c), &Device::Cpu).unwrap();
        let ss = Tensor::cat(&[Tensor::ones(c, DType::F32, &Device::Cpu).unwrap(), r.tensor(&[c])], 0).unwrap();
        let y = values(&group_norm(&x, &ss.unsqueeze(0).unwrap(), 4, 1e-5, false).unwrap());
        let shift = values(&ss);
        for (image, group) in product2(n, 4) {
            let at = |pixel: usize, i: usize| (pixel * n + image) * c + group * 5 + i;
            let all: Vec<f64> = product2(h * w, 5).map(|(p, i)| f64::from(numbers[at(p, i)])).collect();
            let (mean, variance) = moments(&all);
            for (pixel, i) in product2(h * w, 5) {
                let normal = (f64::from(numbers[at(pixel, i)]) - mean) / (variance + 1e-5).sqrt();
                let expected = normal + f64::from(shift[c + group * 5 + i]);
                let found = f64::from(y[at(pixel, i)]);
                assert!((found - expected).abs() < 2e-5 * (1.0 + expected.abs()), "{found} is not {expected}");
            }
        }
    }
}

/// Images, clips, rows and sequences have the same bits alone and among others.
#[test]
fn neighbours_do_not_matter() {
    let mut r = Random(9);
    for (precision, c) in PRECISIONS.into_iter().flat_map(|precision| [(precision, 56), (precision, 64)]) {
        with_precision(precision, || {
            let (images, frames) = (6, 3);
            let x = r.tensor(&[5, 4, images, c]);
            let (k, t) = (r.tensor(&[48, c, 3, 3]), r.tensor(&[48, c, 3]));
            let (k, t) = (Weight::fixed(k), Weight::fixed(t));
            let (ss, gains) = (r.tensor(&[1, 2 * c]), r.tensor(&[c]));
            let (qkv, bias) = (r.tensor(&[5, 4, images, 3 * c]), r.tensor(&[2, 20, 20]));
            let frame_bias = r.tensor(&[2, frames, frames]);
            let options = |sequences| AttentionOptions { heads: 2, sequences, causal: false, key_mask: None };
            type Op<'a> = Box<dyn Fn(&Tensor) -> candle_core::Result<Tensor> + 'a>;
            let ops: Vec<(&str, &Tensor, Op)> = vec![
                ("conv2d", &x, Box::new(|x| conv2d(x, &k, None, 1, 1))),
                ("strided conv2d", &x, Box::new(|x| conv2d(x, &k, None, 2, 1))),
                ("temporal_conv", &x, Box::new(|x| temporal_conv(x, &t, None, frames))),
                ("group_norm", &x, Box::new(|x| group_norm(x, &ss, 4, 1e-5, true))),
                ("layer_norm", &x, Box::new(|x| layer_norm(x, &gains, &gains, 1e-5))),
                ("gelu", &x, Box::new(gelu)),
                ("space", &qkv, Box::new(|x| attention(x, None, Some(&bias), &options(Sequences::Space)))),
                (
                    "frames",
                    &qkv,
                    Box::new(|x| attention(x, None, Some(&frame_bias), &options(Sequences::Frames(frames)))),
                ),
            ];
            for (name, x, op) in ops {
                let all = op(x).unwrap();
                for first in (0..images).step_by(frames) {
                    let part = |x: &Tensor| x.narrow(2, first, frames).unwrap().contiguous().unwrap();
                    assert_eq!(values(&part(&all)), values(&op(&part(x)).unwrap()), "{name} from {first}");
                }
            }
        });
    }
}

fn product2(a: usize, b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..a).flat_map(move |i| (0..b).map(move |j| (i, j)))
}

fn product4(a: usize, b: usize, c: usize, d: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    product2(a, b).flat_map(move |(i, j)| product2(c, d).map(move |(k, l)| (i, j, k, l)))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn moments(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / values.len() as f64)
}

/// By the trapezoid rule from far left: slow, and right to 1e-9.
fn normal_distribution(x: f64) -> f64 {
    if x < -9.0 {
        return 0.0;
    }
    let steps = 20_000;
    let width = (x + 9.0) / f64::from(steps);
    let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let inner: f64 = (1..steps).map(|i| density(-9.0 + width * f64::from(i))).sum();
    width * (inner + 0.5 * (density(-9.0) + density(x)))
}
