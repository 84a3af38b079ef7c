// Runs the program llsa as a user does.
#pragma once

#include <doctest/doctest.h>

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>

namespace llsa::test {

struct Outcome {
  int code = -1;
  std::string text;  ///< standard output and error
};

/// Runs a line of the shell; `text` is what it writes to standard output.
inline Outcome shell(const std::string& command) {
  std::FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  Outcome outcome;
  std::array<char, 4096> buffer;
  while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe))
    outcome.text.append(buffer.data(), n);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) outcome.code = WEXITSTATUS(status);
  return outcome;
}

inline Outcome llsa_program(const std::string& arguments) {
  return shell("'" LLSA_PROGRAM "' " + arguments + " 2>&1");
}

}  // namespace llsa::test
