// Runs CUDA kernels on a CPU, for tests: `g++ -std=c++17 -DKINORA_HOST_SHIM -I<toolkit>/include -x c++ kernel.cu`.
//
// Every CUDA thread of a block is a fiber; blocks run one after the other.
//   * Fibers are picked in a seeded random order (SHIM_SEED). Dynamic shared memory is a heap block of the exact size that
//     was asked for, filled with NaN bits for each block: a missing barrier gives wrong numbers, an overrun is a report of
//     AddressSanitizer.
//   * __syncthreads reached by some threads only, from two different lines, or after a thread has left is an error.
//   * Warp operations check that all lanes of the mask arrive, with the same mask and the same operation.
//   * Asynchronous copies are done at once or, at random, only at the wait that allows reading them.
//   * With -fsanitize=thread each fiber is a fiber of TSan: races in shared memory are reported whatever the order. Only
//     __syncthreads and __syncwarp order memory, shuffles do not.
//   * shim::fault = "<kind>:<file>:<line>" leaves out what stands at that place of a kernel: a barrier, a wait, a shuffle's
//     exchange, a copy's condition, a matrix product, the turning of a matrix. shim::sites gathers the places that a run
//     has passed. Checks that pass without them prove nothing.
// __half and __nv_bfloat16 are those of NVIDIA's own headers, which work in host code.
#pragma once
#define __device__
#define __global__
#define __host__
#define __shared__ static
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __align__
#define __align__(n) __attribute__((aligned(n)))
#include <sys/mman.h>
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <type_traits>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
extern "C" {
void *__tsan_get_current_fiber();
void *__tsan_create_fiber(unsigned);
void __tsan_switch_to_fiber(void *, unsigned);
void __tsan_acquire(void *);
void __tsan_release(void *);
}
#define SHIM_RELEASE(p) __tsan_release(p)
#define SHIM_ACQUIRE(p) __tsan_acquire(p)
#else
#define SHIM_RELEASE(p) ((void)0)
#define SHIM_ACQUIRE(p) ((void)0)
#endif
// The shim's own state is invisible to TSan.
#define SHIM_FN __attribute__((no_sanitize("thread"), noinline)) inline
#if !defined(__x86_64__)
#include <ucontext.h>
#else
// Saves callee-saved registers and the stack pointer, takes over another stack.
asm(".text\n.weak shim_switch\n.type shim_switch,@function\nshim_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\nmovq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");
extern "C" void shim_switch(void **save, void *to);
#endif

inline dim3 gridDim, blockDim;
inline uint3 blockIdx;
constexpr int warpSize = 32;

// A place in a kernel: the kind of operation, file and line.
#define SHIM_TEXT2(x) #x
#define SHIM_TEXT(x) SHIM_TEXT2(x)
#define SHIM_SITE(kind) (kind ":" __FILE__ ":" SHIM_TEXT(__LINE__))

namespace shim {
constexpr size_t STACK = 256 << 10;
constexpr int MAX_THREADS = 1024, MAX_COPIES = 512;
enum State { READY, AT_BLOCK, AT_WARP, DONE };
struct Copy {
  void *to;
  const void *from;
  int group;
  bool zero;
};
struct Fiber {
  uint3 thread;
  int index;
  State state;
  const char *site;
  void *stack_pointer;
  char *stack;
  void *fake, *tsan;
#if !defined(__x86_64__)
  ucontext_t context;
#endif
  Copy copies[MAX_COPIES];
  int copy_count, group;
};
struct alignas(32) Slot {
  unsigned word[8];
};
// One meeting of the lanes of a mask.
struct Meeting {
  unsigned mask, arrived;
  const char *site;
  int generation;
  Slot slot[2][32];
};
struct Warp {
  Meeting meeting[8];
  int count;
};
inline Fiber *fibers[MAX_THREADS], *current, scheduler;
inline Warp warps[MAX_THREADS / 32];
inline int thread_count, ready_count, ready[MAX_THREADS], barrier_token, done_token;
inline void (*body_function)(void *), *body_argument;
inline unsigned char *dynamic_shared;
inline uint64_t random_state = 0x9E3779B97F4A7C15ull;
inline const char *fault = nullptr;
inline bool shortened = false;
inline std::set<std::string> *sites = nullptr;

SHIM_FN unsigned random() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (unsigned)(random_state >> 16);
}
[[noreturn]] SHIM_FN void fail(const char *format, ...) {
  fprintf(stderr, "host shim: block (%u,%u,%u) thread %d: ", blockIdx.x, blockIdx.y, blockIdx.z, current ? current->index : -1);
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  fflush(nullptr);
  _Exit(3);
}
SHIM_FN const char *file_of(const char *site) {
  const char *colon = strchr(site, ':'), *slash = strrchr(site, '/');
  return slash ? slash + 1 : colon + 1;
}
// Whether the fault to be planted is this one; notes that the place was passed.
SHIM_FN bool planted(const char *site) {
  const size_t kind = strchr(site, ':') + 1 - site;
  // Not under TSan, which would see the set.
  if (sites) sites->insert(std::string(site, kind) + file_of(site));
  return fault && !strncmp(site, fault, kind) && !strcmp(file_of(site), fault + kind);
}
SHIM_FN void switch_to(Fiber *from, Fiber *to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from->fake, to->stack, to->stack ? STACK : 0);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(to->tsan, to == &scheduler ? 1u : 0u);  // 1: this switch orders nothing
#endif
#if defined(__x86_64__)
  shim_switch(&from->stack_pointer, to->stack_pointer);
