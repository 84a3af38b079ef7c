// The processes that train one model together ("ranks"), and what they send each other.
//
// Every member function below that moves data is collective: all processes have to call it, in the same order. If one
// of them fails in between, the others wait for it until the program ends them.
//
// The library has the communicator of a single process. The program llsa has one for MPI (apps/llsa/processes.h); a
// program of your own derives its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "context.h"

namespace llsa {

class Communicator {
 public:
  Communicator(int rank, int size);
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// The first process alone writes files and talks to the user.
  bool leads() const { return rank_ == 0; }

  /// `begins` has size() + 1 elements: rank s owns the elements [begins[s], begins[s + 1]) of a buffer.
  using Begins = std::vector<std::int64_t>;
  /// Every rank gets what it owns of the buffers `from` of the ranks 0 .. senders - 1: into[r] becomes its own part of
  /// rank r's. Contiguous; from [begins.back()], into [senders, own part], of one dtype.
  void exchange(Context& ctx, const Tensor& from, const Begins& begins, int senders, const Tensor& into);
  /// Every rank has written what it owns of a contiguous buffer, and gets all the rest.
  void collect(Context& ctx, const Tensor& buffer, const Begins& begins);
  /// The texts of all ranks, in their order.
  std::vector<std::string> gather(const std::string& own);
  /// Whether one of the ranks says yes.
  bool any(bool own);

  /// Seconds that this process has spent in the functions above: it waited for other processes or for the network.
  double wait_seconds() const { return waited_; }

 protected:
  /// The same on bytes of the host.
  virtual void exchange_bytes(const std::byte* from, const Begins& begins, int senders, std::byte* into) = 0;
  virtual void collect_bytes(std::byte* buffer, const Begins& begins) = 0;

 private:
  int rank_, size_;
  double waited_ = 0;
};

/// The communicator of a process that trains alone.
Communicator& one_process();

/// Where a process stands among those of its own machine.
struct LocalRank {
  int rank = 0, size = 1;
};
/// Collective. Machines are told apart by their host names.
LocalRank local_rank(Communicator& ranks);

}  // namespace llsa
