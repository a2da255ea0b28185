// What convolutions share: tiles, fetches of rows that may not exist, the way out, and the gradient to a weight.
#pragma once
#include "common.cuh"

// A block computes PRODUCT_ROWS x PRODUCT_COLUMNS values, PRODUCT_DEPTH channels at a time.
constexpr int PRODUCT_ROWS = 128, PRODUCT_COLUMNS = 64, PRODUCT_DEPTH = 32;
constexpr int PRODUCT_PITCH = PRODUCT_DEPTH + 8;  // 80 bytes: rows of a matrix lie in different banks
// While one stage is multiplied, two are on their way.
constexpr int PRODUCT_STAGES = 3;

// Eight channels of a row to shared memory; zeros where they or the row do not exist.
template <typename T>
__device__ __forceinline__ void fetch8(T *to, const T *row, int channel, int channels, bool exists, bool vectors) {
  if (vectors) {
    const bool wanted = exists && channel < channels;
    copy_async(to, wanted ? row + channel : row, wanted);
    return;
  }
  float v[8];
#pragma unroll
  for (int i = 0; i < 8; i++) v[i] = exists && channel + i < channels ? to_float(row[channel + i]) : 0.f;
  store_values<8>(to, v);
}

// A block's sums, in fragments of four warps, to memory with bias, activation and residual: through shared memory, sixteen
// rows of a warp at a time, so that whole rows are written.
constexpr int PRODUCT_OUT_PITCH = PRODUCT_COLUMNS + 4;
[[maybe_unused]] constexpr int PRODUCT_OUT = 4 * 16 * PRODUCT_OUT_PITCH * 4;
// Sixteen rows of a warp, N columns at a time.
template <int N, typename G>
__device__ __forceinline__ void store_rows(const float *out, const float *__restrict__ bias, const G *__restrict__ residual,
                                           G *__restrict__ before, G *__restrict__ y, int first, int column0, int rows,
                                           int outputs, int activation) {
  constexpr int PIECES = PRODUCT_COLUMNS / N;
#pragma unroll 1
  for (int j = threadIdx.x & 31; j < 16 * PIECES; j += 32) {
    const int row = first + j / PIECES, column = column0 + j % PIECES * N;
    if (row >= rows || column >= outputs) continue;
    const long long at = (long long)row * outputs + column;
    float value[N], more[N];
    load_values<N>(out + j / PIECES * PRODUCT_OUT_PITCH + j % PIECES * N, value);
    if (bias) {
      load_values<N>(bias + column, more);
#pragma unroll
      for (int e = 0; e < N; e++) value[e] += more[e];
    }
    if (before) store_values<N>(before + at, value);
#pragma unroll
    for (int e = 0; e < N; e++) value[e] = activate(value[e], activation);
    if (residual) {
      load_values<N>(residual + at, more);
#pragma unroll
      for (int e = 0; e < N; e++) value[e] += more[e];
    }
    store_values<N>(y + at, value);
  }
}
template <typename G>
__device__ __forceinline__ void store_product(unsigned char *shared, const float (&sums)[2][PRODUCT_COLUMNS / 8][4],
                                              const float *__restrict__ bias, const G *__restrict__ residual,
                                              G *__restrict__ before, G *__restrict__ y, int row0, int column0, int rows,
                                              int outputs, int activation) {
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const bool vectors = outputs % 4 == 0 && aligned16(bias) && aligned16(residual) && aligned16(before) && aligned16(y);
  float *const out = reinterpret_cast<float *>(shared) + warp * 16 * PRODUCT_OUT_PITCH;
#pragma unroll
  for (int i = 0; i < 2; i++) {
#pragma unroll
    for (int n = 0; n < PRODUCT_COLUMNS / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        out[((lane >> 2) + 8 * (e >> 1)) * PRODUCT_OUT_PITCH + n * 8 + (lane & 3) * 2 + (e & 1)] = sums[i][n][e];
    __syncwarp();
    const int first = row0 + warp * 32 + i * 16;
    if (vectors) store_rows<4>(out, bias, residual, before, y, first, column0, rows, outputs, activation);
    else store_rows<1>(out, bias, residual, before, y, first, column0, rows, outputs, activation);
    __syncwarp();
  }
}

constexpr int PLAIN_ROWS = 64, PLAIN_COLUMNS = 64, PLAIN_DEPTH = 16;

// Channels channel .. channel + 3 of a row; zeros where they or the row do not exist.
__device__ __forceinline__ void fetch4(float (&to)[4], const float *row, int channel, int channels, bool exists, bool vectors) {
  if (vectors && exists && channel < channels) {
    load_values<4>(row + channel, to);
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++) to[i] = exists && channel + i < channels ? row[channel + i] : 0.f;
  }
}

