//! One head of one sequence, forward and backward.
//!
//! Scores are kept turned, a row a key and a lane a query: softmax then goes from row to row, and products read queries, keys
//! and values where they lie. Forward, scores exist for a block of queries and keys at a time, in the first cache; where there
//! are more keys, the sums of exponentials are corrected from block to block (Milakov and Gimelshein, arXiv:1805.02867).
//! Backward, they exist for a block of queries and all keys.

use crate::lanes::{Factor, LANES, Lanes, Put, for_lanes, prefetch, turn};

/// Queries whose scores exist at a time.
const QUERIES: usize = 64;
/// Keys of a block.
const KEYS: usize = 128;

/// What all heads have in common.
pub(super) struct Shape {
    pub tokens: usize,
    /// Keys of the context, before those of the sequence.
    pub context: usize,
    /// Channels of a head.
    pub size: usize,
    /// Whether a token sees only itself and earlier ones, and the context.
    pub causal: bool,
}

impl Shape {
    pub fn keys(&self) -> usize {
        self.context + self.tokens
    }

    /// Numbers of memory that a head needs, forward or backward.
    pub fn room(&self, backward: bool) -> usize {
        let lanes = padded(self.tokens.min(QUERIES));
        let scores = if backward { 2 * self.keys() } else { self.keys().min(KEYS) };
        let sums = if backward { 0 } else { 3 + padded(self.size) };
        (padded(self.size) + scores + sums) * lanes
    }
}

/// Rounds up to whole vectors.
pub(super) fn padded(count: usize) -> usize {
    count.next_multiple_of(LANES)
}

/// Where a matrix begins, and the numbers from a row to the next.
pub(super) type Matrix = (*const f32, usize);
/// One that is written.
pub(super) type Target = (*mut f32, usize);

/// What a head reads.
pub(super) struct Head<'a> {
    /// Of tokens.
    pub q: Matrix,
    /// Of keys.
    pub k: Matrix,
    pub v: Matrix,
    /// For each of the sequence's keys, what is added to the scores of all queries, whose number is rounded up to whole
    /// vectors.
    pub bias: Option<&'a [f32]>,
    /// Which of the sequence's keys are seen: those with another number than 0.
    pub mask: Option<&'a [f32]>,
}

for_lanes! {
    /// softmax(q kᵀ / √d + bias) v, which is put to `y`.
    ///
    /// # Safety
    /// The matrices have the rows of `shape`, `y` is what `put` asks for, `room` begins at a cache line and has as many numbers as the shape says.
    pub(super) unsafe fn forward(shape: &Shape, head: &Head, y: Target, put: Put, room: *mut f32) = forward_in
}

for_lanes! {
    /// Gradients of q, k and v from that of the result, which are put to `gradients`, and the bias' gradient, which is added to
    /// `bias`.
    ///
    /// # Safety
    /// That of [`forward`], for each of the gradients; `bias` is empty or as large as the head's.
    pub(super) unsafe fn backward(
        shape: &Shape,
        head: &Head,
        dy: Matrix,
        gradients: [Target; 3],
        put: Put,
        bias: &mut [f64],
        room: *mut f32,
    ) = backward_in
}

#[inline(always)]
unsafe fn row_of((at, row): Matrix, index: usize) -> Matrix {
    (unsafe { at.add(index * row) }, row)
}

#[inline(always)]
unsafe fn row_of_target((at, row): Target, index: usize) -> Target {
    (unsafe { at.add(index * row) }, row)
}

