//! Self-attention over pixels, frames or rows, with optional context keys, position bias, causality and key mask.
//!
//! Queries are taken in tiles, so no more than a tile of scores exists at a time.

#[cfg(feature = "cuda")]
mod cuda;

use crate::device::on_gpus;
use crate::graph::apply3;
use crate::isa::{Format, LINE, PANEL, Tile, Tiles, WIDE, isa, tiles};
use crate::product::{Lines, MOST_ROWS};
use crate::simd::{exp, vectorised};
use crate::spent::used_up;
use crate::storage::{Rows, slice, tensor, uninitialised, with_values};
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::borrow::Cow;

/// Queries whose scores exist at a time: whole tiles of rows on every path.
const TILE: usize = 48;
/// Fewer tokens than this fill no tiles.
const TILED: usize = 32;

/// Which rows of the activations form a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequences {
    /// (sequences, tokens, 3C).
    Rows,
    /// (height, width, images, 3C): the pixels of an image attend to each other.
    Space,
    /// (height, width, clips x frames, 3C): the frames of a pixel attend to each other (Make-A-Video, Eq. 3).
    Frames(usize),
}

/// How to attend.
#[derive(Clone, Debug)]
pub struct AttentionOptions {
    /// Number of heads; it divides C.
    pub heads: usize,
    /// Which rows form a sequence.
    pub sequences: Sequences,
    /// Whether a token sees only itself and earlier ones (and all of the context).
    pub causal: bool,
    /// (sequences, tokens) for [`Sequences::Rows`]: keys with 0 are not seen. At least one key of each row must be 1.
    pub key_mask: Option<Tensor>,
}

/// softmax(q kᵀ / √d + bias) v.
///
/// `qkv` is (..., 3C) with q, k, v one after the other, each split in heads. `context_kv` (batch, tokens, 2C) holds
/// keys and values that are seen before the sequence's own; with [`Sequences::Space`] image n uses row
/// n / (images / batch), with [`Sequences::Rows`] there is one row a sequence. `bias` is (heads, tokens, tokens), in f32 or
/// in f64, and so is its gradient: the scores' gradients cancel over the keys, and a network that makes the bias of little
/// else needs the digits.
/// Returns (..., C).
pub fn attention(
    qkv: &Tensor,
    context_kv: Option<&Tensor>,
    bias: Option<&Tensor>,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let dims = qkv.dims();
    let Some(&width) = dims.last() else { bail!("attention needs a channel axis") };
    let heads = options.heads;
    if heads == 0 || width % (3 * heads) != 0 {
        bail!("attention: {width} channels are not q, k and v of {heads} heads");
    }
    let channels = width / 3;
    let (sequences, tokens, token_stride, sequence_stride) = match (options.sequences, dims) {
        (Sequences::Rows, [sequences, tokens, _]) => (*sequences, *tokens, 1, *tokens),
        (Sequences::Space, [height, width, images, _]) => (*images, height * width, *images, 1),
        (Sequences::Frames(frames), [height, width, images, _]) if frames > 0 && images % frames == 0 => {
            (height * width * images / frames, frames, 1, frames)
        }
        _ => bail!("attention: {dims:?} does not fit {:?}", options.sequences),
    };
    let (mut context, mut sequences_per_context) = (0, 1);
    if let Some(kv) = context_kv {
        let (batch, length, kv_width) = kv.dims3()?;
        if kv_width != 2 * channels || sequences % batch != 0 || matches!(options.sequences, Sequences::Frames(_)) {
            bail!("attention: context {:?} does not fit {dims:?}", kv.shape());
        }
        (context, sequences_per_context) = (length, sequences / batch);
    }
    if let Some(bias) = bias
        && bias.dims() != [heads, tokens, tokens]
    {
        bail!("attention: bias {:?} is not ({heads}, {tokens}, {tokens})", bias.shape());
    }
    let key_mask = match &options.key_mask {
        Some(mask) if mask.dims() != [sequences, tokens] => {
            bail!("attention: key mask {:?} is not ({sequences}, {tokens})", mask.shape())
        }
        Some(mask) => Some(mask.flatten_all()?.to_vec1::<f32>()?),
        None => None,
    };
    let op = Attention {
        heads,
        channels,
        sequences,
        tokens,
        token_stride,
        sequence_stride,
        context,
        sequences_per_context,
        has_bias: bias.is_some(),
        causal: options.causal,
        key_mask,
        #[cfg(feature = "cuda")]
        lse: std::sync::OnceLock::new(),
    };
    let qkv = qkv.contiguous()?;
    // The op takes three arguments; an absent one is stood in for by qkv and not read.
    let context_kv = context_kv.map_or_else(|| Ok(qkv.clone()), Tensor::contiguous)?;
    let bias = bias.map_or_else(|| Ok(qkv.clone()), Tensor::contiguous)?;
    apply3(&qkv, &context_kv, &bias, op)
}

