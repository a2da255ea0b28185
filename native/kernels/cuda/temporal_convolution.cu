// Convolution over the frames of each clip, and linear layers (a kernel of one tap): forward and backward.
//
//   y[r, :] = act(bias + sum over taps t of W[t] x[r + t - K/2, :]) + residual[r, :]
//
// Rows are (pixels, clips, frames), channels last, so the frames of a pixel are neighbouring rows and a tap is a shift by
// rows; taps that leave the clip count as zero. W is (taps, outputs, inputs), made by `pack_weight` from the checkpoint's
// (outputs, inputs, taps). The gradient to the input is the same kernel with the weight packed turned; that of the weight
// is `weight_gradient` and `sum_parts`, that of the bias `column_sums` and `sum_parts`, each in one order of addition.
//
// f16 and bf16 use tensor cores (mma.sync, sm_80 and later) behind a two-stage asynchronous copy. `_f32_bf16` gives f32 of
// operands that `round_bf16` has rounded, as the CPU's bf16 arithmetic does. f32 is true f32 on CUDA cores.
#include "product.cuh"

// The rows of a block overlap by the taps.
template <int K> constexpr int product_stage = (PRODUCT_ROWS + K - 1 + K * PRODUCT_COLUMNS) * PRODUCT_PITCH;
// Two stages of 16-bit elements, and 16 bytes of zeros.
template <int K> constexpr int product_shared = 2 * product_stage<K> * 2 + 16;

// grid (ceil(rows / 128), ceil(outputs / 64), parts), 128 threads, product_shared<K> bytes. G is the type of the result. A part
// has `part_steps` pieces of PRODUCT_DEPTH channels; parts of (rows, outputs) follow one another, the first has the bias, and of
// several none has an activation or a residual.
template <typename T, typename G, int K>
__device__ __forceinline__ void product_matrices(const T *__restrict__ x, const T *__restrict__ w,
                                                 const float *__restrict__ bias, const G *__restrict__ residual,
                                                 G *__restrict__ before, G *__restrict__ y, int rows, int frames,
                                                 int inputs, int outputs, int activation, int part_steps) {
  DYNAMIC_SHARED(shared);
  T *const stages = reinterpret_cast<T *>(shared);
  T *const zeros = stages + 2 * product_stage<K>;
  const int row0 = blockIdx.x * PRODUCT_ROWS, column0 = blockIdx.y * PRODUCT_COLUMNS;
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
  const int first = blockIdx.z * part_steps, end = min(first + part_steps, (inputs + PRODUCT_DEPTH - 1) / PRODUCT_DEPTH);
  const bool x_vectors = inputs % 8 == 0 && aligned16(x), w_vectors = inputs % 8 == 0 && aligned16(w);
  if (thread < 8) zeros[thread] = from_float<T>(0.f);

  auto fetch = [&](int step, int stage) {
    constexpr int X_ROWS = PRODUCT_ROWS + K - 1, PIECES = PRODUCT_DEPTH / 8;
    T *const sx = stages + stage * product_stage<K>, *const sw = sx + X_ROWS * PRODUCT_PITCH;
#pragma unroll 1
    for (int i = thread; i < (X_ROWS + K * PRODUCT_COLUMNS) * PIECES; i += 128) {
      const int line = i / PIECES, at = i % PIECES * 8, channel = step * PRODUCT_DEPTH + at;
      if (line < X_ROWS) {
        const int row = row0 + line - K / 2;
        const bool exists = row >= 0 && row < rows;
        fetch8(sx + line * PRODUCT_PITCH + at, x + (exists ? (long long)row * inputs : 0), channel, inputs, exists, x_vectors);
      } else {
        const int tap = (line - X_ROWS) / PRODUCT_COLUMNS, column = column0 + (line - X_ROWS) % PRODUCT_COLUMNS;
        const bool exists = column < outputs;
        fetch8(sw + (line - X_ROWS) * PRODUCT_PITCH + at, w + (exists ? ((long long)tap * outputs + column) * inputs : 0),
               channel, inputs, exists, w_vectors);
      }
    }
    copy_async_commit();
  };

  // This lane's row of each of the warp's two row tiles, and for each tap whether the source is in the same clip.
  const int lane_row = warp * 32 + (lane & 7) + (lane & 8);
  bool inside[2][K];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int frame = (row0 + lane_row + 16 * i) % frames;
#pragma unroll
    for (int t = 0; t < K; t++) inside[i][t] = t == K / 2 || (frame + t - K / 2 >= 0 && frame + t - K / 2 < frames);
  }

  float sums[2][PRODUCT_COLUMNS / 8][4] = {};
  fetch(first, 0);
  for (int step = first; step < end; step++) {
    if (step + 1 < end) {
      fetch(step + 1, (step + 1 - first) & 1);
      COPY_ASYNC_WAIT(1);
    } else {
      COPY_ASYNC_WAIT(0);
    }
    __syncthreads();
    const T *const sx = stages + ((step - first) & 1) * product_stage<K>;
    const T *const sw = sx + (PRODUCT_ROWS + K - 1) * PRODUCT_PITCH;
#pragma unroll
    for (int k = 0; k < PRODUCT_DEPTH; k += 16) {
#pragma unroll
      for (int t = 0; t < K; t++) {
        unsigned a[2][4];
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const T *const row = sx + (lane_row + 16 * i + t) * PRODUCT_PITCH + k + (lane >> 4) * 8;
          load_matrices(a[i], inside[i][t] ? row : zeros);
        }
#pragma unroll
        for (int n = 0; n < PRODUCT_COLUMNS / 16; n++) {
          unsigned b[4];
          const int column = t * PRODUCT_COLUMNS + n * 16 + (lane & 7) + (lane >> 4) * 8;
          load_matrices(b, sw + column * PRODUCT_PITCH + k + (lane & 8));
#pragma unroll
          for (int i = 0; i < 2; i++) {
            multiply_matrices(sums[i][2 * n], a[i], b[0], b[1], T{});
            multiply_matrices(sums[i][2 * n + 1], a[i], b[2], b[3], T{});
          }
        }
      }
    }
    __syncthreads();  // the next fetch overwrites what was read here
  }
  static_assert(PRODUCT_OUT <= 2 * product_stage<K> * 2, "the rows fit in the stages");
  store_product<G>(shared, sums, blockIdx.z ? nullptr : bias, residual, before, y + (long long)blockIdx.z * rows * outputs, row0,
                   column0, rows, outputs, activation);
}

