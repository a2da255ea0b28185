// A libcuda with one device, the processor: memory is malloc's, a launch runs the kernel of that name through host_shim.h.
// It lets the Rust launches run where there is no GPU: names, order and types of arguments, grids and shared memory.
//
// It is enough of CUDA for candle's device too, and stands in for the libraries that the device opens (cuBLAS, cuRAND) and
// for cuBLASLt and cuDNN, in plain loops: a library built for CUDA runs whole networks on it. What else such a library refers
// to says so when it is called.
//   g++ -std=c++17 -O1 -shared -fPIC -DKINORA_HOST_SHIM -I<folder of kernel_names.h> host_libcuda.cpp -o libcuda.so
#include <cuda.h>
#include <map>
#include <mutex>
#include <utility>
#include <vector>
#include "../attention.cu"
#include "../elementwise.cu"
#include "../frames.cu"
#include "../noise.cu"
#include "../normalization.cu"
#include "../optimizer.cu"
#include "../resampling.cu"
#include "../spatial_convolution.cu"
#include "../sums.cu"
#include "../temporal_convolution.cu"
#include "candle_kernels.h"

namespace {
// What is to go wrong, so that tests are seen to notice: `grid`, the last block of each grid is missing; `products`, the last
// column of each of cuBLASLt's products; `dilation forward`, `to input` or `to weight`, cuDNN's convolutions have none there.
bool fault(const char *name) {
  static const char *const planted = getenv("KINORA_CUDA_FAULT");
  return planted && !strcmp(planted, name);
}
struct Kernel {
  const char *name;
  void (*call)(void **);
  unsigned dynamic_limit;
  bool by_threads;
};
template <auto FUNCTION> struct Unpack;
template <typename... A, void (*FUNCTION)(A...)> struct Unpack<FUNCTION> {
  template <size_t... I> static void go(void **p, std::index_sequence<I...>) { FUNCTION(*(A *)p[I]...); }
  static void call(void **p) { go(p, std::index_sequence_for<A...>{}); }
};
Kernel kernels[] = {
#define KERNEL(name) {#name, Unpack<name>::call, 48 << 10, true},
#include "kernel_names.h"
#undef KERNEL
#define KERNEL(name, function) {#name, Unpack<function>::call, 48 << 10, false},
    CANDLE_KERNELS(KERNEL)
};
std::mutex running;
// The allocations that are alive: where, and how many bytes.
std::map<CUdeviceptr, size_t> allocations;
bool allocated(CUdeviceptr address, size_t bytes) {
  auto after = allocations.upper_bound(address);
  return after != allocations.begin() && address + bytes <= std::prev(after)->first + std::prev(after)->second;
}
CUresult allocate(CUdeviceptr *address, size_t bytes) {
  void *memory = nullptr;
  if (!bytes) return CUDA_ERROR_INVALID_VALUE;
  if (posix_memalign(&memory, 256, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  *address = (CUdeviceptr)memset(memory, 0xff, bytes);
  const std::lock_guard<std::mutex> guard(running);
  allocations[*address] = bytes;
  return CUDA_SUCCESS;
}
CUresult release(CUdeviceptr address) {
  const std::lock_guard<std::mutex> guard(running);
  if (!allocations.erase(address)) return CUDA_ERROR_INVALID_VALUE;
  free((void *)address);
  return CUDA_SUCCESS;
}
CUresult copy(void *to, const void *from, size_t bytes, bool to_device, bool from_device) {
  const std::lock_guard<std::mutex> guard(running);
  if ((to_device && !allocated((CUdeviceptr)to, bytes)) || (from_device && !allocated((CUdeviceptr)from, bytes)))
    return CUDA_ERROR_INVALID_VALUE;
  memcpy(to, from, bytes);
  return CUDA_SUCCESS;
}
CUresult run(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
             void **parameters) {
  const std::lock_guard<std::mutex> guard(running);
  Kernel *const kernel = (Kernel *)function;
  const bool grid = gx && gy && gz && gy <= 65535 && gz <= 65535, block = bx && by && bz && bx * by * bz <= 1024;
  if (!grid || !block || shared > kernel->dynamic_limit) return CUDA_ERROR_INVALID_VALUE;
  if (!kernel->by_threads) {
    kernel->call(parameters);
    return CUDA_SUCCESS;
  }
  if (fault("grid")) (gx > 1 ? gx : gy > 1 ? gy : gz)--;
  shim::launch(dim3(gx, gy, gz), dim3(bx, by, bz), shared, [&] { kernel->call(parameters); });
  return CUDA_SUCCESS;
}
}  // namespace
#include "host_cudnn.h"

extern "C" {
// The device.
CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int index) {
  *device = 0;
  return index ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int *count) {
  *count = 1;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int length, CUdevice) {
  snprintf(name, length, "the processor");
  return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t *bytes, CUdevice) {
  *bytes = (size_t)1 << 30;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice) {
  const char *const capability = getenv("KINORA_CUDA_CAPABILITY");
  *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? capability ? atoi(capability) : 8
                                                                     : attribute == CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice) {
  *pool = (CUmemoryPool)0x60;
  return CUDA_SUCCESS;
}
CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value) {
  const bool known = pool == (CUmemoryPool)0x60 && attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD && *(cuuint64_t *)value;
  return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
  *context = (CUcontext)0x10;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice) { return CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext) { return CUDA_SUCCESS; }
CUresult cuCtxGetCurrent(CUcontext *context) {
  *context = (CUcontext)0x10;
  return CUDA_SUCCESS;
}
CUresult cuCtxSynchronize() { return CUDA_SUCCESS; }
CUresult cuGetErrorName(CUresult, const char **text) {
  *text = "an error of the host's CUDA";
  return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult, const char **text) { return cuGetErrorName(CUDA_SUCCESS, text); }
// Streams and events: everything is done at once.
CUresult cuStreamCreate(CUstream *stream, unsigned) {
  *stream = (CUstream)0x20;
  return CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream) { return CUDA_SUCCESS; }
CUresult cuStreamIsCapturing(CUstream, CUstreamCaptureStatus *status) {
  *status = CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream) { return CUDA_SUCCESS; }
CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned) { return CUDA_SUCCESS; }
CUresult cuEventCreate(CUevent *event, unsigned) {
  *event = (CUevent)0x30;
  return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent, CUstream) { return CUDA_SUCCESS; }
