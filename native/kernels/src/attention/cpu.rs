//! Attention on the processor: heads are found in rows of activations, and their gradients put there.

use super::Attention;
use super::head::{self, Head, Matrix, Shape, Target, padded};
use crate::lanes::{Put, drain, past_caches};
use crate::product::with_scratch;
use crate::spent::used_up;
use crate::storage::{Rows, each_task, slice, tensor, uninitialised, with_values};
use candle_core::{CpuStorage, DType, Layout, Result, Shape as Dims, Tensor};
use std::borrow::Cow;

/// Tokens of a short sequence: its rows are read where they lie. Those of more tokens would compete for the same lines of
/// the first cache.
const SHORT: usize = 32;
/// Heads of short sequences that a task takes.
const TASK_HEADS: usize = 16;

/// What is left of a thread's memory.
struct Room(*mut f32);

impl Room {
    unsafe fn rows(&mut self, rows: usize, size: usize) -> Target {
        let rows_of = (self.0, padded(size));
        self.0 = unsafe { self.0.add(rows * rows_of.1) };
        rows_of
    }
}

unsafe fn copy(rows: usize, size: usize, (from, from_row): Matrix, (to, to_row): Target) {
    for row in 0..rows {
        unsafe { to.add(row * to_row).copy_from_nonoverlapping(from.add(row * from_row), size) };
    }
}

fn read((at, row): Target) -> Matrix {
    (at.cast_const(), row)
}

/// The values of a bias of either type.
fn bias_values<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<Cow<'a, [f32]>> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F64(values), Some((start, end))) => Ok(values[start..end].iter().map(|v| *v as f32).collect()),
        _ => Ok(Cow::Borrowed(slice(op, storage, layout)?)),
    }
}

/// What heads are found in.
struct Inputs<'a> {
    qkv: &'a [f32],
    context: &'a [f32],
    /// [`Attention::turned`].
    bias: &'a [f32],
}

impl Attention {
    fn shape(&self) -> Shape {
        Shape { tokens: self.tokens, context: self.context, size: self.size(), causal: self.causal }
    }

    fn row(&self, sequence: usize, token: usize) -> usize {
        sequence * self.sequence_stride + token * self.token_stride
    }

    /// Whether heads are copied out of the rows that they lie in.
    fn copied(&self) -> bool {
        self.context > 0 || self.tokens > SHORT
    }

    /// Bytes of memory that a head needs.
    fn room(&self, backward: bool) -> usize {
        let shape = self.shape();
        let rows = match (self.copied(), backward) {
            (false, _) => 0,
            (true, false) => 2 * shape.keys(),
            (true, true) => 2 * self.tokens + 4 * shape.keys(),
        };
        4 * (rows * padded(shape.size) + shape.room(backward))
    }

    /// Sequences that a task takes.
    fn group(&self) -> usize {
        if self.tokens > SHORT { 1 } else { TASK_HEADS.div_ceil(self.heads) }
    }

    /// The bias as heads read it: for each key a row of queries, padded with zeros.
    fn turned(&self, bias: &[f32]) -> Vec<f32> {
        if !self.has_bias {
            return Vec::new();
        }
        let (tokens, row) = (self.tokens, padded(self.tokens));
        let mut turned = vec![0f32; self.heads * tokens * row];
        for (turned, bias) in turned.chunks_exact_mut(tokens * row).zip(bias.chunks_exact(tokens * tokens)) {
            for (query, bias) in bias.chunks_exact(tokens).enumerate() {
                turned[query..].iter_mut().step_by(row).zip(bias).for_each(|(to, bias)| *to = *bias);
            }
        }
        turned
    }

    /// The rows of q, k or v of a sequence's head, as numbers from the start of `qkv`, and from a token to the next.
    fn part(&self, i: usize, sequence: usize, h: usize) -> (usize, usize) {
        let row = 3 * self.channels;
        (self.row(sequence, 0) * row + i * self.channels + h * self.size(), self.token_stride * row)
    }

    /// Where a head of a sequence's context has its keys (`i` is 0) or values (1), in the same way.
    fn context_part(&self, i: usize, sequence: usize, h: usize) -> (usize, usize) {
        let row = 2 * self.channels;
        (sequence / self.sequences_per_context * self.context * row + i * self.channels + h * self.size(), row)
    }

