#include "nn/train_ranks.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "core/checksum.h"
#include "core/error.h"
#include "core/machine.h"

namespace llsa::nn {
namespace {

/// The first line in which two texts differ, from each of them.
std::pair<std::string, std::string> first_difference(const std::string& a, const std::string& b) {
  std::istringstream lines_a(a), lines_b(b);
  std::string line_a, line_b;
  while (line_a == line_b) {
    if (!std::getline(lines_a, line_a)) line_a.clear();
    if (!std::getline(lines_b, line_b)) line_b.clear();
    if (!lines_a && !lines_b) break;
  }
  const auto trimmed = [](const std::string& line) {
    const std::size_t begin = line.find_first_not_of(' ');
    return begin == std::string::npos ? "nothing" : line.substr(begin);
  };
  return {trimmed(line_a), trimmed(line_b)};
}

}  // namespace

DeviceChoice device_of_rank(const TrainOptions& options, const LocalRank& local) {
  DeviceChoice choice = choose_device(options.device);
  if (choice.device.is_cuda() && (options.device == "auto" || options.device == "cuda"))
    choice.device.index = local.rank;
  return choice;
}

int threads_of_rank(const TrainOptions& options, Communicator& ranks) {
  const auto places = ranks.gather(host_name() + ' ' + processor_set());
  const char* const variable = std::getenv("LLSA_THREADS");
  if (options.threads > 0 || ranks.size() == 1 || (variable != nullptr && *variable != '\0'))
    return static_cast<int>(options.threads);
  const std::string& own = places[static_cast<std::size_t>(ranks.rank())];
  const auto sharing = static_cast<int>(std::count(places.begin(), places.end(), own));
  return std::max(1, available_processors() / sharing);
}

void require_alike(Communicator& ranks, const std::vector<std::pair<std::string, std::string>>& texts) {
  if (ranks.size() == 1) return;
  const std::vector<std::string> hosts = ranks.gather(host_name());
  const auto require = [&](const std::string& what, const std::string& own) {
    const std::vector<std::string> all = ranks.gather(own);
    for (std::size_t r = 1; r < all.size(); ++r) {
      if (all[r] == all[0]) continue;
      const auto [first, other] = first_difference(all[0], all[r]);
      throw ValueError(cat("rank ", r, " on ", hosts[r], " has another ", what, " than rank 0 on ", hosts[0],
                           ": ", other, " instead of ", first),
                       "start all processes from one program, with one command line, on the same files");
    }
  };
  require("program", file_checksum("/proc/self/exe"));
  for (const auto& [what, text] : texts) require(what, text);
}

}  // namespace llsa::nn