#else
  swapcontext(&from->context, &to->context);
#endif
#if defined(__SANITIZE_ADDRESS__)
  const void *bottom;
  size_t size;
  __sanitizer_finish_switch_fiber(from->fake, &bottom, &size);
  if (from == &scheduler) return;
  if (!scheduler.stack) scheduler.stack = (char *)bottom;
#endif
}
SHIM_FN void wake(Fiber *fiber) {
  fiber->state = READY;
  ready[ready_count++] = fiber->index;
}
SHIM_FN void stop_here(State state, const char *site) {
  Fiber *fiber = current;
  fiber->state = state;
  fiber->site = site;
  switch_to(fiber, &scheduler);
}
SHIM_FN void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  const void *bottom;
  size_t size;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
#endif
  for (;;) {
    body_function(body_argument);
    if (current->copy_count) fail("ends with %d asynchronous copies not waited for", current->copy_count);
    SHIM_RELEASE(&done_token);
    stop_here(DONE, "");
  }
}
SHIM_FN void make_fiber(int index) {
  Fiber *fiber = fibers[index] = (Fiber *)calloc(1, sizeof(Fiber));
  fiber->index = index;
  fiber->stack = (char *)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  mprotect(fiber->stack, 4096, PROT_NONE);
#if defined(__SANITIZE_THREAD__)
  fiber->tsan = __tsan_create_fiber(0);
#endif
#if defined(__x86_64__)
  void **sp = (void **)(fiber->stack + STACK) - 3;  // 16-byte alignment + 8, as after a call
  *--sp = (void *)fiber_main;
  for (int k = 0; k < 6; k++) *--sp = nullptr;
  fiber->stack_pointer = sp;
#else
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack;
  fiber->context.uc_stack.ss_size = STACK;
  makecontext(&fiber->context, fiber_main, 0);
#endif
}
SHIM_FN void run_block() {
  ready_count = 0;
  for (int i = 0; i < thread_count; i++) {
    Fiber *fiber = fibers[i];
    fiber->thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    fiber->copy_count = fiber->group = 0;
    wake(fiber);
  }
  for (Warp &warp : warps) warp.count = 0;
  for (int left = thread_count; left;) {
    if (ready_count) {
      const int pick = random() % ready_count;
      current = fibers[ready[pick]];
      ready[pick] = ready[--ready_count];
      switch_to(&scheduler, current);
      left -= current->state == DONE;
      continue;
    }
    int waiting = 0;  // nobody can run: all must be at the same __syncthreads
    const char *site = "";
    for (int i = 0; i < thread_count; i++) {
      current = fibers[i];
      if (current->state == AT_WARP) fail("stuck in a warp operation (%s): a lane of its mask never arrives", current->site);
      if (current->state != AT_BLOCK) continue;
      if (!waiting++) site = current->site;
      else if (strcmp(site, current->site)) fail("__syncthreads at %s, others at %s", current->site, site);
    }
    if (waiting != thread_count) fail("%s reached by %d of %d threads, the others have returned", site, waiting, thread_count);
    for (int i = 0; i < thread_count; i++) wake(fibers[i]);
  }
  SHIM_ACQUIRE(&done_token);
  current = nullptr;
}
SHIM_FN void sync_block(const char *site) {
  if (planted(site)) return;
  SHIM_RELEASE(&barrier_token);
  stop_here(AT_BLOCK, site);
  SHIM_ACQUIRE(&barrier_token);
}
SHIM_FN int lane() { return current->index & 31; }

