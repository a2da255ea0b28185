// Sums in a fixed order: of columns, and of the parts that other kernels leave.
#include "common.cuh"

// parts[p][column] = sum over the part's rows of x[row][column]. grid (ceil(columns / 32), parts), 256 threads.
template <typename T>
__device__ __forceinline__ void sum_columns(const T *__restrict__ x, float *__restrict__ parts, int rows, int columns,
                                            int rows_per_part) {
  __shared__ float sums[8][33];
  const int column = blockIdx.x * 32 + (threadIdx.x & 31), line = threadIdx.x >> 5;
  const int first = blockIdx.y * rows_per_part, end = min(first + rows_per_part, rows);
  float sum = 0.f;
  if (column < columns)
    for (int row = first + line; row < end; row += 8) sum += to_float(x[(long long)row * columns + column]);
  sums[line][threadIdx.x & 31] = sum;
  __syncthreads();
  if (line == 0 && column < columns) {
    for (int i = 1; i < 8; i++) sum += sums[i][threadIdx.x & 31];
    parts[(long long)blockIdx.y * columns + column] = sum;
  }
}
#define COLUMN_SUMS(SUFFIX, T)                                                                                        \
  extern "C" __global__ void __launch_bounds__(256) column_sums_##SUFFIX(const T *x, float *parts, int rows, int columns, \
                                                                       int rows_per_part) {                            \
    sum_columns<T>(x, parts, rows, columns, rows_per_part);                                                             \
  }
COLUMN_SUMS(f32, float)
COLUMN_SUMS(f16, f16)
COLUMN_SUMS(bf16, bf16)

// sums[g][i] = sum over p of parts[g][p][i], for `groups` groups of `count` values; of (taps, count / taps) the taps are put
// last. Each value has `lines` threads, a power of two up to 32. grid (ceil(count * lines / 256), groups), 256 threads.
extern "C" __global__ void __launch_bounds__(256) sum_parts(const float *parts, float *sums, int parts_count, int count, int taps,
                                                           int lines) {
  __shared__ float of_lines[256];
  const int columns = 256 / lines, column = threadIdx.x % columns, line = threadIdx.x / columns;
  const int i = blockIdx.x * columns + column, plane = count / taps;
  const float *const from = parts + (long long)blockIdx.y * parts_count * count + i % taps * plane + i / taps;
  float sum = 0.f;
  if (i < count) {
#pragma unroll 4
    for (int p = line; p < parts_count; p += lines) sum += from[(long long)p * count];
  }
  of_lines[threadIdx.x] = sum;
  __syncthreads();
  if (line == 0 && i < count) {
    for (int l = 1; l < lines; l++) sum += of_lines[l * columns + column];
    sums[(long long)blockIdx.y * count + i] = sum;
  }
}
