// Convolution over pixels against its definition in f64.
#pragma once
#include "../spatial_convolution.cu"
#include "temporal_convolution_test.h"

namespace check {
struct ImageShape {
  int height, width, images, inputs, outputs, kernel_height, kernel_width, stride;
  int pad_y() const { return kernel_height / 2; }
  int pad_x() const { return kernel_width / 2; }
  int out_height() const { return (height + 2 * pad_y() - kernel_height) / stride + 1; }
  int out_width() const { return (width + 2 * pad_x() - kernel_width) / stride + 1; }
  int taps() const { return kernel_height * kernel_width; }
  int rows() const { return height * width * images; }
  int out_rows() const { return out_height() * out_width() * images; }
  // Calls work(output row, input row, tap) for each pair that a tap connects.
  template <typename Work> void connections(const Work &work) const {
    for (int oy = 0; oy < out_height(); oy++)
      for (int ox = 0; ox < out_width(); ox++)
        for (int tap = 0; tap < taps(); tap++) {
          const int y = oy * stride - pad_y() + tap / kernel_width, x = ox * stride - pad_x() + tap % kernel_width;
          if (y < 0 || y >= height || x < 0 || x >= width) continue;
          for (int n = 0; n < images; n++) work((oy * out_width() + ox) * images + n, (y * width + x) * images + n, tap);
        }
  }
};

template <typename T, typename G, typename Kernel>
void image_forward(const char *name, Kernel kernel, ImageShape s, bool biased, double tolerance, int part_steps = 1 << 20) {
  cases.push_back({name, [=] {
    const auto x = random_values<T>((size_t)s.rows() * s.inputs);
    const auto w = random_values<T>((size_t)s.taps() * s.outputs * s.inputs, 1.f / sqrtf((float)s.taps() * s.inputs));
    const auto bias = random_values<float>(s.outputs);
    const int steps = s.taps() * blocks(s.inputs, PRODUCT_DEPTH), parts = blocks(steps, part_steps), count = s.out_rows() * s.outputs;
    auto y_parts = unwritten<G>((size_t)parts * count);
    const bool plain = std::is_same<T, float>::value;
    shim::launch(dim3(blocks(s.out_rows(), plain ? PLAIN_ROWS : PRODUCT_ROWS), blocks(s.outputs, 64), parts), dim3(plain ? 256 : 128),
                 plain ? 0 : SPACE_SHARED, [&] {
      kernel(x.data(), w.data(), biased ? bias.data() : nullptr, y_parts.data(), s.out_rows(), s.inputs, s.outputs, s.taps(),
             part_steps, s.height, s.width, s.out_width(), s.images, s.kernel_width, s.pad_y(), s.pad_x(), s.stride, 1);
    });
    auto y = y_parts;
    if constexpr (std::is_same<G, float>::value) {
      y = unwritten<G>(count);
      shim::launch(dim3(blocks(count * 4, 256)), dim3(256), 0, [&] { sum_parts(y_parts.data(), y.data(), parts, count, 1, 4); });
    }
    std::vector<double> expected(y.size());
    for (size_t i = 0; i < expected.size(); i++) expected[i] = biased ? bias[i % s.outputs] : 0;
    s.connections([&](int to, int from, int tap) {
      for (int o = 0; o < s.outputs; o++)
        for (int i = 0; i < s.inputs; i++)
          expected[(size_t)to * s.outputs + o] += value(x[(size_t)from * s.inputs + i]) *
                                                  value(w[((size_t)tap * s.outputs + o) * s.inputs + i]);
    });
    compare("y", y, expected, tolerance);
  }});
}

// The gradients to input and weight.
template <typename T, typename G, typename Kernel, typename Gradient, typename Pack>
void image_backward(const char *name, Kernel kernel, Gradient gradient, Pack pack, ImageShape s, int rows_per_part, double tolerance) {
  cases.push_back({name, [=] {
    const int count = s.outputs * s.inputs * s.taps(), parts = blocks(s.out_rows(), rows_per_part);
    const auto x = random_values<T>((size_t)s.rows() * s.inputs), dy = random_values<T>((size_t)s.out_rows() * s.outputs, 0.2f);
    const auto w = random_values<float>(count, 1.f / sqrtf((float)s.taps() * s.inputs));
    auto turned = unwritten<T>(count);
    auto dx = unwritten<G>(x.size());
    auto dw_parts = unwritten<float>((size_t)parts * count), dw = unwritten<float>(count);
    const bool plain = std::is_same<T, float>::value;
    shim::launch(dim3(blocks(s.outputs * s.inputs, 256)), dim3(256), 0, [&] { pack(w.data(), turned.data(), s.outputs, s.inputs, s.taps(), TURNED); });
    shim::launch(dim3(blocks(s.rows(), plain ? PLAIN_ROWS : PRODUCT_ROWS), blocks(s.inputs, 64)), dim3(plain ? 256 : 128),
                 plain ? 0 : SPACE_SHARED, [&] {
      kernel(dy.data(), turned.data(), nullptr, dx.data(), s.rows(), s.outputs, s.inputs, s.taps(), 1 << 20, s.out_height(), s.out_width(),
             s.width, s.images, s.kernel_width, s.kernel_height - 1 - s.pad_y(), s.kernel_width - 1 - s.pad_x(), 1, s.stride);
    });
    shim::launch(dim3(blocks(s.outputs, GRADIENT_TILE) * blocks(s.inputs, GRADIENT_TILE), s.taps(), parts), dim3(plain ? 256 : 128),
                 plain ? 0 : GRADIENT_SHARED, [&] {
      gradient(x.data(), dy.data(), dw_parts.data(), s.out_rows(), s.inputs, s.outputs, rows_per_part, s.height, s.width,
               s.out_width(), s.images, s.kernel_width, s.pad_y(), s.pad_x(), s.stride, 1);
    });
    shim::launch(dim3(blocks(count, 256)), dim3(256), 0, [&] { sum_parts(dw_parts.data(), dw.data(), parts, count, s.taps(), 1); });
    std::vector<double> expected_x(x.size()), expected_w(count);
    s.connections([&](int to, int from, int tap) {
      for (int o = 0; o < s.outputs; o++)
        for (int i = 0; i < s.inputs; i++) {
          const double d = value(dy[(size_t)to * s.outputs + o]);
          const size_t at = ((size_t)o * s.inputs + i) * s.taps() + tap;
          expected_x[(size_t)from * s.inputs + i] += d * value(from_float<T>(w[at]));
          expected_w[at] += d * value(x[(size_t)from * s.inputs + i]);
        }
    });
    compare("dx", dx, expected_x, tolerance);
    compare("dw", dw, expected_w, 1e-5);
  }});
}

inline void spatial_convolution_cases() {
  image_forward<float, float>("spatial_conv_f32, 5 x 7, 3 images, 20 to 68", spatial_conv_f32, {5, 7, 3, 20, 68, 3, 3, 1}, true, 3e-6);
  image_forward<float, float>("spatial_conv_f32, 6 x 9, stride 2, 7 to 5", spatial_conv_f32, {6, 9, 2, 7, 5, 3, 3, 2}, false, 3e-6);
  image_forward<float, float>("spatial_conv_f32, 11 frames, 5 taps, 6 to 9", spatial_conv_f32, {13, 11, 1, 6, 9, 1, 5, 1}, true, 3e-6);
  image_forward<f16, f16>("spatial_conv_f16, 8 x 8, 3 images, 72 to 88", spatial_conv_f16, {8, 8, 3, 72, 88, 3, 3, 1}, true, 2e-3);
  image_forward<f16, f16>("spatial_conv_f16, 5 x 5, stride 2, 11 to 3, ragged", spatial_conv_f16, {5, 5, 2, 11, 3, 3, 3, 2}, false, 2e-3);
  image_forward<bf16, bf16>("spatial_conv_bf16, 6 x 4, 16 images, 64 to 64", spatial_conv_bf16, {6, 4, 16, 64, 64, 3, 3, 1}, true, 1.2e-2);
  image_forward<bf16, float>("spatial_conv_f32_bf16, 9 x 6, 5 images, 40 to 24", spatial_conv_f32_bf16, {9, 6, 5, 40, 24, 3, 3, 1}, true, 1e-5);
  image_forward<bf16, float>("spatial_conv_f32_bf16, 7 x 5, 3 images, 70 to 72, in parts", spatial_conv_f32_bf16, {7, 5, 3, 70, 72, 3, 3, 1}, true, 1e-5, 11);
  image_backward<float, float>("spatial_conv_f32 backward, 5 x 7, 18 to 21", spatial_conv_f32, spatial_gradient_f32, pack_weight_f32, {5, 7, 3, 18, 21, 3, 3, 1}, 32, 3e-6);
  image_backward<float, float>("spatial_conv_f32 backward, 7 x 6, stride 2, 20 to 68", spatial_conv_f32, spatial_gradient_f32, pack_weight_f32, {7, 6, 3, 20, 68, 3, 3, 2}, 64, 3e-6);
  image_backward<f16, f16>("spatial_conv_f16 backward, 6 x 6, stride 2", spatial_conv_f16, spatial_gradient_f16, pack_weight_f16, {6, 6, 4, 72, 40, 3, 3, 2}, 64, 2e-3);
  image_backward<bf16, bf16>("spatial_conv_bf16 backward, 4 x 5, 3 x 1 taps", spatial_conv_bf16, spatial_gradient_bf16, pack_weight_bf16, {4, 5, 3, 10, 7, 3, 1, 1}, 32, 1.2e-2);
  image_backward<bf16, float>("spatial_conv_f32_bf16 backward, 6 x 5", spatial_conv_f32_bf16, spatial_gradient_bf16, pack_weight_bf16, {6, 5, 3, 24, 16, 3, 3, 1}, 64, 1e-5);
}
}  // namespace check
