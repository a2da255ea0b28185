// Group norm with scale-shift and SiLU on (pixels, images, channels), layer and RMS norm of rows: forward and backward.
//
// Statistics are f32 in two passes (mean, then squares about it), as on the CPU, and those of parts are joined by Chan's formula;
// every sum has one order.
#include "common.cuh"

// One block works on one image's part of the pixels and `groups_together` groups: `wide` neighbouring channels, so that reads
// are coalesced. Images alone would leave most of a GPU idle.
struct GroupShape {
  int pixels, images, channels, groups, images_per_clip, groups_together;
  float eps;
  int activation;
};
struct GroupBlock {
  int image, channel0, group0, groups, width, wide, columns, lines, column, line, part, parts, per_part, first, end;
  // Pixels of a part.
  __device__ __forceinline__ int pixels(int of, int all) const { return min(per_part, all - of * per_part); }
};
__device__ __forceinline__ GroupBlock group_block(const GroupShape &s) {
  GroupBlock b;
  b.image = blockIdx.x;
  b.group0 = blockIdx.y * s.groups_together;
  b.groups = min(s.groups_together, s.groups - b.group0);
  b.width = s.channels / s.groups;
  b.wide = b.groups * b.width;
  b.channel0 = b.group0 * b.width;
  b.columns = 1;
  // Alike in the last block, which may have fewer groups, so that its sums fit too.
  while (b.columns < s.groups_together * b.width && b.columns < 256) b.columns *= 2;
  b.lines = 256 / b.columns;
  b.column = threadIdx.x % b.columns;
  b.line = threadIdx.x / b.columns;
  b.part = blockIdx.z;
  b.parts = gridDim.z;
  b.per_part = (s.pixels + b.parts - 1) / b.parts;
  b.first = b.part * b.per_part;
  b.end = min(b.first + b.per_part, s.pixels);
  return b;
}
// The sum of a group's values in `sums` ([line][wide]), by a warp, in every lane.
__device__ __forceinline__ float group_sum(const float *sums, const GroupBlock &b, int group) {
  float sum = 0.f;
  for (int i = threadIdx.x & 31; i < b.lines * b.width; i += 32)
    sum += sums[i / b.width * b.wide + group * b.width + i % b.width];
  return warp_sum(sum);
}

// moments[image][group][part]: the mean of a part's values and the sum of the squares about it.
// grid (images, ceil(groups / groups_together), parts), 256 threads, (lines * wide + groups_together) * 4 bytes: see
// group_block for lines. Parts are at most 32, and each has a pixel.
template <typename T>
__device__ __forceinline__ void group_norm_of_parts(const T *__restrict__ x, float *__restrict__ moments, const GroupShape s) {
  DYNAMIC_SHARED(shared);
  const GroupBlock b = group_block(s);
  float *const mean = reinterpret_cast<float *>(shared), *const sums = mean + s.groups_together;
  const long long step = (long long)s.images * s.channels;
  const T *const from = x + (long long)b.image * s.channels + b.channel0;
  for (int pass = 0; pass < 2; pass++) {
    for (int c = b.column; c < b.wide; c += b.columns) {
      const float centre = pass ? mean[c / b.width] : 0.f;
      float sum = 0.f;
      for (int p = b.first + b.line; p < b.end; p += b.lines) {
        const float v = to_float(from[p * step + c]) - centre;
        sum += pass ? v * v : v;
      }
      sums[b.line * b.wide + c] = sum;
    }
    __syncthreads();
    for (int g = threadIdx.x >> 5; g < b.groups; g += 8) {
      const float sum = group_sum(sums, b, g);
      if ((threadIdx.x & 31) == 0) {
        float *const out = moments + (((long long)b.image * s.groups + b.group0 + g) * b.parts + b.part) * 2;
        if (pass) out[1] = sum;
        else out[0] = mean[g] = sum / ((float)(b.end - b.first) * (float)b.width);
      }
    }
    __syncthreads();
  }
}