#[inline(always)]
unsafe fn forward_in<V: Lanes>(shape: &Shape, head: &Head, y: Target, put: Put, room: *mut f32) {
    let (size, keys) = (shape.size, shape.keys());
    let scale = 1.0 / (size as f32).sqrt();
    for first in (0..shape.tokens).step_by(QUERIES) {
        let count = (shape.tokens - first).min(QUERIES);
        let lanes = padded(count);
        unsafe {
            let y = row_of_target(y, first);
            let turned = room;
            let scores = turned.add(padded(size) * lanes);
            turn::<V>(row_of(head.q, first), [count, size], scale, turned, lanes);
            if keys <= KEYS {
                scores_of::<V>(shape, head, first, count, 0..keys, turned, scores);
                normalise::<V>(scores, keys, lanes);
                V::multiply([count, keys, size], Factor::Turned(scores, lanes), head.v, y, put);
                continue;
            }
            // Rows of the result are far apart, and writing waits for them: they come while scores are computed.
            for query in 0..count {
                prefetch(y.0.add(query * y.1), size);
            }
            let sums = Sums::<V>::new(scores.add(KEYS * lanes), lanes);
            let out = (sums.factors.add(lanes), padded(size));
            for block in (0..keys).step_by(KEYS) {
                let length = (keys - block).min(KEYS);
                scores_of::<V>(shape, head, first, count, block..block + length, turned, scores);
                sums.add(scores, length);
                if block > 0 {
                    sums.correct(count, out);
                }
                let v = row_of(head.v, block);
                V::multiply([count, length, size], Factor::Turned(scores, lanes), v, out, Put::add(block > 0));
            }
            sums.divide(count, size, out, y);
        }
    }
}

/// Scores of `count` queries from `first` on, a row for each of the keys.
#[inline(always)]
unsafe fn scores_of<V: Lanes>(
    shape: &Shape,
    head: &Head,
    first: usize,
    count: usize,
    keys: std::ops::Range<usize>,
    turned: *const f32,
    scores: *mut f32,
) {
    let lanes = padded(count);
    unsafe {
        let k = row_of(head.k, keys.start);
        let size = [keys.len(), shape.size, lanes];
        V::multiply(size, Factor::Rows(k.0, k.1), (turned, lanes), (scores, lanes), Put::Set);
        if head.bias.is_none() && head.mask.is_none() && !shape.causal {
            return;
        }
        for key in keys.start.max(shape.context)..keys.end {
            let row = std::slice::from_raw_parts_mut(scores.add((key - keys.start) * lanes), lanes);
            let own = key - shape.context;
            if let Some(bias) = head.bias {
                for (score, bias) in row.iter_mut().zip(&bias[own * padded(shape.tokens) + first..]) {
                    *score += bias;
                }
            }
            if head.mask.is_some_and(|mask| mask[own] == 0.0) {
                row.fill(f32::NEG_INFINITY);
            } else if shape.causal && own > first {
                row[..(own - first).min(lanes)].fill(f32::NEG_INFINITY);
            }
        }
    }
}

/// Keys that are taken side by side: one after the other, each would wait for the last.
const CHAINS: usize = 4;

/// The largest score of sixteen queries, and `most`.
#[inline(always)]
unsafe fn largest<V: Lanes>(most: V, keys: usize, at: impl Fn(usize) -> *mut f32) -> V {
    unsafe {
        let mut chains = [most; CHAINS];
        for key in (0..keys / CHAINS * CHAINS).step_by(CHAINS) {
            for (i, most) in chains.iter_mut().enumerate() {
                *most = V::load(at(key + i)).max(*most);
            }
        }
        for key in keys / CHAINS * CHAINS..keys {
            chains[0] = V::load(at(key)).max(chains[0]);
        }
        chains[0].max(chains[1]).max(chains[2].max(chains[3]))
    }
}

/// Scores to exponentials, and their sum.
#[inline(always)]
unsafe fn exponentials<V: Lanes>(most: V, keys: usize, at: impl Fn(usize) -> *mut f32) -> V {
    unsafe {
        let mut chains = [V::splat(0.0); CHAINS];
        for key in (0..keys / CHAINS * CHAINS).step_by(CHAINS) {
            for (i, sum) in chains.iter_mut().enumerate() {
                let power = V::load(at(key + i)).sub(most).exp();
                power.store(at(key + i));
                *sum = sum.add(power);
            }
        }
        for key in keys / CHAINS * CHAINS..keys {
            let power = V::load(at(key)).sub(most).exp();
            power.store(at(key));
            chains[0] = chains[0].add(power);
        }
        chains[0].add(chains[1]).add(chains[2].add(chains[3]))
    }
}

