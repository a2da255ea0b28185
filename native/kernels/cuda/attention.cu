// softmax(q kᵀ scale + bias) v for sequences of tokens: frames of a pixel, pixels of an image, rows of text. Forward and
// backward, with keys of a context before the sequence's own.
//
// qkv is rows of 3C: q, k, v one after the other, each split in heads of `size` <= D channels. Token t of sequence s is row
// s * sequence_stride + t * token_stride; frames of a pixel have strides (frames, 1), pixels of an image (1, images).
// context: rows of 2C (k, v), `context_length` for each run of `sequences_per_context` sequences, or none. bias: (heads,
// tokens, tokens) f32 or null; it and `causal` concern the sequence's own keys. key_mask: (sequences, tokens) f32 or null, 0
// hides a key. lse: (sequences, heads, tokens) f32, the logarithm of the softmax's sum, which the backward pass needs.
//
// Keys pass through shared memory in tiles of KEYS, with an online softmax, so any length will do. D / PART neighbouring
// lanes own a query (or, for the gradients to k and v, a key) and PART channels of it each.
#include "common.cuh"

constexpr int ATTENTION_KEYS = 32;

struct AttentionShape {
  int sequences, tokens, heads, size, sequence_stride, token_stride, context_length, sequences_per_context, causal;
  float scale;
};

// Where a key lies: its k, and how many elements further its v.
template <typename T>
__device__ __forceinline__ const T *key_row(const T *qkv, const T *context, const AttentionShape &s, int sequence, int key,
                                            int &to_value) {
  const long long channels = (long long)s.heads * s.size;
  to_value = (int)channels;
  if (key < s.context_length)
    return context + ((long long)(sequence / s.sequences_per_context) * s.context_length + key) * 2 * channels;
  const long long row = (long long)sequence * s.sequence_stride + (long long)(key - s.context_length) * s.token_stride;
  return qkv + row * 3 * channels + channels;
}

// What is added to a score, in the basis of the softmax: the bias, or minus infinity for a key that is not seen.
__device__ __forceinline__ float score_bias(const float *bias, const float *key_mask, const AttentionShape &s, int sequence,
                                            int head, int query, int key) {
  const int own = key - s.context_length;
  if (key >= s.context_length + s.tokens) return -INFINITY;
  if (own < 0) return 0.f;
  if (s.causal && own > query) return -INFINITY;
  if (key_mask && key_mask[(long long)sequence * s.tokens + own] == 0.f) return -INFINITY;
  return bias ? bias[((long long)head * s.tokens + query) * s.tokens + own] : 0.f;
}

// PART channels of a row as floats, zeros past its size. `vectors`: sizes and addresses allow 16-byte accesses.
template <int PART, typename T>
__device__ __forceinline__ void load_part(const T *row, int first, int size, bool vectors, float (&to)[PART]) {
  if (vectors && first + PART <= size) {
    load_values<PART>(row + first, to);
  } else {
#pragma unroll
    for (int i = 0; i < PART; i++) to[i] = first + i < size ? to_float(row[first + i]) : 0.f;
  }
}
template <int PART, typename T>
__device__ __forceinline__ void store_part(T *row, int first, int size, bool vectors, const float (&from)[PART]) {
  if (vectors && first + PART <= size) {
    store_values<PART>(row + first, from);
  } else {
#pragma unroll
    for (int i = 0; i < PART; i++)
      if (first + i < size) row[first + i] = from_float<T>(from[i]);
  }
}
// The sum over the lanes of a query, in each of them.
template <int LANES> __device__ __forceinline__ float lanes_sum(float x) {
#pragma unroll
  for (int step = 1; step < LANES; step <<= 1) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}
template <typename T> __device__ __forceinline__ bool vectors_fit(int size) { return size * sizeof(T) % 16 == 0; }

#define ATTENTION_SHAPE_ARGUMENTS                                                                                     \
  int sequences, int tokens, int heads, int size, int sequence_stride, int token_stride, int context_length,            \
      int sequences_per_context, int causal, float scale
#define ATTENTION_SHAPE                                                                                               \
  { sequences, tokens, heads, size, sequence_stride, token_stride, context_length, sequences_per_context, causal, scale }

