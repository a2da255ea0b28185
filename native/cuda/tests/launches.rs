//! Every launch against the CPU's operation of the same meaning: names, order of arguments, grids, shared memory.
//!
//! Ignored unless a driver is named (see `driver`): `deno task cuda:check` runs them on a driver that runs kernels on the
//! host, and on a GPU they run as they are.
#![cfg(target_os = "linux")]

use candle_core::{Device, Result, Tensor, Var};
use kinora_cuda::*;
use kinora_kernels::{self as cpu, Precision, Sequences, Weight, with_precision};
use kinora_training::optimizer::{AdamW as AdamWConstants, Moments, Update};

mod driver;
use driver::{Buffer, Driver};

struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / 8_388_608.0 - 1.0
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }

    fn var(&mut self, shape: &[usize]) -> Var {
        let values = self.values(shape.iter().product());
        Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
    }
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn buffer(x: &Tensor) -> Buffer<f32> {
    Buffer::of(&values(x))
}

#[track_caller]
fn close(what: &str, got: &Buffer<f32>, expected: &[f32], tolerance: f32) {
    let got = got.read();
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * (1.0 + e.abs()), "{what} at {i}: {g} is not {e}");
    }
}

#[track_caller]
fn same(what: &str, got: &Buffer<f32>, expected: &[f32]) {
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&got.read()), bits(expected), "{what}");
}

/// What the CPU gives: the result, and the inputs' gradients for a result's gradient.
fn on_cpu(inputs: &[&Var], f: impl Fn() -> Result<Tensor>, r: &mut Random) -> (Vec<f32>, Vec<f32>, Vec<Vec<f32>>) {
    let y = f().unwrap();
    let dy = Tensor::from_vec(r.values(y.elem_count()), y.shape(), &Device::Cpu).unwrap();
    let grads = (&y * &dy).unwrap().sum_all().unwrap().backward().unwrap();
    let grads = inputs.iter().map(|input| values(grads.get(input.as_tensor()).unwrap())).collect();
    (values(&y), values(&dy), grads)
}

/// What products read of `count` numbers.
fn operands(element: Element, x: &Buffer<f32>, count: usize) -> Buffer<f32> {
    let rounded = Buffer::new(count);
    match element {
        Element::F32Bf16 => Driver::get().run(&round_bf16(x.at(), rounded.at(), count)),
        _ => Driver::get().run(&activation(Element::F32, x.at(), rounded.at(), count, Fused::None)),
    }
    rounded
}

