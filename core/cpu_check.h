// Whether this processor can run what the library was compiled for.
#pragma once

namespace llsa {

/// Instruction-set extensions that the library was compiled for, separated by spaces: "avx avx2 fma" on x86,
/// "atomics dotprod sve" on aarch64, where the baseline includes NEON. The names are those of the compiler's
/// macros, __AVX2__ and __ARM_FEATURE_SVE, in lower case.
const char* compiled_cpu_features() noexcept;

/// The first word of `needed` that names an extension this processor lacks, as a name of static storage, or
/// nullptr when it can run everything; words that are not known do not count. Compiled for any processor,
/// uses nothing of the C++ library: safe to call before anything else.
const char* missing_cpu_feature(const char* needed = compiled_cpu_features()) noexcept;

}  // namespace llsa
