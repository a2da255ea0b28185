// What stands in for cuDNN on the host's device: its graph interface for a single convolution, in plain loops over whatever
// the descriptors say, of f32 tensors with any strides and convolutions with any padding, stride and dilation. Needs
// `allocated`, `running` and `fault` of its includer.
//
// It is as particular as cuDNN: values of another type than an attribute's, parts that are not finalized or not there any
// more, sizes that do not fit and addresses that are not aligned are refused.
#pragma once
#include <cmath>

namespace cudnn {
enum { BAD_PARAM = 2000, NOT_SUPPORTED = 3000 };
enum Kind { CONVOLUTION = 1, ENGINE, CONFIGURATION, HEURISTICS, PLAN, FORWARD = 10, TO_WEIGHT, TO_INPUT, GRAPH = 15, VARIANT, TENSOR };
enum Type { HANDLE = 0, DATA_TYPE = 1, LONG = 3, FLOAT = 4, POINTER = 6, CONVOLUTION_MODE = 7, HEURISTICS_MODE = 8, NOTE = 11, PART = 15 };
enum Mode { FALLBACK = 2, QUICKEST = 3 };
// The engines that heuristics name: only the last one, of the fallback, is good for true f32 that does not change.
enum Engine { TENSOR_CORES, NONDETERMINISTIC, GREEDY, REFUSING, GOOD };
constexpr long long GOOD_MEMORY = 1000, GREEDY_MEMORY = 1ll << 40;

struct Descriptor {
  Kind kind;
  bool finalized = false, destroyed = false;
  // Of an engine, and of what leads to one.
  Engine engine = GOOD;
  struct Value {
    int type;
    std::vector<char> bytes;
  };
  std::map<int, Value> values;