#[test]
#[ignore = "needs KINORA_CUDA_DRIVER"]
fn convolutions() {
    let run = |launch: Launch| Driver::get().run(&launch);
    let mut r = Random(1);
    let ragged = [(3, 2, 7, 12, 70, 3), (5, 1, 16, 24, 8, 3), (9, 1, 2, 10, 5, 1)];
    // The processor's operation keeps narrow layers and small pictures in f32.
    let wide = [(17, 2, 7, 52, 70, 3), (16, 1, 16, 64, 48, 3), (19, 1, 2, 50, 55, 1), (17, 2, 7, 72, 80, 3)];
    let mut split = false;
    for (precision, element, tolerance, cases) in
        [(Precision::F32, Element::F32, 1e-5, &ragged[..]), (Precision::Bf16, Element::F32Bf16, 2e-5, &wide[..])]
    {
        for &(pixels, clips, frames, inputs, outputs, taps) in cases {
            let images = clips * frames;
            let rows = pixels * images;
            let (x, w) = (r.var(&[1, pixels, images, inputs]), r.var(&[outputs, inputs, taps]));
            let b = r.var(&[outputs]);
            let weight = Weight::fixed(w.as_tensor().clone());
            let op = || {
                with_precision(precision, || cpu::temporal_conv(x.as_tensor(), &weight, Some(b.as_tensor()), frames))
            };
            let (y, dy, grads) = on_cpu(&[&x, &w, &b], op, &mut r);

            let conv = Convolution { element, rows, frames, inputs, outputs, taps };
            let (gx, gw, gb, gdy) = (buffer(&x), buffer(&w), buffer(&b), Buffer::of(&dy));
            let (of_x, of_dy) = (operands(element, &gx, rows * inputs), operands(element, &gdy, rows * outputs));
            let count = inputs * outputs * taps;
            // A packed weight of bf16 takes half of this.
            let (packed, turned) = (Buffer::new(count), Buffer::new(count));
            let (gy, dx) = (Buffer::new(rows * outputs), Buffer::new(rows * inputs));
            let sizes = [outputs, inputs, taps];
            run(pack_weight(element, [gw.at(), packed.at()], sizes, Packing::Packed));
            run(pack_weight(element, [gw.at(), turned.at()], sizes, Packing::Turned));
            let none = Address::NONE;
            let tensors = ConvolutionTensors {
                x: of_x.at(),
                weight: packed.at(),
                bias: gb.at(),
                residual: none,
                before: none,
                y: gy.at(),
            };
            let (parts, back) = (conv.forward_parts(), conv.to_input_parts());
            split |= parts > 1 && back > 1;
            let (y_parts, dx_parts) = (Buffer::new(parts * rows * outputs), Buffer::new(back * rows * inputs));
            run(conv.forward(ConvolutionTensors { y: y_parts.at(), ..tensors }, Fused::None));
            run(sum_parts(y_parts.at(), gy.at(), 1, parts, rows * outputs));
            close("y", &gy, &y, tolerance);
            run(conv.to_input(of_dy.at(), turned.at(), dx_parts.at()));
            run(sum_parts(dx_parts.at(), dx.at(), 1, back, rows * inputs));
            close("dx", &dx, &grads[0], tolerance);
            let (parts, dw) = (Buffer::new(conv.parts() * count), Buffer::new(count));
            run(conv.to_weight(of_x.at(), of_dy.at(), parts.at()));
            run(sum_taps(parts.at(), dw.at(), [1, conv.parts(), inputs * outputs, taps]));
            close("dw", &dw, &grads[1], tolerance);
            let (parts, db) = (Buffer::new(bias_parts(rows) * outputs), Buffer::new(outputs));
            run(to_bias(element, gdy.at(), parts.at(), rows, outputs));
            run(sum_parts(parts.at(), db.at(), 1, bias_parts(rows), outputs));
            close("db", &db, &grads[2], 1e-5);

            // Fused: SiLU, then a residual.
            let (residual, before) = (Buffer::of(&dy), Buffer::new(rows * outputs));
            let tensors = ConvolutionTensors { residual: residual.at(), before: before.at(), ..tensors };
            run(conv.forward(tensors, Fused::Silu));
            close("before", &before, &y, tolerance);
            let fused: Vec<f32> = y.iter().zip(&dy).map(|(y, d)| y / (1.0 + (-y).exp()) + d).collect();
            close("fused", &gy, &fused, tolerance);
        }
    }
    assert!(split, "no product was cut into parts");
}

