#include "nn/number_list.h"

#include <array>
#include <charconv>
#include <cmath>

#include "core/error.h"

namespace llsa::nn {

std::vector<double> number_list(const std::string& text) {
  std::vector<double> numbers;
  const char* at = text.data();
  for (const char* const end = at + text.size();; ++at) {
    double number = 0;
    const auto [next, error] = std::from_chars(at, end, number);
    if (error != std::errc() || !std::isfinite(number) || (next != end && *next != ','))
      throw ValueError(cat("expected numbers with commas between them, got '", text, "'"));
    numbers.push_back(number);
    at = next;
    if (at == end) return numbers;
  }
}

std::string number_text(double number) {
  std::array<char, 32> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), number).ptr};
}

}  // namespace llsa::nn