// y = act(x̂ * scale + shift) of the moments of all parts; statistics[image][group]: mean and reciprocal deviation. scale_shift
// is (clips, 2C) f32. Grid and block as above, 2 * groups_together * 4 bytes.
template <typename T>
__device__ __forceinline__ void group_norm_forward(const T *__restrict__ x, const float *__restrict__ scale_shift,
                                                   const float *__restrict__ moments, T *__restrict__ y,
                                                   float *__restrict__ statistics, const GroupShape s) {
  DYNAMIC_SHARED(shared);
  const GroupBlock b = group_block(s);
  float *const mean = reinterpret_cast<float *>(shared), *const rstd = mean + s.groups_together;
  const float count = (float)s.pixels * (float)b.width;
  const int lane = threadIdx.x & 31;
  for (int g = threadIdx.x >> 5; g < b.groups; g += 8) {
    // A lane for each part.
    const float *const of_part = moments + (((long long)b.image * s.groups + b.group0 + g) * b.parts + lane) * 2;
    const bool exists = lane < b.parts;
    const float number = exists ? (float)b.pixels(lane, s.pixels) * (float)b.width : 0.f, own = exists ? of_part[0] : 0.f;
    const float whole = warp_sum(number * own) / count, apart = own - whole;
    const float square = warp_sum(exists ? fmaf(number * apart, apart, of_part[1]) : 0.f);
    if (lane == 0) {
      mean[g] = whole;
      rstd[g] = 1.f / sqrtf(square / count + s.eps);
      if (b.part == 0) {
        float *const out = statistics + ((long long)b.image * s.groups + b.group0 + g) * 2;
        out[0] = mean[g];
        out[1] = rstd[g];
      }
    }
  }
  __syncthreads();
  const long long step = (long long)s.images * s.channels;
  const T *const from = x + (long long)b.image * s.channels + b.channel0;
  T *const to = y + (long long)b.image * s.channels + b.channel0;
  const float *const scale = scale_shift + (long long)(b.image / s.images_per_clip) * 2 * s.channels + b.channel0;
  for (int c = b.column; c < b.wide; c += b.columns) {
    const float gain = rstd[c / b.width] * scale[c], offset = scale[s.channels + c] - mean[c / b.width] * gain;
    for (int p = b.first + b.line; p < b.end; p += b.lines)
      to[p * step + c] = from_float<T>(activate(fmaf(to_float(from[p * step + c]), gain, offset), s.activation));
  }
}

// parts[image][part][2C]: each part's gradients to scale and shift, to be added up over parts and a clip's images.
// Grid and block as above, 2 * lines * wide * 4 bytes.
template <typename T>
__device__ __forceinline__ void group_norm_slopes_of_parts(const T *__restrict__ x, const float *__restrict__ scale_shift,
                                                     const float *__restrict__ statistics, const T *__restrict__ dy,
                                                     float *__restrict__ parts, const GroupShape s) {
  DYNAMIC_SHARED(shared);
  const GroupBlock b = group_block(s);
  float *const sums = reinterpret_cast<float *>(shared), *const products = sums + b.lines * b.wide;
  const long long step = (long long)s.images * s.channels, start = (long long)b.image * s.channels + b.channel0;
  const float *const scale = scale_shift + (long long)(b.image / s.images_per_clip) * 2 * s.channels + b.channel0;
  const float *const moments = statistics + ((long long)b.image * s.groups + b.group0) * 2;
  for (int c = b.column; c < b.wide; c += b.columns) {
    const float mean = moments[c / b.width * 2], rstd = moments[c / b.width * 2 + 1];
    float sum = 0.f, product = 0.f;
    for (int p = b.first + b.line; p < b.end; p += b.lines) {
      const float normal = (to_float(x[start + p * step + c]) - mean) * rstd;
      const float slope = activation_slope(fmaf(normal, scale[c], scale[s.channels + c]), s.activation);
      const float dz = to_float(dy[start + p * step + c]) * slope;
      sum += dz;
      product = fmaf(dz, normal, product);
    }
    sums[b.line * b.wide + c] = sum;
    products[b.line * b.wide + c] = product;
  }
  __syncthreads();
  float *const out = parts + ((long long)b.image * b.parts + b.part) * 2 * s.channels + b.channel0;
  for (int c = threadIdx.x; c < b.wide; c += 256) {
    float sum = 0.f, product = 0.f;
    for (int line = 0; line < b.lines; line++) {
      sum += sums[line * b.wide + c];
      product += products[line * b.wide + c];
    }
    out[c] = product;
    out[s.channels + c] = sum;
  }
}

