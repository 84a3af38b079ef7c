// Compares the instruction sets of the build with those of the processor. This file is compiled without
// -march or -mcpu. It calls no template or inline function of the C++ library: the linker keeps one copy of each,
// and that copy may come from a file that was compiled for a newer processor.
#include "core/cpu_check.h"

#include <cstring>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace llsa {

namespace {

struct Feature {
  const char* name;  // as in LLSA_COMPILED_FOR
  bool present;
};

// Whether `name` is one of the words of `words`.
bool has_word(const char* words, const char* name) noexcept {
  const std::size_t length = std::strlen(name);
  for (const char* at = std::strstr(words, name); at != nullptr; at = std::strstr(at + 1, name)) {
    const bool begins = at == words || at[-1] == ' ';
    const bool ends = at[length] == ' ' || at[length] == '\0';
    if (begins && ends) return true;
  }
  return false;
}

}  // namespace

const char* compiled_cpu_features() noexcept { return LLSA_COMPILED_FOR; }

const char* missing_cpu_feature(const char* needed) noexcept {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const Feature features[] = {
      {"xop", __builtin_cpu_supports("xop") != 0},  // no compiler asks for it; old AMD processors had it
      {"popcnt", __builtin_cpu_supports("popcnt") != 0},
      {"sse4_2", __builtin_cpu_supports("sse4.2") != 0},
      {"avx", __builtin_cpu_supports("avx") != 0},
      {"avx2", __builtin_cpu_supports("avx2") != 0},
      {"bmi", __builtin_cpu_supports("bmi") != 0},
      {"bmi2", __builtin_cpu_supports("bmi2") != 0},
      {"fma", __builtin_cpu_supports("fma") != 0},
      {"avx512f", __builtin_cpu_supports("avx512f") != 0},
      {"avx512cd", __builtin_cpu_supports("avx512cd") != 0},
      {"avx512vl", __builtin_cpu_supports("avx512vl") != 0},
      {"avx512bw", __builtin_cpu_supports("avx512bw") != 0},
      {"avx512dq", __builtin_cpu_supports("avx512dq") != 0},
      {"avx512ifma", __builtin_cpu_supports("avx512ifma") != 0},
      {"avx512vbmi", __builtin_cpu_supports("avx512vbmi") != 0},
      {"avx512vbmi2", __builtin_cpu_supports("avx512vbmi2") != 0},
      {"avx512vnni", __builtin_cpu_supports("avx512vnni") != 0},
      {"avx512bitalg", __builtin_cpu_supports("avx512bitalg") != 0},
      {"avx512vpopcntdq", __builtin_cpu_supports("avx512vpopcntdq") != 0},
  };
#elif defined(__aarch64__)
  const unsigned long has = getauxval(AT_HWCAP), has2 = getauxval(AT_HWCAP2);
  const Feature features[] = {
      {"atomics", (has & HWCAP_ATOMICS) != 0},
      {"qrdmx", (has & HWCAP_ASIMDRDM) != 0},
      {"fp16_vector_arithmetic", (has & HWCAP_ASIMDHP) != 0},
      {"dotprod", (has & HWCAP_ASIMDDP) != 0},
      {"complex", (has & HWCAP_FCMA) != 0},
      {"sha3", (has & HWCAP_SHA3) != 0},
      {"rcpc", (has & HWCAP_LRCPC) != 0},
      {"sve", (has & HWCAP_SVE) != 0},
      {"sve2", (has2 & HWCAP2_SVE2) != 0},
      {"bf16_vector_arithmetic", (has2 & HWCAP2_BF16) != 0},
      {"matmul_int8", (has2 & HWCAP2_I8MM) != 0},
  };
#else
  const Feature features[] = {{"", true}};  // nothing is known of other processors
#endif
  for (const Feature& feature : features) {
    if (!feature.present && has_word(needed, feature.name)) return feature.name;
  }
  return nullptr;
}

}  // namespace llsa