  template <typename T> std::vector<T> all(int name, int type) const {
    const auto found = values.find(name);
    if (destroyed || found == values.end() || found->second.type != type) return {};
    const auto &bytes = found->second.bytes;
    return std::vector<T>((const T *)bytes.data(), (const T *)(bytes.data() + bytes.size()));
  }
  template <typename T> T one(int name, int type, T otherwise) const {
    const auto found = all<T>(name, type);
    return found.size() == 1 ? found[0] : otherwise;
  }
  // Nothing unless it is one descriptor, whole and of a kind.
  const Descriptor *part(int name, int least, int most) const {
    const Descriptor *const found = one<Descriptor *>(name, PART, nullptr);
    return found && found->finalized && !found->destroyed && found->kind >= least && found->kind <= most ? found : nullptr;
  }
};
inline size_t size_of(int type) {
  return type == DATA_TYPE || type == FLOAT || type == CONVOLUTION_MODE || type == HEURISTICS_MODE || type == NOTE ? 4 : 8;
}

// Sizes and strides are those of (images, channels, height, width), of a filter (outputs, inputs, height, width).
struct Tensor {
  std::vector<long long> size, stride;
  long long id;
  bool read(const Descriptor *from) {
    if (!from || from->one<int>(901, DATA_TYPE, -1) != 0 || from->one<long long>(900, LONG, 0) != 16) return false;
    size = from->all<long long>(902, LONG), stride = from->all<long long>(903, LONG), id = from->one<long long>(906, LONG, -1);
    return size.size() == 4 && stride.size() == 4 && id >= 0;
  }
  size_t place(long long n, long long c, long long h, long long w) const {
    return n * stride[0] + c * stride[1] + h * stride[2] + w * stride[3];
  }
  size_t count() const { return place(size[0] - 1, size[1] - 1, size[2] - 1, size[3] - 1) + 1; }
  bool there(const void *at) const { return (uintptr_t)at % 16 == 0 && allocated((CUdeviceptr)at, 4 * count()); }
};
struct Operation {
  Kind pass;
  float alpha, beta;
  Tensor x, w, y;
  std::vector<long long> dilation, stride, before, after;
  bool read(const Descriptor *from) {
    if (!from) return false;
    pass = from->kind;
    const int first = pass == FORWARD ? 700 : pass == TO_INPUT ? 706 : 712;
    const Descriptor *const c = from->part(first + 2, CONVOLUTION, CONVOLUTION);
    if (!c || !w.read(from->part(first + 3, TENSOR, TENSOR)) || !x.read(from->part(first + 4, TENSOR, TENSOR))) return false;
    if (!y.read(from->part(first + 5, TENSOR, TENSOR))) return false;
    alpha = from->one<float>(first, FLOAT, NAN), beta = from->one<float>(first + 1, FLOAT, NAN);
    if (c->one<int>(100, DATA_TYPE, -1) != 0 || c->one<int>(101, CONVOLUTION_MODE, -1) != 1 || c->one<long long>(106, LONG, 0) != 2)
      return false;
    dilation = c->all<long long>(102, LONG), stride = c->all<long long>(103, LONG);
    after = c->all<long long>(104, LONG), before = c->all<long long>(105, LONG);
    if (dilation.size() != 2 || stride.size() != 2 || after.size() != 2 || before.size() != 2) return false;
    if (x.size[0] != y.size[0] || x.size[1] != w.size[1] || y.size[1] != w.size[0]) return false;
    for (int i = 0; i < 2; i++) {
      const long long reach = (w.size[2 + i] - 1) * dilation[i] + 1, from_start = x.size[2 + i] + before[i] + after[i] - reach;
      if (stride[i] < 1 || dilation[i] < 1 || before[i] < 0 || from_start < 0 || y.size[2 + i] != from_start / stride[i] + 1)
        return false;
    }
    return true;
  }
};
inline const Descriptor *operation_of(const Descriptor *graph) { return graph ? graph->part(801, FORWARD, TO_INPUT) : nullptr; }

// What cuDNN does not take is tried as well: layers of 9 channels have no engine, and for those of 11 it is only said when
// they are run.
inline std::vector<Engine> engines(const Descriptor &heuristics) {
  Operation operation;
  const Descriptor *const graph = heuristics.part(201, GRAPH, GRAPH);
  if (!operation.read(operation_of(graph)) || operation.x.size[1] == 9) return {};
  if (heuristics.one<int>(200, HEURISTICS_MODE, -1) == QUICKEST) return {TENSOR_CORES, NONDETERMINISTIC, GREEDY, REFUSING};
  return {GOOD};
}
inline int finalize(Descriptor &d) {
  Operation operation;
  Tensor tensor;
  bool good = true;
  switch (d.kind) {
    case TENSOR: good = tensor.read(&d); break;
    case FORWARD: case TO_INPUT: case TO_WEIGHT: good = operation.read(&d); break;
    case GRAPH: good = operation_of(&d) && d.one<void *>(800, HANDLE, nullptr); break;
    case HEURISTICS: {
      const int mode = d.one<int>(200, HEURISTICS_MODE, -1);
      good = d.part(201, GRAPH, GRAPH) && (mode == QUICKEST || mode == FALLBACK);
      if (good && engines(d).empty() && mode == QUICKEST) return NOT_SUPPORTED;
      break;
    }
    case PLAN: {
      const Descriptor *const configuration = d.part(401, CONFIGURATION, CONFIGURATION);
      good = configuration && d.one<void *>(400, HANDLE, nullptr);
      if (good && configuration->engine == REFUSING) return NOT_SUPPORTED;
      if (good) d.engine = configuration->engine;
      break;
    }
    default: break;
  }
  if (!good || d.finalized) return BAD_PARAM;
  d.finalized = true;
  return 0;
}
// Gives a descriptor that was made empty what another has led to.
inline bool fill(Descriptor *to, Kind kind, Engine engine, const Descriptor *graph) {
  if (!to || to->kind != kind || to->finalized || to->destroyed) return false;
  to->engine = engine, to->finalized = true;
  to->values[201] = {PART, std::vector<char>((const char *)&graph, (const char *)(&graph + 1))};
  return true;
}
inline int get(const Descriptor &d, int name, int type, long long room, long long *count, void *to) {
  if (!d.finalized || d.destroyed) return BAD_PARAM;
  const Descriptor *const graph = d.part(201, GRAPH, GRAPH);
  if (d.kind == HEURISTICS && name == 202 && type == PART) {
    const auto found = engines(d);
    *count = room ? std::min<long long>(room, found.size()) : found.size();
    for (long long i = 0; i < room && i < *count; i++)
      if (!fill(((Descriptor **)to)[i], CONFIGURATION, found[i], graph)) return BAD_PARAM;
  } else if (d.kind == CONFIGURATION && name == 300 && type == PART && room == 1) {
    *count = 1;
    if (!fill(*(Descriptor **)to, ENGINE, d.engine, graph)) return BAD_PARAM;
  } else if (d.kind == ENGINE && name == 1303 && type == NOTE && room >= 1) {
    const int note = d.engine == TENSOR_CORES ? 0 : d.engine == NONDETERMINISTIC ? 4 : 9;
    *count = d.engine == GREEDY ? 0 : 1;
    if (*count) *(int *)to = note;
  } else if (d.kind == PLAN && name == 402 && type == LONG && room == 1) {
    *count = 1;
    *(long long *)to = d.engine == GREEDY ? GREEDY_MEMORY : GOOD_MEMORY;
  } else {
    return BAD_PARAM;
  }
  return 0;
}
// As tensor cores round f32.
inline double operand(float x, Engine engine) {
  if (engine != TENSOR_CORES) return x;
  uint32_t bits;
  memcpy(&bits, &x, 4);
  bits = (bits + 0x1000) & ~0x1fffu;
  memcpy(&x, &bits, 4);
  return x;
}
inline int execute(const Descriptor &plan, const Descriptor &variant) {
  const std::lock_guard<std::mutex> guard(running);
  Operation o;
  const Descriptor *const configuration = plan.part(401, CONFIGURATION, CONFIGURATION);
  if (!plan.finalized || plan.destroyed || !variant.finalized || !configuration) return BAD_PARAM;
  if (!o.read(operation_of(configuration->part(201, GRAPH, GRAPH)))) return BAD_PARAM;
  const auto ids = variant.all<long long>(1000, LONG);
  const auto pointers = variant.all<float *>(1001, POINTER);
  void *const workspace = variant.one<void *>(1003, POINTER, nullptr);
  if (ids.size() != pointers.size() || !allocated((CUdeviceptr)workspace, GOOD_MEMORY) || plan.engine == NONDETERMINISTIC) return BAD_PARAM;
  const auto memory = [&](const Tensor &tensor) -> float * {
    for (size_t i = 0; i < ids.size(); i++)
      if (ids[i] == tensor.id && tensor.there(pointers[i])) return pointers[i];
    return nullptr;
  };
  float *const x = memory(o.x), *const w = memory(o.w), *const y = memory(o.y);
  if (!x || !w || !y) return BAD_PARAM;
  if (o.x.size[1] == 11) return NOT_SUPPORTED;
  const Tensor &of = o.pass == FORWARD ? o.y : o.pass == TO_INPUT ? o.x : o.w;
  float *const to = o.pass == FORWARD ? y : o.pass == TO_INPUT ? x : w;
  std::vector<double> sums(of.count());
  const bool faulty = fault(o.pass == FORWARD ? "dilation forward" : o.pass == TO_INPUT ? "dilation to input" : "dilation to weight");
  const long long dilation = faulty ? 1 : o.dilation[1];
  for (long long n = 0; n < o.x.size[0]; n++)
    for (long long k = 0; k < o.w.size[0]; k++)
      for (long long h = 0; h < o.y.size[2]; h++)
        for (long long v = 0; v < o.y.size[3]; v++)
          for (long long r = 0; r < o.w.size[2]; r++)
            for (long long s = 0; s < o.w.size[3]; s++) {
              const long long i = h * o.stride[0] - o.before[0] + r * o.dilation[0], j = v * o.stride[1] - o.before[1] + s * dilation;
              if (i < 0 || i >= o.x.size[2] || j < 0 || j >= o.x.size[3]) continue;
              const size_t first_x = o.x.place(n, 0, i, j), first_w = o.w.place(k, 0, r, s), at_y = o.y.place(n, k, h, v);
              for (long long c = 0; c < o.x.size[1]; c++) {
                const size_t at_x = first_x + c * o.x.stride[1], at_w = first_w + c * o.w.stride[1];
                if (o.pass == FORWARD) sums[at_y] += operand(x[at_x], plan.engine) * operand(w[at_w], plan.engine);
                else if (o.pass == TO_INPUT) sums[at_x] += operand(w[at_w], plan.engine) * operand(y[at_y], plan.engine);
                else sums[at_w] += operand(x[at_x], plan.engine) * operand(y[at_y], plan.engine);
              }
            }
  for (size_t i = 0; i < sums.size(); i++) to[i] = (float)(o.alpha * sums[i] + (o.beta == 0 ? 0 : o.beta * to[i]));
  return 0;
}
}  // namespace cudnn

