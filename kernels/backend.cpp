// Chooses the table of a context's device.
#include "kernels/backend.h"

namespace llsa::kernels {

const Backend& backend(const Context& ctx) { return ctx.device().is_cpu() ? cpu::table() : cuda::table(); }

}  // namespace llsa::kernels
