// One pool of std::threads for all CPU kernels.
//
// Work is cut into chunks by the caller, by sizes that do not depend on the number of threads, and handed out
// by an atomic counter; the calling thread takes part. Idle workers spin with pause for some microseconds,
// then sleep on a futex. Results are therefore the same for any number of threads as long as a chunk's result
// depends on its index alone and partial sums are added in chunk order.
#pragma once

#include <cstdint>
#include <memory>

#include "function_ref.h"

namespace llsa {

class ThreadPool {
 public:
  /// `threads` >= 1 counts the calling thread; 0 = the environment's LLSA_THREADS, else the processors this
  /// process may use. Throws ValueError for a negative number or a malformed LLSA_THREADS.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  /// Calls body(chunk) once for every chunk in [0, chunks), on any thread, and returns when all are done. The
  /// exception of the lowest failing chunk is rethrown; chunks not yet begun are then skipped. A call from
  /// inside a chunk runs on the calling thread alone. Calls from different threads take turns. A single chunk
  /// runs in the caller and may call again. No allocation.
  void parallel_for(std::int64_t chunks, FunctionRef<void(std::int64_t)> body);

  /// Cuts [0, n) into ranges of `grain` >= 1 and calls body(begin, end) for each.
  void parallel_ranges(std::int64_t n, std::int64_t grain,
                       FunctionRef<void(std::int64_t, std::int64_t)> body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace llsa