CUresult cuEventDestroy(CUevent) { return CUDA_SUCCESS; }
// Memory. What is not in an allocation is no memory of the device.
CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes) { return allocate(address, bytes); }
CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream) { return allocate(address, bytes); }
CUresult cuMemFree(CUdeviceptr address) { return release(address); }
CUresult cuMemFreeAsync(CUdeviceptr address, CUstream) { return release(address); }
CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) { return copy((void *)to, from, bytes, true, false); }
CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) { return copy(to, (void *)from, bytes, false, true); }
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream) {
  return copy((void *)to, from, bytes, true, false);
}
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream) { return copy(to, (void *)from, bytes, false, true); }
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream) {
  return copy((void *)to, (void *)from, bytes, true, true);
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream) {
  const std::lock_guard<std::mutex> guard(running);
  if (!allocated(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  memset((void *)to, value, bytes);
  return CUDA_SUCCESS;
}
// Kernels.
CUresult cuModuleLoadData(CUmodule *module, const void *) {
  *module = (CUmodule)0x40;
  return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction *function, CUmodule, const char *name) {
  for (Kernel &kernel : kernels)
    if (!strcmp(kernel.name, name)) {
      *function = (CUfunction)&kernel;
      return CUDA_SUCCESS;
    }
  fprintf(stderr, "the host's CUDA has no kernel %s\n", name);
  return CUDA_ERROR_NOT_FOUND;
}
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) ((Kernel *)function)->dynamic_limit = value;
  return CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream, void **parameters, void **) {
  return run(function, gx, gy, gz, bx, by, bz, shared, parameters);
}
// cuBLAS and cuRAND: a device opens them. Only products that candle makes itself, of f32, are computed by cuBLAS.
enum { INVALID_VALUE = 7, NOT_SUPPORTED = 15, TAKES_F32 = 68, TAKES_BF16 = 75 };
int cublasCreate_v2(void **handle) {
  *handle = (void *)0x50;
  return 0;
}
int cublasDestroy_v2(void *) { return 0; }
int cublasSetStream_v2(void *, void *) { return 0; }
int cublasGemmStridedBatchedEx(void *, int turned_a, int turned_b, int rows, int columns, int inner, const float *alpha,
                               const float *a, int type_a, int stride_a, long long next_a, const float *b, int type_b, int stride_b,
                               long long next_b, const float *beta, float *d, int type_d, int stride_d, long long next_d, int count,
                               int arithmetic, int) {
  if (type_a || type_b || type_d || arithmetic != TAKES_F32) return NOT_SUPPORTED;
  for (; count-- > 0; a += next_a, b += next_b, d += next_d)
    for (int column = 0; column < columns; column++)
      for (int row = 0; row < rows; row++) {
        double sum = 0;
        for (int k = 0; k < inner; k++)
          sum += (double)a[turned_a ? (size_t)row * stride_a + k : (size_t)k * stride_a + row] *
                 b[turned_b ? (size_t)k * stride_b + column : (size_t)column * stride_b + k];
        float &to = d[(size_t)column * stride_d + row];
        to = (float)(*alpha * sum + (*beta == 0 ? 0 : *beta * to));
      }
  return 0;
}
int curandCreateGenerator(void **generator, int) {
  *generator = (void *)0x60;
  return 0;
}
int curandDestroyGenerator(void *) { return 0; }
int curandSetPseudoRandomGeneratorSeed(void *, unsigned long long) { return 0; }
int curandSetStream(void *, void *) { return 0; }

