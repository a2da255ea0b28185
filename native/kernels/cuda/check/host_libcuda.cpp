// A libcuda with one device, the processor: memory is malloc's, a launch runs the kernel of that name through host_shim.h.
// It lets the Rust launches run where there is no GPU: names, order and types of arguments, grids and shared memory.
//   g++ -std=c++17 -O1 -shared -fPIC -DKINORA_HOST_SHIM -I<folder of kernel_names.h> host_libcuda.cpp -o libcuda.so
#include <cuda.h>
#include <mutex>
#include <utility>
#include "../attention.cu"
#include "../elementwise.cu"
#include "../frames.cu"
#include "../noise.cu"
#include "../normalization.cu"
#include "../resampling.cu"
#include "../sums.cu"
#include "../temporal_convolution.cu"

namespace {
struct Kernel {
  const char *name;
  void (*call)(void **);
  unsigned dynamic_limit;
};
template <auto FUNCTION> struct Unpack;
template <typename... A, void (*FUNCTION)(A...)> struct Unpack<FUNCTION> {
  template <size_t... I> static void go(void **p, std::index_sequence<I...>) { FUNCTION(*(A *)p[I]...); }
  static void call(void **p) { go(p, std::index_sequence_for<A...>{}); }
};
Kernel kernels[] = {
#define KERNEL(name) {#name, Unpack<name>::call, 48 << 10},
#include "kernel_names.h"
};
std::mutex running;
}  // namespace

extern "C" {
CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int index) {
  *device = 0;
  return index ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
  *context = (CUcontext)0x10;
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext) { return CUDA_SUCCESS; }
CUresult cuCtxSynchronize() { return CUDA_SUCCESS; }
CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes) {
  void *memory = nullptr;
  if (posix_memalign(&memory, 256, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  *address = (CUdeviceptr)memset(memory, 0xff, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr address) {
  free((void *)address);
  return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) {
  memcpy((void *)to, from, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) {
  memcpy(to, (void *)from, bytes);
  return CUDA_SUCCESS;
}
CUresult cuModuleLoadData(CUmodule *module, const void *) {
  *module = (CUmodule)0x40;
  return CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction *function, CUmodule, const char *name) {
  for (Kernel &kernel : kernels)
    if (!strcmp(kernel.name, name)) {
      *function = (CUfunction)&kernel;
      return CUDA_SUCCESS;
    }
  return CUDA_ERROR_NOT_FOUND;
}
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) ((Kernel *)function)->dynamic_limit = value;
  return CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream, void **parameters, void **) {
  const std::lock_guard<std::mutex> guard(running);
  Kernel *const kernel = (Kernel *)function;
  const bool grid = gx && gy && gz && gy <= 65535 && gz <= 65535, block = bx && by && bz && bx * by * bz <= 1024;
  if (!grid || !block || shared > kernel->dynamic_limit) return CUDA_ERROR_INVALID_VALUE;
  // A fault to be noticed: the last block of each grid is missing.
  static const bool shorter = getenv("KINORA_CUDA_FAULT") != nullptr;
  if (shorter) (gx > 1 ? gx : gy > 1 ? gy : gz)--;
  shim::launch(dim3(gx, gy, gz), dim3(bx, by, bz), shared, [&] { kernel->call(parameters); });
  return CUDA_SUCCESS;
}
}
