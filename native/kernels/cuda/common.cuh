// What all kernels share: 16-byte vectors, asynchronous copies, matrix instructions, activations.
//
// Compiled by nvcc, and by g++ through check/host_shim.h, which runs the same source on a CPU. So that both work, kernels
// say DYNAMIC_SHARED(name) instead of `extern __shared__`, and inline PTX stands in this file only.
#pragma once
#ifdef KINORA_HOST_SHIM
#include "check/host_shim.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

// 16 bytes from global to shared memory; zeros instead where `wanted` is false.
__device__ __forceinline__ void copy_async(void *to, const void *from, bool wanted) {
  const unsigned shared = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared), "l"(from), "r"(wanted ? 16 : 0) : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Waits for all groups of this thread's copies but the newest `keep`, a constant.
#define COPY_ASYNC_WAIT(keep) asm volatile("cp.async.wait_group %0;\n" ::"n"(keep) : "memory")

// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8 (16 bytes).
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], const void *row) {
  const unsigned shared = (unsigned)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared) : "memory");
}
// The same, each matrix turned.
__device__ __forceinline__ void load_matrices_turned(unsigned (&to)[4], const void *row) {
  const unsigned shared = (unsigned)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared) : "memory");
}

// c (16x8, f32) += a (16x16, row-major) * b (16x8, column-major)
__device__ __forceinline__ void multiply_matrices(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, __half) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void multiply_matrices(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                                                  __nv_bfloat16) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

typedef __nv_bfloat16 bf16;
typedef __half f16;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(f16 x) { return __half2float(x); }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
template <typename T> __device__ __forceinline__ T from_float(float);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ f16 from_float<f16>(float x) { return __float2half_rn(x); }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }

// Whether a pointer is good for 16-byte accesses.
__device__ __forceinline__ bool aligned16(const void *p) { return ((unsigned long long)p & 15) == 0; }

// N neighbouring values as floats. `whole`: one address aligned to N values.
template <int N, typename T> __device__ __forceinline__ void load_values(const T *from, float (&to)[N]) {
  struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Values { T value[N]; };
  const Values v = *reinterpret_cast<const Values *>(from);
#pragma unroll
  for (int i = 0; i < N; i++) to[i] = to_float(v.value[i]);
}
template <int N, typename T> __device__ __forceinline__ void store_values(T *to, const float (&from)[N]) {
  struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Values { T value[N]; } v;
#pragma unroll
  for (int i = 0; i < N; i++) v.value[i] = from_float<T>(from[i]);
  *reinterpret_cast<Values *>(to) = v;
}

enum Activation { NONE = 0, SILU = 1, GELU = 2 };

__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }
__device__ __forceinline__ float gelu(float x) { return 0.5f * x * (1.f + erff(x * 0.70710678f)); }
__device__ __forceinline__ float activate(float x, int activation) {
  return activation == SILU ? x * sigmoid(x) : activation == GELU ? gelu(x) : x;
}
// The derivative of `activate` at x.
__device__ __forceinline__ float activation_slope(float x, int activation) {
  if (activation == SILU) {
    const float s = sigmoid(x);
    return s * (1.f + x * (1.f - s));
  }
  if (activation == GELU) return 0.5f * (1.f + erff(x * 0.70710678f)) + x * 0.3989423f * expf(-0.5f * x * x);
  return 1.f;
}

// The sum over a warp, in one order, in every lane.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}
