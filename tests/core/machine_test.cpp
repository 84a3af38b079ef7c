#include "core/machine.h"

#include <doctest/doctest.h>
#include <sched.h>

#include <thread>

using namespace llsa;

TEST_SUITE_BEGIN("core/machine");

TEST_CASE("processors and memory are plausible") {
  CHECK(available_processors() >= 1);
  CHECK(available_memory() >= (std::size_t{1} << 26));
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