    /// What head `h` of a sequence reads.
    ///
    /// # Safety
    /// `room` is as large as [`Self::room`] says.
    unsafe fn head<'a>(
        &'a self,
        sequence: usize,
        h: usize,
        inputs: &Inputs<'a>,
        backward: bool,
        room: &mut Room,
    ) -> Head<'a> {
        let shape = self.shape();
        let own = |i: usize| {
            let (at, row) = self.part(i, sequence, h);
            (unsafe { inputs.qkv.as_ptr().add(at) }, row)
        };
        let mut rows = |i: usize| {
            let (own, context) = (own(i), if i > 0 { self.context } else { 0 });
            if !self.copied() || (i == 0 && !backward) {
                return own;
            }
            unsafe {
                let to = room.rows(context + self.tokens, shape.size);
                if context > 0 {
                    let (at, row) = self.context_part(i - 1, sequence, h);
                    copy(context, shape.size, (inputs.context.as_ptr().add(at), row), to);
                }
                copy(self.tokens, shape.size, own, (to.0.add(context * to.1), to.1));
                read(to)
            }
        };
        let bias = self.tokens * padded(self.tokens);
        Head {
            q: rows(0),
            k: rows(1),
            v: rows(2),
            bias: self.has_bias.then(|| &inputs.bias[h * bias..][..bias]),
            mask: self.key_mask.as_ref().map(|mask| &mask[sequence * self.tokens..][..self.tokens]),
        }
    }

    pub(super) fn cpu_forward(
        &self,
        op: &str,
        (qkv, lq): (&CpuStorage, &Layout),
        (context, lc): (&CpuStorage, &Layout),
        (bias, lb): (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Dims)> {
        let bias = self.turned(&bias_values(op, bias, lb)?);
        let inputs = Inputs { qkv: slice(op, qkv, lq)?, context: slice(op, context, lc)?, bias: &bias };
        let mut dims = lq.dims().to_vec();
        *dims.last_mut().expect("checked") = self.channels;
        let mut y = uninitialised(inputs.qkv.len() / 3);
        let put = if past_caches(&y, self.size()) { Put::Stream } else { Put::Set };
        let (rows, shape, group) = (Rows::new(&mut y), self.shape(), self.group());
        each_task((0..self.sequences).step_by(group).collect(), |first| {
            with_scratch(self.room(false), |lines| {
                for sequence in first..(first + group).min(self.sequences) {
                    for h in 0..self.heads {
                        let mut room = Room(lines.at(0).cast());
                        let at = self.row(sequence, 0) * self.channels + h * shape.size;
                        // SAFETY: a head has its own part of each row.
                        unsafe {
                            let head = self.head(sequence, h, &inputs, false, &mut room);
                            let y = (rows.at(at), self.token_stride * self.channels);
                            head::forward(&shape, &head, y, put, room.0);
                        }
                    }
                }
            });
            drain();
        });
        Ok((CpuStorage::F32(y), Dims::from(dims)))
    }

    pub(super) fn cpu_backward(
        &self,
        qkv: &Tensor,
        context: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        used_up(y)?;
        let mut dqkv = uninitialised(qkv.elem_count());
        let mut dcontext = vec![0f32; self.sequences * self.context * 2 * self.channels];
        let put = if past_caches(&dqkv, self.size()) { Put::Stream } else { Put::Set };
        let (rows, context_rows) = (Rows::new(&mut dqkv), Rows::new(&mut dcontext));
        let bias_len = if self.has_bias { self.heads * self.tokens * padded(self.tokens) } else { 0 };
        // Fixed groups of sequences, each with its own sum, so that the bias gradient has one order of addition.
        let group = if self.has_bias { self.sequences.div_ceil(16).max(8) } else { self.group() };
        let mut dbias = vec![0f64; self.sequences.div_ceil(group).max(1) * bias_len];
        with_values(qkv, |qkv| {
            with_values(context, |context| {
                with_values(&bias.to_dtype(DType::F32)?, |bias| {
                    with_values(grad, |dy| {
                        let bias = self.turned(bias);
                        let inputs = Inputs { qkv, context, bias: &bias };
                        let mut parts = dbias.chunks_exact_mut(bias_len.max(1));
                        let groups = (0..self.sequences).step_by(group);
                        let tasks = groups.map(|first| (first, parts.next().unwrap_or_default())).collect();
                        each_task(tasks, |(first, dbias): (usize, &mut [f64])| {
                            with_scratch(self.room(true), |lines| {
                                for sequence in first..(first + group).min(self.sequences) {
                                    for h in 0..self.heads {
                                        let mut room = Room(lines.at(0).cast());
                                        let of_head = bias_len / self.heads;
                                        let dbias = &mut dbias[h * of_head..][..of_head];
                                        // SAFETY: a head has its own part of each row.
                                        unsafe {
                                            let head = self.head(sequence, h, &inputs, true, &mut room);
                                            let to = (&rows, &context_rows);
                                            self.head_backward(sequence, h, &head, dy, to, put, dbias, room);
                                        }
                                    }
                                }
                            });
                            drain();
                        });
                        Ok(())
                    })
                })
            })
        })?;
        let dcontext = match self.context {
            0 => None,
            length => {
                let mut sums = vec![0f32; context.elem_count()];
                let row = length * 2 * self.channels;
                for (sequence, from) in dcontext.chunks_exact(row).enumerate() {
                    for (to, from) in sums[sequence / self.sequences_per_context * row..].iter_mut().zip(from) {
                        *to += from;
                    }
                }
                Some(tensor(sums, context.shape())?)
            }
        };
        let dbias = match self.has_bias {
            false => None,
            true => {
                let sums = self.bias_sums(&dbias);
                Some(Tensor::from_vec(sums, bias.shape(), bias.device())?.to_dtype(bias.dtype())?)
            }
        };
        Ok((Some(tensor(dqkv, qkv.shape())?), dcontext, dbias))
    }

    /// The sums of all parts of the bias' gradient, turned back.
    fn bias_sums(&self, parts: &[f64]) -> Vec<f64> {
        let (tokens, row) = (self.tokens, padded(self.tokens));
        let mut sums = vec![0f64; self.heads * tokens * tokens];
        for part in parts.chunks_exact(self.heads * tokens * row) {
            for (sums, part) in sums.chunks_exact_mut(tokens * tokens).zip(part.chunks_exact(tokens * row)) {
                for (query, sums) in sums.chunks_exact_mut(tokens).enumerate() {
                    sums.iter_mut().zip(part[query..].iter().step_by(row)).for_each(|(to, from)| *to += from);
                }
            }
        }
        sums
    }

    /// Writes the gradients of q, k and v of a head.
    ///
    /// # Safety
    /// That of [`Self::head`], and nobody else writes these rows.
    unsafe fn head_backward(
        &self,
        sequence: usize,
        h: usize,
        head: &Head,
        dy: &[f32],
        (rows, context_rows): (&Rows, &Rows),
        put: Put,
        dbias: &mut [f64],
        mut room: Room,
    ) {
        let shape = self.shape();
        let at = self.row(sequence, 0) * self.channels + h * shape.size;
        unsafe {
            let mut dy = (dy.as_ptr().add(at), self.token_stride * self.channels);
            let own = |i: usize| {
                let (at, row) = self.part(i, sequence, h);
                (rows.at(at), row)
            };
            if !self.copied() {
                return head::backward(&shape, head, dy, [own(0), own(1), own(2)], put, dbias, room.0);
            }
            let copied = room.rows(self.tokens, shape.size);
            copy(self.tokens, shape.size, dy, copied);
            dy = read(copied);
            let [dk, dv] = [room.rows(shape.keys(), shape.size), room.rows(shape.keys(), shape.size)];
            head::backward(&shape, head, dy, [own(0), dk, dv], Put::Set, dbias, room.0);
            for (i, (from, row)) in [dk, dv].map(read).into_iter().enumerate() {
                if self.context > 0 {
                    let at = sequence * self.context * 2 * self.channels + i * self.channels + h * shape.size;
                    copy(self.context, shape.size, (from, row), (context_rows.at(at), 2 * self.channels));
                }
                copy(self.tokens, shape.size, (from.add(self.context * row), row), own(i + 1));
            }
        }
    }
}