struct Attention {
    heads: usize,
    channels: usize,
    sequences: usize,
    tokens: usize,
    token_stride: usize,
    sequence_stride: usize,
    context: usize,
    sequences_per_context: usize,
    has_bias: bool,
    causal: bool,
    key_mask: Option<Vec<f32>>,
    /// Of a forward pass on a GPU: the logarithm of each query's sum of exponentials, (sequences, heads, tokens).
    #[cfg(feature = "cuda")]
    lse: std::sync::OnceLock<crate::gpu::Floats>,
}

/// Rounds up to whole vectors.
fn padded(count: usize) -> usize {
    count.div_ceil(16) * 16
}

/// A row-major matrix in scratch memory; rows are padded to whole vectors with zeros, and so that they do not lie a power of
/// two apart: those that are read together would compete for the same lines of the first cache.
struct Matrix {
    values: Vec<f32>,
    width: usize,
    /// The same in panels, if it is multiplied with by tiles: so many rows of [`PANEL`] columns each, padded with zeros.
    panels: Option<(Lines, usize)>,
}

impl Matrix {
    fn new(rows: usize, columns: usize) -> Self {
        let width = padded(columns);
        let width = if width.is_multiple_of(256) { width + 16 } else { width };
        Self { values: vec![0.0; rows.div_ceil(4) * 4 * width], width, panels: None }
    }

