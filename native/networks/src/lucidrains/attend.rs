//! Attention without its projections.

use super::{AttendConfig, Call};
use candle_core::{D, Result, Tensor, bail};

/// softmax(q kᵀ / √d + bias) v; dropout is left out, as in evaluation.
pub struct Attend {
    flash: bool,
    causal: bool,
}

impl Attend {
    /// It has no weights.
    pub fn new(config: &AttendConfig) -> Self {
        Self { flash: config.flash, causal: config.causal }
    }

    /// `q` (b, h, i, d), `k` (b, h, j, d), `v` (b, h, j, e), `bias` any shape that repeats to (b, h, i, j).
    pub fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let ((b, h, i, d), (kb, kh, j, kd)) = (q.dims4()?, k.dims4()?);
        let (vb, vh, vj, _) = v.dims4()?;
        if (kb, kh, kd) != (b, h, d) || (vb, vh, vj) != (b, h, j) {
            bail!("q {:?}, k {:?} and v {:?} do not fit each other", q.shape(), k.shape(), v.shape());
        }
        if self.flash && bias.is_some() {
            bail!("bias must not be given with flash");
        }
        let mut scores = (q.contiguous()?.matmul(&k.t()?.contiguous()?)? * (d as f64).powf(-0.5))?;
        if let Some(bias) = bias {
            scores = scores.broadcast_add(bias)?;
        }
        if self.causal {
            let more = if self.flash { 0 } else { j as i64 - i as i64 };
            let seen = |(query, key): (usize, usize)| u8::from(key as i64 <= query as i64 + more);
            let seen: Vec<u8> = (0..i).flat_map(|query| (0..j).map(move |key| (query, key))).map(seen).collect();
            let seen = Tensor::from_vec(seen, (1, 1, i, j), q.device())?.broadcast_as(scores.shape())?;
            let hidden = Tensor::full(-f32::MAX, scores.shape(), q.device())?;
            scores = seen.where_cond(&scores, &hidden)?;
        }
        let most = scores.max_keepdim(D::Minus1)?.detach();
        let weights = scores.broadcast_sub(&most)?.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
        weights.matmul(&v.contiguous()?)
    }

    pub(super) fn run(&self, call: &Call) -> Result<Tensor> {
        self.forward(call.tensor("q")?, call.tensor("k")?, call.tensor("v")?, call.optional("bias"))
    }
}