// All lanes of the mask meet; returns the 32 slots they brought.
SHIM_FN const Slot *meet(unsigned mask, const char *site, const Slot &mine, bool orders_memory) {
  Fiber *fiber = current;
  const int lane = fiber->index & 31, present = thread_count - (fiber->index & ~31);
  Warp &warp = warps[fiber->index >> 5];
  if (!(mask >> lane & 1)) fail("%s: lane %d is not in its own mask %08x", site, lane, mask);
  if (present < 32 && mask >> present) fail("%s: mask %08x names lanes that the block does not have", site, mask);
  Meeting *meeting = nullptr;
  for (int i = 0; i < warp.count; i++) {
    if (warp.meeting[i].mask == mask) meeting = &warp.meeting[i];
    else if (warp.meeting[i].arrived & mask)
      fail("%s: mask %08x overlaps a pending operation of mask %08x (%s)", site, mask, warp.meeting[i].mask, warp.meeting[i].site);
  }
  if (!meeting) {
    if (warp.count == 8) fail("more than 8 masks in one warp");
    meeting = &warp.meeting[warp.count++];
    meeting->mask = mask;
    meeting->arrived = 0;
    meeting->generation = 0;
  }
  if (!meeting->arrived) meeting->site = site;
  else if (strcmp(meeting->site, site)) fail("lanes meet in different warp operations (%s and %s)", site, meeting->site);
  const int generation = meeting->generation & 1;
  for (int i = 0; i < 8; i++) meeting->slot[generation][lane].word[i] = mine.word[i];
  meeting->arrived |= 1u << lane;
  if (orders_memory) SHIM_RELEASE(meeting);
  if (meeting->arrived == mask) {
    meeting->arrived = 0;
    meeting->generation++;
    for (int l = 0; l < 32; l++)
      if (mask >> l & 1 && l != lane) wake(fibers[(fiber->index & ~31) + l]);
  } else {
    stop_here(AT_WARP, site);
  }
  if (orders_memory) SHIM_ACQUIRE(meeting);
  return meeting->slot[generation];
}
SHIM_FN void sync_warp(const char *site, unsigned mask) {
  if (!planted(site)) meet(mask, site, Slot{}, true);
}
template <typename T> SHIM_FN T shuffle(unsigned mask, const char *site, T value, int source) {
  static_assert(sizeof(T) <= 8, "shuffle of a wide type");
  Slot slot{};
  memcpy(slot.word, &value, sizeof(T));
  const Slot *all = meet(mask, site, slot, false);
  if (source < 0 || source > 31 || planted(site)) source = lane();
  if (!(mask >> source & 1)) fail("%s: reads lane %d, not in mask %08x", site, source, mask);
  T result;
  memcpy(&result, all[source].word, sizeof(T));
  return result;
}
inline int same_segment(int source, int width) {
  return (source & ~(width - 1)) == (lane() & ~(width - 1)) ? source : lane();
}
inline void do_copy(void *to, const void *from, bool zero) {  // instrumented: a bad address is reported here
  *(uint4 *)to = zero ? uint4{0, 0, 0, 0} : *(const uint4 *)from;
}
SHIM_FN void copy_16(const char *site, void *to, const void *from, bool wanted) {
  if (planted(site)) wanted = true;
  if ((uintptr_t)to % 16 || (wanted && (uintptr_t)from % 16)) fail("%s: 16 bytes at an unaligned address", site);
  if (random() & 1) return do_copy(to, from, !wanted);
  if (current->copy_count == MAX_COPIES) fail("too many asynchronous copies in flight");
  current->copies[current->copy_count++] = {to, from, current->group, !wanted};
}
SHIM_FN void copy_async_wait(const char *site, int keep) {  // finishes all groups but the newest `keep`
  if (planted(site)) return;
  int left = 0;
  for (int i = 0; i < current->copy_count; i++) {
    const Copy copy = current->copies[i];
    if (copy.group < current->group - keep) do_copy(copy.to, copy.from, copy.zero);
    else current->copies[left++] = copy;
  }
  current->copy_count = left;
}
inline unsigned read_pair(const unsigned short *row, int column) { return row[column] | (unsigned)row[column + 1] << 16; }
// ldmatrix.x4: this lane's piece of four 8x8 matrices, whose rows the lanes give.
SHIM_FN void read_matrices(const char *site, unsigned (&to)[4], const void *row, bool turned) {
  if (planted(site)) turned = !turned;
  if ((uintptr_t)row % 16) fail("%s: a row at an unaligned address", site);
  const uint64_t address = (uintptr_t)row;
  const Slot *all = meet(0xffffffffu, site, Slot{{(unsigned)address, (unsigned)(address >> 32)}}, false);
  const int group = lane() >> 2, pair = (lane() & 3) * 2;
  auto at = [&](int matrix, int row) {
    const unsigned *word = all[matrix * 8 + row].word;
    return (const unsigned short *)(word[0] | (uint64_t)word[1] << 32);
  };
  for (int m = 0; m < 4; m++) {
    if (turned) {
      unsigned value[2];
      for (int e = 0; e < 2; e++) {
        const unsigned two = read_pair(at(m, pair + e), group & ~1);
        value[e] = group & 1 ? two >> 16 : two & 0xffff;
      }
      to[m] = value[0] | value[1] << 16;
    } else {
      to[m] = read_pair(at(m, group), pair);
    }
  }
}
inline float half_at(unsigned word, int i, __half) {
  __half_raw raw;
  raw.x = (unsigned short)(i ? word >> 16 : word);
  return __half2float(__half(raw));
}
inline float half_at(unsigned word, int i, __nv_bfloat16) {
  word = i ? word & 0xffff0000u : word << 16;
  float value;
  memcpy(&value, &word, 4);
  return value;
}
// mma.sync.aligned.m16n8k16.row.col, fragments laid out as in the PTX manual.
template <typename T>
SHIM_FN void add_product(const char *site, float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  const Slot *all = meet(0xffffffffu, site, Slot{{a[0], a[1], a[2], a[3], b0, b1}}, false);
  if (planted(site)) return;
  const int group = lane() >> 2, pair = lane() & 3;
  for (int e = 0; e < 4; e++) {
    const int row = group + 8 * (e >> 1), column = pair * 2 + (e & 1);
    float sum = c[e];
    for (int k = 0; k < 16; k++) {
      const unsigned x = all[(row & 7) * 4 + (k & 7) / 2].word[(row >> 3) + 2 * (k >> 3)];
      const unsigned y = all[column * 4 + (k & 7) / 2].word[4 + (k >> 3)];
      sum += half_at(x, k & 1, T{}) * half_at(y, k & 1, T{});
    }
    c[e] = sum;
  }
}
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdangling-pointer"  // body outlives the launch
template <typename F> void launch(dim3 grid, dim3 block, size_t shared_bytes, F &&body) {
  gridDim = grid;
  blockDim = block;
  thread_count = block.x * block.y * block.z;
  if (!thread_count || thread_count > MAX_THREADS) fail("%d threads in a block", thread_count);
  if (shared_bytes > 227 << 10) fail("%zu bytes of shared memory", shared_bytes);
  static const char *seed = getenv("SHIM_SEED");
  if (seed) {
    random_state ^= (strtoull(seed, nullptr, 0) * 2654435761u + 1) << 8;
    seed = nullptr;
  }
  // A planted fault: less shared memory than the kernel needs.
  if (fault && !strcmp(fault, "shared") && shared_bytes >= 16) {
    shared_bytes -= 16;
    shortened = true;
  }
  body_function = [](void *p) { (*(std::remove_reference_t<F> *)p)(); };
  body_argument = (void *)&body;
#if defined(__SANITIZE_THREAD__)
  scheduler.tsan = __tsan_get_current_fiber();
#endif
  for (int i = 0; i < thread_count; i++)
    if (!fibers[i]) make_fiber(i);
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        blockIdx = {x, y, z};
        void *memory = nullptr;
        if (posix_memalign(&memory, 16, shared_bytes ? shared_bytes : 1)) fail("no memory");
        dynamic_shared = (unsigned char *)memset(memory, 0xff, shared_bytes);
        run_block();
        free(dynamic_shared);
      }
}
#pragma GCC diagnostic pop
}  // namespace shim