    /// With room for panels, when the sequence is long enough for tiles.
    fn factor(rows: usize, columns: usize, tiled: bool) -> Self {
        let held = padded(rows);
        let panels = tiled.then(|| (Lines::new(columns.div_ceil(PANEL) * held * 2 * LINE), held));
        Self { panels, ..Self::new(rows, columns) }
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.width..(row + 1) * self.width]
    }

    fn set_column(&mut self, column: usize, values: &[f32]) {
        self.values[column..].iter_mut().step_by(self.width).zip(values).for_each(|(to, value)| *to = *value);
    }

    /// Copies `rows` rows to the panels.
    fn pack(&mut self, rows: usize) {
        let Some((lines, held)) = &self.panels else { return };
        for panel in 0..self.width.div_ceil(PANEL) {
            let columns = (self.width - panel * PANEL).min(PANEL);
            for row in 0..*held {
                let mut to = [0f32; PANEL];
                if row < rows {
                    to[..columns].copy_from_slice(&self.row(row)[panel * PANEL..][..columns]);
                }
                // SAFETY: there is room for so many rows of each panel.
                unsafe { lines.at((panel * held + row) * 2 * LINE).cast::<[f32; PANEL]>().write(to) };
            }
        }
    }

    /// `c[m][n] = a[m][k] * self[k][n]`, n being this matrix' padded width; rows of `a` are padded to whole vectors.
    fn times(&self, m: usize, k: usize, a: &[f32], a_row: usize, c: &mut [f32], c_row: usize) {
        let Some((lines, held)) = &self.panels else {
            return multiply(m, k, self.width, a, a_row, 1, &self.values, self.width, c, c_row, false);
        };
        let Tiles { rows: tile_rows, tile: Tile::Gathered(tile), .. } = tiles(isa(), Format::F32) else {
            unreachable!("f32 is read where it lies")
        };
        let mut sources = [std::ptr::null::<u8>(); MOST_ROWS];
        let mut part = [0f32; MOST_ROWS * PANEL];
        for panel in 0..self.width.div_ceil(PANEL) {
            let columns = (self.width - panel * PANEL).min(PANEL);
            let b = lines.at(panel * held * 2 * LINE);
            for first in (0..m).step_by(tile_rows) {
                let present = (m - first).min(tile_rows);
                for (i, source) in sources[..tile_rows].iter_mut().enumerate() {
                    // Rows beyond the last stand for the first.
                    let row = if i < present { first + i } else { first };
                    *source = a[row * a_row..][..k].as_ptr().cast();
                }
                let to = &mut c[first * c_row + panel * PANEL..];
                let (sources, nothing) = (sources.as_ptr(), std::ptr::null());
                if present == tile_rows && columns == PANEL {
                    let to = to[..(tile_rows - 1) * c_row + PANEL].as_mut_ptr();
                    unsafe { tile(1, k, sources, b, nothing, to, c_row) };
                } else {
                    unsafe { tile(1, k, sources, b, nothing, part.as_mut_ptr(), PANEL) };
                    for (i, part) in part.chunks_exact(PANEL).take(present).enumerate() {
                        to[i * c_row..][..columns].copy_from_slice(&part[..columns]);
                    }
                }
            }
        }
    }

    /// `c[m][n] += sum over k of a[k][m] * self[first + k][n]`, for up to [`TILE`] rows k.
    fn times_turned(&self, m: usize, first: usize, k: usize, a: &Matrix, c: &mut Matrix) {
        let (a_row, n) = (a.width, self.width);
        let Some((lines, held)) = &self.panels else {
            return multiply(m, k, n, &a.values, 1, a_row, &self.values[first * n..], n, &mut c.values, n, true);
        };
        static NOTHING: [f32; WIDE] = [0.0; WIDE];
        let wide = tiles(isa(), Format::F32).wide;
        let mut sources = [std::ptr::null::<u8>(); TILE];
        for group in (0..m).step_by(WIDE) {
            for (row, source) in sources.iter_mut().enumerate() {
                *source = match row < k {
                    true => a.row(row)[group..][..WIDE].as_ptr().cast(),
                    false => NOTHING.as_ptr().cast(),
                };
            }
            for panel in 0..n.div_ceil(PANEL) {
                let columns = (n - panel * PANEL).min(PANEL);
                let mut sums = [0f32; WIDE * PANEL];
                let b = lines.at((panel * held + first) * 2 * LINE);
                unsafe { wide(k.div_ceil(16), sources.as_ptr(), b, sums.as_mut_ptr()) };
                for (row, sums) in sums.chunks_exact(PANEL).take(m - group).enumerate() {
                    let to = &mut c.row_mut(group + row)[panel * PANEL..][..columns];
                    to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
                }
            }
        }
    }
}

