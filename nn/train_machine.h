// What a training runs on.
#pragma once

#include <string>

#include "../core/context.h"

namespace llsa::nn {

/// "llsa 0.1.0, commit 0123abc, compiler version 12.2.0; AMD EPYC 9654, 8 processors, 31 GiB of memory, Linux 6.1.0; computing on
/// cpu, oneDNN 3.7.2, with 8 threads". Of several processes it is what the first one runs on.
std::string machine_text(Context& ctx, int processes = 1);

}  // namespace llsa::nn
