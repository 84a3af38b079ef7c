// What cpu_check says, against what the kernel says in /proc/cpuinfo.
#include "core/cpu_check.h"

#include <doctest/doctest.h>

#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace {

#if defined(__aarch64__)
constexpr const char* kLine = "Features";
const std::vector<std::string> kSome = {"atomics", "sve", "sve2"};
/// Names of the compiler's macros that the kernel calls otherwise.
const std::map<std::string, std::string> kKernelNames = {
    {"qrdmx", "asimdrdm"}, {"fp16_vector_arithmetic", "asimdhp"}, {"dotprod", "asimddp"}, {"complex", "fcma"},
    {"rcpc", "lrcpc"},     {"bf16_vector_arithmetic", "bf16"},    {"matmul_int8", "i8mm"}};
#else
constexpr const char* kLine = "flags";
const std::vector<std::string> kSome = {"avx2", "avx512f", "xop"};
const std::map<std::string, std::string> kKernelNames = {{"bmi", "bmi1"},
                                                         {"avx512vbmi2", "avx512_vbmi2"},
                                                         {"avx512vnni", "avx512_vnni"},
                                                         {"avx512bitalg", "avx512_bitalg"},
                                                         {"avx512vpopcntdq", "avx512_vpopcntdq"}};
#endif

/// The line of /proc/cpuinfo that lists extensions, with a space at both ends; empty when there is none, as in
/// an emulator, which may show the file of its host.
std::string processor_flags() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(kLine, 0) == 0) return line.substr(line.find(':') + 1) + " ";
  }
  return {};
}

}  // namespace

TEST_SUITE_BEGIN("core/cpu_check");

TEST_CASE("this processor can run what was compiled for it") {
  CHECK(llsa::missing_cpu_feature() == nullptr);
  std::istringstream compiled(llsa::compiled_cpu_features());
  const std::string flags = processor_flags();
  if (flags.empty()) {
    std::cout << "skipped: /proc/cpuinfo lists no extensions\n";
    return;
  }
  for (std::string name; compiled >> name;) {
    const auto other = kKernelNames.find(name);
    if (other != kKernelNames.end()) name = other->second;
    INFO(name);
    CHECK(flags.find(" " + name + " ") != std::string::npos);
  }
}

TEST_CASE("the missing extension is named") {
  const std::string flags = processor_flags();
  if (flags.empty()) {
    std::cout << "skipped: /proc/cpuinfo lists no extensions\n";
    return;
  }
  for (const std::string& name : kSome) {
    INFO(name);
    const char* missing = llsa::missing_cpu_feature(("sse4_2x " + name).c_str());
    if (flags.find(" " + name + " ") != std::string::npos) {
      CHECK(missing == nullptr);
    } else {
      REQUIRE(missing != nullptr);
      CHECK(missing == name);
    }
  }
}

TEST_SUITE_END();
