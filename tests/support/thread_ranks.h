// The processes of a run as threads of one process, which send each other what a Communicator sends.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "core/communicator.h"
#include "core/error.h"

namespace llsa::test {

class ThreadRank : public Communicator {
 public:
  /// What the threads share.
  struct World {
    explicit World(int ranks) : size(ranks), buffers(static_cast<std::size_t>(ranks)) {}

    /// Returns when all threads have called it. Throws once one of them has failed.
    void meet() {
      std::unique_lock lock(mutex);
      const int mine = meeting;
      if (++arrived == size) {
        arrived = 0;
        ++meeting;
        all_here.notify_all();
      }
      all_here.wait(lock, [&] { return meeting != mine || failed; });
      if (failed) throw Error("another rank has failed");
    }
    void fail() {
      const std::lock_guard lock(mutex);
      failed = true;
      all_here.notify_all();
    }

    const int size;
    std::vector<std::byte*> buffers;
    std::mutex mutex;
    std::condition_variable all_here;
    int arrived = 0, meeting = 0;
    bool failed = false;
  };

  ThreadRank(int rank, World& world) : Communicator(rank, world.size), world_(world) {}

 protected:
  void exchange_bytes(const std::byte* from, const Begins& begins, int senders, std::byte* into) override {
    show(const_cast<std::byte*>(from));
    const auto [begin, size] = part(begins, rank());
    for (int r = 0; r < senders; ++r)
      copy(into + static_cast<std::size_t>(r) * size, buffer(r) + begin, size);
    world_.meet();
  }
  void collect_bytes(std::byte* whole, const Begins& begins) override {
    show(whole);
    for (int r = 0; r < this->size(); ++r) {
      const auto [begin, size] = part(begins, r);
      if (r != rank()) copy(whole + begin, buffer(r) + begin, size);
    }
    world_.meet();
  }

 private:
  struct Part {
    std::int64_t begin;
    std::size_t size;
  };
  static Part part(const Begins& begins, int rank) {
    const auto r = static_cast<std::size_t>(rank);
    return {begins[r], static_cast<std::size_t>(begins[r + 1] - begins[r])};
  }
  static void copy(std::byte* to, const std::byte* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  const std::byte* buffer(int rank) const { return world_.buffers[static_cast<std::size_t>(rank)]; }
  void show(std::byte* own) {
    world_.buffers[static_cast<std::size_t>(rank())] = own;
    world_.meet();
  }

  World& world_;
};

/// body(communicator) in `ranks` threads. Throws what the first of them to fail has thrown.
inline void run_ranks(int ranks, const std::function<void(Communicator&)>& body) {
  ThreadRank::World world(ranks);
  std::vector<std::exception_ptr> errors;
  std::mutex mutex;
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      try {
        ThreadRank rank(r, world);
        body(rank);
      } catch (...) {
        {
          const std::lock_guard lock(mutex);
          errors.push_back(std::current_exception());
        }
        world.fail();
      }
    });
  for (std::thread& thread : threads) thread.join();
  if (!errors.empty()) std::rethrow_exception(errors.front());
}

}  // namespace llsa::test