vectorised! {
    /// `c[m][n] (+)= sum over k of a[m * a_row + k * a_column] * b[k][n]`; n is a multiple of 16, and so many rows of `a` are
    /// there that m may be rounded up to a multiple of 4.
    fn multiply(
        m: usize, k: usize, n: usize, a: &[f32], a_row: usize, a_column: usize, b: &[f32], b_row: usize, c: &mut [f32],
        c_row: usize, add: bool,
    ) {
        if m == 0 || k == 0 || n == 0 {
            return;
        }
        // What the sums below read without looking.
        assert!((m.next_multiple_of(4) - 1) * a_row + (k - 1) * a_column < a.len() && (k - 1) * b_row + n <= b.len());
        for row in (0..m).step_by(8) {
            let (a, c, rows) = (&a[row * a_row..], &mut c[row * c_row..], (m - row).min(8));
            for column in (0..n).step_by(16) {
                // SAFETY: looked at above; numbers of rows that are known keep the sums in registers.
                let sums: &[[f32; 16]] = unsafe {
                    let b = b.as_ptr().add(column);
                    match rows > 4 {
                        true => &sums_of_rows::<8>(k, a.as_ptr(), a_row, a_column, b, b_row),
                        false => &sums_of_rows::<4>(k, a.as_ptr(), a_row, a_column, b, b_row),
                    }
                };
                for (r, sum) in sums.iter().enumerate().take(rows) {
                    for (to, sum) in c[r * c_row + column..][..16].iter_mut().zip(sum) {
                        *to = if add { *to + sum } else { *sum };
                    }
                }
            }
        }
    }
}

/// Sixteen columns of R rows of a product.
///
/// # Safety
/// `a` has k columns of R rows, and `b` k rows of sixteen columns.
#[inline(always)]
unsafe fn sums_of_rows<const R: usize>(
    k: usize,
    a: *const f32,
    a_row: usize,
    a_column: usize,
    b: *const f32,
    b_row: usize,
) -> [[f32; 16]; R] {
    let mut sums = [[0f32; 16]; R];
    for i in 0..k {
        let b = unsafe { b.add(i * b_row).cast::<[f32; 16]>().read_unaligned() };
        for (r, sum) in sums.iter_mut().enumerate() {
            let x = unsafe { *a.add(r * a_row + i * a_column) };
            for (s, b) in sum.iter_mut().zip(&b) {
                *s += x * b;
            }
        }
    }
    sums
}

vectorised! {
    /// Exponentials of scores, and what makes their sum 1.
    fn exponentials(scores: &mut [f32], keys: usize) -> f32 {
        // In lanes, so that the loops become vector code; beyond the keys are powers of zero.
        scores[keys..].fill(f32::NEG_INFINITY);
        let chunks = scores.as_chunks_mut::<16>().0;
        let mut most = [f32::NEG_INFINITY; 16];
        for chunk in chunks.iter() {
            for (most, score) in most.iter_mut().zip(chunk) {
                *most = if *score > *most { *score } else { *most };
            }
        }
        let most = most.iter().fold(f32::NEG_INFINITY, |most, v| if *v > most { *v } else { most });
        let mut sums = [0f32; 16];
        let power = |score: f32| if score == f32::NEG_INFINITY { 0.0 } else { exp(score - most) };
        for chunk in chunks {
            for (score, sum) in chunk.iter_mut().zip(&mut sums) {
                *score = power(*score);
                *sum += *score;
            }
        }
        1.0 / sums.iter().sum::<f32>()
    }
}

vectorised! {
    /// From the gradient of probabilities to that of scores, in place, which `bias` collects from `skip` on. In f64: over
    /// the keys it sums to zero, whatever `p` was rounded to.
    fn softmax_backward(p: &[f32], ds: &mut [f32], keys: usize, skip: usize, bias: &mut [f64]) {
        let (mut dots, mut sums) = ([0f64; 16], [0f64; 16]);
        // Beyond the keys both are zero.
        for (p, ds) in p.chunks_exact(16).zip(ds.chunks_exact(16)) {
            for i in 0..16 {
                dots[i] += f64::from(p[i]) * f64::from(ds[i]);
                sums[i] += f64::from(p[i]);
            }
        }
        let mean = dots.iter().sum::<f64>() / sums.iter().sum::<f64>();
        for (to, (p, ds)) in bias.iter_mut().zip(p[skip..keys].iter().zip(&ds[skip..keys])) {
            *to += f64::from(*p) * (f64::from(*ds) - mean);
        }
        for (ds, p) in ds[..keys].iter_mut().zip(p) {
            *ds = (f64::from(*p) * (f64::from(*ds) - mean)) as f32;
        }
    }
}