#[test]
#[ignore = "needs KINORA_CUDA_DRIVER"]
fn spatial_convolutions() {
    let run = |launch: Launch| Driver::get().run(&launch);
    let mut r = Random(7);
    let mut split = false;
    let ragged = [(5, 4, 3, 12, 70, 3, 1), (7, 6, 2, 10, 5, 3, 2), (6, 3, 2, 9, 7, 5, 1)];
    // The processor's operation keeps narrow layers and small pictures in f32.
    let wide = [(5, 4, 3, 52, 70, 3, 1), (8, 9, 2, 64, 48, 3, 2)];
    for (precision, element, tolerance, cases) in
        [(Precision::F32, Element::F32, 1e-5, &ragged[..]), (Precision::Bf16, Element::F32Bf16, 5e-5, &wide[..])]
    {
        for &(height, width, images, inputs, outputs, side, stride) in cases {
            let (x, w) = (r.var(&[height, width, images, inputs]), r.var(&[outputs, inputs, side, side]));
            let b = r.var(&[outputs]);
            let weight = Weight::fixed(w.as_tensor().clone());
            let op = || {
                let conv = || cpu::conv2d(x.as_tensor(), &weight, Some(b.as_tensor()), stride, side / 2);
                with_precision(precision, conv)
            };
            let (y, dy, grads) = on_cpu(&[&x, &w, &b], op, &mut r);

            let (kernel, padding) = ((side, side), (side / 2, side / 2));
            let conv = SpatialConvolution { element, height, width, images, inputs, outputs, kernel, stride, padding };
            assert_eq!(conv.output_rows() * outputs, y.len());
            let (gx, gw, gb, gdy) = (buffer(&x), buffer(&w), buffer(&b), Buffer::of(&dy));
            let (of_x, of_dy) = (operands(element, &gx, x.elem_count()), operands(element, &gdy, y.len()));
            let count = inputs * outputs * side * side;
            // A packed weight of bf16 takes half of this.
            let (packed, turned) = (Buffer::new(count), Buffer::new(count));
            let (gy, dx) = (Buffer::new(y.len()), Buffer::new(x.elem_count()));
            let sizes = [outputs, inputs, side * side];
            run(pack_weight(element, [gw.at(), packed.at()], sizes, Packing::Packed));
            run(pack_weight(element, [gw.at(), turned.at()], sizes, Packing::Turned));
            let (parts, back) = (conv.forward_parts(), conv.to_input_parts());
            split |= parts > 1 && back > 1;
            let (y_parts, dx_parts) = (Buffer::new(parts * y.len()), Buffer::new(back * x.elem_count()));
            run(conv.forward(of_x.at(), packed.at(), gb.at(), y_parts.at()));
            run(sum_parts(y_parts.at(), gy.at(), 1, parts, y.len()));
            close("y", &gy, &y, tolerance);
            run(conv.to_input(of_dy.at(), turned.at(), dx_parts.at()));
            run(sum_parts(dx_parts.at(), dx.at(), 1, back, x.elem_count()));
            close("dx", &dx, &grads[0], tolerance);
            let (parts, dw) = (Buffer::new(conv.parts() * count), Buffer::new(count));
            run(conv.to_weight(of_x.at(), of_dy.at(), parts.at()));
            run(sum_taps(parts.at(), dw.at(), [1, conv.parts(), inputs * outputs, side * side]));
            close("dw", &dw, &grads[1], tolerance);
        }
    }
    assert!(split, "no product was cut into parts");
}

#[test]
#[ignore = "needs KINORA_CUDA_DRIVER"]
fn elementwise() {
    let run = |launch: Launch| Driver::get().run(&launch);
    let mut r = Random(8);
    let (rows, channels) = (13, 42);
    let x = r.var(&[rows, 2 * channels]);
    let gx = buffer(&x);
    let count = x.elem_count();
    type Op = fn(&Tensor) -> Result<Tensor>;
    for (what, op) in [(Fused::Silu, cpu::silu as Op), (Fused::Gelu, cpu::gelu as Op)] {
        let (y, dy, grads) = on_cpu(&[&x], || op(x.as_tensor()), &mut r);
        let (gdy, gy, dx) = (Buffer::of(&dy), Buffer::new(count), Buffer::new(count));
        run(activation(Element::F32, gx.at(), gy.at(), count, what));
        close("y", &gy, &y, 1e-5);
        run(activation_backward(Element::F32, [gx.at(), gdy.at(), dx.at()], count, what));
        close("dx", &dx, &grads[0], 1e-5);
    }
    let (y, dy, grads) = on_cpu(&[&x], || cpu::geglu(x.as_tensor()), &mut r);
    let (gdy, gy, dx) = (Buffer::of(&dy), Buffer::new(y.len()), Buffer::new(count));
    run(geglu(Element::F32, gx.at(), gy.at(), rows, channels));
    close("geglu", &gy, &y, 1e-5);
    run(geglu_backward(Element::F32, [gx.at(), gdy.at(), dx.at()], rows, channels));
    close("geglu's gradient", &dx, &grads[0], 1e-5);

    let (a, b) = (r.var(&[rows, 20]), r.var(&[rows, 31]));
    let (ga, gb, both) = (buffer(&a), buffer(&b), Buffer::new(rows * 51));
    run(concatenate(Element::F32, [ga.at(), gb.at(), both.at()], rows, [20, 31], false));
    same("side by side", &both, &values(&cpu::concatenate(a.as_tensor(), b.as_tensor()).unwrap()));
    let (left, right) = (Buffer::new(rows * 20), Buffer::new(rows * 31));
    run(concatenate(Element::F32, [left.at(), right.at(), both.at()], rows, [20, 31], true));
    same("the left side", &left, &values(a.as_tensor()));
    same("the right side", &right, &values(b.as_tensor()));
    let sum = Buffer::new(count);
    run(add(Element::F32, [gx.at(), gx.at(), sum.at()], count));
    same("a sum", &sum, &values(&cpu::add(x.as_tensor(), x.as_tensor()).unwrap()));
    let row = r.values(2 * channels);
    run(add_row(sum.at(), Buffer::of(&row).at(), rows, 2 * channels));
    let expected = values(x.as_tensor()).into_iter().enumerate().map(|(i, x)| x + x + row[i % (2 * channels)]);
    same("and a row", &sum, &expected.collect::<Vec<_>>());
}