// grid (ceil(rows / 64), ceil(outputs / 64)), 256 threads: four rows by four columns each.
template <int K>
__device__ __forceinline__ void product_plain(const float *__restrict__ x, const float *__restrict__ w,
                                              const float *__restrict__ bias, const float *__restrict__ residual,
                                              float *__restrict__ before, float *__restrict__ y, int rows, int frames,
                                              int inputs, int outputs, int activation, int) {
  constexpr int X_ROWS = PLAIN_ROWS + K - 1;
  __shared__ float sx[PLAIN_DEPTH][X_ROWS + 5 - K];
  __shared__ __align__(16) float sw[K][PLAIN_DEPTH][PLAIN_COLUMNS + 4];
  const int row0 = blockIdx.x * PLAIN_ROWS, column0 = blockIdx.y * PLAIN_COLUMNS;
  const int thread = threadIdx.x, own_row = (thread >> 4) * 4, own_column = (thread & 15) * 4;
  const bool x_vectors = inputs % 4 == 0 && aligned16(x), w_vectors = inputs % 4 == 0 && aligned16(w);
  bool inside[4][K];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int frame = (row0 + own_row + i) % frames;
#pragma unroll
    for (int t = 0; t < K; t++) inside[i][t] = t == K / 2 || (frame + t - K / 2 >= 0 && frame + t - K / 2 < frames);
  }
  float sums[4][4] = {};
  for (int channel0 = 0; channel0 < inputs; channel0 += PLAIN_DEPTH) {
#pragma unroll 1
    for (int i = thread; i < (X_ROWS + K * PLAIN_COLUMNS) * (PLAIN_DEPTH / 4); i += 256) {
      const int line = i / (PLAIN_DEPTH / 4), at = i % (PLAIN_DEPTH / 4) * 4;
      float v[4];
      if (line < X_ROWS) {
        const int row = row0 + line - K / 2;
        const bool exists = row >= 0 && row < rows;
        fetch4(v, x + (exists ? (long long)row * inputs : 0), channel0 + at, inputs, exists, x_vectors);
#pragma unroll
        for (int e = 0; e < 4; e++) sx[at + e][line] = v[e];
      } else {
        const int tap = (line - X_ROWS) / PLAIN_COLUMNS, column = (line - X_ROWS) % PLAIN_COLUMNS;
        const bool exists = column0 + column < outputs;
        fetch4(v, w + (exists ? ((long long)tap * outputs + column0 + column) * inputs : 0), channel0 + at, inputs, exists,
               w_vectors);
#pragma unroll
        for (int e = 0; e < 4; e++) sw[tap][at + e][column] = v[e];
      }
    }
    __syncthreads();
#pragma unroll 4
    for (int k = 0; k < PLAIN_DEPTH; k++) {
      float xs[4 + K - 1];
#pragma unroll
      for (int i = 0; i < 4 + K - 1; i++) xs[i] = sx[k][own_row + i];
#pragma unroll
      for (int t = 0; t < K; t++) {
        float ws[4];
        load_values<4>(&sw[t][k][own_column], ws);
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const float value = inside[i][t] ? xs[i + t] : 0.f;
#pragma unroll
          for (int e = 0; e < 4; e++) sums[i][e] = fmaf(value, ws[e], sums[i][e]);
        }
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int row = row0 + own_row + i, column = column0 + own_column + e;
      if (row < rows && column < outputs) {
        const long long at = (long long)row * outputs + column;
        const float value = sums[i][e] + (bias ? bias[column] : 0.f);
        if (before) before[at] = value;
        y[at] = activate(value, activation) + (residual ? residual[at] : 0.f);
      }
    }
}