// grid (sequences, heads, ceil(tokens / queries)) with queries = 128 / (D / 16), 128 threads, 2 * min(32, keys) * D * 4
// bytes.
template <typename T, int D>
__device__ __forceinline__ void attention_forward(const T *__restrict__ qkv, const T *__restrict__ context,
                                                  const float *__restrict__ bias, const float *__restrict__ key_mask,
                                                  T *__restrict__ y, float *__restrict__ lse, const AttentionShape s) {
  constexpr int PART = 16, LANES = D / PART, QUERIES = 128 / LANES;
  DYNAMIC_SHARED(shared);
  const int channels = s.heads * s.size, keys = s.context_length + s.tokens;
  float *const sk = reinterpret_cast<float *>(shared), *const sv = sk + min(ATTENTION_KEYS, keys) * D;
  const int sequence = blockIdx.x, head = blockIdx.y;
  const int query = blockIdx.z * QUERIES + threadIdx.x / LANES, first = threadIdx.x % LANES * PART;
  const bool active = query < s.tokens;  // idle lanes stay for the shuffles and barriers
  const bool vectors = vectors_fit<T>(s.size) && aligned16(qkv) && aligned16(context) && aligned16(y);
  const long long row = (long long)sequence * s.sequence_stride + (long long)(active ? query : 0) * s.token_stride;

  float q[PART], sums[PART] = {}, most = -INFINITY, total = 0.f;
  load_part<PART>(qkv + row * 3 * channels + head * s.size, first, s.size, vectors, q);
#pragma unroll
  for (int i = 0; i < PART; i++) q[i] *= s.scale;

  for (int key0 = 0; key0 < keys; key0 += ATTENTION_KEYS) {
    const int count = min(ATTENTION_KEYS, keys - key0);
    __syncthreads();  // the tile before has been read
    for (int i = threadIdx.x; i < count * LANES; i += 128) {
      const int key = i / LANES, at = i % LANES * PART;
      int to_value;
      const T *const from = key_row(qkv, context, s, sequence, key0 + key, to_value) + head * s.size;
      float part[PART];
      load_part<PART>(from, at, s.size, vectors, part);
      store_values<PART>(sk + key * D + at, part);
      load_part<PART>(from + to_value, at, s.size, vectors, part);
      store_values<PART>(sv + key * D + at, part);
    }
    __syncthreads();
#pragma unroll 1
    for (int key = 0; key < count; key++) {
      float part[PART], score = 0.f;
      load_values<PART>(sk + key * D + first, part);
#pragma unroll
      for (int i = 0; i < PART; i++) score = fmaf(q[i], part[i], score);
      score = lanes_sum<LANES>(score) + score_bias(bias, key_mask, s, sequence, head, active ? query : 0, key0 + key);
      const float next = fmaxf(most, score), origin = next == -INFINITY ? 0.f : next;
      const float kept = expf(most - origin), weight = expf(score - origin);
      most = next;
      total = total * kept + weight;
      load_values<PART>(sv + key * D + first, part);
#pragma unroll
      for (int i = 0; i < PART; i++) sums[i] = fmaf(weight, part[i], sums[i] * kept);
    }
  }
  if (!active) return;
#pragma unroll
  for (int i = 0; i < PART; i++) sums[i] /= total;
  store_part<PART>(y + row * channels + head * s.size, first, s.size, vectors, sums);
  if (lse && first == 0) lse[((long long)sequence * s.heads + head) * s.tokens + query] = most + logf(total);
}

