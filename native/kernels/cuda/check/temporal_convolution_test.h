// Temporal convolution and linear layers against their definition in f64.
#pragma once
#include "../sums.cu"
#include "../temporal_convolution.cu"
#include "harness.h"

namespace check {
inline int blocks(long long count, int of) { return (int)((count + of - 1) / of); }

struct ConvShape {
  int clips, frames, inputs, outputs;  // clips: pixels x clips
};

// Forward with bias, activation and residual. T: operands, G: in memory.
template <typename T, typename G, int K, typename Kernel>
void conv_forward(const char *name, Kernel kernel, ConvShape s, int activation, bool fused, double tolerance, int part_steps = 1 << 20) {
  cases.push_back({name, [=] {
    const int rows = s.clips * s.frames;
    const auto x = random_values<T>((size_t)rows * s.inputs);
    const auto w = random_values<T>((size_t)K * s.outputs * s.inputs, 1.f / sqrtf((float)K * s.inputs));
    const auto bias = random_values<float>(s.outputs);
    const auto residual = random_values<G>((size_t)rows * s.outputs);
    const int parts = blocks(blocks(s.inputs, PRODUCT_DEPTH), part_steps), count = rows * s.outputs;
    auto y_parts = unwritten<G>((size_t)parts * count), before = y_parts;
    const bool plain = std::is_same<T, float>::value;
    const int tile = plain ? PLAIN_ROWS : PRODUCT_ROWS;
    const bool biased = fused || parts > 1;
    shim::launch(dim3(blocks(rows, tile), blocks(s.outputs, 64), parts), dim3(plain ? 256 : 128), plain ? 0 : product_shared<K>, [&] {
      kernel(x.data(), w.data(), biased ? bias.data() : nullptr, fused ? residual.data() : nullptr, fused ? before.data() : nullptr,
             y_parts.data(), rows, s.frames, s.inputs, s.outputs, activation, part_steps);
    });
    auto y = y_parts;
    if constexpr (std::is_same<G, float>::value) {
      y = unwritten<G>(count);
      shim::launch(dim3(blocks(count, 256)), dim3(256), 0, [&] { sum_parts(y_parts.data(), y.data(), parts, count, 1, 1); });
    }
    std::vector<double> expected, expected_before;
    for (int row = 0; row < rows; row++)
      for (int o = 0; o < s.outputs; o++) {
        double sum = biased ? bias[o] : 0;
        for (int t = 0; t < K; t++) {
          const int frame = row % s.frames + t - K / 2;
          if (frame < 0 || frame >= s.frames) continue;
          for (int i = 0; i < s.inputs; i++)
            sum += value(x[(size_t)(row + t - K / 2) * s.inputs + i]) *
                   value(w[((size_t)t * s.outputs + o) * s.inputs + i]);
        }
        expected_before.push_back(sum);
        if (activation == SILU) sum /= 1 + exp(-sum);
        if (activation == GELU) sum *= 0.5 * (1 + erf(sum * M_SQRT1_2));
        expected.push_back(sum + (fused ? value(residual[(size_t)row * s.outputs + o]) : 0));
      }
    compare("y", y, expected, tolerance);
    if (fused) compare("before", before, expected_before, tolerance);
  }});
}

// The gradient to the input: the forward kernel with a weight that `pack_weight` has turned.
template <typename T, typename G, int K, typename Kernel, typename Pack>
void conv_backward(const char *name, Kernel kernel, Pack pack, ConvShape s, double tolerance) {
  cases.push_back({name, [=] {
    const int rows = s.clips * s.frames, count = s.outputs * s.inputs * K;
    const auto dy = random_values<T>((size_t)rows * s.outputs);
    const auto w = random_values<float>(count, 1.f / sqrtf((float)K * s.inputs));
    auto packed = unwritten<T>(count), forward = packed, last = packed;
    auto dx = unwritten<G>((size_t)rows * s.inputs);
    shim::launch(dim3(blocks(s.outputs * s.inputs, 256)), dim3(256), 0, [&] { pack(w.data(), packed.data(), s.outputs, s.inputs, K, TURNED); });
    shim::launch(dim3(blocks(s.outputs * s.inputs, 256)), dim3(256), 0, [&] { pack(w.data(), forward.data(), s.outputs, s.inputs, K, PACKED); });
    shim::launch(dim3(blocks(s.outputs * s.inputs, 256)), dim3(256), 0, [&] { pack(w.data(), last.data(), s.outputs, s.inputs, K, CHANNELS_LAST); });
    const bool plain = std::is_same<T, float>::value;
    shim::launch(dim3(blocks(rows, plain ? PLAIN_ROWS : PRODUCT_ROWS), blocks(s.inputs, 64)), dim3(plain ? 256 : 128),
                 plain ? 0 : product_shared<K>, [&] {
      kernel(dy.data(), packed.data(), nullptr, nullptr, nullptr, dx.data(), rows, s.frames, s.outputs, s.inputs, NONE, 1 << 20);
    });
    std::vector<double> expected((size_t)rows * s.inputs), order, order_last;
    auto weight = [&](int o, int i, int t) { return value(from_float<T>(w[((size_t)o * s.inputs + i) * K + t])); };
    for (int row = 0; row < rows; row++)
      for (int t = 0; t < K; t++) {
        const int frame = row % s.frames + t - K / 2;
        if (frame < 0 || frame >= s.frames) continue;
        for (int o = 0; o < s.outputs; o++)
          for (int i = 0; i < s.inputs; i++)
            expected[(size_t)(row + t - K / 2) * s.inputs + i] +=
                value(dy[(size_t)row * s.outputs + o]) * weight(o, i, t);
      }
    for (int t = 0; t < K; t++)
      for (int o = 0; o < s.outputs; o++)
        for (int i = 0; i < s.inputs; i++) order.push_back(weight(o, i, t));
    for (int o = 0; o < s.outputs; o++)
      for (int t = 0; t < K; t++)
        for (int i = 0; i < s.inputs; i++) order_last.push_back(weight(o, i, t));
    compare("dx", dx, expected, tolerance);
    compare("packed", forward, order, 0);
    compare("channels last", last, order_last, 0);
  }});
}

// The gradients of weight and bias, in parts and added up.
template <typename T, typename G, typename Kernel, typename Columns>
void conv_weight_gradient(const char *name, Kernel kernel, Columns columns, ConvShape s, int taps, int rows_per_part, double tolerance) {
  cases.push_back({name, [=] {
    const int rows = s.clips * s.frames, count = s.outputs * s.inputs * taps, parts = blocks(rows, rows_per_part);
    const auto x = random_values<G>((size_t)rows * s.inputs), dy = random_values<G>((size_t)rows * s.outputs, 0.2f);
    auto dw_parts = unwritten<float>((size_t)parts * count), db_parts = unwritten<float>((size_t)parts * s.outputs);
    auto dw = unwritten<float>(count), db = unwritten<float>(s.outputs);
    const bool plain = std::is_same<T, float>::value;
    shim::launch(dim3(blocks(s.outputs, GRADIENT_TILE) * blocks(s.inputs, GRADIENT_TILE), taps, parts), dim3(plain ? 256 : 128),
                 plain ? 0 : GRADIENT_SHARED, [&] {
      kernel(x.data(), dy.data(), dw_parts.data(), rows, s.frames, s.inputs, s.outputs, rows_per_part);
    });
    shim::launch(dim3(blocks(count * 4, 256)), dim3(256), 0, [&] { sum_parts(dw_parts.data(), dw.data(), parts, count, taps, 4); });
    shim::launch(dim3(blocks(s.outputs, 32), parts), dim3(256), 0,
                 [&] { columns(dy.data(), db_parts.data(), rows, s.outputs, rows_per_part); });
    shim::launch(dim3(blocks(s.outputs, 256)), dim3(256), 0, [&] { sum_parts(db_parts.data(), db.data(), parts, s.outputs, 1, 1); });
    std::vector<double> expected_w(count), expected_b(s.outputs);
    for (int row = 0; row < rows; row++)
      for (int o = 0; o < s.outputs; o++) {
        const double d = value(dy[(size_t)row * s.outputs + o]), operand = value(from_float<T>((float)d));
        expected_b[o] += d;
        for (int t = 0; t < taps; t++) {
          const int frame = row % s.frames + t - taps / 2;
          if (frame < 0 || frame >= s.frames) continue;
          for (int i = 0; i < s.inputs; i++)
            expected_w[((size_t)o * s.inputs + i) * taps + t] +=
                operand * value(from_float<T>(to_float(x[(size_t)(row + t - taps / 2) * s.inputs + i])));
        }
      }
    compare("dw", dw, expected_w, tolerance);
    compare("db", db, expected_b, tolerance);
  }});
}

inline void temporal_convolution_cases() {
  conv_forward<float, float, 3>("temporal_conv3_f32, 13 x 5 frames, 20 to 72, SiLU, fused", temporal_conv3_f32, {13, 5, 20, 72}, SILU, true, 3e-6);
  conv_forward<float, float, 3>("temporal_conv3_f32, 3 x 1 frames, 7 to 5", temporal_conv3_f32, {3, 1, 7, 5}, NONE, false, 3e-6);
  conv_forward<float, float, 1>("temporal_conv1_f32, 67 rows, 33 to 9, GELU", temporal_conv1_f32, {67, 1, 33, 9}, GELU, true, 3e-6);
  conv_forward<f16, f16, 3>("temporal_conv3_f16, 9 x 16 frames, 72 to 88, fused", temporal_conv3_f16, {9, 16, 72, 88}, GELU, true, 2e-3);
  conv_forward<f16, f16, 3>("temporal_conv3_f16, 5 x 7 frames, 11 to 3, ragged", temporal_conv3_f16, {5, 7, 11, 3}, NONE, false, 2e-3);
  conv_forward<bf16, bf16, 3>("temporal_conv3_bf16, 8 x 16 frames, 64 to 64", temporal_conv3_bf16, {8, 16, 64, 64}, NONE, true, 1.2e-2);
  conv_forward<bf16, float, 3>("temporal_conv3_f32_bf16, 7 x 9 frames, 40 to 24, SiLU", temporal_conv3_f32_bf16, {7, 9, 40, 24}, SILU, true, 1e-5);
  conv_forward<bf16, float, 3>("temporal_conv3_f32_bf16, 5 x 6 frames, 150 to 68, in parts", temporal_conv3_f32_bf16, {5, 6, 150, 68}, NONE, false, 1e-5, 2);
  conv_forward<f16, f16, 1>("temporal_conv1_f16, 70 rows, 40 to 72", temporal_conv1_f16, {70, 1, 40, 72}, SILU, true, 2e-3);
  conv_forward<bf16, bf16, 1>("temporal_conv1_bf16, 33 rows, 96 to 8", temporal_conv1_bf16, {33, 1, 96, 8}, NONE, false, 1.2e-2);
  conv_forward<bf16, float, 1>("temporal_conv1_f32_bf16, 130 rows, 6 to 17", temporal_conv1_f32_bf16, {130, 1, 6, 17}, NONE, true, 1e-5);
  conv_backward<float, float, 3>("temporal_conv3_f32 to the input, 9 x 8 frames", temporal_conv3_f32, pack_weight_f32, {9, 8, 18, 21}, 3e-6);
  conv_backward<f16, f16, 3>("temporal_conv3_f16 to the input, 4 x 6 frames", temporal_conv3_f16, pack_weight_f16, {4, 6, 8, 24}, 2e-3);
  conv_backward<bf16, float, 1>("temporal_conv1_f32_bf16 to the input", temporal_conv1_f32_bf16, pack_weight_bf16, {20, 1, 8, 24}, 1e-5);
  conv_weight_gradient<float, float>("weight_gradient_f32, 11 x 5 frames, 3 taps", weight_gradient_f32, column_sums_f32, {11, 5, 20, 68}, 3, 32, 3e-6);
  conv_weight_gradient<f16, f16>("weight_gradient_f16, 9 x 16 frames, 3 taps", weight_gradient_f16, column_sums_f16, {9, 16, 72, 40}, 3, 96, 1e-5);
  conv_weight_gradient<bf16, bf16>("weight_gradient_bf16, 7 x 10 frames, 1 tap", weight_gradient_bf16, column_sums_bf16, {7, 10, 10, 7}, 1, 96, 1e-5);
  conv_weight_gradient<bf16, bf16>("weight_gradient_bf16, 6 x 11 frames, 3 taps", weight_gradient_bf16, column_sums_bf16, {6, 11, 24, 16}, 3, 96, 1e-5);
}
}  // namespace check
