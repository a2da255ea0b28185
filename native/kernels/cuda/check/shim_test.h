// Kernels that are wrong by themselves: the shim, or the sanitizer of this build, must notice each.
#pragma once
#include "harness.h"

namespace check {
#if defined(__SANITIZE_ADDRESS__)
constexpr bool ADDRESS = true, THREAD = false;  // with UBSan
#elif defined(__SANITIZE_THREAD__)
constexpr bool ADDRESS = false, THREAD = true;
#else
constexpr bool ADDRESS = false, THREAD = false;
#endif

inline void right_kernel(float *o) {
  const float v = warp_sum((float)threadIdx.x);
  if (threadIdx.x % 32 == 0) o[threadIdx.x / 32] = v;
}
inline void half_a_barrier(float *o) {
  if (threadIdx.x < 16) __syncthreads();
  o[threadIdx.x] = 1.f;
}
inline void two_barriers(float *o) {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  o[threadIdx.x] = 1.f;
}
inline void lost_lane(float *o) {
  if (threadIdx.x != 3) o[threadIdx.x] = __shfl_sync(0xffffffffu, 1.f, 0);
}
inline void mask_without_own_lane(float *o) { o[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.f, 0); }
inline void misaligned(float *o) { *reinterpret_cast<float4 *>(o + 1) = make_float4(0, 0, 0, 0); }
inline void no_wait(const float *x, float *o) {
  DYNAMIC_SHARED(shared);
  float *s = (float *)shared;
  copy_async(s + 4 * threadIdx.x, x + 4 * threadIdx.x, true);
  copy_async_commit();
  __syncthreads();  // waits for the threads, not for the copies
  o[threadIdx.x] = s[(4 * threadIdx.x + 77) % 128];
  COPY_ASYNC_WAIT(0);
}
inline void never_waits(const float *x) {
  DYNAMIC_SHARED(shared);
  for (int i = 0; i < 8; i++) copy_async((float *)shared + 4 * threadIdx.x, x + 4 * threadIdx.x, true);
}
inline void past_static_shared(float *o, int by) {
  __shared__ float s[32];
  s[threadIdx.x + by] = 1.f;
  __syncthreads();
  o[threadIdx.x] = s[31 - threadIdx.x];
}
inline void past_dynamic_shared(float *o) {
  DYNAMIC_SHARED(shared);
  float *s = (float *)shared;
  s[threadIdx.x + 1] = 1.f;
  __syncthreads();
  o[threadIdx.x] = s[threadIdx.x + 1];
}
inline void past_global(float *o) { o[threadIdx.x + 97] = 1.f; }
inline void shuffle_as_barrier(float *o) {
  DYNAMIC_SHARED(shared);
  volatile float *s = (float *)shared;
  s[threadIdx.x] = (float)threadIdx.x;
  (void)__shfl_sync(0xffffffffu, 1.f, 0);
  o[threadIdx.x] = s[31 - threadIdx.x];
}
inline void same_value_twice(float *o) {
  DYNAMIC_SHARED(shared);
  float *s = (float *)shared;
  s[0] = 1.f;
  __syncthreads();
  o[threadIdx.x] = s[0];
  s[0] = 1.f;
}

inline void shim_cases() {
  static std::vector<float> x(128), o(128);
  for (int i = 0; i < 128; i++) x[i] = (float)i;
  auto add = [](const char *name, bool noticed, int threads, int bytes, std::function<void()> kernel, std::function<bool()> right) {
    faults.push_back({name, noticed, [=] {
      shim::launch(dim3(1), dim3(threads), bytes, kernel);
      return right();
    }});
  };
  const auto any = [] { return true; };
  add("a kernel without a fault", false, 64, 0, [] { right_kernel(o.data()); }, [] { return o[0] == 496.f && o[1] == 1520.f; });
  add("a barrier in a branch", true, 32, 0, [] { half_a_barrier(o.data()); }, any);
  add("two different barriers", true, 32, 0, [] { two_barriers(o.data()); }, any);
  add("a lane missing from a shuffle", true, 32, 0, [] { lost_lane(o.data()); }, any);
  add("a mask without the own lane", true, 32, 0, [] { mask_without_own_lane(o.data()); }, any);
  add("asynchronous copies never waited for", true, 32, 512, [] { never_waits(x.data()); }, any);
  add("a copy read before the wait", true, 32, 512, [] { no_wait(x.data(), o.data()); }, [] {
    for (int i = 0; i < 32; i++)
      if (o[i] != (float)((4 * i + 77) % 128)) return false;
    return true;
  });
  if (ADDRESS) {
    add("a misaligned vector", true, 1, 0, [] { misaligned(o.data()); }, any);
    add("past a static shared array", true, 32, 0, [] { past_static_shared(o.data(), 1); }, any);
    add("past dynamic shared memory", true, 32, 128, [] { past_dynamic_shared(o.data()); }, any);
    add("past global memory", true, 32, 0, [] { past_global(o.data()); }, any);
  }
  if (THREAD) {
    add("a shuffle taken for a barrier", true, 32, 128, [] { shuffle_as_barrier(o.data()); }, any);
    add("one value written by all threads", true, 32, 4, [] { same_value_twice(o.data()); }, any);
  }
}
}  // namespace check
