// A whole text as a number.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

namespace llsa {

/// The number that the text is, from its first character to its last, in any locale; nothing for another text, and for
/// a number that Number cannot hold. A floating Number takes "inf" and "nan", too.
template <class Number>
std::optional<Number> as_number(std::string_view text) {
  Number number = {};
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const auto [stop, error] = std::from_chars(begin, end, number);
  return error == std::errc() && stop == end ? std::optional(number) : std::nullopt;
}

}  // namespace llsa