#[test]
#[ignore = "needs KINORA_CUDA_DRIVER"]
fn weights_are_packed_with_channels_last_and_back() {
    let (outputs, inputs, taps) = (5, 7, 9);
    let w = Random(11).values(outputs * inputs * taps);
    let (packed, back) = (Buffer::new(w.len()), Buffer::new(w.len()));
    let run = |from: &Buffer<f32>, to: &Buffer<f32>, sizes| {
        Driver::get().run(&pack_weight(Element::F32, [from.at(), to.at()], sizes, Packing::ChannelsLast));
    };
    run(&Buffer::of(&w), &packed, [outputs, inputs, taps]);
    let at = |i: usize| (i / (taps * inputs) * inputs + i % inputs) * taps + i / inputs % taps;
    same("channels last", &packed, &(0..w.len()).map(|i| w[at(i)]).collect::<Vec<_>>());
    run(&packed, &back, [outputs, taps, inputs]);
    same("and back", &back, &w);
}

#[test]
#[ignore = "needs KINORA_CUDA_DRIVER"]
fn attentions() {
    let run = |launch: Launch| Driver::get().run(&launch);
    let mut r = Random(2);
    // (sequences as, pixels, images, heads, size, context rows, context length, causal)
    let frames = Sequences::Frames(9);
    for (sequences, pixels, images, heads, size, contexts, length, causal) in [
        (frames, 4, 18, 2, 32, 0, 0, false),
        (frames, 2, 9, 1, 40, 0, 0, true),
        (Sequences::Space, 10, 4, 2, 16, 2, 3, false),
    ] {
        let channels = heads * size;
        let (count, tokens, sequence_stride, token_stride) = match sequences {
            Sequences::Frames(frames) => (pixels * images / frames, frames, frames, 1),
            _ => (images, pixels, 1, images),
        };
        let qkv = r.var(&[1, pixels, images, 3 * channels]);
        let context = r.var(&[contexts.max(1), length.max(1), 2 * channels]);
        let bias = r.var(&[heads, tokens, tokens]);
        let options = cpu::AttentionOptions { heads, sequences, causal, key_mask: None };
        let given = (contexts > 0).then(|| context.as_tensor());
        let mut inputs = vec![&qkv, &bias];
        if contexts > 0 {
            inputs.push(&context);
        }
        let op = || cpu::attention(qkv.as_tensor(), given, Some(bias.as_tensor()), &options);
        let (y, dy, grads) = on_cpu(&inputs, op, &mut r);

        let attention = Attention {
            element: Element::F32,
            sequences: count,
            tokens,
            heads,
            size,
            sequence_stride,
            token_stride,
            contexts,
            context_length: length,
            causal,
        };
        let (gqkv, gcontext, gbias, gdy) = (buffer(&qkv), buffer(&context), buffer(&bias), Buffer::of(&dy));
        let (gy, lse) = (Buffer::new(y.len()), Buffer::new(count * heads * tokens));
        let (delta, dqkv) = (Buffer::new(count * heads * tokens), Buffer::new(3 * y.len()));
        let dcontext = Buffer::new(context.elem_count());
        let t = AttentionTensors {
            qkv: gqkv.at(),
            context: if contexts > 0 { gcontext.at() } else { Address::NONE },
            bias: gbias.at(),
            key_mask: Address::NONE,
            y: gy.at(),
            lse: lse.at(),
        };
        run(attention.forward(t));
        close("y", &gy, &y, 1e-5);
        run(attention.to_queries(t, gdy.at(), delta.at(), dqkv.at()));
        run(attention.to_keys(t, gdy.at(), delta.at(), dqkv.at(), dcontext.at(), false));
        close("dqkv", &dqkv, &grads[0], 2e-5);
        if contexts > 0 {
            run(attention.to_keys(t, gdy.at(), delta.at(), dqkv.at(), dcontext.at(), true));
            close("dcontext", &dcontext, &grads[2], 2e-5);
        }
        let pairs = heads * tokens * tokens;
        let (parts, dbias) = (Buffer::new(attention.parts() * pairs), Buffer::new(pairs));
        run(attention.to_bias(t, gdy.at(), delta.at(), parts.at()));
        run(sum_parts(parts.at(), dbias.at(), 1, attention.parts(), pairs));
        close("dbias", &dbias, &grads[1], 2e-5);
    }
}