// dx, of all parts' gradients. Grid and block as above, (2 * wide + 2 * groups_together) * 4 bytes.
template <typename T>
__device__ __forceinline__ void group_norm_backward(const T *__restrict__ x, const float *__restrict__ scale_shift,
                                                    const float *__restrict__ statistics, const T *__restrict__ dy,
                                                    const float *__restrict__ parts, T *__restrict__ dx, const GroupShape s) {
  DYNAMIC_SHARED(shared);
  const GroupBlock b = group_block(s);
  float *const sum_d = reinterpret_cast<float *>(shared), *const sum_dx = sum_d + s.groups_together;
  float *const sums = sum_dx + s.groups_together, *const products = sums + b.wide;
  const float count = (float)s.pixels * (float)b.width;
  const long long step = (long long)s.images * s.channels, start = (long long)b.image * s.channels + b.channel0;
  const float *const scale = scale_shift + (long long)(b.image / s.images_per_clip) * 2 * s.channels + b.channel0;
  const float *const moments = statistics + ((long long)b.image * s.groups + b.group0) * 2;
  const float *const part = parts + (long long)b.image * b.parts * 2 * s.channels + b.channel0;
  for (int c = threadIdx.x; c < b.wide; c += 256) {
    float sum = 0.f, product = 0.f;
    for (int i = 0; i < b.parts; i++) {
      product += part[(long long)i * 2 * s.channels + c];
      sum += part[(long long)i * 2 * s.channels + s.channels + c];
    }
    sums[c] = sum * scale[c];
    products[c] = product * scale[c];
  }
  __syncthreads();
  for (int g = threadIdx.x >> 5; g < b.groups; g += 8) {
    float sum = 0.f, product = 0.f;
    for (int i = threadIdx.x & 31; i < b.width; i += 32) {
      sum += sums[g * b.width + i];
      product += products[g * b.width + i];
    }
    sum = warp_sum(sum);
    product = warp_sum(product);
    if ((threadIdx.x & 31) == 0) {
      sum_d[g] = sum / count;
      sum_dx[g] = product / count;
    }
  }
  __syncthreads();
  for (int c = b.column; c < b.wide; c += b.columns) {
    const float mean = moments[c / b.width * 2], rstd = moments[c / b.width * 2 + 1];
    for (int p = b.first + b.line; p < b.end; p += b.lines) {
      const float normal = (to_float(x[start + p * step + c]) - mean) * rstd;
      const float slope = activation_slope(fmaf(normal, scale[c], scale[s.channels + c]), s.activation);
      const float dz = to_float(dy[start + p * step + c]) * slope * scale[c];
      dx[start + p * step + c] = from_float<T>(rstd * (dz - sum_d[c / b.width] - normal * sum_dx[c / b.width]));
    }
  }
}

