// The products that the CPU kernels are made of, f32 and bf16, against plain loops in f64: small sizes in all layouts, and with
// room between the lines of every matrix. Libraries of products go astray at such edges, each version at others.
#include "kernels/cpu/gemm.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "core/philox.h"

using namespace llsa;
using llsa::kernels::cpu::gemm;
using llsa::kernels::cpu::MatrixRef;

namespace {

constexpr float kUnset = std::numeric_limits<float>::quiet_NaN();

enum class Start { zero, bias, accumulate };

/// How the matrices of one product lie in memory. A gap is the room after each line.
struct Case {
  bool a_transposed, b_transposed;
  std::int64_t a_gap, b_gap, c_gap;
  Start start;
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const bool a_transposed : {false, true})
    for (const bool b_transposed : {false, true})
      for (const std::int64_t a_gap : {0, 3})
        for (const std::int64_t b_gap : {0, 2})
          for (const std::int64_t c_gap : {0, 5})
            for (const Start start : {Start::zero, Start::bias, Start::accumulate})
              cases.push_back({a_transposed, b_transposed, a_gap, b_gap, c_gap, start});
  return cases;
}

/// One of all_cases() after the other. The step is prime to their number, so every extent meets every case.
class CasesInTurn {
 public:
  const Case& next() { return cases_[(turn_ += 5) % cases_.size()]; }

 private:
  std::vector<Case> cases_ = all_cases();
  std::size_t turn_ = 0;
};

/// Element (i,j) of matrix number `which`: about normal, exact in bf16.
double value(int which, std::int64_t i, std::int64_t j) {
  static const std::vector<double> values = [] {
    const Philox philox{3, 1};
    std::vector<double> drawn(1009);
    for (std::size_t n = 0; n < drawn.size(); ++n)
      drawn[n] = static_cast<double>(static_cast<float>(bf16(philox.normal(n))));
    return drawn;
  }();
  return values[static_cast<std::size_t>((which * 499 + i * 61 + j) % 1009)];
}

/// A matrix in memory, with NaN in its gaps, which no product may read.
template <class T>
struct Matrix {
  std::vector<T> memory;
  MatrixRef<T> ref;

  Matrix(int which, std::int64_t rows, std::int64_t cols, bool transposed, std::int64_t gap) {
    const std::int64_t ld = (transposed ? rows : cols) + gap;
    memory.assign(static_cast<std::size_t>((transposed ? cols : rows) * ld), T(kUnset));
    ref = {memory.data(), transposed ? 1 : ld, transposed ? ld : 1};
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j)
        memory[static_cast<std::size_t>(i * ref.row + j * ref.col)] =
            T(static_cast<float>(value(which, i, j)));
  }
};

/// Products of one size, computed once in f64.
class Size {
 public:
  Size(std::int64_t m, std::int64_t n, std::int64_t k) : m_(m), n_(n), k_(k) {
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = 0, absolute = 0;
        for (std::int64_t p = 0; p < k; ++p) {
          const double term = value(0, i, p) * value(1, p, j);
          sum += term;
          absolute += std::abs(term);
        }
        sum_.push_back(sum);
        absolute_.push_back(absolute);
      }
  }

  /// The number of elements that are wrong, or that were written though they are none of the product's.
  template <class T>
  int wrong(const Case& c) const {
    const Matrix<T> a(0, m_, k_, c.a_transposed, c.a_gap), b(1, k_, n_, c.b_transposed, c.b_gap);
    const std::int64_t ldc = n_ + c.c_gap;
    std::vector<float> bias, out(static_cast<std::size_t>(m_ * ldc), kUnset);
    for (std::int64_t j = 0; j < n_; ++j) bias.push_back(static_cast<float>(value(2, 0, j)));
    if (c.start == Start::accumulate) {
      for (std::int64_t i = 0; i < m_; ++i)
        for (std::int64_t j = 0; j < n_; ++j)
          out[static_cast<std::size_t>(i * ldc + j)] = bias[static_cast<std::size_t>(j)];
    }
    gemm(m_, n_, k_, a.ref, b.ref, c.start == Start::bias ? bias.data() : nullptr, out.data(), ldc,
         c.start == Start::accumulate);
    int count = 0;
    std::size_t at = 0;
    for (std::int64_t i = 0; i < m_; ++i)
      for (std::int64_t j = 0; j < ldc; ++j) {
        const double got = static_cast<double>(out[static_cast<std::size_t>(i * ldc + j)]);
        if (j >= n_) {
          count += !std::isnan(got);
          continue;
        }
        const double first =
            c.start == Start::zero ? 0.0 : static_cast<double>(bias[static_cast<std::size_t>(j)]);
        const double limit = 6e-8 * static_cast<double>(k_ + 1) * (absolute_[at] + std::abs(first));
        count += !(std::abs(got - sum_[at] - first) <= limit);
        ++at;
      }
    return count;
  }

  void check(const Case& c) const {
    const int f32 = wrong<float>(c), bf = wrong<bf16>(c);
    CAPTURE(m_);
    CAPTURE(n_);
    CAPTURE(k_);
    CAPTURE(c.a_transposed);
    CAPTURE(c.b_transposed);
    CAPTURE(c.a_gap);
    CAPTURE(c.b_gap);
    CAPTURE(c.c_gap);
    CAPTURE(static_cast<int>(c.start));
    CHECK(f32 == 0);
    CHECK(bf == 0);
  }

 private:
  std::int64_t m_, n_, k_;
  std::vector<double> sum_, absolute_;  ///< of the terms, and of what they are without their signs
};

}  // namespace

TEST_SUITE_BEGIN("kernels/gemm");

TEST_CASE("all sizes from 1 to 17, layouts and strides in turn") {
  CasesInTurn cases;
  for (std::int64_t m = 1; m <= 17; ++m)
    for (std::int64_t n = 1; n <= 17; ++n)
      for (std::int64_t k = 1; k <= 17; ++k) Size(m, n, k).check(cases.next());
}

TEST_CASE("smallest and full vectors, in all layouts and strides") {
  const std::int64_t extents[] = {1, 2, 16, 17};
  for (const std::int64_t m : extents)
    for (const std::int64_t n : extents)
      for (const std::int64_t k : extents) {
        const Size size(m, n, k);
        for (const Case& c : all_cases()) size.check(c);
      }
}

TEST_CASE("sizes around 64 and 256, layouts and strides in turn") {
  const std::int64_t others[] = {1, 2, 5, 64};
  CasesInTurn cases;
  for (const std::int64_t extent : {63, 64, 65, 255, 256, 257})
    for (const std::int64_t one : others)
      for (const std::int64_t two : others)
        for (const Size& size : {Size(extent, one, two), Size(one, extent, two), Size(one, two, extent)})
          for (int repeat = 0; repeat < 6; ++repeat) size.check(cases.next());
}

// oneDNN chooses its code by the processor when it is first called: only another process can hold it to less.
TEST_CASE("the same with oneDNN held to AVX2") {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
    const std::string command =
        "DNNL_MAX_CPU_ISA=AVX2 '" + program + "' -ts=kernels/gemm -tce='*held to AVX2'";
    const std::string failed = " | grep -v '^===' | tail -40 >&2; exit 1";
    CHECK(std::system(("out=$(" + command + " 2>&1) || { echo \"$out\"" + failed + "; }").c_str()) == 0);
    return;
  }
#endif
  std::cout << "skipped: oneDNN has no instructions beyond AVX2 to be kept from here\n";
}

TEST_SUITE_END();