// delta[sequence][head][token] = dy · y, and the gradient to q. Grid, block and shared memory as in the forward pass.
template <typename T, int D>
__device__ __forceinline__ void attention_dq(const T *__restrict__ qkv, const T *__restrict__ context,
                                             const float *__restrict__ bias, const float *__restrict__ key_mask,
                                             const T *__restrict__ y, const T *__restrict__ dy, const float *__restrict__ lse,
                                             float *__restrict__ delta, T *__restrict__ dqkv, const AttentionShape s) {
  constexpr int PART = 16, LANES = D / PART, QUERIES = 128 / LANES;
  DYNAMIC_SHARED(shared);
  const int channels = s.heads * s.size, keys = s.context_length + s.tokens;
  float *const sk = reinterpret_cast<float *>(shared), *const sv = sk + min(ATTENTION_KEYS, keys) * D;
  const int sequence = blockIdx.x, head = blockIdx.y;
  const int query = blockIdx.z * QUERIES + threadIdx.x / LANES, first = threadIdx.x % LANES * PART;
  const bool active = query < s.tokens;
  const int shown = active ? query : 0;
  const bool vectors = vectors_fit<T>(s.size) && aligned16(qkv) && aligned16(context) && aligned16(y) && aligned16(dy) &&
                       aligned16(dqkv);
  const long long row = (long long)sequence * s.sequence_stride + (long long)shown * s.token_stride;
  const long long at_query = ((long long)sequence * s.heads + head) * s.tokens + shown;

  float q[PART], out[PART], dq[PART] = {}, own = 0.f;
  load_part<PART>(y + row * channels + head * s.size, first, s.size, vectors, q);
  load_part<PART>(dy + row * channels + head * s.size, first, s.size, vectors, out);
#pragma unroll
  for (int i = 0; i < PART; i++) own = fmaf(q[i], out[i], own);
  own = lanes_sum<LANES>(own);
  if (active && first == 0) delta[at_query] = own;
  const float logarithm = lse[at_query];
  load_part<PART>(qkv + row * 3 * channels + head * s.size, first, s.size, vectors, q);
#pragma unroll
  for (int i = 0; i < PART; i++) q[i] *= s.scale;

  for (int key0 = 0; key0 < keys; key0 += ATTENTION_KEYS) {
    const int count = min(ATTENTION_KEYS, keys - key0);
    __syncthreads();
    for (int i = threadIdx.x; i < count * LANES; i += 128) {
      const int key = i / LANES, at = i % LANES * PART;
      int to_value;
      const T *const from = key_row(qkv, context, s, sequence, key0 + key, to_value) + head * s.size;
      float part[PART];
      load_part<PART>(from, at, s.size, vectors, part);
      store_values<PART>(sk + key * D + at, part);
      load_part<PART>(from + to_value, at, s.size, vectors, part);
      store_values<PART>(sv + key * D + at, part);
    }
    __syncthreads();
#pragma unroll 1
    for (int key = 0; key < count; key++) {
      float part[PART], score = 0.f, slope = 0.f;
      load_values<PART>(sv + key * D + first, part);
#pragma unroll
      for (int i = 0; i < PART; i++) slope = fmaf(out[i], part[i], slope);
      load_values<PART>(sk + key * D + first, part);
#pragma unroll
      for (int i = 0; i < PART; i++) score = fmaf(q[i], part[i], score);
      score = lanes_sum<LANES>(score) + score_bias(bias, key_mask, s, sequence, head, shown, key0 + key);
      const float dscore = expf(score - logarithm) * (lanes_sum<LANES>(slope) - own);
#pragma unroll
      for (int i = 0; i < PART; i++) dq[i] = fmaf(dscore, part[i], dq[i]);
    }
  }
  if (!active) return;
#pragma unroll
  for (int i = 0; i < PART; i++) dq[i] *= s.scale;
  store_part<PART>(dqkv + row * 3 * channels + head * s.size, first, s.size, vectors, dq);
}