#[test]
#[ignore = "needs KINORA_CUDA_DRIVER"]
fn norms() {
    let run = |launch: Launch| Driver::get().run(&launch);
    let mut r = Random(3);
    let mut in_parts = false;
    for (pixels, clips, frames, channels, groups, silu) in
        [(12, 2, 3, 40, 8, true), (7, 1, 2, 66, 2, false), (71, 2, 2, 24, 6, true)]
    {
        let images = clips * frames;
        let (x, ss) = (r.var(&[1, pixels, images, channels]), r.var(&[clips, 2 * channels]));
        let op = || cpu::group_norm(x.as_tensor(), ss.as_tensor(), groups, 1e-5, silu);
        let (y, dy, grads) = on_cpu(&[&x, &ss], op, &mut r);
        let activation = if silu { Fused::Silu } else { Fused::None };
        let norm = GroupNorm { element: Element::F32, pixels, images, channels, groups, clips, eps: 1e-5, activation };
        let (gx, gss, gdy) = (buffer(&x), buffer(&ss), Buffer::of(&dy));
        let (gy, dx, statistics) = (Buffer::new(y.len()), Buffer::new(y.len()), Buffer::new(images * groups * 2));
        let parts = norm.parts();
        in_parts |= parts > 1;
        let moments = Buffer::new(images * groups * parts * 2);
        let (slopes, dss) = (Buffer::new(images * parts * 2 * channels), Buffer::new(clips * 2 * channels));
        run(norm.moments(gx.at(), moments.at()));
        run(norm.forward(gx.at(), gss.at(), moments.at(), gy.at(), statistics.at()));
        close("y", &gy, &y, 1e-5);
        run(norm.slopes(gx.at(), gss.at(), statistics.at(), gdy.at(), slopes.at()));
        run(norm.backward(gx.at(), gss.at(), statistics.at(), gdy.at(), slopes.at(), dx.at()));
        close("dx", &dx, &grads[0], 2e-5);
        run(sum_parts(slopes.at(), dss.at(), clips, frames * parts, 2 * channels));
        close("dscale_shift", &dss, &grads[1], 2e-5);
    }
    assert!(in_parts, "no image was taken in parts");
    for centre in [true, false] {
        let (rows, channels) = (41, 50);
        let (x, gamma, beta) = (r.var(&[rows, channels]), r.var(&[channels]), r.var(&[channels]));
        let (y, dy, grads) = if centre {
            let op = || cpu::layer_norm(x.as_tensor(), gamma.as_tensor(), beta.as_tensor(), 1e-5);
            on_cpu(&[&x, &gamma, &beta], op, &mut r)
        } else {
            on_cpu(&[&x, &gamma], || cpu::rms_norm(x.as_tensor(), gamma.as_tensor(), 1e-5), &mut r)
        };
        let norm = RowNorm {
            element: Element::F32,
            rows,
            images: 1,
            clips: 1,
            channels,
            centre,
            eps: 1e-5,
            activation: Fused::None,
        };
        let (gx, ggamma, gbeta, gdy) = (buffer(&x), buffer(&gamma), buffer(&beta), Buffer::of(&dy));
        let offset = if centre { gbeta.at() } else { Address::NONE };
        let (gy, dx) = (Buffer::new(y.len()), Buffer::new(y.len()));
        let (parts, sums) = (Buffer::new(norm.parts() * 2 * channels), Buffer::new(2 * channels));
        run(norm.forward(gx.at(), ggamma.at(), offset, gy.at()));
        close("y", &gy, &y, 1e-5);
        run(norm.backward(gx.at(), ggamma.at(), offset, gdy.at(), dx.at(), parts.at()));
        close("dx", &dx, &grads[0], 2e-5);
        run(sum_parts(parts.at(), sums.at(), 1, norm.parts(), 2 * channels));
        // An RMS norm has no beta; the sums of its gradients stand there all the same.
        let mut expected = grads[1].clone();
        expected.extend(if centre { grads[2].clone() } else { sums.read()[channels..].to_vec() });
        close("dgamma, dbeta", &sums, &expected, 2e-5);
    }
}

