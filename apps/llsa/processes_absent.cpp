// The processes of a build without MPI: one.
#include "apps/llsa/processes.h"
#include "core/error.h"

namespace llsa::apps {

std::unique_ptr<Communicator> join_processes() {
  if (const Launch launch = launch_of_environment(); launch.size > 1)
    throw Error(cat("this is one of ", launch.size,
                    " processes, which would all write one run folder: this build of llsa has no MPI"),
                "install MPI (libopenmpi-dev) and build again, or start one process without mpirun");
  return nullptr;
}

void end_processes(int) noexcept {}

}  // namespace llsa::apps