/// The values of a bias of either type.
fn bias_values<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<Cow<'a, [f32]>> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F64(values), Some((start, end))) => Ok(values[start..end].iter().map(|v| *v as f32).collect()),
        _ => Ok(Cow::Borrowed(slice(op, storage, layout)?)),
    }
}

/// What one head of one sequence works with.
struct Head {
    q: Matrix,
    k: Matrix,
    k_turned: Matrix,
    v: Matrix,
    scores: Matrix,
}

impl Attention {
    fn size(&self) -> usize {
        self.channels / self.heads
    }

    fn keys(&self) -> usize {
        self.context + self.tokens
    }

    fn row(&self, sequence: usize, token: usize) -> usize {
        sequence * self.sequence_stride + token * self.token_stride
    }

    fn head(&self) -> Head {
        let (size, keys) = (self.size(), self.keys());
        let tiled = self.tokens >= TILED;
        Head {
            q: Matrix::factor(self.tokens, size, tiled),
            k: Matrix::factor(keys, size, tiled),
            k_turned: Matrix::factor(size, keys, tiled),
            v: Matrix::factor(keys, size, tiled),
            scores: Matrix::new(TILE.min(self.tokens), keys),
        }
    }

    fn load(&self, head: &mut Head, sequence: usize, h: usize, qkv: &[f32], context: &[f32]) {
        let (size, channels) = (self.size(), self.channels);
        let scale = 1.0 / (size as f32).sqrt();
        for t in 0..self.context {
            let row = (sequence / self.sequences_per_context * self.context + t) * 2 * channels + h * size;
            head.k.row_mut(t)[..size].copy_from_slice(&context[row..row + size]);
            head.v.row_mut(t)[..size].copy_from_slice(&context[row + channels..row + channels + size]);
        }
        for t in 0..self.tokens {
            let row = self.row(sequence, t) * 3 * channels + h * size;
            for (to, from) in head.q.row_mut(t).iter_mut().zip(&qkv[row..row + size]) {
                *to = from * scale;
            }
            let (k, v) = (row + channels, row + 2 * channels);
            head.k.row_mut(self.context + t)[..size].copy_from_slice(&qkv[k..k + size]);
            head.v.row_mut(self.context + t)[..size].copy_from_slice(&qkv[v..v + size]);
        }
        for key in 0..self.keys() {
            head.k_turned.set_column(key, &head.k.row(key)[..size]);
        }
        head.k_turned.pack(size);
        head.v.pack(self.keys());
    }

    /// Fills `scores` with the probabilities of queries `first..first + count`, but for the factor of each.
    fn probabilities(
        &self,
        head: &mut Head,
        sequence: usize,
        h: usize,
        first: usize,
        count: usize,
        bias: &[f32],
    ) -> [f32; TILE] {
        let mut factors = [0f32; TILE];
        let Head { q, k_turned, scores, .. } = head;
        let (keys, width) = (self.keys(), scores.width);
        k_turned.times(count, self.size(), &q.values[first * q.width..], q.width, &mut scores.values, width);
        for (i, factor) in factors.iter_mut().enumerate().take(count) {
            let query = first + i;
            let row = &mut scores.row_mut(i)[..];
            let own = &mut row[self.context..keys];
            if self.has_bias {
                let bias = &bias[(h * self.tokens + query) * self.tokens..][..self.tokens];
                for (score, bias) in own.iter_mut().zip(bias) {
                    *score += bias;
                }
            }
            if self.causal {
                own[query + 1..].fill(f32::NEG_INFINITY);
            }
            if let Some(mask) = &self.key_mask {
                for (score, keep) in own.iter_mut().zip(&mask[sequence * self.tokens..]) {
                    if *keep == 0.0 {
                        *score = f32::NEG_INFINITY;
                    }
                }
            }
            *factor = exponentials(row, keys);
        }
        factors
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        lq: &Layout,
        context: &CpuStorage,
        lc: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let qkv = slice(self.name(), qkv, lq)?;
        let (context, bias) = (slice(self.name(), context, lc)?, &*bias_values(self.name(), bias, lb)?);
        let mut dims = lq.dims().to_vec();
        *dims.last_mut().expect("checked") = self.channels;
        let mut y = uninitialised(qkv.len() / 3);
        let rows = Rows::new(&mut y);
        let size = self.size();
        (0..self.sequences).into_par_iter().with_min_len(8).for_each_init(
            || (self.head(), Matrix::new(TILE, size)),
            |(head, out), sequence| {
                for h in 0..self.heads {
                    self.load(head, sequence, h, qkv, context);
                    for first in (0..self.tokens).step_by(TILE) {
                        let count = (self.tokens - first).min(TILE);
                        let factors = self.probabilities(head, sequence, h, first, count, bias);
                        let Head { v, scores, .. } = &*head;
                        v.times(count, self.keys(), &scores.values, scores.width, &mut out.values, v.width);
                        for (i, factor) in factors.iter().enumerate().take(count) {
                            let at = self.row(sequence, first + i) * self.channels + h * size;
                            for (y, sum) in unsafe { rows.slice(at, size) }.iter_mut().zip(out.row(i)) {
                                *y = sum * factor;
                            }
                        }
                    }
                }
            },
        );
        Ok((CpuStorage::F32(y), Shape::from(dims)))
    }