// Mean and reciprocal deviation of a row, by a warp.
template <typename T>
__device__ __forceinline__ void row_statistics(const T *row, int channels, int centre, float eps, float &mean, float &rstd) {
  const int lane = threadIdx.x & 31;
  mean = 0.f;
  if (centre) {
    for (int c = lane; c < channels; c += 32) mean += to_float(row[c]);
    mean = warp_sum(mean) / channels;
  }
  float square = 0.f;
  for (int c = lane; c < channels; c += 32) {
    const float v = to_float(row[c]) - mean;
    square = fmaf(v, v, square);
  }
  square = warp_sum(square) / channels;
  rstd = centre ? 1.f / sqrtf(square + eps) : 1.f / fmaxf(sqrtf(square), eps);
}

// The rows of a norm: `rows` of each clip. Activations are (pixels, images, channels), and the images of a clip, `per_clip`,
// lie side by side; rows without clips are one image. Gains and offsets of the next clip follow after 2C numbers.
struct Rows {
  int rows, images, per_clip, channels;
  // Of the i-th row of this block's clip, the first number.
  __device__ __forceinline__ long long start(int i) const {
    return ((long long)(i / per_clip) * images + blockIdx.y * per_clip + i % per_clip) * channels;
  }
  __device__ __forceinline__ long long gains() const { return (long long)blockIdx.y * 2 * channels; }
};

// y = act(x̂ * gamma + beta), beta null or f32; `centre`: layer norm, otherwise x / max(rms, eps).
// grid (ceil(rows / 8), clips), 256 threads.
template <typename T>
__device__ __forceinline__ void row_norm_forward(const T *__restrict__ x, const float *__restrict__ gamma,
                                                 const float *__restrict__ beta, T *__restrict__ y, Rows r, int centre,
                                                 float eps, int activation) {
  const int row = blockIdx.x * 8 + (threadIdx.x >> 5);
  if (row >= r.rows) return;
  const long long start = r.start(row), gains = r.gains();
  float mean, rstd;
  row_statistics(x + start, r.channels, centre, eps, mean, rstd);
  for (int c = threadIdx.x & 31; c < r.channels; c += 32) {
    const float normal = (to_float(x[start + c]) - mean) * rstd;
    y[start + c] = from_float<T>(activate(fmaf(normal, gamma[gains + c], beta ? beta[gains + c] : 0.f), activation));
  }
}

