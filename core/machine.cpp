#include "core/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <initializer_list>
#include <limits>
#include <locale>
#include <thread>

namespace llsa {
namespace {

/// Reads numbers from the beginning of a file. A number that is not there ("max", no such file) becomes 0.
template <class... Numbers>
void read_numbers(const char* path, Numbers&... numbers) {
  std::ifstream file(path);
  file.imbue(std::locale::classic());
  (file >> ... >> numbers);
}

double number_in(const char* path) {
  double value = 0;
  read_numbers(path, value);
  return value;
}

/// The quota divided by the period, in processors; infinity without a quota.
double processor_quota() {
  double quota = 0;
  double period = 0;
  read_numbers("/sys/fs/cgroup/cpu.max", quota, period);  // version 2: "200000 100000" or "max 100000"
  if (!(quota > 0 && period > 0)) {
    quota = number_in("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");  // version 1: -1 without a quota
    period = number_in("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  }
  return quota > 0 && period > 0 ? quota / period : std::numeric_limits<double>::infinity();
}

}  // namespace

int available_processors() {
  int count = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
  const double quota = std::ceil(processor_quota());
  if (quota < count) count = static_cast<int>(quota);
  return std::max(1, count);
}

std::size_t available_memory() {
  double bytes = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    const double limit = number_in(path);
    if (limit > 0) bytes = std::min(bytes, limit);
  }
  return static_cast<std::size_t>(bytes);
}

}  // namespace llsa
