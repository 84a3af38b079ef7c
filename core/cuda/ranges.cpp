#include "core/cuda/ranges.h"

#if __has_include(<nvtx3/nvToolsExt.h>)

#include <nvtx3/nvToolsExt.h>

namespace llsa::cuda {

bool has_ranges() { return true; }
void push_range(const char* name) { static_cast<void>(nvtxRangePushA(name)); }
void pop_range() { static_cast<void>(nvtxRangePop()); }

}  // namespace llsa::cuda

#else

namespace llsa::cuda {

bool has_ranges() { return false; }
void push_range(const char*) {}
void pop_range() {}

}  // namespace llsa::cuda

#endif
