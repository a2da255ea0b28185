// Norms, noise, resampling, samplers' arithmetic, an optimiser's step and elementwise kernels against their definitions.
#pragma once
#include "../elementwise.cu"
#include "../frames.cu"
#include "../noise.cu"
#include "../normalization.cu"
#include "../optimizer.cu"
#include "../resampling.cu"
#include "attention_test.h"

namespace check {
inline double act64(double x, int activation) {
  return activation == SILU ? x / (1 + exp(-x)) : activation == GELU ? x * 0.5 * (1 + erf(x * M_SQRT1_2)) : x;
}
// By a difference in f64.
inline double slope64(double x, int activation) {
  return (act64(x + 1e-5, activation) - act64(x - 1e-5, activation)) / 2e-5;
}

template <typename T, typename Moments, typename Forward, typename Slopes, typename Backward>
void group_norm_case(const char *name, Moments moments_of, Forward forward, Slopes slopes_of, Backward backward, int pixels, int images,
                     int channels, int groups, int clips, int together, int parts, int activation, double tolerance) {
  cases.push_back({name, [=] {
    const int width = channels / groups, per_clip = images / clips;
    const auto x = random_values<T>((size_t)pixels * images * channels, 2.f), dy = random_values<T>(x.size());
    const auto ss = random_values<float>((size_t)clips * 2 * channels);
    auto y = unwritten<T>(x.size()), dx = y;
    auto statistics = unwritten<float>((size_t)images * groups * 2), moments = unwritten<float>(statistics.size() * parts);
    auto slopes = unwritten<float>((size_t)images * parts * 2 * channels), dss = unwritten<float>(ss.size());
    const int wide = std::min(together, groups) * width;
    int columns = 1;
    while (columns < wide && columns < 256) columns *= 2;
    const int floats = 256 / columns * wide;
    const dim3 grid(images, blocks(groups, together), parts);
    shim::launch(grid, dim3(256), (floats + together) * 4, [&] {
      moments_of(x.data(), moments.data(), pixels, images, channels, groups, per_clip, together, 1e-5f, activation);
    });
    shim::launch(grid, dim3(256), 2 * together * 4, [&] {
      forward(x.data(), ss.data(), moments.data(), y.data(), statistics.data(), pixels, images, channels, groups, per_clip, together,
              1e-5f, activation);
    });
    shim::launch(grid, dim3(256), 2 * floats * 4, [&] {
      slopes_of(x.data(), ss.data(), statistics.data(), dy.data(), slopes.data(), pixels, images, channels, groups, per_clip, together,
                1e-5f, activation);
    });
    shim::launch(grid, dim3(256), (2 * wide + 2 * together) * 4, [&] {
      backward(x.data(), ss.data(), statistics.data(), dy.data(), slopes.data(), dx.data(), pixels, images, channels, groups, per_clip,
               together, 1e-5f, activation);
    });
    shim::launch(dim3(blocks(2 * channels * 4, 256), clips), dim3(256), 0, [&] {
      sum_parts(slopes.data(), dss.data(), per_clip * parts, 2 * channels, 1, 4);
    });
    std::vector<double> ey(x.size()), edx(x.size()), edss(ss.size());
    auto at = [&](int p, int n, int c) { return ((size_t)p * images + n) * channels + c; };
    for (int n = 0; n < images; n++)
      for (int g = 0; g < groups; g++) {
        double mean = 0, square = 0, sum_d = 0, sum_dx = 0;
        const double count = (double)pixels * width;
        auto each = [&](const std::function<void(size_t, int)> &f) {
          for (int p = 0; p < pixels; p++)
            for (int c = g * width; c < (g + 1) * width; c++) f(at(p, n, c), c);
        };
        each([&](size_t i, int) { mean += value(x[i]) / count; });
        each([&](size_t i, int) { square += (value(x[i]) - mean) * (value(x[i]) - mean) / count; });
        const double rstd = 1 / sqrt(square + 1e-5);
        const float *scale = &ss[(size_t)(n / per_clip) * 2 * channels];
        double *dscale = &edss[(size_t)(n / per_clip) * 2 * channels];
        each([&](size_t i, int c) {
          const double normal = (value(x[i]) - mean) * rstd, z = normal * scale[c] + scale[channels + c];
          const double dz = value(dy[i]) * slope64(z, activation);
          ey[i] = act64(z, activation);
          dscale[c] += dz * normal;
          dscale[channels + c] += dz;
          sum_d += dz * scale[c] / count;
          sum_dx += dz * scale[c] * normal / count;
          edx[i] = dz * scale[c];
        });
        each([&](size_t i, int) { edx[i] = rstd * (edx[i] - sum_d - (value(x[i]) - mean) * rstd * sum_dx); });
      }
    compare("y", y, ey, tolerance);
    compare("dx", dx, edx, tolerance);
    compare("dscale_shift", dss, edss, 1e-5);
  }});
}

// `pixels` times `images` rows; of several clips each has its own gains and offsets.
template <typename T, typename Forward, typename Backward>
void row_norm_case(const char *name, Forward forward, Backward backward, int pixels, int images, int clips, int channels,
                   bool centre, bool offset, int activation, double tolerance) {
  cases.push_back({name, [=] {
    const int per_clip = images / clips, rows = pixels * images, of_clip = pixels * per_clip;
    auto x = random_values<T>((size_t)rows * channels, 2.f);
    const float eps = centre ? 1e-5f : 0.05f;
    // A row shorter than eps.
    if (!centre) for (int c = 0; c < channels; c++) x[c] = from_float<T>(0.01f * to_float(x[c]));
    const auto dy = random_values<T>(x.size());
    const auto gains = random_values<float>((size_t)clips * 2 * channels);
    auto y = unwritten<T>(x.size()), dx = y;
    const int parts_count = blocks(of_clip, NORM_ROWS);
    auto parts = unwritten<float>(parts_count * gains.size()), sums = unwritten<float>(gains.size());
    const float *g = gains.data(), *b = offset ? g + channels : nullptr;
    shim::launch(dim3(blocks(of_clip, 8), clips), dim3(256), 0, [&] {
      forward(x.data(), g, b, y.data(), of_clip, images, per_clip, channels, centre, eps, activation);
    });
    shim::launch(dim3(parts_count, clips), dim3(256), 0, [&] {
      backward(x.data(), g, b, dy.data(), dx.data(), parts.data(), of_clip, images, per_clip, channels, centre, eps, activation);
    });
    shim::launch(dim3(blocks(2 * channels, 256), clips), dim3(256), 0, [&] { sum_parts(parts.data(), sums.data(), parts_count, 2 * channels, 1, 1); });
    std::vector<double> ey, edx, esums(gains.size());
    for (int r = 0; r < rows; r++) {
      const float *gain = g + (size_t)(r % images / per_clip) * 2 * channels;
      double *esum = &esums[gain - g];
      double mean = 0, square = 0, sum_d = 0, sum_dx = 0;
      auto v = [&](int c) { return value(x[(size_t)r * channels + c]); };
      if (centre) for (int c = 0; c < channels; c++) mean += v(c) / channels;
      for (int c = 0; c < channels; c++) square += (v(c) - mean) * (v(c) - mean) / channels;
      const bool by_eps = !centre && sqrt(square) <= eps;
      const double rstd = centre ? 1 / sqrt(square + eps) : 1 / fmax(sqrt(square), eps);
      std::vector<double> d(channels);
      for (int c = 0; c < channels; c++) {
        const double normal = (v(c) - mean) * rstd, z = normal * gain[c] + (b ? gain[channels + c] : 0);
        const double dz = value(dy[(size_t)r * channels + c]) * slope64(z, activation);
        ey.push_back(act64(z, activation));
        esum[c] += dz * normal;
        esum[channels + c] += dz;
        d[c] = dz * gain[c];
        sum_d += d[c] / channels;
        sum_dx += d[c] * normal / channels;
      }
      for (int c = 0; c < channels; c++)
        edx.push_back(rstd * (d[c] - (centre ? sum_d : 0) - (by_eps ? 0 : (v(c) - mean) * rstd * sum_dx)));
    }
    compare("y", y, ey, tolerance);
    compare("dx", dx, edx, tolerance);
    compare("dgamma, dbeta", sums, esums, 1e-5);
  }});
}

inline void noise_case() {
  cases.push_back({"normal_noise, 3 rows of 1030", [] {
    const std::vector<unsigned long long> seeds = {7, 0x123456789abcdefull, 7};
    const std::vector<unsigned> frames = {2, 0, 0xffffffffu};
    auto out = unwritten<float>(3 * 1030);
    shim::launch(dim3(blocks(1030, 1024), 3), dim3(256), 0, [&] { normal_noise(out.data(), seeds.data(), frames.data(), 1, 1030); });
    // The first numbers of `fill_normal` with seed 7, stream 1, frame 2, as philox.rs has them.
    const unsigned bits[5] = {1061490178, 1059954366, 3213886892, 3219268863, 3189657624};
    std::vector<float> head(out.begin(), out.begin() + 5), recorded(5);
    memcpy(recorded.data(), bits, 20);
    std::vector<double> exact(recorded.begin(), recorded.end()), expected;
    for (int row = 0; row < 3; row++)
      for (unsigned i = 0; i < 1030; i++) {
        // Written another way: 64-bit products in 128 bits, and the library's functions in long double.
        unsigned c[4] = {i / 4, frames[row], 1, 0}, k[2] = {(unsigned)seeds[row], (unsigned)(seeds[row] >> 32)};
        for (int round = 0; round < 10; round++) {
          const unsigned __int128 a = (unsigned __int128)c[0] * 0xD2511F53u, b = (unsigned __int128)c[2] * 0xCD9E8D57u;
          const unsigned next[4] = {(unsigned)(b >> 32) ^ c[1] ^ k[0], (unsigned)b, (unsigned)(a >> 32) ^ c[3] ^ k[1], (unsigned)a};
          memcpy(c, next, 16);
          k[0] += 0x9E3779B9u;
          k[1] += 0xBB67AE85u;
        }
        const int pair = i % 4 / 2 * 2;
        const long double u = (c[pair] + 0.5L) / 4294967296.L, v = (c[pair + 1] + 0.5L) / 4294967296.L * 2 * M_PIl;
        expected.push_back((double)(sqrtl(-2 * logl(u)) * (i % 2 ? sinl(v) : cosl(v))));
      }
    compare("the recorded bits", head, exact, 0);
    compare("noise", out, expected, 1e-7);
  }});
}

inline void frames_cases() {
  cases.push_back({"combine, three terms, one still, clamped", [] {
    const int samples = 2, frames = 3, inner = 300;
    const auto a = random_values<float>(samples * frames * inner), b = random_values<float>(a.size());
    const auto c = random_values<float>(samples * inner), scales = random_values<float>(3 * samples);
    auto out = unwritten<float>(a.size());
    const CombineTerms terms = {{a.data(), b.data(), c.data()}};
    shim::launch(dim3(blocks(inner, 256), samples * frames), dim3(256), 0, [&] {
      combine(terms, scales.data(), out.data(), 3, 4u, 0.1f, 1, -0.5f, 0.7f, samples, frames, inner);
    });
    std::vector<double> expected;
    for (int row = 0; row < samples * frames; row++)
      for (int i = 0; i < inner; i++) {
        const int s = row / frames;
        double v = 0.1 + (double)scales[s] * a[row * inner + i] + (double)scales[samples + s] * b[row * inner + i] +
                   (double)scales[2 * samples + s] * c[s * inner + i];
        expected.push_back(fmin(fmax(v, -0.5), 0.7));
      }
    compare("out", out, expected, 1e-6);
  }});
  cases.push_back({"masked_frames, 2 samples of 5 frames, a blend", [] {
    const int samples = 2, length = 5, known_frames = 2, pixels = 40, channels = 3;
    const auto noisy = random_values<float>(samples * length * pixels * channels);
    const auto known = random_values<float>(samples * known_frames * pixels * channels);
    const std::vector<int> before = {0, 0, -1, 1, 1}, after = {0, 1, -1, 1, 1};
    const std::vector<float> share = {0, 0.25f, 0, 0, 0}, masked = {0, 1, 1, 0, 1};
    auto out = unwritten<float>(samples * length * pixels * 7);
    shim::launch(dim3(blocks(pixels * 7, 256), 7), dim3(256), 0, [&] {
      masked_frames(noisy.data(), known.data(), before.data(), after.data(), share.data(), masked.data(), out.data(), samples,
                    length, known_frames, pixels, channels);
    });
    std::vector<double> expected;
    for (int s = 0; s < samples; s++)
      for (int f = 0; f < length; f++)
        for (int p = 0; p < pixels; p++) {
          for (int c = 0; c < 3; c++) expected.push_back(noisy[((s * length + f) * pixels + p) * 3 + c]);
          auto of = [&](int frame, int c) { return (double)known[((s * known_frames + frame) * pixels + p) * 3 + c]; };
          for (int c = 0; c < 3; c++)
            expected.push_back(before[f] < 0 ? 0 : (1 - (double)share[f]) * of(before[f], c) + share[f] * of(after[f], c));
          expected.push_back(masked[f]);
        }
    compare("out", out, expected, 1e-7);
  }});
}

inline void optimizer_cases() {
  cases.push_back({"adamw, 300 numbers, with and without moments", [] {
    const int count = 300;
    const float rate = 0.02f, correction = 1.5f, keep = 0.9f, beta1 = 0.8f, beta2 = 0.95f, epsilon = 1e-3f, scale = 0.5f, decay = 0.7f;
    for (const bool moments : {true, false}) {
      const auto v0 = random_values<float>(count), g = random_values<float>(count), m0 = random_values<float>(count);
      auto s0 = random_values<float>(count);
      const auto e0 = random_values<float>(count);
      for (float &s : s0) s = fabsf(s);
      auto v = v0, m = m0, s = s0, e = e0, alone = v0;
      shim::launch(dim3(blocks(count, 256)), dim3(256), 0, [&] {
        adamw(v.data(), g.data(), moments ? m.data() : nullptr, moments ? s.data() : nullptr, e.data(), count, rate, correction,
              keep, beta1, beta2, epsilon, scale, decay);
      });
      shim::launch(dim3(blocks(count, 256)), dim3(256), 0, [&] {
        adamw(alone.data(), g.data(), nullptr, nullptr, nullptr, count, rate, correction, keep, beta1, beta2, epsilon, scale, decay);
      });
      std::vector<double> ev, em, es, ee, ealone;
      for (int i = 0; i < count; i++) {
        const double gradient = moments ? (double)g[i] * scale : g[i];
        em.push_back(moments ? (double)beta1 * m0[i] + (1 - (double)beta1) * gradient : m0[i]);
        es.push_back(moments ? (double)beta2 * s0[i] + (1 - (double)beta2) * gradient * gradient : s0[i]);
        ev.push_back((double)v0[i] * keep - rate * (moments ? em[i] / (sqrt(es[i] * correction) + epsilon) : gradient));
        ee.push_back((double)decay * e0[i] + (1 - (double)decay) * ev[i]);
        ealone.push_back((double)v0[i] * keep - (double)rate * g[i]);
      }
      compare("value", v, ev, 1e-6);
      compare("mean", m, em, 1e-6);
      compare("square", s, es, 1e-6);
      compare("average", e, ee, 1e-6);
      compare("a direction without average", alone, ealone, 1e-6);
    }
  }});
  cases.push_back({"sum_squares, 9000 numbers", [] {
    const auto x = random_values<float>(9000);
    auto parts = unwritten<float>(blocks(9000, 4096));
    shim::launch(dim3(parts.size()), dim3(256), 0, [&] { sum_squares(x.data(), parts.data(), 9000); });
    std::vector<double> expected(parts.size());
    for (int i = 0; i < 9000; i++) expected[i / 4096] += (double)x[i] * x[i];
    compare("parts", parts, expected, 2e-6);
  }});
}

template <typename T, typename Spread, typename Gather, typename Resize, typename Patchify>
void resampling_case(const char *name, Spread spread2, Gather gather2, Resize resize_axis, Patchify patchify, double tolerance) {
  cases.push_back({name, [=] {
    const int h = 3, w = 5, row = 14;
    const auto small = random_values<T>(h * w * row), large = random_values<T>(4 * h * w * row);
    auto up = unwritten<T>(large.size()), down = unwritten<T>(small.size());
    shim::launch(dim3(blocks(up.size(), 256)), dim3(256), 0, [&] { spread2(small.data(), up.data(), h, w, row, 0.5f); });
    shim::launch(dim3(blocks(down.size(), 256)), dim3(256), 0, [&] { gather2(large.data(), down.data(), h, w, row, 0.25f); });
    std::vector<double> eup(large.size()), edown(small.size());
    for (int y = 0; y < 2 * h; y++)
      for (int x = 0; x < 2 * w; x++)
        for (int c = 0; c < row; c++) {
          const size_t big = ((size_t)y * 2 * w + x) * row + c, little = ((size_t)(y / 2) * w + x / 2) * row + c;
          eup[big] = value(small[little]) / 2;
          edown[little] += value(large[big]) / 4;
        }
    compare("spread", up, eup, tolerance);
    compare("gather", down, edown, tolerance);

    // Catmull-Rom from 7 to 10 along the middle axis.
    const int outer = 2, from = 7, to = 10, inner = 11, stride = 5;
    const auto x = random_values<T>(outer * from * inner);
    std::vector<int> first, count;
    std::vector<float> weights(to * stride);
    for (int t = 0; t < to; t++) {
      const double centre = (t + 0.5) * from / to;
      const int begin = std::max(0, (int)(centre - 1.5)), end = std::min(from, (int)(centre + 2.5));
      first.push_back(begin);
      count.push_back(end - begin);
      for (int k = 0; k < end - begin; k++) {
        const double d = fabs(begin + k - centre + 0.5);
        weights[t * stride + k] = (float)(d < 1 ? (1.5 * d - 2.5) * d * d + 1 : d < 2 ? ((d - 5) * d + 8) * d * -0.5 + 2 : 0);
      }
    }
    auto y = unwritten<T>(outer * to * inner);
    shim::launch(dim3(blocks(y.size(), 256)), dim3(256), 0, [&] {
      resize_axis(x.data(), first.data(), count.data(), weights.data(), y.data(), outer, from, to, inner, stride);
    });
    std::vector<double> ey;
    for (int o = 0; o < outer; o++)
      for (int t = 0; t < to; t++)
        for (int i = 0; i < inner; i++) {
          double sum = 0;
          for (int k = 0; k < count[t]; k++) sum += (double)weights[t * stride + k] * value(x[((size_t)o * from + first[t] + k) * inner + i]);
          ey.push_back(sum);
        }
    compare("resize", y, ey, tolerance);

    const int images = 2, gh = 3, gw = 2, channels = 3, p = 2;
    const auto frames = random_values<T>(images * gh * gw * channels * p * p);
    auto grid = unwritten<T>(frames.size()), back = grid;
    shim::launch(dim3(blocks(grid.size(), 256)), dim3(256), 0, [&] { patchify(frames.data(), grid.data(), images, gh, gw, channels, p, 0); });
    shim::launch(dim3(blocks(grid.size(), 256)), dim3(256), 0, [&] { patchify(grid.data(), back.data(), images, gh, gw, channels, p, 1); });
    std::vector<double> egrid(grid.size()), eback;
    for (int n = 0; n < images; n++)
      for (int fy = 0; fy < gh * p; fy++)
        for (int fx = 0; fx < gw * p; fx++)
          for (int c = 0; c < channels; c++) {
            const double v = value(frames[((size_t)(n * gh * p + fy) * gw * p + fx) * channels + c]);
            eback.push_back(v);
            egrid[((size_t)(fy / p * gw + fx / p) * images + n) * channels * p * p + (c * p + fy % p) * p + fx % p] = v;
          }
    compare("patchify", grid, egrid, 0);
    compare("unpatchify", back, eback, 0);
  }});
}

template <typename T, typename Act, typename ActBackward, typename Geglu, typename GegluBackward, typename Add, typename Join>
void elementwise_case(const char *name, Act act, ActBackward act_back, Geglu glu, GegluBackward glu_back, Add plus, Join join, double tolerance) {
  cases.push_back({name, [=] {
    const int rows = 3, c = 101, n = rows * c;
    const auto x = random_values<T>(2 * n, 4.f), a = random_values<T>(n, 4.f), d = random_values<T>(n);
    auto launch = [](int count, auto kernel) { shim::launch(dim3(blocks(count, 256)), dim3(256), 0, kernel); };
    for (int activation : {SILU, GELU}) {
      auto y = unwritten<T>(n), dx = y;
      launch(n, [&] { act(a.data(), y.data(), n, activation); });
      launch(n, [&] { act_back(a.data(), d.data(), dx.data(), n, activation); });
      std::vector<double> ey, edx;
      for (int i = 0; i < n; i++) {
        ey.push_back(act64(value(a[i]), activation));
        edx.push_back(value(d[i]) * slope64(value(a[i]), activation));
      }
      compare("activation", y, ey, tolerance);
      compare("its gradient", dx, edx, tolerance);
    }
    auto y = unwritten<T>(n), sum = y, dx = unwritten<T>(2 * n), both = dx, left = y, right = y;
    launch(n, [&] { glu(x.data(), y.data(), n, c); });
    launch(n, [&] { glu_back(x.data(), d.data(), dx.data(), n, c); });
    launch(n, [&] { plus(a.data(), d.data(), sum.data(), n); });
    launch(2 * n, [&] { join((T *)a.data(), (T *)d.data(), both.data(), c, c, 2 * n, 0); });
    launch(2 * n, [&] { join(left.data(), right.data(), both.data(), c, c, 2 * n, 1); });
    std::vector<double> ey, edx(2 * n), esum, eboth(2 * n), eleft, eright;
    for (int i = 0; i < n; i++) {
      const int at = i / c * 2 * c + i % c;
      const double v = value(x[at]), gate = value(x[at + c]);
      ey.push_back(v * act64(gate, GELU));
      edx[at] = value(d[i]) * act64(gate, GELU);
      edx[at + c] = value(d[i]) * v * slope64(gate, GELU);
      esum.push_back(value(a[i]) + value(d[i]));
      eboth[at] = value(a[i]);
      eboth[at + c] = value(d[i]);
      eleft.push_back(value(a[i]));
      eright.push_back(value(d[i]));
    }
    compare("geglu", y, ey, tolerance);
    compare("its gradient", dx, edx, tolerance);
    compare("sum", sum, esum, tolerance);
    compare("side by side", both, eboth, 0);
    compare("left", left, eleft, 0);
    compare("right", right, eright, 0);
  }});
}

inline void add_row_case() {
  cases.push_back({"add_row, 13 rows of 37", [] {
    const int rows = 13, channels = 37, n = rows * channels;
    const auto before = random_values<float>(n), row = random_values<float>(channels);
    auto y = before;
    shim::launch(dim3(blocks(n, 256)), dim3(256), 0, [&] { add_row(y.data(), row.data(), n, channels); });
    std::vector<double> expected;
    for (int i = 0; i < n; i++) expected.push_back(before[i] + row[i % channels]);
    compare("y", y, expected, 0);
  }});
}

// Whole pieces of eight, one that is not, and numbers that are not aligned.
inline void round_case(const char *name, int n, int shift) {
  cases.push_back({name, [=] {
    const auto x = random_values<float>(n + shift);
    auto y = unwritten<bf16>(n);
    shim::launch(dim3(blocks(n, 2048)), dim3(256), 0, [&] { round_bf16(x.data() + shift, y.data(), n); });
    std::vector<double> expected;
    for (int i = 0; i < n; i++) expected.push_back(value(from_float<bf16>(x[shift + i])));
    compare("y", y, expected, 0);
  }});
}

#define EACH_TYPE(MACRO) MACRO(f32, float, 3e-6) MACRO(f16, f16, 2e-3) MACRO(bf16, bf16, 1.2e-2)
inline void other_cases() {
  group_norm_case<float>("group_norm_f32, 35 pixels, 4 images, 6 groups of 3", group_norm_of_parts_f32, group_norm_f32, group_norm_slopes_of_parts_f32,
      group_norm_backward_f32, 35, 4, 18, 6, 2, 4, 3, SILU, 5e-6);
  group_norm_case<float>("group_norm_f32, 6 pixels, 2 images, 1 group of 300", group_norm_of_parts_f32, group_norm_f32, group_norm_slopes_of_parts_f32,
      group_norm_backward_f32, 6, 2, 300, 1, 1, 1, 1, NONE, 5e-6);
  group_norm_case<f16>("group_norm_f16, 9 pixels, 3 images, 4 groups of 8", group_norm_of_parts_f16, group_norm_f16, group_norm_slopes_of_parts_f16,
      group_norm_backward_f16, 9, 3, 32, 4, 3, 4, 2, SILU, 2e-3);
  group_norm_case<bf16>("group_norm_bf16, 16 pixels, 2 images, 8 groups of 4", group_norm_of_parts_bf16, group_norm_bf16, group_norm_slopes_of_parts_bf16,
      group_norm_backward_bf16, 16, 2, 32, 8, 1, 8, 4, SILU, 1.5e-2);
  row_norm_case<float>("row_norm_f32, layer norm, 37 rows of 45", row_norm_f32, row_norm_backward_f32, 37, 1, 1, 45, true, true, NONE, 5e-6);
  row_norm_case<float>("row_norm_f32, RMS norm and SiLU, 9 rows of 300", row_norm_f32, row_norm_backward_f32, 9, 1, 1, 300, false, false, SILU, 5e-6);
  row_norm_case<float>("row_norm_f32, RMS norm, offset and SiLU, 7 pixels, 3 clips of 5 images", row_norm_f32, row_norm_backward_f32, 7, 15, 3, 20, false, true, SILU, 5e-6);
  row_norm_case<float>("row_norm_f32 of 2 values a lane, 71 rows of 52", row_norm_f32, row_norm_backward_f32_v2, 71, 1, 1, 52, true, true, SILU, 5e-6);
  row_norm_case<float>("row_norm_f32 of 4 values a lane, RMS norm, 9 pixels, 2 clips of 3 images of 100", row_norm_f32, row_norm_backward_f32_v4, 9, 6, 2, 100, false, true, SILU, 5e-6);
  row_norm_case<float>("row_norm_f32 of 8 values a lane, 66 rows of 199", row_norm_f32, row_norm_backward_f32_v8, 66, 1, 1, 199, true, true, NONE, 5e-6);
  row_norm_case<float>("row_norm_f32 of 16 values a lane, RMS norm, 13 rows of 480", row_norm_f32, row_norm_backward_f32_v16, 13, 1, 1, 480, false, false, SILU, 5e-6);
  row_norm_case<f16>("row_norm_f16, RMS norm, 33 rows of 24", row_norm_f16, row_norm_backward_f16, 33, 1, 1, 24, false, false, NONE, 3e-3);
  row_norm_case<bf16>("row_norm_bf16, layer norm, 5 rows of 64", row_norm_bf16, row_norm_backward_bf16, 5, 1, 1, 64, true, true, SILU, 1.5e-2);
  noise_case();
  frames_cases();
  optimizer_cases();
#define RESAMPLING_CASE(S, T, TOLERANCE) \
  resampling_case<T>("spread2, gather2, resize_axis, patchify " #S, spread2_##S, gather2_##S, resize_axis_##S, patchify_##S, TOLERANCE);
  EACH_TYPE(RESAMPLING_CASE)
#define ELEMENTWISE_CASE(S, T, TOLERANCE)                                                                              \
  elementwise_case<T>("activation, geglu, add, concatenate " #S, activation_##S, activation_backward_##S, geglu_##S,    \
                      geglu_backward_##S, add_##S, concatenate_##S, TOLERANCE);
  EACH_TYPE(ELEMENTWISE_CASE)
  add_row_case();
  round_case("round_bf16, 2115 numbers", 2115, 0);
  round_case("round_bf16, 77 numbers that are not aligned", 77, 1);
}
}  // namespace check