// cuBLASLt. What it is asked for is described in objects; columns are counted first, as in cuBLAS.
struct Product {
  int arithmetic, turned[2] = {0, 0}, epilogue = 1;
  const float *bias = nullptr;
};
struct Layout {
  unsigned long long rows, columns;
  long long stride;
};
struct Algorithm {
  unsigned long long data[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
enum { TURNED_A = 3, TURNED_B = 4, EPILOGUE = 7, BIAS = 8, NO_EPILOGUE = 1, ADDS_BIAS = 4 };
int cublasLtCreate(void **handle) {
  *handle = (void *)0x70;
  return 0;
}
int cublasLtDestroy(void *) { return 0; }
int cublasLtMatmulDescCreate(Product **product, int arithmetic, int scale) {
  if ((arithmetic != TAKES_F32 && arithmetic != TAKES_BF16) || scale) return NOT_SUPPORTED;
  *product = new Product{arithmetic};
  return 0;
}
int cublasLtMatmulDescSetAttribute(Product *product, int what, const void *value, size_t bytes) {
  if (bytes != (what == BIAS ? 8 : 4)) return INVALID_VALUE;
  if (what == TURNED_A || what == TURNED_B) memcpy(&product->turned[what - TURNED_A], value, bytes);
  else if (what == EPILOGUE) memcpy(&product->epilogue, value, bytes);
  else if (what == BIAS) memcpy(&product->bias, value, bytes);
  else return NOT_SUPPORTED;
  return 0;
}
int cublasLtMatmulDescDestroy(Product *product) {
  delete product;
  return 0;
}
int cublasLtMatrixLayoutCreate(Layout **layout, int type, unsigned long long rows, unsigned long long columns, long long stride) {
  if (type || stride < (long long)rows) return INVALID_VALUE;
  *layout = new Layout{rows, columns, stride};
  return 0;
}
int cublasLtMatrixLayoutSetAttribute(Layout *, int, const void *, size_t) { return NOT_SUPPORTED; }
int cublasLtMatrixLayoutDestroy(Layout *layout) {
  delete layout;
  return 0;
}
int cublasLtMatmulPreferenceCreate(void **preference) {
  *preference = (void *)0x80;
  return 0;
}
int cublasLtMatmulPreferenceSetAttribute(void *, int, const void *, size_t) { return 0; }
int cublasLtMatmulPreferenceDestroy(void *) { return 0; }
static bool fit(const Product *p, const Layout *a, const Layout *b, const Layout *d) {
  const auto side = [](const Layout *l, bool second) { return second ? l->columns : l->rows; };
  return side(a, !p->turned[0]) == side(b, p->turned[1]) && side(a, p->turned[0]) == d->rows && side(b, !p->turned[1]) == d->columns;
}
// There is none for sums of 9 products, so that what cuBLASLt does not take is tried as well.
int cublasLtMatmulAlgoGetHeuristic(void *, const Product *p, const Layout *a, const Layout *b, const Layout *c, const Layout *d,
                                   void *, int wanted, Algorithm *algorithm, int *found) {
  if (wanted < 1 || c != d || !fit(p, a, b, d)) return INVALID_VALUE;
  *found = (p->turned[0] ? a->rows : a->columns) == 9 ? 0 : 1;
  *algorithm = Algorithm{{1}, 0, 0, 1.f, {}};
  return 0;
}
int cublasLtMatmul(void *, const Product *p, const float *alpha, const float *a, const Layout *la, const float *b, const Layout *lb,
                   const float *beta, const float *c, const Layout *, float *d, const Layout *ld, const Algorithm *algorithm,
                   void *workspace, size_t workspace_bytes, void *) {
  const std::lock_guard<std::mutex> guard(running);
  const auto there = [](const float *from, const Layout *l) {
    return allocated((CUdeviceptr)from, 4 * ((l->columns - 1) * l->stride + l->rows));
  };
  const bool adds = p->epilogue == ADDS_BIAS;
  if (!there(a, la) || !there(b, lb) || !there(d, ld) || !allocated((CUdeviceptr)workspace, workspace_bytes)) return INVALID_VALUE;
  if (*alpha != 1.f || *beta != 0.f || c != d || algorithm->data[0] != 1 || !fit(p, la, lb, ld)) return INVALID_VALUE;
  if ((!adds && p->epilogue != NO_EPILOGUE) || (adds && !allocated((CUdeviceptr)p->bias, 4 * ld->rows))) return INVALID_VALUE;
  const auto operand = [p](float x) { return p->arithmetic == TAKES_BF16 ? to_float(from_float<bf16>(x)) : x; };
  const size_t inner = p->turned[0] ? la->rows : la->columns;
  const size_t columns = ld->columns - (fault("products") ? 1 : 0);
  for (size_t column = 0; column < columns; column++)
    for (size_t row = 0; row < ld->rows; row++) {
      double sum = adds ? p->bias[row] : 0;
      for (size_t k = 0; k < inner; k++)
        sum += (double)operand(p->turned[0] ? a[row * la->stride + k] : a[k * la->stride + row]) *
               operand(p->turned[1] ? b[k * lb->stride + column] : b[column * lb->stride + k]);
      d[column * ld->stride + row] = (float)sum;
    }
  return 0;
}

// What a library refers to and no network calls.
#define MISSING(type, status, name, ...)                                  \
  type name(__VA_ARGS__) {                                                \
    fprintf(stderr, "the host's CUDA has no function %s\n", #name);       \
    return status;                                                        \
  }
MISSING(CUresult, CUDA_ERROR_NOT_SUPPORTED, cuCtxDestroy, CUcontext)
MISSING(CUresult, CUDA_ERROR_NOT_SUPPORTED, cuMemcpyPeerAsync, CUdeviceptr, CUcontext, CUdeviceptr, CUcontext, size_t, CUstream)
MISSING(CUresult, CUDA_ERROR_NOT_SUPPORTED, cuModuleLoad, CUmodule *, const char *)
MISSING(int, NOT_SUPPORTED, cublasDgemmStridedBatched)
}
