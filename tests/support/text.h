// Texts of messages, as tests look at them.
#pragma once

#include <string>

namespace llsa::test {

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// "MESSAGE | HINT" of the Failure, an llsa::Error, that f throws, "MESSAGE" without a hint; empty when it throws none.
template <class Failure, class F>
std::string failure_of(F&& f) {
  try {
    f();
  } catch (const Failure& error) {
    return error.what() + (error.hint().empty() ? std::string() : " | " + error.hint());
  }
  return "";
}

}  // namespace llsa::test
