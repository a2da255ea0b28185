// Convolution over the pixels of each image: forward, to the input and to the weight.
//
//   y[(oy, ox, n), :] = bias + sum over taps (ty, tx) of W[tap] x[(sy, sx, n), :]
//   sy = (oy * step + ty - pad_y) / spread, sx likewise; a tap whose source is no whole pixel of the image counts as zero
//
// Rows are (height, width, images), channels last: the images of a pixel are neighbouring rows. A convolution has its
// stride as `step` and spread 1. The gradient to its input is the same kernel with the weight packed turned, step 1, its
// stride as `spread` and the kernel's side less 1 less its padding as padding. W is (taps, outputs, inputs), made by
// `pack_weight`. A temporal convolution of any length is one over images of one row: its frames.
//
// f16 and bf16 use tensor cores behind a three-stage asynchronous copy; `_f32_bf16` gives f32 of operands that `round_bf16`
// has rounded. Where rows and outputs are too few for a GPU, the taps' channels are split over blocks, whose parts `sum_parts`
// adds up.
#include "product.cuh"

struct Space {
  int height, width, out_width, images, kernel_width, pad_y, pad_x, step, spread;
  // The place of an output row.
  __device__ __forceinline__ void place(int row, int &y, int &x, int &image) const {
    const int pixel = row / images;
    image = row - pixel * images;
    y = pixel / out_width;
    x = pixel - y * out_width;
  }
  // The row of x that a tap reads for an output, or -1.
  __device__ __forceinline__ int source(int y, int x, int image, int tap) const {
    const int ty = tap / kernel_width, tx = tap - ty * kernel_width;
    int sy = y * step + ty - pad_y, sx = x * step + tx - pad_x;
    if (spread > 1) {
      if (sy % spread != 0 || sx % spread != 0) return -1;
      sy /= spread;
      sx /= spread;
    }
    return sy >= 0 && sy < height && sx >= 0 && sx < width ? (sy * width + sx) * images + image : -1;
  }
};

constexpr int SPACE_STAGE = (PRODUCT_ROWS + PRODUCT_COLUMNS) * PRODUCT_PITCH;
// Stages of 16-bit elements, without the last row's padding.
[[maybe_unused]] constexpr int SPACE_SHARED = PRODUCT_STAGES * SPACE_STAGE * 2 - 16;
static_assert(PRODUCT_OUT <= SPACE_SHARED, "the rows fit in the stages");

