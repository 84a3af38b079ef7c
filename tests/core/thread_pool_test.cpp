// Every chunk exactly once, nesting, turns, exceptions.
#include "core/thread_pool.h"

#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"

using namespace llsa;

TEST_SUITE_BEGIN("core/thread_pool");

TEST_CASE("every chunk runs exactly once, for any number of threads") {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (const int chunks : {0, 1, 2, 3, 17, 1000}) {
      std::vector<int> runs(static_cast<std::size_t>(chunks), 0);  // not atomic: the pool has to order them
      pool.parallel_for(chunks, [&](std::int64_t i) { ++runs[static_cast<std::size_t>(i)]; });
      bool once = true;
      for (const int count : runs) once = once && count == 1;
      CHECK(once);
    }
  }
}

TEST_CASE("many short jobs in a row see each other's results") {
  ThreadPool pool(3);
  std::vector<std::int64_t> values(8, 0);
  for (int round = 0; round < 20000; ++round) {
    pool.parallel_for(8, [&](std::int64_t i) { values[static_cast<std::size_t>(i)] += round; });
  }
  for (const std::int64_t value : values) CHECK(value == 20000LL * 19999 / 2);
}

TEST_CASE("ranges cover [0, n) without overlap") {
  ThreadPool pool(2);
  for (const std::int64_t n : {1, 5, 64, 65}) {
    std::vector<int> runs(static_cast<std::size_t>(n), 0);
    pool.parallel_ranges(n, 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) ++runs[static_cast<std::size_t>(i)];
    });
    for (const int count : runs) CHECK(count == 1);
  }
  CHECK_THROWS_AS(pool.parallel_ranges(4, 0, [](std::int64_t, std::int64_t) {}), ValueError);
}

TEST_CASE("the exception of the lowest failing chunk arrives, and the pool works on") {
  ThreadPool pool(3);
  for (int round = 0; round < 200; ++round) {
    std::string caught;
    try {
      pool.parallel_for(100, [](std::int64_t i) {
        if (i >= 20 && i % 10 == 0) throw ValueError(std::to_string(i));
      });
    } catch (const ValueError& error) {
      caught = error.what();
    }
    REQUIRE(caught == "20");
  }
  std::atomic<int> count = 0;
  pool.parallel_for(10, [&](std::int64_t) { ++count; });
  CHECK(count == 10);
}

TEST_CASE("a nested call runs on the calling thread alone") {
  ThreadPool pool(3);
  std::atomic<int> strays = 0;
  std::atomic<int> count = 0;
  pool.parallel_for(6, [&](std::int64_t) {
    const auto self = std::this_thread::get_id();
    pool.parallel_for(5, [&](std::int64_t) {
      ++count;
      if (std::this_thread::get_id() != self) ++strays;
    });
  });
  CHECK(count == 30);
  CHECK(strays == 0);
}

TEST_CASE("calls from different threads take turns") {
  ThreadPool pool(2);
  std::atomic<int> running = 0;
  std::atomic<int> count = 0;
  std::vector<std::thread> callers;
  std::atomic<bool> mixed = false;
  std::atomic<int> owner = -1;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&, caller] {
      for (int round = 0; round < 300; ++round) {
        pool.parallel_for(4, [&](std::int64_t) {
          if (running.fetch_add(1) == 0) owner = caller;
          if (running > 2) mixed = true;
          ++count;
          --running;
        });
      }
    });
  }
  for (std::thread& thread : callers) thread.join();
  CHECK(count == 3 * 300 * 4);
  CHECK_FALSE(mixed);
}

TEST_CASE("bad numbers of threads are errors") {
  CHECK_THROWS_AS(ThreadPool(-1), ValueError);
  CHECK_THROWS_AS(ThreadPool(1000000), ValueError);
  for (const char* text : {"zero", "0", "-2", "2x", "99999999999"}) {
    setenv("LLSA_THREADS", text, 1);
    CHECK_THROWS_AS(ThreadPool(0), ValueError);
  }
  setenv("LLSA_THREADS", "3", 1);
  CHECK(ThreadPool(0).threads() == 3);
  unsetenv("LLSA_THREADS");
  CHECK(ThreadPool(0).threads() >= 1);
}

TEST_SUITE_END();
