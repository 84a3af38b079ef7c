// Ends the program with a clear message on a processor that is too old for this build.
//
// The initialisers of the other files may already use instructions that the processor does not have, so the
// check runs before them; main() would be too late. At that time only plain system calls can write.
#include <unistd.h>

#include <cstring>

#include "core/cpu_check.h"

namespace {

void write_text(const char* text) {
  [[maybe_unused]] const auto written = write(STDERR_FILENO, text, std::strlen(text));
}

// The priority puts this before all initialisers without one.
[[gnu::constructor(101)]] void require_supported_cpu() {
  const char* missing = llsa::missing_cpu_feature();
  if (missing == nullptr) return;
  write_text("error: this build of llsa needs a processor with ");
  write_text(missing);
  write_text(" (it was compiled for ");
  write_text(llsa::compiled_cpu_features());
  write_text(")\nhint: build it on this machine with `make`\n");
  _exit(1);
}

}  // namespace