#[test]
#[ignore = "needs KINORA_CUDA_DRIVER"]
fn norms_with_gains_of_each_clip() {
    let run = |launch: Launch| Driver::get().run(&launch);
    let mut r = Random(9);
    for (pixels, clips, frames, channels) in [(12, 2, 3, 40), (7, 1, 5, 66)] {
        let images = clips * frames;
        let (x, gains) = (r.var(&[1, pixels, images, channels]), r.var(&[clips, 2 * channels]));
        let op = || cpu::rms_norm_silu(x.as_tensor(), gains.as_tensor(), 1e-5);
        let (y, dy, grads) = on_cpu(&[&x, &gains], op, &mut r);
        let norm = RowNorm {
            element: Element::F32,
            rows: pixels * images,
            images,
            clips,
            channels,
            centre: false,
            eps: 1e-5,
            activation: Fused::Silu,
        };
        let (gx, ggains, gdy) = (buffer(&x), buffer(&gains), Buffer::of(&dy));
        let Address(first) = ggains.at();
        let (gamma, beta) = (Address(first), Address(first + 4 * channels as u64));
        let (gy, dx, dgains) = (Buffer::new(y.len()), Buffer::new(y.len()), Buffer::new(gains.elem_count()));
        let parts = Buffer::new(norm.parts() * gains.elem_count());
        run(norm.forward(gx.at(), gamma, beta, gy.at()));
        close("y", &gy, &y, 1e-5);
        run(norm.backward(gx.at(), gamma, beta, gdy.at(), dx.at(), parts.at()));
        close("dx", &dx, &grads[0], 2e-5);
        run(sum_parts(parts.at(), dgains.at(), clips, norm.parts(), 2 * channels));
        close("dgains", &dgains, &grads[1], 2e-5);
    }
}