// dx, and parts[clip][block][2C] of the gradients to gamma and beta. grid (ceil(rows / 32), clips), 256 threads: a warp takes
// every eighth row, of up to 32 VALUES channels, which are read once.
constexpr int NORM_ROWS = 32;
template <int VALUES, typename T>
__device__ __forceinline__ void short_rows_backward(const T *__restrict__ x, const float *__restrict__ gamma,
                                                    const float *__restrict__ beta, const T *__restrict__ dy,
                                                    T *__restrict__ dx, float *__restrict__ parts, Rows r, int centre,
                                                    float eps, int activation) {
  __shared__ float sums[8][32 * VALUES];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, channels = r.channels;
  const long long gains = r.gains();
  float dgamma[VALUES] = {}, dbeta[VALUES] = {};
  for (int row = blockIdx.x * NORM_ROWS + warp; row < min((int)(blockIdx.x + 1) * NORM_ROWS, r.rows); row += 8) {
    const long long start = r.start(row);
    float normal[VALUES], d[VALUES], mean = 0.f, square = 0.f, sum_d = 0.f, sum_dx = 0.f;
#pragma unroll
    for (int i = 0; i < VALUES; i++) {
      const int c = lane + 32 * i;
      normal[i] = c < channels ? to_float(x[start + c]) : 0.f;
      d[i] = c < channels ? to_float(dy[start + c]) : 0.f;
      mean += normal[i];
    }
    mean = centre ? warp_sum(mean) / channels : 0.f;
#pragma unroll
    for (int i = 0; i < VALUES; i++) {
      normal[i] = lane + 32 * i < channels ? normal[i] - mean : 0.f;
      square = fmaf(normal[i], normal[i], square);
    }
    square = warp_sum(square) / channels;
    const float rstd = centre ? 1.f / sqrtf(square + eps) : 1.f / fmaxf(sqrtf(square), eps);
#pragma unroll
    for (int i = 0; i < VALUES; i++) {
      const int c = lane + 32 * i;
      const float gain = c < channels ? gamma[gains + c] : 0.f;
      normal[i] *= rstd;
      d[i] *= activation_slope(fmaf(normal[i], gain, beta && c < channels ? beta[gains + c] : 0.f), activation);
      dgamma[i] = fmaf(d[i], normal[i], dgamma[i]);
      dbeta[i] += d[i];
      d[i] *= gain;
      sum_d += d[i];
      sum_dx = fmaf(d[i], normal[i], sum_dx);
    }
    sum_d = centre ? warp_sum(sum_d) / channels : 0.f;
    sum_dx = warp_sum(sum_dx) / channels;
    // A row shorter than eps is divided by eps, whatever its length.
    if (!centre && rstd >= 1.f / eps) sum_dx = 0.f;
#pragma unroll
    for (int i = 0; i < VALUES; i++) {
      const int c = lane + 32 * i;
      if (c < channels) dx[start + c] = from_float<T>(rstd * (d[i] - sum_d - normal[i] * sum_dx));
    }
  }
  const long long part = ((long long)blockIdx.y * gridDim.x + blockIdx.x) * 2 * channels;
#pragma unroll
  for (int of = 0; of < 2; of++) {
    if (of) __syncthreads();  // the gains' sums have been read
#pragma unroll
    for (int i = 0; i < VALUES; i++) sums[warp][lane + 32 * i] = of ? dbeta[i] : dgamma[i];
    __syncthreads();
    for (int c = threadIdx.x; c < channels; c += 256) {
      float sum = 0.f;
#pragma unroll
      for (int w = 0; w < 8; w++) sum += sums[w][c];
      parts[part + of * channels + c] = sum;
    }
  }
}

// The same for rows of any length, which are read again for each step.
template <typename T>
__device__ __forceinline__ void long_rows_backward(const T *__restrict__ x, const float *__restrict__ gamma,
                                                  const float *__restrict__ beta, const T *__restrict__ dy,
                                                  T *__restrict__ dx, float *__restrict__ parts, Rows r, int centre,
                                                  float eps, int activation) {
  __shared__ float means[NORM_ROWS], rstds[NORM_ROWS];
  const int row0 = blockIdx.x * NORM_ROWS, lane = threadIdx.x & 31, channels = r.channels;
  const long long gains = r.gains();
  auto dz_of = [&](long long at, int c, float normal) {
    const float z = fmaf(normal, gamma[gains + c], beta ? beta[gains + c] : 0.f);
    return to_float(dy[at]) * activation_slope(z, activation);
  };
  for (int i = threadIdx.x >> 5; i < NORM_ROWS && row0 + i < r.rows; i += 8) {
    const long long start = r.start(row0 + i);
    float mean, rstd, sum_d = 0.f, sum_dx = 0.f;
    row_statistics(x + start, channels, centre, eps, mean, rstd);
    for (int c = lane; c < channels; c += 32) {
      const float normal = (to_float(x[start + c]) - mean) * rstd, d = dz_of(start + c, c, normal) * gamma[gains + c];
      sum_d += d;
      sum_dx = fmaf(d, normal, sum_dx);
    }
    sum_d = centre ? warp_sum(sum_d) / channels : 0.f;
    sum_dx = warp_sum(sum_dx) / channels;
    // A row shorter than eps is divided by eps, whatever its length.
    if (!centre && rstd >= 1.f / eps) sum_dx = 0.f;
    for (int c = lane; c < channels; c += 32) {
      const float normal = (to_float(x[start + c]) - mean) * rstd, d = dz_of(start + c, c, normal) * gamma[gains + c];
      dx[start + c] = from_float<T>(rstd * (d - sum_d - normal * sum_dx));
    }
    if (lane == 0) {
      means[i] = mean;
      rstds[i] = rstd;
    }
  }
  __syncthreads();
  const long long part = ((long long)blockIdx.y * gridDim.x + blockIdx.x) * 2 * channels;
  for (int c = threadIdx.x; c < channels; c += 256) {
    float dgamma = 0.f, dbeta = 0.f;
    for (int i = 0; i < NORM_ROWS && row0 + i < r.rows; i++) {
      const long long at = r.start(row0 + i) + c;
      const float normal = (to_float(x[at]) - means[i]) * rstds[i], dz = dz_of(at, c, normal);
      dgamma = fmaf(dz, normal, dgamma);
      dbeta += dz;
    }
    parts[part + c] = dgamma;
    parts[part + channels + c] = dbeta;
  }
}

