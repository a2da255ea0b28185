use super::*;
use crate::lanes::guarded::Guarded;
use crate::lanes::tests::{numbers, on_all_lanes};

/// Rows of `size` numbers, `row` apart, that end where memory ends.
struct Rows {
    values: Vec<f32>,
    guarded: Guarded,
    row: usize,
    size: usize,
}

impl Rows {
    fn new(state: &mut u64, rows: usize, size: usize, row: usize) -> Self {
        let values = numbers(state, (rows - 1) * row + size);
        Self { guarded: Guarded::new(&values), values, row, size }
    }

    fn matrix(&self) -> Matrix {
        (self.guarded.at(), self.row)
    }

    fn target(&self) -> Target {
        (self.guarded.at(), self.row)
    }

    fn given(&self, row: usize) -> Vec<f64> {
        self.values[row * self.row..][..self.size].iter().map(|x| f64::from(*x)).collect()
    }

    /// Compares what was written, and that nothing was written between rows.
    fn check(&self, name: &str, expected: &[Vec<f64>]) {
        for (i, (found, before)) in self.guarded.values().iter().zip(&self.values).enumerate() {
            let (row, column) = (i / self.row, i % self.row);
            if column >= self.size {
                assert_eq!(found, before, "{name}: between rows");
                continue;
            }
            let expected = expected[row][column];
            let difference = (f64::from(*found) - expected).abs();
            assert!(difference < 1e-5 * (1.0 + expected.abs()), "{name} at {row}, {column}: {found} is not {expected}");
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, of: &[f64]) {
    to.iter_mut().zip(of).for_each(|(to, of)| *to += factor * of);
}

unsafe fn a_head_is_its_definition<V: Lanes>(state: &mut u64) {
    let cases = [
        // Tokens, context and channels: whole vectors, tails of each, more than a block of queries or keys.
        [16, 0, 64],
        [16, 0, 32],
        [15, 0, 48],
        [1, 0, 7],
        [17, 0, 128],
        [20, 3, 40],
        [64, 0, 64],
        [76, 0, 33],
        [90, 50, 72],
        [150, 1, 17],
    ];
    for (case, [tokens, context, size]) in cases.into_iter().enumerate() {
        for (causal, biased, masked) in
            [(false, false, false), (true, false, false), (false, true, true), (true, true, true)]
        {
            let keys = context + tokens;
            let shape = Shape { tokens, context, size, causal };
            let mut rows = |count: usize, more: usize| Rows::new(state, count, size, size + more);
            let (q, k, v, dy) = (rows(tokens, case), rows(keys, 2 * size), rows(keys, 0), rows(tokens, 1));
            // Where rows are whole vectors, past the caches.
            let (put, between) = if size.is_multiple_of(LANES) { (Put::Stream, LANES) } else { (Put::Set, 2) };
            let [y, dq, dk, dv] =
                [(tokens, between), (tokens, 0), (keys, between), (keys, 0)].map(|(count, more)| rows(count, more));
            let width = padded(tokens);
            let mut bias = numbers(state, tokens * width);
            for row in bias.chunks_exact_mut(width) {
                row[tokens..].fill(0.0);
            }
            let mut mask: Vec<f32> = numbers(state, tokens).iter().map(|x| f32::from(u8::from(*x > -0.5))).collect();
            mask[0] = 1.0;
            let head = Head {
                q: q.matrix(),
                k: k.matrix(),
                v: v.matrix(),
                bias: biased.then_some(&bias[..]),
                mask: masked.then_some(&mask[..]),
            };
            let mut dbias = vec![0f64; if biased { tokens * width } else { 0 }];
            let [room, room_back] = [false, true].map(|backward| Guarded::new(&vec![0f32; shape.room(backward)]));
            unsafe {
                forward_in::<V>(&shape, &head, y.target(), put, room.at());
                let to = [dq.target(), dk.target(), dv.target()];
                backward_in::<V>(&shape, &head, dy.matrix(), to, put, &mut dbias, room_back.at());
            }

            let scale = 1.0 / (size as f64).sqrt();
            let of = |count: usize| vec![vec![0f64; size]; count];
            let (mut of_y, mut of_dq, mut of_dk, mut of_dv) = (of(tokens), of(tokens), of(keys), of(keys));
            for query in 0..tokens {
                let seen = |key: usize| {
                    key < context || !(causal && key - context > query || masked && mask[key - context] == 0.0)
                };
                let score = |key: usize| {
                    let more = match biased && key >= context {
                        true => f64::from(bias[(key - context) * width + query]),
                        false => 0.0,
                    };
                    if seen(key) { (dot(&q.given(query), &k.given(key)) * scale + more).exp() } else { 0.0 }
                };
                let powers: Vec<f64> = (0..keys).map(score).collect();
                let sum: f64 = powers.iter().sum();
                let p: Vec<f64> = powers.iter().map(|power| power / sum).collect();
                let dp: Vec<f64> = (0..keys).map(|key| dot(&dy.given(query), &v.given(key))).collect();
                let mean = dot(&p, &dp);
                for key in 0..keys {
                    let ds = p[key] * (dp[key] - mean);
                    add(&mut of_y[query], p[key], &v.given(key));
                    add(&mut of_dv[key], p[key], &dy.given(query));
                    add(&mut of_dq[query], ds * scale, &k.given(key));
                    add(&mut of_dk[key], ds * scale, &q.given(query));
                    if biased && key >= context {
                        let found = dbias[(key - context) * width + query];
                        assert!((found - ds).abs() < 1e-6, "bias at {query}, {key}: {found} is not {ds}");
                    }
                }
            }
            let name = |part: &str| format!("{part} of {tokens} + {context} x {size}, {causal} {biased} {masked}");
            y.check(&name("y"), &of_y);
            dq.check(&name("dq"), &of_dq);
            dk.check(&name("dk"), &of_dk);
            dv.check(&name("dv"), &of_dv);
        }
    }
}

#[test]
fn heads() {
    on_all_lanes!(a_head_is_its_definition(&mut 3));
}
