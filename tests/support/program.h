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

/// Arguments that train a tiny model for some steps.
inline std::string tiny_training(const std::string& data, const std::string& out,
                                 const std::string& more = "--steps 2", int batch = 2) {
  return "train --data " + data + " --out " + out +
         " --size 8 --dim 16 --heads 2 --depth 1 --block 4 --topk 2 --sample-count 2 "
         "--sample-steps 2 --threads 1 --batch " +
         std::to_string(batch) + " " + more;
}

}  // namespace llsa::test
