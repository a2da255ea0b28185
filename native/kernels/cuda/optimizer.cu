// AdamW with a moving average of the weights, and the length of a gradient. As the CPU's, bit by bit.
#include "common.cuh"

// One step: `value`, the moments and `ema` (or null) are changed in place. Without moments `gradient` is a direction, which is
// followed as it is. grid ceil(count / 256), 256 threads.
extern "C" __global__ void __launch_bounds__(256) adamw(float *value, const float *gradient, float *mean, float *square,
                                                        float *ema, long long count, float rate, float correction,
                                                        float keep, float beta1, float beta2, float epsilon, float scale,
                                                        float decay) {
  const long long i = (long long)blockIdx.x * 256 + threadIdx.x;
  if (i >= count) return;
  float step = gradient[i];
  if (mean) {
    const float g = __fmul_rn(step, scale);
    const float m = __fadd_rn(__fmul_rn(beta1, mean[i]), __fmul_rn(1.f - beta1, g));
    const float s = __fadd_rn(__fmul_rn(beta2, square[i]), __fmul_rn(__fmul_rn(1.f - beta2, g), g));
    mean[i] = m;
    square[i] = s;
    step = __fmul_rn(rate, m) / __fadd_rn(sqrtf(__fmul_rn(s, correction)), epsilon);
  } else {
    step = __fmul_rn(rate, step);
  }
  const float moved = __fadd_rn(__fmul_rn(value[i], keep), -step);
  value[i] = moved;
  if (ema) ema[i] = __fadd_rn(__fmul_rn(decay, ema[i]), __fmul_rn(1.f - decay, moved));
}

// parts[block] = the sum of the squares of 4096 numbers. grid ceil(count / 4096), 256 threads.
extern "C" __global__ void __launch_bounds__(256) sum_squares(const float *x, float *parts, long long count) {
  __shared__ float sums[8];
  const long long first = (long long)blockIdx.x * 4096;
  float sum = 0.f;
  for (int i = threadIdx.x; i < 4096 && first + i < count; i += 256) sum = fmaf(x[first + i], x[first + i], sum);
  sum = warp_sum(sum);
  if ((threadIdx.x & 31) == 0) sums[threadIdx.x >> 5] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = 1; i < 8; i++) sum += sums[i];
    parts[blockIdx.x] = sum;
  }
}
