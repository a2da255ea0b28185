// Attention, forward and backward, against its definition in f64.
#pragma once
#include "../attention.cu"
#include "temporal_convolution_test.h"

namespace check {
struct AttentionCase {
  int sequences, tokens, heads, size, contexts, context_length;
  bool space, causal, bias, mask;
};

template <typename T, int D, typename Forward, typename Dq, typename Dkv, typename Dbias>
void attention_case(const char *name, Forward forward, Dq to_q, Dkv to_kv, Dbias to_bias, AttentionCase c, double tolerance) {
  cases.push_back({name, [=] {
    const int channels = c.heads * c.size, rows = c.sequences * c.tokens, keys = c.context_length + c.tokens;
    const int per_context = c.contexts ? c.sequences / c.contexts : 1;
    const int sequence_stride = c.space ? 1 : c.tokens, token_stride = c.space ? c.sequences : 1;
    const float scale = 1.f / sqrtf((float)c.size);
    const auto qkv = random_values<T>((size_t)rows * 3 * channels), dy = random_values<T>((size_t)rows * channels);
    const auto context = random_values<T>((size_t)c.contexts * c.context_length * 2 * channels);
    const auto bias = random_values<float>((size_t)c.heads * c.tokens * c.tokens);
    std::vector<float> mask((size_t)c.sequences * c.tokens, 1.f);
    // The first key is hidden too: a softmax may begin with keys that are not seen.
    for (size_t i = 0; i < mask.size(); i++) mask[i] = (i % c.tokens == 0 && c.tokens > 1) || i % 5 == 3 ? 0.f : 1.f;
    auto y = unwritten<T>((size_t)rows * channels);
    auto lse = unwritten<float>((size_t)c.sequences * c.heads * c.tokens), delta = lse;
    auto dqkv = unwritten<T>(qkv.size()), dcontext = unwritten<T>(context.size());
    const float *b = c.bias ? bias.data() : nullptr, *m = c.mask ? mask.data() : nullptr;
    const T *cx = c.contexts ? context.data() : nullptr;
    const int groups = blocks(c.tokens, 128 / (D / 16)), tile = 2 * std::min(ATTENTION_KEYS, keys) * D * 4;
    const int queries = std::min(ATTENTION_KEYS, c.tokens);
#define SHAPE c.sequences, c.tokens, c.heads, c.size, sequence_stride, token_stride, c.context_length, per_context, c.causal, scale
    shim::launch(dim3(c.sequences, c.heads, groups), dim3(128), tile,
                 [&] { forward(qkv.data(), cx, b, m, y.data(), lse.data(), SHAPE); });
    shim::launch(dim3(c.sequences, c.heads, groups), dim3(128), tile,
                 [&] { to_q(qkv.data(), cx, b, m, y.data(), dy.data(), lse.data(), delta.data(), dqkv.data(), SHAPE); });
    for (int of_context = 0; of_context < (c.contexts ? 2 : 1); of_context++)
      shim::launch(dim3(of_context ? c.contexts : c.sequences, c.heads, blocks(of_context ? c.context_length : c.tokens, 128 / (D / 16))),
                   dim3(128), (2 * D + 2) * queries * 4, [&] {
        to_kv(qkv.data(), cx, b, m, dy.data(), lse.data(), delta.data(), dqkv.data(), dcontext.data(), of_context, SHAPE);
      });
    const int per_part = 2, parts = blocks(c.sequences, per_part), pairs = c.heads * c.tokens * c.tokens;
    auto bias_parts = unwritten<float>((size_t)parts * pairs), dbias = unwritten<float>(pairs);
    if (c.bias) {
      const int tiles = blocks(c.tokens, 16);
      shim::launch(dim3(tiles * tiles, c.heads, parts), dim3(256), 0, [&] {
        to_bias(qkv.data(), cx, b, m, dy.data(), lse.data(), delta.data(), bias_parts.data(), per_part, SHAPE);
      });
      shim::launch(dim3(blocks(pairs * 4, 256)), dim3(256), 0, [&] { sum_parts(bias_parts.data(), dbias.data(), parts, pairs, 1, 4); });
    }
#undef SHAPE
    std::vector<double> ey(y.size()), else_(lse.size()), edqkv(qkv.size()), edcontext(context.size()), edbias(pairs);
    auto own = [&](int s, int t) { return (size_t)(s * sequence_stride + t * token_stride); };
    for (int s = 0; s < c.sequences; s++)
      for (int h = 0; h < c.heads; h++)
        for (int t = 0; t < c.tokens; t++) {
          const size_t at_q = own(s, t) * 3 * channels + h * c.size, at_y = own(s, t) * channels + h * c.size;
          // The key's place in qkv or context, and where its gradient goes.
          auto place = [&](int key) {
            return key < c.context_length
                       ? ((size_t)(s / per_context) * c.context_length + key) * 2 * channels + h * c.size
                       : own(s, key - c.context_length) * 3 * channels + channels + h * c.size;
          };
          auto source = [&](int key) -> const T * { return (key < c.context_length ? context.data() : qkv.data()) + place(key); };
          auto target = [&](int key) -> double * { return (key < c.context_length ? edcontext.data() : edqkv.data()) + place(key); };
          std::vector<double> p(keys), dp(keys);
          double most = -INFINITY, total = 0, dot = 0;
          for (int key = 0; key < keys; key++) {
            const int o = key - c.context_length;
            for (int i = 0; i < c.size; i++) p[key] += value(qkv[at_q + i]) * value(source(key)[i]) * scale;
            if (o >= 0 && c.bias) p[key] += bias[((size_t)h * c.tokens + t) * c.tokens + o];
            if (o >= 0 && ((c.causal && o > t) || (c.mask && mask[(size_t)s * c.tokens + o] == 0.f))) p[key] = -INFINITY;
            most = fmax(most, p[key]);
          }
          for (double &x : p) total += x = exp(x - most);
          else_[((size_t)s * c.heads + h) * c.tokens + t] = most + log(total);
          for (int key = 0; key < keys; key++) {
            p[key] /= total;
            for (int i = 0; i < c.size; i++) {
              const double v = value(source(key)[channels + i]), d = value(dy[at_y + i]);
              ey[at_y + i] += p[key] * v;
              dp[key] += d * v;
              target(key)[channels + i] += p[key] * d;
            }
            dot += p[key] * dp[key];
          }
          for (int key = 0; key < keys; key++) {
            const double ds = p[key] * (dp[key] - dot);
            if (key >= c.context_length) edbias[((size_t)h * c.tokens + t) * c.tokens + key - c.context_length] += ds;
            for (int i = 0; i < c.size; i++) {
              edqkv[at_q + i] += ds * scale * value(source(key)[i]);
              target(key)[i] += ds * scale * value(qkv[at_q + i]);
            }
          }
        }
    compare("y", y, ey, tolerance);
    compare("lse", lse, else_, 3e-6);
    compare("dqkv", dqkv, edqkv, tolerance * 2);
    compare("dcontext", dcontext, edcontext, tolerance * 4);
    if (c.bias) compare("dbias", dbias, edbias, tolerance * 2);
  }});
}
#define ATTENTION_CASE(SUFFIX, T, D, WHAT, TOLERANCE, ...)                                                             \
  attention_case<T, D>("attention_" #SUFFIX "_d" #D ", " WHAT, attention_##SUFFIX##_d##D, attention_dq_##SUFFIX##_d##D,  \
                       attention_dkv_##SUFFIX##_d##D, attention_dbias_##SUFFIX, __VA_ARGS__, TOLERANCE)

inline void attention_cases() {
  ATTENTION_CASE(f32, float, 32, "3 x 16 frames, bias", 2e-6, AttentionCase{3, 16, 2, 32, 0, 0, false, false, true, false});
  ATTENTION_CASE(f32, float, 64, "1 x 70 frames, causal, bias", 2e-6, AttentionCase{1, 70, 1, 64, 0, 0, false, true, true, false});
  ATTENTION_CASE(f32, float, 128, "2 x 7 tokens of 96, mask", 2e-6, AttentionCase{2, 7, 2, 96, 0, 0, false, false, false, true});
  ATTENTION_CASE(f32, float, 32, "4 images of 20 pixels of 5 channels, context", 2e-6, AttentionCase{4, 20, 2, 5, 2, 3, true, false, true, false});
  ATTENTION_CASE(f16, f16, 64, "2 x 24 frames of 40", 2e-3, AttentionCase{2, 24, 2, 40, 0, 0, false, false, true, false});
  ATTENTION_CASE(f16, f16, 32, "1 x 1 frame", 2e-3, AttentionCase{1, 1, 2, 32, 0, 0, false, true, true, false});
  ATTENTION_CASE(bf16, bf16, 128, "1 x 20 frames, causal", 1.2e-2, AttentionCase{1, 20, 1, 128, 0, 0, false, true, false, false});
  ATTENTION_CASE(bf16, bf16, 32, "2 images of 12 pixels, context of 40", 1.2e-2, AttentionCase{2, 12, 1, 32, 1, 40, true, false, false, false});
}
}  // namespace check
