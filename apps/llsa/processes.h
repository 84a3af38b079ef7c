// The processes of a run that was started by mpirun or srun.
#pragma once

#include <memory>

#include "core/communicator.h"

namespace llsa::apps {

/// What the environment says about this process. `given` is false if nothing that starts several processes has started it.
struct Launch {
  bool given = false;
  int rank = 0, size = 1;
};
Launch launch_of_environment();

/// Connects this process with the others by MPI, which ends with the communicator. Null outside of mpirun, where a process
/// is alone. Throws Error if there are others, and this build has no MPI, or one of another kind than mpirun.
std::unique_ptr<Communicator> join_processes();

/// Whether this process, which has failed, should tell why. Where all fail alike the first one does, and then ends the
/// others, which wait for that. If nothing ends them they have failed alone.
bool has_the_word();

/// Ends the other processes after a failure of this one, if they are connected. Does not return then.
void end_processes(int code) noexcept;

/// "rank 1 of 4 on node7: " for messages of one of several processes; empty for one that is alone.
std::string process_name();

}  // namespace llsa::apps
