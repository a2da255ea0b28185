// What samplers do with frames: linear combinations, and the interpolation's input put together. As the CPU's, bit by bit.
#include "common.cuh"

constexpr int COMBINE_TERMS = 16;
struct CombineTerms {
  const float *values[COMBINE_TERMS];
};

// out = clamp(offset + sum over terms of scales[term][sample] * values): the update of a sampler.
//
// out is (samples, frames, inner); a term whose bit in `still` is set has one frame for all. NaN stays NaN.
// grid (ceil(inner / 256), samples * frames), 256 threads.
extern "C" __global__ void __launch_bounds__(256) combine(CombineTerms terms, const float *scales, float *out, int count,
                                                          unsigned still, float offset, int clamped, float low, float high,
                                                          int samples, int frames, int inner) {
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i >= inner) return;
  for (int row = blockIdx.y; row < samples * frames; row += gridDim.y) {
    const int sample = row / frames;
    float value = offset;
    // With constant places, because a structure that is indexed is copied to local memory.
#pragma unroll
    for (int term = 0; term < COMBINE_TERMS; term++) {
      if (term >= count) break;
      const long long at = (long long)(still >> term & 1 ? sample : row) * inner + i;
      value = __fadd_rn(value, __fmul_rn(scales[term * samples + sample], terms.values[term][at]));
    }
    if (clamped) value = value < low ? low : value > high ? high : value;
    out[(long long)row * inner + i] = value;
  }
}

// The interpolation's input: (samples, length, pixels, 2c + 1) of the noisy frames, the known ones, and 1 where masked.
//
// `before` and `after` (length): places in `known` (samples, known_frames, pixels, c) of the frames beside, or -1 where the
// frame is left zero; `share` of the second is blended in. masked (length): 1 or 0. grid (ceil(pixels * (2c + 1) / 256),
// samples * length), 256 threads.
extern "C" __global__ void __launch_bounds__(256) masked_frames(const float *noisy, const float *known, const int *before,
                                                                const int *after, const float *share, const float *masked,
                                                                float *out, int samples, int length, int known_frames,
                                                                int pixels, int channels) {
  const int i = blockIdx.x * 256 + threadIdx.x, width = 2 * channels + 1;
  if (i >= pixels * width) return;
  const int pixel = i / width, c = i % width;
  for (int row = blockIdx.y; row < samples * length; row += gridDim.y) {
    const int sample = row / length, place = row % length;
    float value = 0.f;
    if (c < channels) {
      value = noisy[((long long)row * pixels + pixel) * channels + c];
    } else if (c == 2 * channels) {
      value = masked[place];
    } else if (before[place] >= 0) {
      const float *const from = known + ((long long)sample * known_frames * pixels + pixel) * channels + c - channels;
      const long long frame = (long long)pixels * channels;
      value = __fmul_rn(1.f - share[place], from[before[place] * frame]);
      if (share[place] != 0.f) value = __fadd_rn(value, __fmul_rn(share[place], from[after[place] * frame]));
    }
    out[(long long)row * pixels * width + i] = value;
  }
}