    on_gpus!(a la, b lb, c lc);

    fn bwd(
        &self,
        qkv: &Tensor,
        context: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        used_up(y)?;
        #[cfg(feature = "cuda")]
        if qkv.device().is_cuda() {
            return self.gpu_backward(qkv, context, bias, y, grad);
        }
        let mut dqkv = uninitialised(qkv.elem_count());
        let mut dcontext = vec![0f32; self.sequences * self.context * 2 * self.channels];
        let bias_len = if self.has_bias { self.heads * self.tokens * self.tokens } else { 0 };
        let rows = Rows::new(&mut dqkv);
        let context_rows = Rows::new(&mut dcontext);
        // Fixed groups of sequences, each with its own sum, so that the bias gradient has one order of addition.
        let group = self.sequences.div_ceil(16).max(8);
        let partial: Vec<Vec<f64>> = with_values(qkv, |qkv| {
            with_values(context, |context| {
                with_values(&bias.to_dtype(DType::F32)?, |bias| {
                    with_values(grad, |dy| {
                        let groups = (0..self.sequences).step_by(group).collect::<Vec<_>>();
                        let work = |first: usize| {
                            let mut dbias = vec![0f64; bias_len];
                            let mut head = self.head();
                            let mut back = Backward::new(self);
                            for sequence in first..(first + group).min(self.sequences) {
                                for h in 0..self.heads {
                                    self.load(&mut head, sequence, h, qkv, context);
                                    back.head(self, &mut head, sequence, h, dy, bias, &mut dbias);
                                    back.store(self, sequence, h, &rows, &context_rows);
                                }
                            }
                            dbias
                        };
                        Ok(groups.into_par_iter().map(work).collect())
                    })
                })
            })
        })?;
        let dcontext = if self.context > 0 {
            let mut sums = vec![0f32; context.elem_count()];
            let row = self.context * 2 * self.channels;
            for (sequence, from) in dcontext.chunks_exact(row).enumerate() {
                for (to, from) in sums[sequence / self.sequences_per_context * row..].iter_mut().zip(from) {
                    *to += from;
                }
            }
            Some(tensor(sums, context.shape())?)
        } else {
            None
        };
        let dbias = if self.has_bias {
            let mut sums = vec![0f64; bias_len];
            for partial in partial {
                for (to, from) in sums.iter_mut().zip(partial) {
                    *to += from;
                }
            }
            Some(Tensor::from_vec(sums, bias.shape(), bias.device())?.to_dtype(bias.dtype())?)
        } else {
            None
        };
        Ok((Some(tensor(dqkv, qkv.shape())?), dcontext, dbias))
    }
}