#define threadIdx (shim::current->thread)
#define __syncthreads() shim::sync_block(SHIM_SITE("barrier"))
#define __syncwarp() shim::sync_warp(SHIM_SITE("warp barrier"), 0xffffffffu)
#define __shfl_sync(mask, value, source) shim::shuffle(mask, SHIM_SITE("shuffle"), value, (source) & 31)
#define __shfl_xor_sync(mask, value, step) \
  shim::shuffle(mask, SHIM_SITE("shuffle"), value, shim::same_segment(shim::lane() ^ (step), 32))
#define DYNAMIC_SHARED(name) unsigned char *const name = shim::dynamic_shared
#define copy_async(to, from, wanted) shim::copy_16(SHIM_SITE("copy"), to, from, wanted)
#define copy_async_commit() ((void)++shim::current->group)
#define COPY_ASYNC_WAIT(keep) shim::copy_async_wait(SHIM_SITE("wait"), keep)
#define load_matrices(to, row) shim::read_matrices(SHIM_SITE("matrix"), to, row, false)
#define load_matrices_turned(to, row) shim::read_matrices(SHIM_SITE("matrix"), to, row, true)
#define multiply_matrices(c, a, b0, b1, type) shim::add_product<decltype(type)>(SHIM_SITE("product"), c, a, b0, b1)
template <typename T> inline T __ldg(const T *p) { return *p; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
