// The vectorised elementary functions against the f64 standard library.
#include "kernels/cpu/vec_math.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

TEST_SUITE_BEGIN("kernels/vec_math");

namespace {

namespace vec = llsa::kernels::cpu;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// Distance of a float from the true value, in units in the last place of the true value (denormals: of
/// 2^-149).
double ulps(float got, double want) {
  if (std::isnan(want)) return std::isnan(got) ? 0 : kInf;
  const auto rounded = static_cast<float>(want);
  if (got == rounded) return 0;
  if (std::isinf(rounded) || std::isinf(got)) {
    // Overflow may set in one unit early or late.
    return std::abs(want) > 3.4028233e38 && std::abs(want) < 3.4028238e38 ? 1 : kInf;
  }
  int exponent = 0;
  std::frexp(std::abs(want), &exponent);
  return std::abs(static_cast<double>(got) - want) / std::ldexp(1.0, std::max(exponent, -125) - 24);
}

/// Largest error over a sweep of all bit patterns with a prime stride, and where.
struct Worst {
  double error = 0;
  float at = 0;
};

template <class Low, class High>
Worst sweep(Low&& f, High&& reference, float from = -kInf, float to = kInf) {
  constexpr std::size_t kBatch = 4096;
  constexpr std::uint64_t kStride = 1657;
  Worst worst;
  float x[kBatch];
  float y[kBatch];
  for (std::uint64_t base = 0; base < (std::uint64_t{1} << 32); base += kBatch * kStride) {
    for (std::size_t i = 0; i < kBatch; ++i)
      x[i] = std::bit_cast<float>(static_cast<std::uint32_t>(base + i * kStride));
#pragma omp simd
    for (std::size_t i = 0; i < kBatch; ++i) y[i] = f(x[i]);
    for (std::size_t i = 0; i < kBatch; ++i) {
      if (x[i] < from || x[i] > to) continue;
      const double error = ulps(y[i], reference(static_cast<double>(x[i])));
      if (!(error <= worst.error)) worst = {error, x[i]};
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("errors stay within the promised units in the last place") {
  const auto check = [](const char* name, const Worst& worst, double bound) {
    CAPTURE(name);
    CAPTURE(worst.at);
    CAPTURE(worst.error);
    CHECK(worst.error <= bound);
  };
  check("exp", sweep([](float x) { return vec::exp(x); }, [](double x) { return std::exp(x); }), 2);
  check(
      "exp_flush",
      sweep([](float x) { return vec::exp_flush(x); }, [](double x) { return std::exp(x); }, -87.29f, 88.0f),
      2);
  check("log", sweep([](float x) { return vec::log(x); }, [](double x) { return std::log(x); }), 2);
  check("tanh", sweep([](float x) { return vec::tanh(x); }, [](double x) { return std::tanh(x); }), 2);
  check("sigmoid",
        sweep([](float x) { return vec::sigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); }), 2.5);
  check("erf", sweep([](float x) { return vec::erf(x); }, [](double x) { return std::erf(x); }), 2);
}

TEST_CASE("limits, zeros and NaN") {
  CHECK(vec::exp(0.0f) == 1.0f);
  CHECK(vec::exp(-0.0f) == 1.0f);
  CHECK(vec::exp(kInf) == kInf);
  CHECK(vec::exp(-kInf) == 0.0f);
  CHECK(vec::exp(89.0f) == kInf);
  CHECK(vec::exp(-100.0f) > 0.0f);
  CHECK(vec::exp(-104.5f) == 0.0f);
  CHECK(std::isnan(vec::exp(kNaN)));
  CHECK(vec::exp_flush(0.0f) == 1.0f);
  CHECK(vec::exp_flush(-88.0f) == 0.0f);
  CHECK(vec::exp_flush(-kInf) == 0.0f);
  CHECK(std::isnan(vec::exp_flush(kNaN)));
  CHECK(vec::log(1.0f) == 0.0f);
  CHECK(vec::log(0.0f) == -kInf);
  CHECK(vec::log(-0.0f) == -kInf);
  CHECK(vec::log(kInf) == kInf);
  CHECK(std::isnan(vec::log(-1.0f)));
  CHECK(std::isnan(vec::log(-kInf)));
  CHECK(std::isnan(vec::log(kNaN)));
  CHECK(std::abs(vec::log(1e-45f) - -103.2789f) <= 1e-4f);
  for (const float sign : {1.0f, -1.0f}) {
    CHECK(vec::tanh(sign * kInf) == sign);
    CHECK(vec::erf(sign * kInf) == sign);
    CHECK(std::signbit(vec::tanh(sign * 0.0f)) == (sign < 0));
    CHECK(std::signbit(vec::erf(sign * 0.0f)) == (sign < 0));
    CHECK(vec::tanh(sign * 1e-40f) == sign * 1e-40f);
  }
  CHECK(std::isnan(vec::tanh(kNaN)));
  CHECK(std::isnan(vec::erf(kNaN)));
  CHECK(vec::sigmoid(kInf) == 1.0f);
  CHECK(vec::sigmoid(-kInf) == 0.0f);
  CHECK(vec::sigmoid(0.0f) == 0.5f);
  CHECK(std::isnan(vec::sigmoid(kNaN)));
}

TEST_SUITE_END();