// grid (ceil(rows / 128), ceil(outputs / 64), parts), 128 threads, SPACE_SHARED bytes. G is the type of the result. A part has
// `part_steps` of the taps' pieces of PRODUCT_DEPTH channels; parts of (rows, outputs) follow one another, the first has the bias.
template <typename T, typename G>
__device__ __forceinline__ void space_matrices(const T *__restrict__ x, const T *__restrict__ w, const float *__restrict__ bias,
                                               G *__restrict__ y, int rows, int inputs, int outputs, int taps, int part_steps,
                                               const Space s) {
  DYNAMIC_SHARED(shared);
  T *const stages = reinterpret_cast<T *>(shared);
  const int row0 = blockIdx.x * PRODUCT_ROWS, column0 = blockIdx.y * PRODUCT_COLUMNS;
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
  const int depth = (inputs + PRODUCT_DEPTH - 1) / PRODUCT_DEPTH;
  const bool x_vectors = inputs % 8 == 0 && aligned16(x), w_vectors = inputs % 8 == 0 && aligned16(w);
  // A thread fetches eight channels of four rows of x and of two of the weight, always the same ones.
  constexpr int PIECES = PRODUCT_DEPTH / 8, LINES = 128 / PIECES, X_LINES = PRODUCT_ROWS / LINES, W_LINES = PRODUCT_COLUMNS / LINES;
  const int line0 = thread / PIECES, at = thread % PIECES * 8;
  int place_y[X_LINES], place_x[X_LINES], image[X_LINES], from[X_LINES];
#pragma unroll
  for (int i = 0; i < X_LINES; i++) s.place(row0 + line0 + i * LINES, place_y[i], place_x[i], image[i]);
  const int first = blockIdx.z * part_steps, steps = min(part_steps, taps * depth - first);
  int tap = first / depth, chunk = first % depth;
  bool fresh = true;
  auto fetch = [&](int stage) {
    T *const sx = stages + stage * SPACE_STAGE, *const sw = sx + PRODUCT_ROWS * PRODUCT_PITCH;
    const int channel = chunk * PRODUCT_DEPTH + at;
#pragma unroll
    for (int i = 0; i < X_LINES; i++) {
      if (fresh) from[i] = row0 + line0 + i * LINES < rows ? s.source(place_y[i], place_x[i], image[i], tap) : -1;
      fetch8(sx + (line0 + i * LINES) * PRODUCT_PITCH + at, x + (from[i] >= 0 ? (long long)from[i] * inputs : 0), channel, inputs,
             from[i] >= 0, x_vectors);
    }
#pragma unroll
    for (int i = 0; i < W_LINES; i++) {
      const int line = line0 + i * LINES, column = column0 + line;
      const bool exists = column < outputs;
      fetch8(sw + line * PRODUCT_PITCH + at, w + (exists ? ((long long)tap * outputs + column) * inputs : 0), channel, inputs,
             exists, w_vectors);
    }
    copy_async_commit();
    fresh = ++chunk == depth;
    if (fresh) chunk = 0, tap++;
  };

  float sums[2][PRODUCT_COLUMNS / 8][4] = {};
  const int lane_row = warp * 32 + (lane & 15);
  fetch(0);
  if (steps > 1) fetch(1);
  for (int step = 0; step < steps; step++) {
    if (step + 1 < steps) COPY_ASYNC_WAIT(1);
    else COPY_ASYNC_WAIT(0);
    __syncthreads();  // all have this stage, and nobody reads the one that is overwritten next
    if (step + 2 < steps) fetch((step + 2) % PRODUCT_STAGES);
    const T *const sx = stages + step % PRODUCT_STAGES * SPACE_STAGE, *const sw = sx + PRODUCT_ROWS * PRODUCT_PITCH;
#pragma unroll
    for (int k = 0; k < PRODUCT_DEPTH; k += 16) {
      unsigned a[2][4];
#pragma unroll
      for (int i = 0; i < 2; i++) load_matrices(a[i], sx + (lane_row + 16 * i) * PRODUCT_PITCH + k + (lane >> 4) * 8);
#pragma unroll
      for (int n = 0; n < PRODUCT_COLUMNS / 16; n++) {
        unsigned b[4];
        load_matrices(b, sw + (n * 16 + (lane & 7) + (lane >> 4) * 8) * PRODUCT_PITCH + k + (lane & 8));
#pragma unroll
        for (int i = 0; i < 2; i++) {
          multiply_matrices(sums[i][2 * n], a[i], b[0], b[1], T{});
          multiply_matrices(sums[i][2 * n + 1], a[i], b[2], b[3], T{});
        }
      }
    }
  }
  __syncthreads();  // the result overwrites what was read
  store_product<G>(shared, sums, blockIdx.z ? nullptr : bias, (const G *)nullptr, (G *)nullptr,
                   y + (long long)blockIdx.z * rows * outputs, row0, column0, rows, outputs, NONE);
}

