// One pool of std::threads for all CPU kernels.
//
// The caller divides the work into chunks, whose sizes do not depend on the number of threads. An atomic counter
// hands them out. The calling thread takes part. Results are the same for any number of threads if a chunk's
// result depends on its index alone and partial sums are added in the order of the chunks. Idle workers spin for
// some microseconds and then sleep on a futex.
#pragma once

#include <cstdint>
#include <memory>

#include "function_ref.h"

namespace llsa {

class ThreadPool {
 public:
  /// `threads` includes the calling thread. 0 means LLSA_THREADS from the environment, or else all processors
  /// that this process may use. Throws ValueError for a negative number or a malformed LLSA_THREADS.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  /// Calls body(chunk) once for every chunk in [0, chunks), on any thread, and returns when all are done. If
  /// chunks throw, those not yet begun are skipped, and the exception of the lowest one is rethrown. A call from
  /// inside a chunk runs on the calling thread alone, except that a single chunk runs in the caller and may call
  /// again. Calls from different threads take turns. Allocates nothing.
  void parallel_for(std::int64_t chunks, FunctionRef<void(std::int64_t)> body);

  /// Divides [0, n) into ranges of `grain` >= 1 and calls body(begin, end) for each.
  void parallel_ranges(std::int64_t n, std::int64_t grain,
                       FunctionRef<void(std::int64_t, std::int64_t)> body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace llsa
