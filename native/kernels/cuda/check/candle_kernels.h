// The kernels of candle that networks call, by what they mean: what stands in for them on the host's device.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace candle {
// Where the i-th number of a tensor is. `info` is null for what is contiguous, else its dims and then `set` lists of strides.
inline size_t place(size_t i, size_t axes, const size_t *info, size_t set = 0) {
  if (!info) return i;
  const size_t *const strides = info + (1 + set) * axes;
  size_t at = 0;
  for (size_t axis = axes; axis-- > 0; i /= info[axis]) at += i % info[axis] * strides[axis];
  return at;
}
template <typename T, T F(T)> void unary(size_t count, size_t axes, const size_t *info, const T *x, T *y) {
  for (size_t i = 0; i < count; i++) y[i] = F(x ? x[place(i, axes, info)] : y[i]);
}
template <typename T> T copy(T x) { return x; }
inline float square(float x) { return x * x; }
inline float root(float x) { return sqrtf(x); }
inline float negative(float x) { return -x; }
inline float exponential(float x) { return expf(x); }

template <float F(float, float)>
void binary(size_t count, size_t axes, const size_t *info, const float *a, const float *b, float *y) {
  for (size_t i = 0; i < count; i++) y[i] = F(a[place(i, axes, info)], b[place(i, axes, info, 1)]);
}
inline float plus(float a, float b) { return a + b; }
inline float minus(float a, float b) { return a - b; }
inline float times(float a, float b) { return a * b; }
inline float over(float a, float b) { return a / b; }

inline void affine(size_t count, size_t axes, const size_t *info, const float *x, float *y, float factor, float offset) {
  for (size_t i = 0; i < count; i++) y[i] = x[place(i, axes, info)] * factor + offset;
}
inline void set(size_t count, size_t axes, const size_t *info, float value, float *y) {
  for (size_t i = 0; i < count; i++) y[place(i, axes, info)] = value;
}
inline void copy2d(const float *x, float *y, uint32_t rows, uint32_t columns, uint32_t x_stride, uint32_t y_stride) {
  for (size_t row = 0; row < rows; row++)
    for (size_t column = 0; column < columns; column++) y[row * y_stride + column] = x[row * x_stride + column];
}
// `count` numbers, `together` of them to a sum; the dims that are summed are the last ones.
inline void sum(size_t count, size_t together, size_t axes, const size_t *info, const float *x, float *y) {
  for (size_t to = 0; to < count / together; to++) {
    double total = 0;
    for (size_t i = to * together; i < (to + 1) * together; i++) total += x[place(i, axes, info)];
    y[to] = (float)total;
  }
}
inline void small_sum(size_t sums, size_t together, size_t axes, const size_t *info, const float *x, float *y) {
  sum(sums * together, together, axes, info, x, y);
}
inline void largest(size_t count, size_t together, size_t axes, const size_t *info, const float *x, float *y) {
  for (size_t to = 0; to < count / together; to++) {
    float most = -INFINITY;
    for (size_t i = to * together; i < (to + 1) * together; i++) most = fmaxf(most, x[place(i, axes, info)]);
    y[to] = most;
  }
}
inline void small_largest(size_t results, size_t together, size_t axes, const size_t *info, const float *x, float *y) {
  largest(results * together, together, axes, info, x, y);
}
inline void where(size_t count, size_t axes, const size_t *info, const uint8_t *chosen, const float *a, const float *b, float *y) {
  for (size_t i = 0; i < count; i++)
    y[i] = chosen[place(i, axes, info)] ? a[place(i, axes, info, 1)] : b[place(i, axes, info, 2)];
}
inline void select(size_t count, size_t, const size_t *, const uint32_t *ids, const float *x, float *y, size_t, size_t from,
                   size_t to, size_t right) {
  for (size_t i = 0; i < count; i++) y[i] = x[(i / (to * right) * from + ids[i / right % to]) * right + i % right];
}
inline void add_selected(const uint32_t *ids, size_t to, const float *x, float *y, size_t left, size_t from, size_t into, size_t right) {
  (void)to;
  for (size_t l = 0; l < left; l++)
    for (size_t i = 0; i < from; i++)
      for (size_t r = 0; r < right; r++) y[(l * into + ids[i]) * right + r] += x[(l * from + i) * right + r];
}
}  // namespace candle

// name in candle, what it means
#define CANDLE_KERNELS(KERNEL)                          \
  KERNEL(ucopy_f32, (candle::unary<float, candle::copy>)) \
  KERNEL(ucopy_u32, (candle::unary<uint32_t, candle::copy>)) \
  KERNEL(usqr_f32, (candle::unary<float, candle::square>)) \
  KERNEL(usqrt_f32, (candle::unary<float, candle::root>)) \
  KERNEL(uneg_f32, (candle::unary<float, candle::negative>)) \
  KERNEL(uexp_f32, (candle::unary<float, candle::exponential>)) \
  KERNEL(badd_f32, candle::binary<candle::plus>)        \
  KERNEL(bsub_f32, candle::binary<candle::minus>)       \
  KERNEL(bmul_f32, candle::binary<candle::times>)       \
  KERNEL(bdiv_f32, candle::binary<candle::over>)        \
  KERNEL(affine_f32, candle::affine)                    \
  KERNEL(const_set_f32, candle::set)                    \
  KERNEL(copy2d_f32, candle::copy2d)                    \
  KERNEL(fast_sum_f32, candle::sum)                     \
  KERNEL(fast_sum_small_f32, candle::small_sum)         \
  KERNEL(fast_max_f32, candle::largest)                 \
  KERNEL(fast_max_small_f32, candle::small_largest)     \
  KERNEL(where_u8_f32, candle::where)                   \
  KERNEL(is_u32_f32, candle::select)                    \
  KERNEL(ia_u32_f32, candle::add_selected)