// grid (ceil(rows / 64), ceil(outputs / 64)), 256 threads: four rows by four columns each.
__device__ __forceinline__ void space_plain(const float *__restrict__ x, const float *__restrict__ w, const float *__restrict__ bias,
                                            float *__restrict__ y, int rows, int inputs, int outputs, int taps, int,
                                            const Space s) {
  __shared__ __align__(16) float sx[PLAIN_DEPTH][PLAIN_ROWS + 4];
  __shared__ __align__(16) float sw[PLAIN_DEPTH][PLAIN_COLUMNS + 4];
  const int row0 = blockIdx.x * PLAIN_ROWS, column0 = blockIdx.y * PLAIN_COLUMNS;
  const int thread = threadIdx.x, own_row = (thread >> 4) * 4, own_column = (thread & 15) * 4;
  const bool x_vectors = inputs % 4 == 0 && aligned16(x), w_vectors = inputs % 4 == 0 && aligned16(w);
  // A thread fetches four channels of one row of x and of one of the weight.
  const int line = thread / (PLAIN_DEPTH / 4), at = thread % (PLAIN_DEPTH / 4) * 4;
  const bool column_exists = column0 + line < outputs;
  int place_y, place_x, image;
  s.place(row0 + line, place_y, place_x, image);
  float sums[4][4] = {};
  for (int tap = 0; tap < taps; tap++) {
    const int from = row0 + line < rows ? s.source(place_y, place_x, image, tap) : -1;
    const float *const x_row = x + (from >= 0 ? (long long)from * inputs : 0);
    const float *const w_row = w + (column_exists ? ((long long)tap * outputs + column0 + line) * inputs : 0);
    for (int channel0 = 0; channel0 < inputs; channel0 += PLAIN_DEPTH) {
      float v[4];
      fetch4(v, x_row, channel0 + at, inputs, from >= 0, x_vectors);
#pragma unroll
      for (int e = 0; e < 4; e++) sx[at + e][line] = v[e];
      fetch4(v, w_row, channel0 + at, inputs, column_exists, w_vectors);
#pragma unroll
      for (int e = 0; e < 4; e++) sw[at + e][line] = v[e];
      __syncthreads();
#pragma unroll
      for (int k = 0; k < PLAIN_DEPTH; k++) {
        float xs[4], ws[4];
        load_values<4>(&sx[k][own_row], xs);
        load_values<4>(&sw[k][own_column], ws);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
          for (int e = 0; e < 4; e++) sums[i][e] = fmaf(xs[i], ws[e], sums[i][e]);
      }
      __syncthreads();
    }
  }
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int row = row0 + own_row + i, column = column0 + own_column + e;
      if (row < rows && column < outputs) y[(long long)row * outputs + column] = sums[i][e] + (bias ? bias[column] : 0.f);
    }
}

// Of the weight: the row of x that the block's tap reads for an output row.
struct SpaceTap {
  Space space;
  int tap;
  __device__ __forceinline__ int operator()(int row) const {
    int y, x, image;
    space.place(row, y, x, image);
    return space.source(y, x, image, tap);
  }
};

#define SPACE_ARGUMENTS \
  int height, int width, int out_width, int images, int kernel_width, int pad_y, int pad_x, int step, int spread
#define SPACE_VALUES Space{height, width, out_width, images, kernel_width, pad_y, pad_x, step, spread}
#define SPACE_PRODUCT(THREADS, SUFFIX, T, G, BODY)                                                                    \
  extern "C" __global__ void __launch_bounds__(THREADS) spatial_conv_##SUFFIX(                                         \
      const T *x, const T *w, const float *bias, G *y, int rows, int inputs, int outputs, int taps, int part_steps,      \
      SPACE_ARGUMENTS) {                                                                                                \
    BODY(x, w, bias, y, rows, inputs, outputs, taps, part_steps, SPACE_VALUES);                                         \
  }
#define SPACE_GRADIENT(THREADS, SUFFIX, G, BODY)                                                                      \
  extern "C" __global__ void __launch_bounds__(THREADS) spatial_gradient_##SUFFIX(                                     \
      const G *x, const G *dy, float *parts, int rows, int inputs, int outputs, int rows_per_part, SPACE_ARGUMENTS) {   \
    BODY(x, dy, parts, rows, SpaceTap{SPACE_VALUES, (int)blockIdx.y}, inputs, outputs, rows_per_part);                  \
  }
SPACE_PRODUCT(256, f32, float, float, space_plain)
SPACE_PRODUCT(128, f16, f16, f16, (space_matrices<f16, f16>))
SPACE_PRODUCT(128, bf16, bf16, bf16, (space_matrices<bf16, bf16>))
SPACE_PRODUCT(128, f32_bf16, bf16, float, (space_matrices<bf16, float>))
SPACE_GRADIENT(256, f32, float, weight_gradient_plain)
SPACE_GRADIENT(128, f16, f16, weight_gradient_matrices<f16>)
SPACE_GRADIENT(128, bf16, bf16, weight_gradient_matrices<bf16>)