#[test]
#[ignore = "needs KINORA_CUDA_DRIVER"]
fn an_optimiser_s_steps_have_the_same_bits() {
    let run = |launch: Launch| Driver::get().run(&launch);
    let mut r = Random(10);
    let count = 1000;
    let mut values = r.values(count);
    let mut moments = Moments::new(&values, true);
    let (value, ema) = (Buffer::of(&values), Buffer::of(&values));
    let (mean, square) = (Buffer::of(&vec![0f32; count]), Buffer::of(&vec![0f32; count]));
    let constants = AdamWConstants { learning_rate: 0.01, weight_decay: 0.1, ..AdamWConstants::default() };
    let launch = |step: cpu::Step| AdamW {
        count,
        rate: step.rate,
        correction: step.correction,
        keep: step.keep,
        beta1: step.beta1,
        beta2: step.beta2,
        epsilon: step.epsilon,
        gradient_scale: step.gradient_scale,
        ema_decay: step.ema_decay,
    };
    for step in 1..=3 {
        let update = Update { adamw: constants, step, gradient_scale: 0.3, ema_decay: 0.9 };
        let gradient = r.values(count);
        update.apply(&mut values, &gradient, &mut moments);
        let (moments, gradient) = ([mean.at(), square.at()], Buffer::of(&gradient));
        run(launch(update.numbers()).launch(value.at(), gradient.at(), moments, ema.at()));
    }
    let update = Update { adamw: constants, step: 4, gradient_scale: 0.3, ema_decay: 0.9 };
    let direction = r.values(count);
    update.apply_direction(&mut values, &direction, &mut moments);
    let (gradient, none) = (Buffer::of(&direction), [Address::NONE; 2]);
    run(launch(update.numbers_of_direction()).launch(value.at(), gradient.at(), none, ema.at()));
    same("values", &value, &values);
    same("mean", &mean, &moments.mean);
    same("square", &square, &moments.square);
    same("average", &ema, moments.ema.as_ref().unwrap());

    let x = r.values(2 * SQUARES_PER_PART + 5);
    let parts = Buffer::new(3);
    run(sum_squares(Buffer::of(&x).at(), parts.at(), x.len()));
    let square = |part: &[f32]| part.iter().map(|x| x * x).sum::<f32>();
    close("squares", &parts, &x.chunks(SQUARES_PER_PART).map(square).collect::<Vec<_>>(), 1e-4);
}

#[test]
#[ignore = "needs KINORA_CUDA_DRIVER"]
fn noise_has_the_same_bits() {
    let (seeds, frames, length) = ([3u64, u64::MAX, 0x1234_5678_9abc_def0], [0u32, 7, u32::MAX], 5003);
    let out = Buffer::new(seeds.len() * length);
    Driver::get().run(&normal_noise(
        out.at(),
        Buffer::of(&seeds).at(),
        Buffer::of(&frames).at(),
        9,
        seeds.len(),
        length,
    ));
    let mut expected = vec![0.0; seeds.len() * length];
    for ((row, seed), frame) in expected.chunks_mut(length).zip(seeds).zip(frames) {
        cpu::philox::fill_normal(row, seed, 9, frame);
    }
    same("noise", &out, &expected);
}

#[test]
#[ignore = "needs KINORA_CUDA_DRIVER"]
fn resampling_has_the_same_bits() {
    let run = |launch: Launch| Driver::get().run(&launch);
    let mut r = Random(5);
    let (height, width, images, channels) = (4, 6, 3, 5);
    let x = r.var(&[height, width, images, channels]);
    let gx = buffer(&x);
    let (up, down) = (Buffer::new(4 * x.elem_count()), Buffer::new(x.elem_count() / 4));
    run(spread2(Element::F32, gx.at(), up.at(), [height, width, images * channels], 1.0));
    same("nearest", &up, &values(&cpu::upsample_nearest2(x.as_tensor()).unwrap()));
    run(gather2(Element::F32, gx.at(), down.at(), [height / 2, width / 2, images * channels], 0.25));
    same("mean", &down, &values(&cpu::average_pool2(x.as_tensor()).unwrap()));

    let frames = r.var(&[1, 2, 4, 6, 3]);
    let (gframes, grid) = (buffer(&frames), Buffer::new(frames.elem_count()));
    run(patchify(Element::F32, [gframes.at(), grid.at()], [2, 2, 3, 3], 2, false));
    same("patchify", &grid, &values(&cpu::patchify(frames.as_tensor(), 2).unwrap()));
    let back = Buffer::new(frames.elem_count());
    run(patchify(Element::F32, [grid.at(), back.at()], [2, 2, 3, 3], 2, true));
    same("unpatchify", &back, &values(frames.as_tensor()));

    // The table of a filter is what it makes of one bright pixel after the other.
    let (outer, from, to, inner) = (3, 7, 11, 4);
    let resize = |values: &[f32], height, inner: usize| {
        let frames = cpu::resample::Frames { values, height, width: inner, channels: 1 };
        cpu::resample::resize(frames, to, inner, cpu::resample::Filter::Bicubic)
    };
    let mut weights = vec![0f32; to * from];
    for source in 0..from {
        let mut one = vec![0f32; from];
        one[source] = 1.0;
        for (place, weight) in resize(&one, from, 1).into_iter().enumerate() {
            weights[place * from + source] = weight;
        }
    }
    let x = r.values(outer * from * inner);
    let (gx, gy) = (Buffer::of(&x), Buffer::new(outer * to * inner));
    let (first, count, table) = (Buffer::of(&[0i32; 11]), Buffer::of(&[from as i32; 11]), Buffer::of(&weights));
    let tables = [first.at(), count.at(), table.at()];
    run(resize_axis(Element::F32, [gx.at(), gy.at()], tables, [outer, from, to, inner], from));
    same("bicubic", &gy, &resize(&x, from, inner));
}