// parts[p][tap][output][input] = sum over the part's rows of dy[row][output] * x[source(row)][input], where `source` is that
// of the block's tap and below 0 where there is none; `sum_parts` puts the taps last.
//
// grid (ceil(outputs / 64) * ceil(inputs / 64), taps, parts). Matrices: 128 threads, GRADIENT_SHARED bytes.
constexpr int GRADIENT_TILE = 64, GRADIENT_DEPTH = 32, GRADIENT_PITCH = GRADIENT_TILE + 8;
constexpr int GRADIENT_STAGE = 2 * GRADIENT_DEPTH * GRADIENT_PITCH;
[[maybe_unused]] constexpr int GRADIENT_SHARED = PRODUCT_STAGES * GRADIENT_STAGE * 2 - 16;  // the last row is not padded

template <typename T, typename Source>
__device__ __forceinline__ void weight_gradient_matrices(const T *__restrict__ x, const T *__restrict__ dy,
                                                         float *__restrict__ parts, int rows, const Source source, int inputs,
                                                         int outputs, int rows_per_part) {
  DYNAMIC_SHARED(shared);
  T *const stages = reinterpret_cast<T *>(shared);
  const int tiles = (inputs + GRADIENT_TILE - 1) / GRADIENT_TILE;
  const int output0 = blockIdx.x / tiles * GRADIENT_TILE, input0 = blockIdx.x % tiles * GRADIENT_TILE;
  const int first = blockIdx.z * rows_per_part, end = min(first + rows_per_part, rows);
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
  const bool x_vectors = inputs % 8 == 0 && aligned16(x), dy_vectors = outputs % 8 == 0 && aligned16(dy);

  auto fetch = [&](int row0, int stage) {
    constexpr int PIECES = GRADIENT_TILE / 8;
    T *const s = stages + stage * GRADIENT_STAGE;
#pragma unroll 1
    for (int i = thread; i < 2 * GRADIENT_DEPTH * PIECES; i += 128) {
      const int line = i / PIECES, at = i % PIECES * 8, row = row0 + line % GRADIENT_DEPTH;
      if (line < GRADIENT_DEPTH) {
        const bool exists = row < end;
        fetch8(s + line * GRADIENT_PITCH + at, dy + (exists ? (long long)row * outputs : 0), output0 + at, outputs, exists,
               dy_vectors);
      } else {
        const int from = row < end ? source(row) : -1;
        const bool exists = from >= 0;
        fetch8(s + line * GRADIENT_PITCH + at, x + (exists ? (long long)from * inputs : 0), input0 + at, inputs,
               exists, x_vectors);
      }
    }
    copy_async_commit();
  };

  const int warp_output = (warp >> 1) * 32, warp_input = (warp & 1) * 32;
  float sums[2][4][4] = {};
  const int steps = (end - first + GRADIENT_DEPTH - 1) / GRADIENT_DEPTH;
  fetch(first, 0);
  if (steps > 1) fetch(first + GRADIENT_DEPTH, 1);
  for (int step = 0; step < steps; step++) {
    if (step + 1 < steps) COPY_ASYNC_WAIT(1);
    else COPY_ASYNC_WAIT(0);
    __syncthreads();  // all have this stage, and nobody reads the one that is overwritten next
    if (step + 2 < steps) fetch(first + (step + 2) * GRADIENT_DEPTH, (step + 2) % PRODUCT_STAGES);
    const T *const sdy = stages + step % PRODUCT_STAGES * GRADIENT_STAGE, *const sx = sdy + GRADIENT_DEPTH * GRADIENT_PITCH;
#pragma unroll
    for (int k = 0; k < GRADIENT_DEPTH; k += 16) {
      unsigned a[2][4];
#pragma unroll
      for (int i = 0; i < 2; i++)
        load_matrices_turned(a[i], sdy + (k + (lane & 7) + (lane >> 4) * 8) * GRADIENT_PITCH + warp_output + i * 16 + (lane & 8));
#pragma unroll
      for (int n = 0; n < 2; n++) {
        unsigned b[4];
        load_matrices_turned(b, sx + (k + (lane & 15)) * GRADIENT_PITCH + warp_input + n * 16 + (lane >> 4) * 8);
#pragma unroll
        for (int i = 0; i < 2; i++) {
          multiply_matrices(sums[i][2 * n], a[i], b[0], b[1], T{});
          multiply_matrices(sums[i][2 * n + 1], a[i], b[2], b[3], T{});
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int n = 0; n < 4; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int output = output0 + warp_output + i * 16 + (lane >> 2) + 8 * (e >> 1);
        const int input = input0 + warp_input + n * 8 + (lane & 3) * 2 + (e & 1);
        if (output < outputs && input < inputs)
          parts[(((long long)blockIdx.z * gridDim.y + blockIdx.y) * outputs + output) * inputs + input] = sums[i][n][e];
      }
}

// 256 threads: four outputs by four inputs each.
template <typename Source>
__device__ __forceinline__ void weight_gradient_plain(const float *__restrict__ x, const float *__restrict__ dy,
                                                      float *__restrict__ parts, int rows, const Source source, int inputs,
                                                      int outputs, int rows_per_part) {
  constexpr int DEPTH = 16;
  __shared__ __align__(16) float sdy[DEPTH][GRADIENT_TILE];
  __shared__ __align__(16) float sx[DEPTH][GRADIENT_TILE];
  const int tiles = (inputs + GRADIENT_TILE - 1) / GRADIENT_TILE;
  const int output0 = blockIdx.x / tiles * GRADIENT_TILE, input0 = blockIdx.x % tiles * GRADIENT_TILE;
  const int first = blockIdx.z * rows_per_part, end = min(first + rows_per_part, rows);
  const int thread = threadIdx.x, own_output = (thread >> 4) * 4, own_input = (thread & 15) * 4;
  const bool x_vectors = inputs % 4 == 0 && aligned16(x), dy_vectors = outputs % 4 == 0 && aligned16(dy);
  float sums[4][4] = {};
  for (int row0 = first; row0 < end; row0 += DEPTH) {
#pragma unroll 1
    for (int i = thread; i < 2 * DEPTH * (GRADIENT_TILE / 4); i += 256) {
      const int line = i / (GRADIENT_TILE / 4), at = i % (GRADIENT_TILE / 4) * 4, row = row0 + line % DEPTH;
      float v[4];
      if (line < DEPTH) {
        const bool exists = row < end;
        fetch4(v, dy + (exists ? (long long)row * outputs : 0), output0 + at, outputs, exists, dy_vectors);
        store_values<4>(&sdy[line][at], v);
      } else {
        const int from = row < end ? source(row) : -1;
        const bool exists = from >= 0;
        fetch4(v, x + (exists ? (long long)from * inputs : 0), input0 + at, inputs, exists, x_vectors);
        store_values<4>(&sx[line - DEPTH][at], v);
      }
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < DEPTH; k++) {
      float a[4], b[4];
      load_values<4>(&sdy[k][own_output], a);
      load_values<4>(&sx[k][own_input], b);
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) sums[i][e] = fmaf(a[i], b[e], sums[i][e]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int output = output0 + own_output + i, input = input0 + own_input + e;
      if (output < outputs && input < inputs)
        parts[(((long long)blockIdx.z * gridDim.y + blockIdx.y) * outputs + output) * inputs + input] = sums[i][e];
    }
}
