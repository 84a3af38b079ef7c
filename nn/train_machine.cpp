#include "nn/train_machine.h"

#include <sys/utsname.h>

#include "core/error.h"
#include "core/machine.h"
#include "kernels/matmul.h"
#include "nn/train_memory.h"

namespace llsa::nn {

std::string machine_text(Context& ctx, int processes) {
  utsname system = {};
  uname(&system);
  const std::string commit = LLSA_COMMIT, device = kernels::product_choices(ctx).machine;
  return cat("llsa " LLSA_VERSION, commit.empty() ? "" : ", commit ", commit, ", compiler version ",
             __VERSION__, "; ", processor_name(), ", ", available_processors(), " processors, ",
             bytes_text(static_cast<double>(total_memory())), " of memory, ", system.sysname, " ",
             system.release, "; computing on ", ctx.device().is_cpu() ? "" : ctx.device().str() + ", ",
             device, ", with ", ctx.pool().threads(), " threads",
             processes > 1 ? cat(" in the first of ", processes, " processes") : std::string());
}

}  // namespace llsa::nn