#define GROUP_ARGUMENTS                                                                                               \
  int pixels, int images, int channels, int groups, int images_per_clip, int groups_together, float eps, int activation
#define GROUP_SHAPE { pixels, images, channels, groups, images_per_clip, groups_together, eps, activation }
#define ROW_ARGUMENTS int rows, int images, int per_clip, int channels, int centre, float eps, int activation
#define ROWS Rows{rows, images, per_clip, channels}
#define SHORT_ROWS(VALUES)                                                                                            \
  extern "C" __global__ void __launch_bounds__(256, VALUES <= 8 ? 2 : 1) row_norm_backward_f32_v##VALUES(                 \
      const float *x, const float *gamma, const float *beta, const float *dy, float *dx, float *parts, ROW_ARGUMENTS) { \
    short_rows_backward<VALUES, float>(x, gamma, beta, dy, dx, parts, ROWS, centre, eps, activation);                   \
  }
SHORT_ROWS(2)
SHORT_ROWS(4)
SHORT_ROWS(8)
SHORT_ROWS(16)
#define NORMS(SUFFIX, T)                                                                                              \
  extern "C" __global__ void __launch_bounds__(256) group_norm_of_parts_##SUFFIX(const T *x, float *moments,          \
                                                                               GROUP_ARGUMENTS) {                     \
    group_norm_of_parts<T>(x, moments, GROUP_SHAPE);                                                                  \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256, 3) group_norm_##SUFFIX(const T *x, const float *scale_shift,        \
                                                                      const float *moments, T *y, float *statistics,  \
                                                                      GROUP_ARGUMENTS) {                              \
    group_norm_forward<T>(x, scale_shift, moments, y, statistics, GROUP_SHAPE);                                       \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256, 3) group_norm_slopes_of_parts_##SUFFIX(                           \
      const T *x, const float *scale_shift, const float *statistics, const T *dy, float *parts, GROUP_ARGUMENTS) {    \
    group_norm_slopes_of_parts<T>(x, scale_shift, statistics, dy, parts, GROUP_SHAPE);                                \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256, 3) group_norm_backward_##SUFFIX(                                  \
      const T *x, const float *scale_shift, const float *statistics, const T *dy, const float *parts, T *dx,          \
      GROUP_ARGUMENTS) {                                                                                              \
    group_norm_backward<T>(x, scale_shift, statistics, dy, parts, dx, GROUP_SHAPE);                                   \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) row_norm_##SUFFIX(const T *x, const float *gamma, const float *beta, \
                                                                    T *y, ROW_ARGUMENTS) {                              \
    row_norm_forward<T>(x, gamma, beta, y, ROWS, centre, eps, activation);                                              \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) row_norm_backward_##SUFFIX(                                          \
      const T *x, const float *gamma, const float *beta, const T *dy, T *dx, float *parts, ROW_ARGUMENTS) {             \
    long_rows_backward<T>(x, gamma, beta, dy, dx, parts, ROWS, centre, eps, activation);                                \
  }
NORMS(f32, float)
NORMS(f16, f16)
NORMS(bf16, bf16)
