#include "core/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <limits>
#include <locale>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"

namespace llsa {
namespace {

/// Reads numbers from the beginning of a file. A number that is not there ("max", no such file) becomes 0.
template <class... Numbers>
void read_numbers(const std::string& path, Numbers&... numbers) {
  std::ifstream file(path);
  file.imbue(std::locale::classic());
  (file >> ... >> numbers);
}

double number_in(const std::string& path) {
  double value = 0;
  read_numbers(path, value);
  return value;
}

/// The number behind a word; 0 if it is not there.
double number_after(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  file.imbue(std::locale::classic());
  std::string word;
  double value = 0;
  while (file >> word)
    if (word == key) file >> value;
  return value;
}

/// Folders of the control groups of version 2 (no controller) or 1 that hold this process, innermost first. Inside a
/// container the innermost ones may be invisible.
std::vector<std::string> control_groups(const std::string& root, const std::string& controller) {
  std::vector<std::string> folders;
  const std::string mount = root + "/sys/fs/cgroup" + (controller.empty() ? "" : "/" + controller);
  std::ifstream file(root + "/proc/self/cgroup");
  std::string number, names, path;  // "0::/a/b", "4:cpu,cpuacct:/a/b"
  while (std::getline(file, number, ':') && std::getline(file, names, ':') && std::getline(file, path)) {
    names = cat(',', names, ',');
    if (names.find(cat(',', controller, ',')) == std::string::npos) continue;
    for (std::filesystem::path folder = mount + path; folder.string().size() >= mount.size();
         folder = folder.parent_path())
      folders.push_back(folder.string());
  }
  return folders;
}

/// The quota divided by the period, in processors; infinity without a quota.
double processor_quota(const std::string& root) {
  double least = std::numeric_limits<double>::infinity();
  const auto narrow = [&](double quota, double period) {
    if (quota > 0 && period > 0) least = std::min(least, quota / period);
  };
  for (const std::string& group : control_groups(root, "")) {
    double quota = 0, period = 0;
    read_numbers(group + "/cpu.max", quota, period);  // "200000 100000" or "max 100000"
    narrow(quota, period);
  }
  for (const std::string& group : control_groups(root, "cpu"))  // -1 without a quota
    narrow(number_in(group + "/cpu.cfs_quota_us"), number_in(group + "/cpu.cfs_period_us"));
  return least;
}

/// The rest of a control group's limit; infinity without a limit. The usage includes cached files. Only the inactive ones
/// are counted as free, because they are certain to be dropped when memory runs out.
double left_in(double limit, double used, double inactive_files) {
  if (!(limit > 0)) return std::numeric_limits<double>::infinity();
  return std::max(0.0, limit - used + inactive_files);
}

}  // namespace

int available_processors(const std::string& root) {
  int count = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
  const double quota = std::ceil(processor_quota(root));
  if (quota < count) count = static_cast<int>(quota);
  return std::max(1, count);
}

std::size_t available_memory(const std::string& root) {
  double bytes = 1024 * number_after(root + "/proc/meminfo", "MemAvailable:");
  if (!(bytes > 0))
    bytes = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  for (const std::string& group : control_groups(root, ""))
    bytes = std::min(bytes, left_in(number_in(group + "/memory.max"), number_in(group + "/memory.current"),
                                    number_after(group + "/memory.stat", "inactive_file")));
  for (const std::string& group : control_groups(root, "memory"))
    bytes = std::min(bytes, left_in(number_in(group + "/memory.limit_in_bytes"),
                                    number_in(group + "/memory.usage_in_bytes"),
                                    number_after(group + "/memory.stat", "total_inactive_file")));
  return static_cast<std::size_t>(bytes);
}

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "";
}

std::string processor_set() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::string text;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i) text += CPU_ISSET(i, &set) ? '1' : '0';
  return text;
}

std::size_t total_memory(const std::string& root) {
  double bytes = 1024 * number_after(root + "/proc/meminfo", "MemTotal:");
  const auto narrow = [&](const std::string& limit) {
    if (const double most = number_in(limit); most > 0) bytes = std::min(bytes, most);
  };
  for (const std::string& group : control_groups(root, "")) narrow(group + "/memory.max");
  for (const std::string& group : control_groups(root, "memory")) narrow(group + "/memory.limit_in_bytes");
  return static_cast<std::size_t>(bytes);
}

std::string processor_name(const std::string& root) {
  std::ifstream file(root + "/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (const std::size_t colon = line.find(": ");
        colon != std::string::npos && line.starts_with("model name"))
      return line.substr(colon + 2);
  return "processor of unknown name";
}

}  // namespace llsa