#define PRODUCT_ARGUMENTS(T, G)                                                                                       \
  const T *x, const T *w, const float *bias, const G *residual, G *before, G *y, int rows, int frames, int inputs,      \
      int outputs, int activation, int part_steps
#define PRODUCT_VALUES x, w, bias, residual, before, y, rows, frames, inputs, outputs, activation, part_steps
#define PRODUCT(SUFFIX, T, G, K)                                                                                      \
  extern "C" __global__ void __launch_bounds__(128) temporal_conv##K##_##SUFFIX(PRODUCT_ARGUMENTS(T, G)) {               \
    product_matrices<T, G, K>(PRODUCT_VALUES);                                                                          \
  }
#define PRODUCT_PLAIN(K)                                                                                              \
  extern "C" __global__ void __launch_bounds__(256) temporal_conv##K##_f32(PRODUCT_ARGUMENTS(float, float)) {            \
    product_plain<K>(PRODUCT_VALUES);                                                                                   \
  }
PRODUCT_PLAIN(1)
PRODUCT_PLAIN(3)
PRODUCT(f16, f16, f16, 1)
PRODUCT(f16, f16, f16, 3)
PRODUCT(bf16, bf16, bf16, 1)
PRODUCT(bf16, bf16, bf16, 3)
PRODUCT(f32_bf16, bf16, float, 1)
PRODUCT(f32_bf16, bf16, float, 3)

// How a weight (outputs, inputs, taps) is packed: for the forward kernels as (taps, outputs, inputs); for the gradient to the
// input as (taps, inputs, outputs) with the taps in reverse; for cuDNN with channels last, as (outputs, taps, inputs).
enum Packing { PACKED = 0, TURNED = 1, CHANNELS_LAST = 2 };
// From f32 to T. grid ceil(outputs * inputs / 256), 256 threads: each all taps of a pair, neighbours side by side in what is
// written.
template <typename T>
__device__ __forceinline__ void pack(const float *__restrict__ w, T *__restrict__ packed, int outputs, int inputs, int taps,
                                     int packing) {
  const long long pairs = (long long)outputs * inputs, i = (long long)blockIdx.x * 256 + threadIdx.x;
  if (i >= pairs) return;
  const int last = packing == TURNED ? outputs : inputs, a = (int)(i % last), b = (int)(i / last);
  const float *const from = w + (packing == TURNED ? (long long)a * inputs + b : i) * taps;
  for (int tap = 0; tap < taps; tap++) {
    const long long to = packing == CHANNELS_LAST ? ((long long)b * taps + tap) * inputs + a
                                                  : (packing == TURNED ? taps - 1 - tap : tap) * pairs + i;
    packed[to] = from_float<T>(from[tap]);
  }
}
#define PACK(SUFFIX, T)                                                                                               \
  extern "C" __global__ void __launch_bounds__(256) pack_weight_##SUFFIX(const float *w, T *packed, int outputs, int inputs, \
                                                                       int taps, int packing) {                         \
    pack<T>(w, packed, outputs, inputs, taps, packing);                                                                 \
  }
PACK(f32, float)
PACK(f16, f16)
PACK(bf16, bf16)

// The gradient to the weight, of rows that a tap shifts by frames.
struct FrameShift {
  int frames, shift;
  __device__ __forceinline__ int operator()(int row) const {
    const int frame = row % frames + shift;
    return frame >= 0 && frame < frames ? row + shift : -1;
  }
};
#define GRADIENT_ARGUMENTS(G) \
  const G *x, const G *dy, float *parts, int rows, int frames, int inputs, int outputs, int rows_per_part
#define GRADIENT_VALUES \
  x, dy, parts, rows, FrameShift{frames, (int)blockIdx.y - (int)gridDim.y / 2}, inputs, outputs, rows_per_part
#define GRADIENT(SUFFIX, T)                                                                                           \
  extern "C" __global__ void __launch_bounds__(128) weight_gradient_##SUFFIX(GRADIENT_ARGUMENTS(T)) {                    \
    weight_gradient_matrices<T>(GRADIENT_VALUES);                                                                       \
  }
extern "C" __global__ void __launch_bounds__(256) weight_gradient_f32(GRADIENT_ARGUMENTS(float)) {
  weight_gradient_plain(GRADIENT_VALUES);
}
GRADIENT(f16, f16)
GRADIENT(bf16, bf16)
