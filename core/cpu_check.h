// Whether this processor can run what the library was compiled for.
#pragma once

namespace llsa {

/// Instruction-set extensions that the library was compiled for, separated by spaces: "avx avx2 fma".
const char* compiled_cpu_features() noexcept;

/// The first of them that this processor lacks, or nullptr when it can run everything. Compiled for any
/// processor, uses nothing of the C++ library: safe to call before anything else.
const char* missing_cpu_feature() noexcept;

}  // namespace llsa