/// Scores to probabilities, in place.
#[inline(always)]
unsafe fn normalise<V: Lanes>(scores: *mut f32, keys: usize, lanes: usize) {
    for lane in (0..lanes).step_by(LANES) {
        unsafe {
            let at = |key: usize| scores.add(key * lanes + lane);
            // What is hidden from all is 0 of the largest number, not of itself.
            let most = largest(V::splat(f32::MIN), keys, at);
            let sum = exponentials(most, keys, at);
            let factor = V::splat(1.0).div(sum);
            for key in 0..keys {
                V::load(at(key)).mul(factor).store(at(key));
            }
        }
    }
}

/// The largest score of each query so far, the sum of exponentials, and what the last block made of earlier ones.
struct Sums<V> {
    most: *mut f32,
    sums: *mut f32,
    factors: *mut f32,
    lanes: usize,
    of: std::marker::PhantomData<V>,
}

impl<V: Lanes> Sums<V> {
    #[inline(always)]
    unsafe fn new(room: *mut f32, lanes: usize) -> Self {
        let at = |i: usize| unsafe { room.add(i * lanes) };
        let found = Self { most: at(0), sums: at(1), factors: at(2), lanes, of: std::marker::PhantomData };
        for lane in (0..lanes).step_by(LANES) {
            unsafe {
                V::splat(f32::MIN).store(found.most.add(lane));
                V::splat(0.0).store(found.sums.add(lane));
            }
        }
        found
    }

    /// A block's scores to exponentials, in place.
    #[inline(always)]
    unsafe fn add(&self, scores: *mut f32, keys: usize) {
        for lane in (0..self.lanes).step_by(LANES) {
            unsafe {
                let at = |key: usize| scores.add(key * self.lanes + lane);
                let before = V::load(self.most.add(lane));
                let most = largest(before, keys, at);
                let sum = exponentials(most, keys, at);
                let factor = before.sub(most).exp();
                most.store(self.most.add(lane));
                factor.store(self.factors.add(lane));
                V::load(self.sums.add(lane)).mul_add(factor, sum).store(self.sums.add(lane));
            }
        }
    }

