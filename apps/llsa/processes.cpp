#include "apps/llsa/processes.h"

#include <chrono>
#include <cstdlib>
#include <optional>
#include <thread>

#include "apps/llsa/stop_signal.h"
#include "core/error.h"
#include "core/machine.h"
#include "core/number.h"

namespace llsa::apps {
namespace {

std::optional<int> number_in(const char* variable) {
  const char* const text = std::getenv(variable);
  return text != nullptr ? as_number<int>(text) : std::nullopt;
}

}  // namespace

Launch launch_of_environment() {
  constexpr const char* kVariables[][2] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},  // Open MPI
                                           {"PMI_RANK", "PMI_SIZE"},                // MPICH, Slurm with PMI2
                                           {"PMIX_RANK", "SLURM_STEP_NUM_TASKS"}};  // Slurm with PMIx
  for (const auto& [rank_variable, size_variable] : kVariables) {
    const auto rank = number_in(rank_variable), size = number_in(size_variable);
    if (rank && size) return {true, *rank, *size};
  }
  return {};
}

bool has_the_word() {
  using namespace std::chrono_literals;
  if (launch_of_environment().rank == 0) return true;
  const bool asked_before = stop_requested();
  listen_for_stop();
  for (int waits = 0; waits < 50; ++waits) {
    if (stop_requested() && !asked_before) return false;
    std::this_thread::sleep_for(100ms);
  }
  return true;
}

std::string process_name() {
  const Launch launch = launch_of_environment();
  return launch.size > 1 ? cat("rank ", launch.rank, " of ", launch.size, " on ", host_name(), ": ") : "";
}

}  // namespace llsa::apps