struct Backward {
    dout: Matrix,
    v_turned: Matrix,
    dscores: Matrix,
    dq: Matrix,
    dk: Matrix,
    dv: Matrix,
}

impl Backward {
    fn new(op: &Attention) -> Self {
        let (size, keys, tile) = (op.size(), op.keys(), TILE.min(op.tokens));
        let tiled = op.tokens >= TILED;
        Self {
            dout: Matrix::factor(op.tokens, size, tiled),
            v_turned: Matrix::factor(size, keys, tiled),
            dscores: Matrix::new(tile, keys),
            dq: Matrix::new(op.tokens, size),
            dk: Matrix::new(keys, size),
            dv: Matrix::new(keys, size),
        }
    }

    fn head(
        &mut self,
        op: &Attention,
        head: &mut Head,
        sequence: usize,
        h: usize,
        dy: &[f32],
        bias: &[f32],
        dbias: &mut [f64],
    ) {
        let (size, keys, tokens) = (op.size(), op.keys(), op.tokens);
        for t in 0..tokens {
            let at = op.row(sequence, t) * op.channels + h * size;
            self.dout.row_mut(t)[..size].copy_from_slice(&dy[at..at + size]);
        }
        for key in 0..keys {
            self.v_turned.set_column(key, &head.v.row(key)[..size]);
        }
        self.dout.pack(tokens);
        self.v_turned.pack(size);
        head.q.pack(tokens);
        head.k.pack(keys);
        self.dk.values.fill(0.0);
        self.dv.values.fill(0.0);
        for first in (0..tokens).step_by(TILE) {
            let count = (tokens - first).min(TILE);
            let factors = op.probabilities(head, sequence, h, first, count, bias);
            for (i, factor) in factors.iter().enumerate().take(count) {
                head.scores.row_mut(i).iter_mut().for_each(|score| *score *= factor);
            }
            let Head { q, k, scores, .. } = &*head;
            let (sw, dw) = (scores.width, self.dout.width);
            self.v_turned.times(count, size, &self.dout.values[first * dw..], dw, &mut self.dscores.values, sw);
            self.dout.times_turned(keys, first, count, scores, &mut self.dv);
            for i in 0..count {
                let at = (h * tokens + first + i) * tokens;
                let dbias = if op.has_bias { &mut dbias[at..at + tokens] } else { &mut [] };
                softmax_backward(scores.row(i), self.dscores.row_mut(i), keys, op.context, dbias);
            }
            k.times(count, keys, &self.dscores.values, sw, &mut self.dq.values[first * dw..], dw);
            q.times_turned(keys, first, count, &self.dscores, &mut self.dk);
        }
    }

    fn store(&self, op: &Attention, sequence: usize, h: usize, rows: &Rows, context: &Rows) {
        let (size, channels) = (op.size(), op.channels);
        let scale = 1.0 / (size as f32).sqrt();
        for t in 0..op.tokens {
            let at = op.row(sequence, t) * 3 * channels + h * size;
            // q was scaled on loading: its own gradient still needs the scale, that of k already has it.
            for (to, from) in unsafe { rows.slice(at, size) }.iter_mut().zip(self.dq.row(t)) {
                *to = from * scale;
            }
            let key = op.context + t;
            unsafe { rows.slice(at + channels, size) }.copy_from_slice(&self.dk.row(key)[..size]);
            unsafe { rows.slice(at + 2 * channels, size) }.copy_from_slice(&self.dv.row(key)[..size]);
        }
        for t in 0..op.context {
            let at = (sequence * op.context + t) * 2 * channels + h * size;
            unsafe { context.slice(at, size) }.copy_from_slice(&self.dk.row(t)[..size]);
            unsafe { context.slice(at + channels, size) }.copy_from_slice(&self.dv.row(t)[..size]);
        }
    }
}
