// Random cases. Everything about a case is derived from its number, so that it can be repeated alone.
//
// A plain run takes the same few cases every time. LLSA_FUZZ_SECONDS=600 makes it draw further ones for ten minutes, from the
// number LLSA_FUZZ_FIRST on. It then writes each number to stderr before the case begins: the last one is the case that
// crashed or does not end.
//
//     LLSA_FUZZ_SECONDS=600 build/address-undefined/tests/llsa_tests -ts='fuzz/*' 2>cases.log
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/philox.h"

namespace llsa::test {

/// The random choices of one case, in order.
class Draw {
 public:
  explicit Draw(std::uint64_t number) : random_{number, 0} {}

  /// In [0, n).
  std::size_t below(std::size_t n) { return random_.below(next_++, static_cast<std::uint32_t>(n)); }
  bool one_in(std::size_t n) { return below(n) == 0; }
  template <class T>
  T from(const std::vector<T>& values) {
    return values[below(values.size())];
  }

 private:
  Philox random_;
  std::uint64_t next_ = 0;
};

/// Calls one(draw) for `count` cases, or for as long as the environment says. A case ends well or with an llsa::Error; any
/// other exception fails the test, which names the case. Returns how many cases ended well.
template <class Case>
std::size_t run_cases(std::uint64_t count, Case&& one) {
  const auto number_in = [](const char* name) {
    const char* const text = std::getenv(name);
    return text ? std::strtoull(text, nullptr, 10) : 0ull;
  };
  const std::chrono::seconds time(number_in("LLSA_FUZZ_SECONDS"));
  const std::uint64_t first = number_in("LLSA_FUZZ_FIRST");
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::steady_clock::now() - start; };
  std::size_t succeeded = 0;
  for (std::uint64_t i = first; i < first + count || elapsed() < time; ++i) {
    if (time.count() > 0) std::fprintf(stderr, "case %llu\n", static_cast<unsigned long long>(i));
    try {
      Draw draw(i);
      one(draw);
      ++succeeded;
    } catch (const Error&) {
    } catch (const std::exception& error) {
      FAIL_CHECK("case " << i << " throws what is no llsa::Error: " << std::string(error.what()));
    }
  }
  return succeeded;
}

}  // namespace llsa::test