extern "C" {
size_t cudnnGetVersion(void) { return 92801; }
const char *cudnnGetErrorString(int status) {
  return status == cudnn::BAD_PARAM ? "CUDNN_STATUS_BAD_PARAM" : status == cudnn::NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED" : "another";
}
int cudnnCreate(void **handle) {
  *handle = (void *)0x90;
  return 0;
}
int cudnnSetStream(void *, void *) { return 0; }
int cudnnBackendCreateDescriptor(int kind, cudnn::Descriptor **descriptor) {
  *descriptor = new cudnn::Descriptor{(cudnn::Kind)kind};
  return 0;
}
int cudnnBackendDestroyDescriptor(cudnn::Descriptor *descriptor) {
  if (descriptor->destroyed) return cudnn::BAD_PARAM;
  // Its memory is kept, so that whoever uses it after its end is seen.
  descriptor->destroyed = true;
  return 0;
}
int cudnnBackendSetAttribute(cudnn::Descriptor *descriptor, int name, int type, long long count, const void *values) {
  if (descriptor->finalized || descriptor->destroyed || count < 1 || !values) return cudnn::BAD_PARAM;
  const char *const first = (const char *)values;
  descriptor->values[name] = {type, std::vector<char>(first, first + count * cudnn::size_of(type))};
  return 0;
}
int cudnnBackendGetAttribute(cudnn::Descriptor *descriptor, int name, int type, long long room, long long *count, void *values) {
  return cudnn::get(*descriptor, name, type, room, count, values);
}
int cudnnBackendFinalize(cudnn::Descriptor *descriptor) { return cudnn::finalize(*descriptor); }
int cudnnBackendExecute(void *, cudnn::Descriptor *plan, cudnn::Descriptor *variant) { return cudnn::execute(*plan, *variant); }
}
