// The processes of a run by MPI: MPI_Alltoallv and MPI_Allgatherv on the host's memory.
#include <mpi.h>

#include <array>
#include <exception>
#include <limits>
#include <vector>

#include "apps/llsa/processes.h"
#include "core/error.h"

namespace llsa::apps {
namespace {

// The calls return error codes, because MPI's own handler would end the program without a word of ours.
void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text = {};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw Error(cat("[", call, "] ", text.data()), "another process, or the network, may have failed");
}

int count_of(std::int64_t units) {
  if (units > std::numeric_limits<int>::max())
    throw ShapeError(cat("[mpi] a buffer of ", units, " units is more than one call can send"));
  return static_cast<int>(units);
}

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(int rank, int size) : Communicator(rank, size) {
    check(MPI_Type_contiguous(kBlock, MPI_BYTE, &block_), "MPI_Type_contiguous");
    check(MPI_Type_commit(&block_), "MPI_Type_commit");
  }
  // A process that fails cannot take part in the end of MPI: end_processes() ends the others.
  ~MpiCommunicator() override {
    if (std::uncaught_exceptions() > 0) return;
    MPI_Type_free(&block_);
    MPI_Finalize();
  }

 protected:
  void exchange_bytes(const std::byte* from, const Begins& begins, int senders, std::byte* into) override {
    const Plan sent = plan(begins);
    const auto ranks = static_cast<std::size_t>(size());
    std::vector<int> send_counts(ranks), receive_counts(ranks), receive_begins(ranks);
    const int own = sent.counts[static_cast<std::size_t>(rank())];
    if (rank() < senders) send_counts = sent.counts;
    for (int r = 0; r < senders; ++r) {
      receive_counts[static_cast<std::size_t>(r)] = own;
      receive_begins[static_cast<std::size_t>(r)] = count_of(std::int64_t{r} * own);
    }
    check(MPI_Alltoallv(from, send_counts.data(), sent.begins.data(), sent.unit, into, receive_counts.data(),
                        receive_begins.data(), sent.unit, MPI_COMM_WORLD),
          "MPI_Alltoallv");
  }

  void collect_bytes(std::byte* buffer, const Begins& begins) override {
    const Plan all = plan(begins);
    check(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, buffer, all.counts.data(), all.begins.data(),
                         all.unit, MPI_COMM_WORLD),
          "MPI_Allgatherv");
  }

 private:
  static constexpr int kBlock = 64;

  // Counts are ints, so large buffers are counted in blocks: slices of flat buffers begin and end at multiples of one.
  struct Plan {
    MPI_Datatype unit;
    std::vector<int> counts, begins;
  };
  Plan plan(const Begins& bytes) const {
    bool blocks = true;
    for (const std::int64_t begin : bytes) blocks = blocks && begin % kBlock == 0;
    const std::int64_t unit = blocks ? kBlock : 1;
    Plan plan = {blocks ? block_ : MPI_BYTE, {}, {}};
    for (std::size_t r = 0; r + 1 < bytes.size(); ++r) {
      plan.begins.push_back(count_of(bytes[r] / unit));
      plan.counts.push_back(count_of((bytes[r + 1] - bytes[r]) / unit));
    }
    return plan;
  }

  MPI_Datatype block_ = MPI_DATATYPE_NULL;
};

}  // namespace

std::unique_ptr<Communicator> join_processes() {
  const Launch launch = launch_of_environment();
  if (!launch.given) return nullptr;
  int rank = 0, size = 1, provided = 0;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank");
  check(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
  if (size != launch.size)
    throw Error(
        cat("this is one of ", launch.size, " processes, but its MPI knows of ", size),
        "take the mpirun of the MPI that llsa was built with; with srun, give --mpi=pmix or --mpi=pmi2");
  return std::make_unique<MpiCommunicator>(rank, size);
}

void end_processes(int code) noexcept {
  int started = 0, ended = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&ended);
  if (started != 0 && ended == 0) MPI_Abort(MPI_COMM_WORLD, code);
}

}  // namespace llsa::apps