#[test]
#[ignore = "needs KINORA_CUDA_DRIVER"]
fn frames_are_combined_and_assembled() {
    let mut r = Random(6);
    let (samples, frames, inner) = (2, 3, 310);
    let (a, b, scales) = (r.values(samples * frames * inner), r.values(samples * inner), r.values(2 * samples));
    let (ga, gb, out) = (Buffer::of(&a), Buffer::of(&b), Buffer::new(a.len()));
    let terms = vec![(ga.at(), false), (gb.at(), true)];
    let combine = Combine { terms, offset: 0.25, clamp: Some((-0.6, 0.8)), samples, frames, inner };
    Driver::get().run(&combine.launch(Buffer::of(&scales).at(), out.at()));
    let mut expected = Vec::new();
    for (i, a) in a.iter().enumerate() {
        let sample = i / inner / frames;
        let mut value = 0.25 + scales[sample] * a;
        value += scales[samples + sample] * b[sample * inner + i % inner];
        expected.push(value.clamp(-0.6, 0.8));
    }
    same("combine", &out, &expected);

    let shape = MaskedFrames { samples: 2, length: 4, known_frames: 2, pixels: 30, channels: 3 };
    let (noisy, known) = (r.values(2 * 4 * 30 * 3), r.values(2 * 2 * 30 * 3));
    let (before, after, share, masked) = ([0, 0, -1, 1], [0, 1, -1, 1], [0.0, 0.75, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]);
    let (gnoisy, gknown) = (Buffer::of(&noisy), Buffer::of(&known));
    let (gbefore, gafter) = (Buffer::of(&before), Buffer::of(&after));
    let (gshare, gmasked, out) = (Buffer::of(&share), Buffer::of(&masked), Buffer::new(2 * 4 * 30 * 7));
    Driver::get().run(&shape.launch(
        [gnoisy.at(), gknown.at()],
        [gbefore.at(), gafter.at()],
        [gshare.at(), gmasked.at()],
        out.at(),
    ));
    let mut expected = Vec::new();
    for (row, noisy) in noisy.chunks(90).enumerate() {
        let (sample, place) = (row / 4, row % 4);
        let frame = |at: i32| known.chunks(90).nth(sample * 2 + at as usize).unwrap();
        for pixel in 0..30 {
            let colours = pixel * 3..pixel * 3 + 3;
            expected.extend(&noisy[colours.clone()]);
            for c in colours {
                expected.push(match (before[place], share[place]) {
                    (-1, _) => 0.0,
                    (at, 0.0) => frame(at)[c],
                    (at, share) => (1.0 - share) * frame(at)[c] + share * frame(after[place])[c],
                });
            }
            expected.push(masked[place]);
        }
    }
    same("masked frames", &out, &expected);
}
