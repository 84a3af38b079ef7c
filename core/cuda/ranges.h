// Named ranges on the host's time line (NVTX), which Nsight Systems shows above the kernels launched within them. Without
// such a tool they do next to nothing. In a build without CUDA, or whose toolkit lacks nvtx3, there are none.
#pragma once

namespace llsa::cuda {

bool has_ranges();
/// A range lasts from push_range to the matching pop_range of the same thread.
void push_range(const char* name);
void pop_range();

}  // namespace llsa::cuda
