#include "core/machine.h"

#include <doctest/doctest.h>
#include <sched.h>

#include <filesystem>
#include <string>
#include <thread>

#include "tests/support/files.h"

using namespace llsa;

TEST_SUITE_BEGIN("core/machine");

TEST_CASE("processors and memory are plausible") {
  CHECK(available_processors() >= 1);
  CHECK(available_memory() >= (std::size_t{1} << 26));
  CHECK(total_memory() >= available_memory());
  CHECK_FALSE(processor_name().empty());
}

namespace {

/// A folder that stands for the root of a machine.
struct Machine {
  const test::TempDir root;

  void file(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root.path() + path).parent_path());
    test::write_file(root.path() + path, text);
  }
};

}  // namespace

TEST_CASE("available memory is what the machine has free, not what it has") {
  const Machine machine;
  machine.file("/proc/meminfo",
               "MemTotal:  64000 kB\nMemFree:  1000 kB\nMemAvailable:  8000 kB\nSwapFree: 9000 kB\n");
  CHECK(available_memory(machine.root.path()) == 8000 * 1024);
  CHECK(total_memory(machine.root.path()) == 64000 * 1024);
}

TEST_CASE("control groups of version 2 narrow memory and processors on every level") {
  const Machine machine;
  machine.file("/proc/meminfo", "MemTotal:  64000 kB\nMemAvailable:  8000 kB\n");
  machine.file("/proc/self/cgroup", "0::/batch/job/step\n");
  machine.file("/sys/fs/cgroup/batch/job/step/memory.max", "max\n");
  machine.file("/sys/fs/cgroup/batch/job/step/cpu.max", "max 100000\n");
  machine.file("/sys/fs/cgroup/batch/job/memory.max", "5000000\n");
  machine.file("/sys/fs/cgroup/batch/job/memory.current", "4000000\n");
  machine.file("/sys/fs/cgroup/batch/job/memory.stat", "anon 1\ninactive_anon 7\ninactive_file 300000\n");
  machine.file("/sys/fs/cgroup/batch/cpu.max", "50000 100000\n");
  CHECK(available_memory(machine.root.path()) == 1300000);
  CHECK(total_memory(machine.root.path()) == 5000000);
  CHECK(available_processors(machine.root.path()) == 1);
  machine.file("/sys/fs/cgroup/memory.max", "900000\n");  // a container sees its own group as the root
  CHECK(available_memory(machine.root.path()) == 900000);
  machine.file("/sys/fs/cgroup/memory.current", "900001\n");
  CHECK(available_memory(machine.root.path()) == 0);
}

TEST_CASE("control groups of version 1 narrow memory and processors on every level") {
  const Machine machine;
  machine.file("/proc/meminfo", "MemTotal:  64000 kB\nMemAvailable:  8000 kB\n");
  machine.file("/proc/self/cgroup", "9:cpu,cpuacct:/job\n4:memory:/job/step\n0::/\n");
  machine.file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");  // none
  machine.file("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "6000000\n");
  machine.file("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "2000000\n");
  machine.file("/sys/fs/cgroup/memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 50000\n");
  machine.file("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "80000\n");
  machine.file("/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  machine.file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  CHECK(available_memory(machine.root.path()) == 4050000);
  CHECK(total_memory(machine.root.path()) == 6000000);
  CHECK(available_processors(machine.root.path()) == 1);
}

TEST_CASE("the processor is named as the system names it") {
  const Machine machine;
  CHECK(processor_name(machine.root.path()) == "processor of unknown name");
  machine.file("/proc/cpuinfo",
               "processor\t: 0\nmodel\t\t: 1\nmodel name\t: Some CPU: 3 GHz\nmodel name\t: other\n");
  CHECK(processor_name(machine.root.path()) == "Some CPU: 3 GHz");
}

TEST_CASE("affinity narrows the number of processors") {
  int narrowed = 0;
  std::thread([&] {  // affinity belongs to a thread
    cpu_set_t all;
    cpu_set_t one;
    sched_getaffinity(0, sizeof all, &all);
    CPU_ZERO(&one);
    int first = 0;
    while (!CPU_ISSET(first, &all)) ++first;
    CPU_SET(first, &one);
    sched_setaffinity(0, sizeof one, &one);
    narrowed = available_processors();
  })
      .join();
  CHECK(narrowed == 1);
}

TEST_SUITE_END();