    /// Makes sums over earlier blocks ones of the new exponentials.
    #[inline(always)]
    unsafe fn correct(&self, queries: usize, (out, row): Target) {
        for query in 0..queries {
            unsafe {
                let factor = *self.factors.add(query);
                if factor == 1.0 {
                    continue;
                }
                let factor = V::splat(factor);
                for column in (0..row).step_by(LANES) {
                    let at = out.add(query * row + column);
                    V::load(at).mul(factor).store(at);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn divide(&self, queries: usize, size: usize, (out, row): Target, (y, y_row): Target) {
        for query in 0..queries {
            unsafe {
                let factor = 1.0 / *self.sums.add(query);
                let out = std::slice::from_raw_parts(out.add(query * row), size);
                let y = std::slice::from_raw_parts_mut(y.add(query * y_row), size);
                for (y, sum) in y.iter_mut().zip(out) {
                    *y = sum * factor;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn backward_in<V: Lanes>(
    shape: &Shape,
    head: &Head,
    dy: Matrix,
    [dq, dk, dv]: [Target; 3],
    put: Put,
    bias: &mut [f64],
    room: *mut f32,
) {
    let (size, keys) = (shape.size, shape.keys());
    // Sums of several parts are not written once.
    let once = shape.tokens <= QUERIES && keys <= KEYS;
    let put = |more: bool| if once { put } else { Put::add(more) };
    let scale = 1.0 / (size as f32).sqrt();
    for first in (0..shape.tokens).step_by(QUERIES) {
        let count = (shape.tokens - first).min(QUERIES);
        let lanes = padded(count);
        unsafe {
            let (q, dy, dq) = (row_of(head.q, first), row_of(dy, first), row_of_target(dq, first));
            let turned = room;
            let scores = turned.add(padded(size) * lanes);
            let dscores = scores.add(keys * lanes);
            turn::<V>(q, [count, size], scale, turned, lanes);
            scores_of::<V>(shape, head, first, count, 0..keys, turned, scores);
            normalise::<V>(scores, keys, lanes);
            turn::<V>(dy, [count, size], 1.0, turned, lanes);
            let v = Factor::Rows(head.v.0, head.v.1);
            V::multiply([keys, size, lanes], v, (turned, lanes), (dscores, lanes), Put::Set);
            V::multiply([keys, count, size], Factor::Rows(scores, lanes), dy, dv, put(first > 0));
            for lane in (0..lanes).step_by(LANES) {
                let (p, ds) = (scores.add(lane), dscores.add(lane));
                if bias.is_empty() {
                    softmax_backward::<V>(keys, p, ds, lanes, scale);
                } else {
                    softmax_backward_of_bias(shape, p, ds, lanes, scale, &mut bias[first + lane..]);
                }
            }
            V::multiply([keys, count, size], Factor::Rows(dscores, lanes), q, dk, put(first > 0));
            for block in (0..keys).step_by(KEYS) {
                let length = (keys - block).min(KEYS);
                let ds = Factor::Turned(dscores.add(block * lanes), lanes);
                V::multiply([count, length, size], ds, row_of(head.k, block), dq, put(block > 0));
            }
        }
    }
}

/// From the gradient of probabilities to that of the products of queries and keys, in place, for sixteen queries.
#[inline(always)]
unsafe fn softmax_backward<V: Lanes>(keys: usize, p: *const f32, ds: *mut f32, lanes: usize, scale: f32) {
    unsafe {
        let mut chains = [V::splat(0.0); CHAINS];
        for key in (0..keys / CHAINS * CHAINS).step_by(CHAINS) {
            for (i, sum) in chains.iter_mut().enumerate() {
                let at = (key + i) * lanes;
                *sum = V::load(p.add(at)).mul_add(V::load(ds.add(at)), *sum);
            }
        }
        for at in (keys / CHAINS * CHAINS..keys).map(|key| key * lanes) {
            chains[0] = V::load(p.add(at)).mul_add(V::load(ds.add(at)), chains[0]);
        }
        let mean = chains[0].add(chains[1]).add(chains[2].add(chains[3]));
        let scale = V::splat(scale);
        for at in (0..keys).map(|key| key * lanes) {
            let p = V::load(p.add(at)).mul(scale);
            p.mul(V::load(ds.add(at)).sub(mean)).store(ds.add(at));
        }
    }
}

/// The same in f64, and the gradient of the bias: over the keys it sums to zero, whatever `p` was rounded to.
#[inline(always)]
unsafe fn softmax_backward_of_bias(
    shape: &Shape,
    p: *const f32,
    ds: *mut f32,
    lanes: usize,
    scale: f32,
    bias: &mut [f64],
) {
    // Whole vectors are read before any is written, so that these loops become vector code.
    let row = |key: usize| unsafe {
        let at = key * lanes;
        (p.add(at).cast::<[f32; LANES]>().read(), ds.add(at).cast::<[f32; LANES]>().read())
    };
    let (mut means, mut sums) = ([0f64; LANES], [0f64; LANES]);
    for key in 0..shape.keys() {
        let (p, ds) = row(key);
        for i in 0..LANES {
            means[i] += f64::from(p[i]) * f64::from(ds[i]);
            sums[i] += f64::from(p[i]);
        }
    }
    for (mean, sum) in means.iter_mut().zip(sums) {
        *mean /= sum;
    }
    for key in 0..shape.keys() {
        let (p, mut of_products) = row(key);
        let mut found = [0f64; LANES];
        for i in 0..LANES {
            found[i] = f64::from(p[i]) * (f64::from(of_products[i]) - means[i]);
            of_products[i] = found[i] as f32 * scale;
        }
        unsafe { ds.add(key * lanes).cast::<[f32; LANES]>().write(of_products) };
        if key >= shape.context {
            let to = &mut bias[(key - shape.context) * padded(shape.tokens)..][..LANES];
            for (to, found) in to.iter_mut().zip(found) {
                *to += found;
            }
        }
    }
}

#[cfg(test)]
mod tests;
