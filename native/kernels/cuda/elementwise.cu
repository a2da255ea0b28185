// Activations forward and backward, sums, channels side by side, and rounding to bf16. Tensors have fewer than 2^31 numbers, so
// that places are worked out in 32 bits: divisions of 64 take longer than the memory.
#include "common.cuh"

// y = act(x). grid ceil(count / 256), 256 threads, as for all kernels here.
template <typename T> __device__ __forceinline__ void act(const T *__restrict__ x, T *__restrict__ y, long long count, int activation) {
  const unsigned i = blockIdx.x * 256 + threadIdx.x;
  if (i < count) y[i] = from_float<T>(activate(to_float(x[i]), activation));
}
// dx = dy * act'(x)
template <typename T>
__device__ __forceinline__ void act_backward(const T *__restrict__ x, const T *__restrict__ dy, T *__restrict__ dx,
                                             long long count, int activation) {
  const unsigned i = blockIdx.x * 256 + threadIdx.x;
  if (i < count) dx[i] = from_float<T>(to_float(dy[i]) * activation_slope(to_float(x[i]), activation));
}
// (rows, 2C) to (rows, C): the first half times the GELU of the second. count is rows * C.
template <typename T> __device__ __forceinline__ void geglu_of(const T *__restrict__ x, T *__restrict__ y, long long count, int channels) {
  const unsigned i = blockIdx.x * 256 + threadIdx.x;
  if (i >= count) return;
  const unsigned at = i / channels * 2 * channels + i % channels;
  y[i] = from_float<T>(to_float(x[at]) * gelu(to_float(x[at + channels])));
}
template <typename T>
__device__ __forceinline__ void geglu_slopes(const T *__restrict__ x, const T *__restrict__ dy, T *__restrict__ dx,
                                             long long count, int channels) {
  const unsigned i = blockIdx.x * 256 + threadIdx.x;
  if (i >= count) return;
  const unsigned at = i / channels * 2 * channels + i % channels;
  const float gate = to_float(x[at + channels]), d = to_float(dy[i]);
  dx[at] = from_float<T>(d * gelu(gate));
  dx[at + channels] = from_float<T>(d * to_float(x[at]) * activation_slope(gate, GELU));
}
template <typename T> __device__ __forceinline__ void sum_of(const T *__restrict__ a, const T *__restrict__ b, T *__restrict__ y, long long count) {
  const unsigned i = blockIdx.x * 256 + threadIdx.x;
  if (i < count) y[i] = from_float<T>(to_float(a[i]) + to_float(b[i]));
}
// y = x as bf16: operands of products. grid ceil(count / 2048), 256 threads of eight values.
extern "C" __global__ void __launch_bounds__(256) round_bf16(const float *__restrict__ x, bf16 *__restrict__ y, long long count) {
  const long long i = ((long long)blockIdx.x * 256 + threadIdx.x) * 8;
  if (i + 8 <= count && aligned16(x) && aligned16(y)) {
    float v[8];
    load_values<8>(x + i, v);
    store_values<8>(y + i, v);
  } else {
    for (long long at = i; at < count && at < i + 8; at++) y[at] = from_float<bf16>(x[at]);
  }
}
// y (rows, C) += row (C). count is rows * C.
extern "C" __global__ void __launch_bounds__(256) add_row(float *y, const float *row, long long count, int channels) {
  const unsigned i = blockIdx.x * 256 + threadIdx.x;
  if (i < count) y[i] += row[i % channels];
}
// (rows, left) and (rows, right) to (rows, left + right), or back with `inverse`; the sides may be null then.
template <typename T>
__device__ __forceinline__ void side_by_side(T *a, T *b, T *both, int left, int right, long long count, int inverse) {
  const unsigned i = blockIdx.x * 256 + threadIdx.x;
  if (i >= count) return;
  const int width = left + right, c = i % width;
  T *const side = c < left ? a : b;
  if (!side) return;
  T *const at = side + i / width * (c < left ? left : right) + (c < left ? c : c - left);
  if (inverse) *at = both[i];
  else both[i] = *at;
}
#define ELEMENTWISE(SUFFIX, T)                                                                                        \
  extern "C" __global__ void __launch_bounds__(256) activation_##SUFFIX(const T *x, T *y, long long count, int activation) { \
    act<T>(x, y, count, activation);                                                                                    \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) activation_backward_##SUFFIX(const T *x, const T *dy, T *dx,         \
                                                                               long long count, int activation) {      \
    act_backward<T>(x, dy, dx, count, activation);                                                                      \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) geglu_##SUFFIX(const T *x, T *y, long long count, int channels) {    \
    geglu_of<T>(x, y, count, channels);                                                                                 \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) geglu_backward_##SUFFIX(const T *x, const T *dy, T *dx,              \
                                                                          long long count, int channels) {             \
    geglu_slopes<T>(x, dy, dx, count, channels);                                                                        \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) add_##SUFFIX(const T *a, const T *b, T *y, long long count) {        \
    sum_of<T>(a, b, y, count);                                                                                          \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) concatenate_##SUFFIX(T *a, T *b, T *both, int left, int right,       \
                                                                       long long count, int inverse) {                 \
    side_by_side<T>(a, b, both, left, right, count, inverse);                                                           \
  }
ELEMENTWISE(f32, float)
ELEMENTWISE(f16, f16)
ELEMENTWISE(bf16, bf16)