// The gradients to k and v. `of_context`: to those of the context (dcontext, rows of 2C), summed over its sequences.
// grid (of_context ? contexts : sequences, heads, ceil(keys / (128 / (D / 16)))), 128 threads, with n =
// min(32, tokens) (2 * D + 2) * n * 4 bytes.
template <typename T, int D>
__device__ __forceinline__ void attention_dkv(const T *__restrict__ qkv, const T *__restrict__ context,
                                              const float *__restrict__ bias, const float *__restrict__ key_mask,
                                              const T *__restrict__ dy, const float *__restrict__ lse,
                                              const float *__restrict__ delta, T *__restrict__ dqkv, T *__restrict__ dcontext,
                                              int of_context, const AttentionShape s) {
  constexpr int PART = 16, LANES = D / PART, KEYS = 128 / LANES;
  DYNAMIC_SHARED(shared);
  const int together = min(ATTENTION_KEYS, s.tokens);
  float *const sq = reinterpret_cast<float *>(shared), *const sdy = sq + together * D;
  float *const slse = sdy + together * D, *const sdelta = slse + together;
  const int head = blockIdx.y, channels = s.heads * s.size;
  const int local = blockIdx.z * KEYS + threadIdx.x / LANES, first = threadIdx.x % LANES * PART;
  const bool active = local < (of_context ? s.context_length : s.tokens);
  const int key = (active ? local : 0) + (of_context ? 0 : s.context_length);
  const int sequence0 = of_context ? blockIdx.x * s.sequences_per_context : blockIdx.x;
  const int sequence_end = of_context ? sequence0 + s.sequences_per_context : sequence0 + 1;
  const bool vectors = vectors_fit<T>(s.size) && aligned16(qkv) && aligned16(context) && aligned16(dy) && aligned16(dqkv) &&
                       aligned16(dcontext);
  int to_value;
  const T *const from = key_row(qkv, context, s, sequence0, key, to_value) + head * s.size;
  float k[PART], v[PART], dk[PART] = {}, dv[PART] = {};
  load_part<PART>(from, first, s.size, vectors, k);
  load_part<PART>(from + to_value, first, s.size, vectors, v);

  for (int sequence = sequence0; sequence < sequence_end; sequence++) {
    for (int query0 = 0; query0 < s.tokens; query0 += ATTENTION_KEYS) {
      const int count = min(ATTENTION_KEYS, s.tokens - query0);
      __syncthreads();
      for (int i = threadIdx.x; i < count * LANES; i += 128) {
        const int query = i / LANES, at = i % LANES * PART;
        const long long row = (long long)sequence * s.sequence_stride + (long long)(query0 + query) * s.token_stride;
        float part[PART];
        load_part<PART>(qkv + row * 3 * channels + head * s.size, at, s.size, vectors, part);
#pragma unroll
        for (int e = 0; e < PART; e++) part[e] *= s.scale;
        store_values<PART>(sq + query * D + at, part);
        load_part<PART>(dy + row * channels + head * s.size, at, s.size, vectors, part);
        store_values<PART>(sdy + query * D + at, part);
      }
      for (int i = threadIdx.x; i < count; i += 128) {
        const long long at = ((long long)sequence * s.heads + head) * s.tokens + query0 + i;
        slse[i] = lse[at];
        sdelta[i] = delta[at];
      }
      __syncthreads();
#pragma unroll 1
      for (int query = 0; query < count; query++) {
        float q[PART], out[PART], score = 0.f, slope = 0.f;
        load_values<PART>(sq + query * D + first, q);
        load_values<PART>(sdy + query * D + first, out);
#pragma unroll
        for (int i = 0; i < PART; i++) {
          score = fmaf(q[i], k[i], score);
          slope = fmaf(out[i], v[i], slope);
        }
        score = lanes_sum<LANES>(score) + score_bias(bias, key_mask, s, sequence, head, query0 + query, key);
        const float weight = expf(score - slse[query]);
        const float dscore = weight * (lanes_sum<LANES>(slope) - sdelta[query]);
#pragma unroll
        for (int i = 0; i < PART; i++) {
          dk[i] = fmaf(dscore, q[i], dk[i]);
          dv[i] = fmaf(weight, out[i], dv[i]);
        }
      }
    }
  }
  if (!active) return;
  T *const to = of_context
                    ? dcontext + ((long long)blockIdx.x * s.context_length + key) * 2 * channels + head * s.size
                    : dqkv + ((long long)sequence0 * s.sequence_stride + (long long)local * s.token_stride) * 3 * channels +
                          channels + head * s.size;
  store_part<PART>(to, first, s.size, vectors, dk);
  store_part<PART>(to + channels, first, s.size, vectors, dv);
}

