// Philox4x32-10 and normal numbers made from it: the same bits as `philox.rs`, which see.
//
// Each step is rounded by itself (__dmul_rn and the like), because a fused multiply-add would give other bits.
#include "common.cuh"

__device__ __forceinline__ double multiply(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ double plus(double a, double b) { return __dadd_rn(a, b); }

struct Words {
  unsigned word[4];
};
__device__ __forceinline__ Words philox4x32_10(Words counter, unsigned key0, unsigned key1) {
#pragma unroll
  for (int i = 0; i < 10; i++) {
    const unsigned long long a = counter.word[0] * 0xD2511F53ull, b = counter.word[2] * 0xCD9E8D57ull;
    counter = {{(unsigned)(b >> 32) ^ counter.word[1] ^ key0, (unsigned)b, (unsigned)(a >> 32) ^ counter.word[3] ^ key1, (unsigned)a}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

#ifdef KINORA_HOST_SHIM
inline unsigned long long bits_of(double x) {
  unsigned long long bits;
  memcpy(&bits, &x, 8);
  return bits;
}
inline double of_bits(unsigned long long bits) {
  double x;
  memcpy(&x, &bits, 8);
  return x;
}
#else
__device__ __forceinline__ unsigned long long bits_of(double x) { return (unsigned long long)__double_as_longlong(x); }
__device__ __forceinline__ double of_bits(unsigned long long bits) { return __longlong_as_double((long long)bits); }
#endif

// The natural logarithm of a normal number in (0, 1].
__device__ __forceinline__ double natural_logarithm(double x) {
  const unsigned long long bits = bits_of(x);
  int e = (int)(bits >> 52) - 1023;
  double m = of_bits((bits & 0x000FFFFFFFFFFFFFull) | 0x3FF0000000000000ull);
  if (m >= 1.41421356237309504880) {
    m = multiply(m, 0.5);
    e++;
  }
  const double s = __ddiv_rn(plus(m, -1.0), plus(m, 1.0)), z = multiply(s, s);
  double series = 1.0 / 15.0;
  const double terms[7] = {1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0, 1.0};
#pragma unroll
  for (int i = 0; i < 7; i++) series = plus(terms[i], multiply(z, series));
  return plus(multiply((double)e, 0.693147180559945309417), multiply(multiply(2.0, s), series));
}

// Sine and cosine of `turn` full turns.
__device__ __forceinline__ void sine_cosine(double turn, double &sine, double &cosine) {
  const double quarters = multiply(turn, 4.0);
  const int quadrant = (int)plus(quarters, 0.5);
  const double a = multiply(plus(quarters, -(double)quadrant), 1.57079632679489661923), z = multiply(a, a);
  double s = 1.0 / 6227020800.0, c = -1.0 / 87178291200.0;
  const double sines[6] = {-1.0 / 39916800.0, 1.0 / 362880.0, -1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0, 1.0};
  const double cosines[7] = {1.0 / 479001600.0, -1.0 / 3628800.0, 1.0 / 40320.0, -1.0 / 720.0, 1.0 / 24.0, -0.5, 1.0};
#pragma unroll
  for (int i = 0; i < 6; i++) s = plus(sines[i], multiply(z, s));
#pragma unroll
  for (int i = 0; i < 7; i++) c = plus(cosines[i], multiply(z, c));
  s = multiply(a, s);
  switch (quadrant & 3) {
    case 0: sine = s; cosine = c; break;
    case 1: sine = c; cosine = -s; break;
    case 2: sine = -s; cosine = -c; break;
    default: sine = -c; cosine = s;
  }
}

// out[row][i]: number i % 4 of the block with counter (i / 4, frames[row], stream, 0) and key seeds[row].
// grid (ceil(length / 1024), rows), 256 threads: a block of four numbers each.
extern "C" __global__ void __launch_bounds__(256) normal_noise(float *out, const unsigned long long *seeds,
                                                               const unsigned *frames, unsigned stream, long long length) {
  const long long block = (long long)blockIdx.x * 256 + threadIdx.x;
  if (block * 4 >= length) return;
  const unsigned long long seed = seeds[blockIdx.y];
  const Words bits = philox4x32_10({{(unsigned)block, frames[blockIdx.y], stream, 0}}, (unsigned)seed, (unsigned)(seed >> 32));
  float *const to = out + blockIdx.y * length + block * 4;
#pragma unroll
  for (int pair = 0; pair < 2; pair++) {
    constexpr double UNIT = 1.0 / 4294967296.0;
    const double u = multiply(plus((double)bits.word[2 * pair], 0.5), UNIT);
    const double v = multiply(plus((double)bits.word[2 * pair + 1], 0.5), UNIT);
    const double radius = __dsqrt_rn(multiply(-2.0, natural_logarithm(u)));
    double sine, cosine;
    sine_cosine(v, sine, cosine);
    if (block * 4 + 2 * pair < length) to[2 * pair] = (float)multiply(radius, cosine);
    if (block * 4 + 2 * pair + 1 < length) to[2 * pair + 1] = (float)multiply(radius, sine);
  }
}
