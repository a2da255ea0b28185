// Resizing: nearest and mean by two, any filter by a table of weights, and pixel-unshuffle. As the CPU's, bit by bit in f32.
// Tensors have fewer than 2^31 numbers, so that places are worked out in 32 bits: divisions of 64 take longer than the memory.
#include "common.cuh"

// (height, width, row) to (2 height, 2 width, row), each value `scale` times its source: nearest up-sampling with 1, the
// gradient of the mean with 0.25. grid ceil(4 * count / 256), 256 threads.
template <typename T>
__device__ __forceinline__ void spread(const T *__restrict__ x, T *__restrict__ y, int height, int width, int row, float scale) {
  const unsigned i = blockIdx.x * 256 + threadIdx.x;
  if (i >= 4u * height * width * row) return;
  const unsigned pixel = i / row, py = pixel / (2 * width), px = pixel % (2 * width);
  y[i] = from_float<T>(__fmul_rn(to_float(x[(py / 2 * width + px / 2) * row + i % row]), scale));
}
// (2 height, 2 width, row) to (height, width, row): `scale` times the sum of four: the mean with 0.25, the gradient of
// nearest up-sampling with 1. grid ceil(count / 256), 256 threads, count of the result.
template <typename T>
__device__ __forceinline__ void gather(const T *__restrict__ x, T *__restrict__ y, int height, int width, int row, float scale) {
  const unsigned i = blockIdx.x * 256 + threadIdx.x;
  if (i >= (unsigned)height * width * row) return;
  const unsigned pixel = i / row, py = pixel / width, px = pixel % width;
  const unsigned corner = (2 * py * 2 * width + 2 * px) * row + i % row, below = corner + 2 * width * row;
  const float upper = __fadd_rn(to_float(x[corner]), to_float(x[corner + row]));
  const float lower = __fadd_rn(to_float(x[below]), to_float(x[below + row]));
  y[i] = from_float<T>(__fmul_rn(__fadd_rn(upper, lower), scale));
}
// (outer, from, inner) to (outer, to, inner) along the middle axis: y[t] = sum over k < count[t] of weights[t][k] *
// x[first[t] + k]. Bicubic and all other filters, whose tables the host makes. grid ceil(outer * to * inner / 256), 256.
template <typename T>
__device__ __forceinline__ void resize(const T *__restrict__ x, const int *__restrict__ first, const int *__restrict__ count,
                                       const float *__restrict__ weights, T *__restrict__ y, int outer, int from, int to,
                                       int inner, int stride) {
  const unsigned i = blockIdx.x * 256 + threadIdx.x;
  if (i >= (unsigned)outer * to * inner) return;
  const unsigned t = i / inner % to;
  const T *const line = x + (i / inner / to * from + first[t]) * inner + i % inner;
  float sum = 0.f;
  for (int k = 0; k < count[t]; k++) sum = __fadd_rn(sum, __fmul_rn(weights[t * stride + k], to_float(line[(long long)k * inner])));
  y[i] = from_float<T>(sum);
}
// Frames (images, height p, width p, channels) to a grid (height, width, images, channels p²), or back with `inverse`.
// grid ceil(count / 256), 256 threads.
template <typename T>
__device__ __forceinline__ void unshuffle(const T *__restrict__ x, T *__restrict__ y, int images, int height, int width,
                                          int channels, int p, int inverse) {
  const unsigned i = blockIdx.x * 256 + threadIdx.x;
  if (i >= (unsigned)images * height * width * channels * p * p) return;
  const unsigned packed = i % (channels * p * p), place = i / (channels * p * p);
  const unsigned image = place % images, px = place / images % width, py = place / images / width;
  const unsigned c = packed / (p * p), dy = packed / p % p, dx = packed % p;
  const unsigned frame = (((image * height + py) * p + dy) * width * p + px * p + dx) * channels + c;
  if (inverse) y[frame] = x[i];
  else y[i] = x[frame];
}
#define RESAMPLING(SUFFIX, T)                                                                                         \
  extern "C" __global__ void __launch_bounds__(256) spread2_##SUFFIX(const T *x, T *y, int height, int width, int row,   \
                                                                   float scale) {                                      \
    spread<T>(x, y, height, width, row, scale);                                                                         \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) gather2_##SUFFIX(const T *x, T *y, int height, int width, int row,   \
                                                                   float scale) {                                      \
    gather<T>(x, y, height, width, row, scale);                                                                         \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) resize_axis_##SUFFIX(                                                \
      const T *x, const int *first, const int *count, const float *weights, T *y, int outer, int from, int to,          \
      int inner, int stride) {                                                                                          \
    resize<T>(x, first, count, weights, y, outer, from, to, inner, stride);                                             \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) patchify_##SUFFIX(const T *x, T *y, int images, int height,          \
                                                                    int width, int channels, int p, int inverse) {     \
    unshuffle<T>(x, y, images, height, width, channels, p, inverse);                                                    \
  }
RESAMPLING(f32, float)
RESAMPLING(f16, f16)
RESAMPLING(bf16, bf16)