// parts[p][head][query][key] = the part's sequences' sum of the scores' gradients: what `sum_parts` makes the bias's
// gradient of. grid (ceil(tokens / 16)², heads, parts), 256 threads: a query and a key each.
template <typename T>
__device__ __forceinline__ void attention_dbias(const T *__restrict__ qkv, const T *__restrict__ context,
                                                const float *__restrict__ bias, const float *__restrict__ key_mask,
                                                const T *__restrict__ dy, const float *__restrict__ lse,
                                                const float *__restrict__ delta, float *__restrict__ parts,
                                                int sequences_per_part, const AttentionShape s) {
  constexpr int TILE = 16, DEPTH = 32;
  __shared__ float sq[TILE][DEPTH + 1], sdy[TILE][DEPTH + 1], sk[TILE][DEPTH + 1], sv[TILE][DEPTH + 1];
  const int tiles = (s.tokens + TILE - 1) / TILE, channels = s.heads * s.size, head = blockIdx.y;
  const int query0 = blockIdx.x / tiles * TILE, key0 = blockIdx.x % tiles * TILE;
  const int i = threadIdx.x / TILE, j = threadIdx.x % TILE, query = query0 + i, key = key0 + j;
  const bool active = query < s.tokens && key < s.tokens;
  const int first = blockIdx.z * sequences_per_part, end = min(first + sequences_per_part, s.sequences);
  float sum = 0.f;
  for (int sequence = first; sequence < end; sequence++) {
    float score = 0.f, slope = 0.f;
    for (int channel0 = 0; channel0 < s.size; channel0 += DEPTH) {
      __syncthreads();
      for (int n = threadIdx.x; n < TILE * DEPTH; n += 256) {
        const int line = n / DEPTH, c = channel0 + n % DEPTH;
        const long long base = (long long)sequence * s.sequence_stride;
        const bool has_query = query0 + line < s.tokens && c < s.size, has_key = key0 + line < s.tokens && c < s.size;
        const T *const q = qkv + (base + (long long)(query0 + line) * s.token_stride) * 3 * channels + head * s.size + c;
        const T *const k = qkv + (base + (long long)(key0 + line) * s.token_stride) * 3 * channels + channels + head * s.size + c;
        const T *const out = dy + (base + (long long)(query0 + line) * s.token_stride) * channels + head * s.size + c;
        sq[line][n % DEPTH] = has_query ? to_float(*q) * s.scale : 0.f;
        sdy[line][n % DEPTH] = has_query ? to_float(*out) : 0.f;
        sk[line][n % DEPTH] = has_key ? to_float(*k) : 0.f;
        sv[line][n % DEPTH] = has_key ? to_float(k[channels]) : 0.f;
      }
      __syncthreads();
#pragma unroll 8
      for (int c = 0; c < DEPTH; c++) {
        score = fmaf(sq[i][c], sk[j][c], score);
        slope = fmaf(sdy[i][c], sv[j][c], slope);
      }
    }
    if (active) {
      const long long at = ((long long)sequence * s.heads + head) * s.tokens + query;
      score += score_bias(bias, key_mask, s, sequence, head, query, s.context_length + key);
      sum += expf(score - lse[at]) * (slope - delta[at]);
    }
  }
  if (active) parts[(((long long)blockIdx.z * s.heads + head) * s.tokens + query) * s.tokens + key] = sum;
}

#define ATTENTION(SUFFIX, T, D)                                                                                       \
  extern "C" __global__ void __launch_bounds__(128) attention_##SUFFIX##_d##D(                                           \
      const T *qkv, const T *context, const float *bias, const float *key_mask, T *y, float *lse,                       \
      ATTENTION_SHAPE_ARGUMENTS) {                                                                                      \
    attention_forward<T, D>(qkv, context, bias, key_mask, y, lse, ATTENTION_SHAPE);                                     \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(128, 4) attention_dq_##SUFFIX##_d##D(                                        \
      const T *qkv, const T *context, const float *bias, const float *key_mask, const T *y, const T *dy,                \
      const float *lse, float *delta, T *dqkv, ATTENTION_SHAPE_ARGUMENTS) {                                             \
    attention_dq<T, D>(qkv, context, bias, key_mask, y, dy, lse, delta, dqkv, ATTENTION_SHAPE);                         \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(128, 4) attention_dkv_##SUFFIX##_d##D(                                       \
      const T *qkv, const T *context, const float *bias, const float *key_mask, const T *dy, const float *lse,          \
      const float *delta, T *dqkv, T *dcontext, int of_context, ATTENTION_SHAPE_ARGUMENTS) {                            \
    attention_dkv<T, D>(qkv, context, bias, key_mask, dy, lse, delta, dqkv, dcontext, of_context, ATTENTION_SHAPE);     \
  }
#define ATTENTION_SIZES(SUFFIX, T)                                                                                    \
  ATTENTION(SUFFIX, T, 32)                                                                                              \
  ATTENTION(SUFFIX, T, 64)                                                                                              \
  ATTENTION(SUFFIX, T, 128)                                                                                             \
  extern "C" __global__ void __launch_bounds__(256) attention_dbias_##SUFFIX(                                            \
      const T *qkv, const T *context, const float *bias, const float *key_mask, const T *dy, const float *lse,          \
      const float *delta, float *parts, int sequences_per_part, ATTENTION_SHAPE_ARGUMENTS) {                            \
    attention_dbias<T>(qkv, context, bias, key_mask, dy, lse, delta, parts, sequences_per_part, ATTENTION_SHAPE);       \
  }
ATTENTION_SIZES(f32, float)
ATTENTION_SIZES(f16, f16)
ATTENTION_SIZES(bf16, bf16)
