// What cpu_check says, against what the kernel says in /proc/cpuinfo.
#include "core/cpu_check.h"

#include <doctest/doctest.h>

#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

namespace {

// The line "flags" of /proc/cpuinfo with a space at both ends; empty when there is none.
std::string processor_flags() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("flags", 0) == 0) return line.substr(line.find(':') + 1) + " ";
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
    std::cout << "skipped: /proc/cpuinfo lists no flags\n";
    return;
  }
  for (std::string name; compiled >> name;) {
    if (name == "bmi") name = "bmi1";
    if (name.rfind("avx512v", 0) == 0 && name != "avx512vl" && name != "avx512vbmi") name.insert(6, "_");
    if (name == "avx512bitalg") name = "avx512_bitalg";
    INFO(name);
    CHECK(flags.find(" " + name + " ") != std::string::npos);
  }
}

TEST_CASE("the missing extension is named") {
  const std::string flags = processor_flags();
  if (flags.empty()) {
    std::cout << "skipped: /proc/cpuinfo lists no flags\n";
    return;
  }
  for (const std::string name : {"avx2", "avx512f", "xop"}) {
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
