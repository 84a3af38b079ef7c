// Tensors of a GPU go through the host's memory.
#include "core/communicator.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/machine.h"

namespace llsa {
namespace {

using Begins = Communicator::Begins;

/// Adds the time of a scope to a sum.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds) {}
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& seconds_;
  const Clock::time_point start_ = Clock::now();
};

Begins in_bytes(Begins begins, DType dtype) {
  for (std::int64_t& begin : begins) begin *= static_cast<std::int64_t>(size_of(dtype));
  return begins;
}

void check_buffer(const char* op, const Tensor& tensor, std::int64_t elements) {
  if (tensor.numel() != elements || !tensor.is_contiguous())
    throw ShapeError(
        cat("[", op, "] expected a contiguous buffer of ", elements, " elements, got ", tensor.shape()));
}

class OneProcess : public Communicator {
 public:
  OneProcess() : Communicator(0, 1) {}

 protected:
  void exchange_bytes(const std::byte* from, const Begins& begins, int, std::byte* into) override {
    std::memcpy(into, from, static_cast<std::size_t>(begins[1]));
  }
  void collect_bytes(std::byte*, const Begins&) override {}
};

}  // namespace

Communicator::Communicator(int rank, int size) : rank_(rank), size_(size) {
  if (size < 1 || rank < 0 || rank >= size)
    throw ValueError(cat("[communicator] expected 0 <= rank < size, got rank ", rank, " of ", size));
}

void Communicator::exchange(Context& ctx, const Tensor& from, const Begins& begins, int senders,
                            const Tensor& into) {
  const auto own = static_cast<std::size_t>(rank_);
  check_buffer("exchange", from, begins.back());
  check_buffer("exchange", into, senders * (begins[own + 1] - begins[own]));
  const Begins bytes = in_bytes(begins, from.dtype());
  if (ctx.device().is_cpu()) {
    const Stopwatch watch(waited_);
    return exchange_bytes(from.raw(), bytes, senders, into.raw());
  }
  std::vector<std::byte> sent(from.nbytes()), received(into.nbytes());
  ctx.download(from, sent.data());
  {
    const Stopwatch watch(waited_);
    exchange_bytes(sent.data(), bytes, senders, received.data());
  }
  ctx.upload(received.data(), into);
}

void Communicator::collect(Context& ctx, const Tensor& buffer, const Begins& begins) {
  check_buffer("collect", buffer, begins.back());
  if (size_ == 1) return;
  const Begins bytes = in_bytes(begins, buffer.dtype());
  if (ctx.device().is_cpu()) {
    const Stopwatch watch(waited_);
    return collect_bytes(buffer.raw(), bytes);
  }
  std::vector<std::byte> host(buffer.nbytes());
  ctx.download(buffer, host.data());
  {
    const Stopwatch watch(waited_);
    collect_bytes(host.data(), bytes);
  }
  ctx.upload(host.data(), buffer);
}

std::vector<std::string> Communicator::gather(const std::string& own) {
  if (size_ == 1) return {own};
  const Stopwatch watch(waited_);
  const auto ranks = static_cast<std::size_t>(size_), self = static_cast<std::size_t>(rank_);
  constexpr auto kWord = static_cast<std::int64_t>(sizeof(std::int64_t));
  std::vector<std::int64_t> lengths(ranks);
  Begins begins(ranks + 1);
  lengths[self] = static_cast<std::int64_t>(own.size());
  for (std::size_t r = 0; r < ranks; ++r) begins[r + 1] = begins[r] + kWord;
  collect_bytes(reinterpret_cast<std::byte*>(lengths.data()), begins);
  for (std::size_t r = 0; r < ranks; ++r) begins[r + 1] = begins[r] + lengths[r];
  std::string all(static_cast<std::size_t>(begins.back()), '\0');
  own.copy(all.data() + begins[self], own.size());
  collect_bytes(reinterpret_cast<std::byte*>(all.data()), begins);
  std::vector<std::string> texts;
  for (std::size_t r = 0; r < ranks; ++r)
    texts.push_back(all.substr(static_cast<std::size_t>(begins[r]), static_cast<std::size_t>(lengths[r])));
  return texts;
}

bool Communicator::any(bool own) {
  const std::vector<std::string> answers = gather(own ? "y" : "");
  return std::any_of(answers.begin(), answers.end(), [](const std::string& text) { return !text.empty(); });
}

Communicator& one_process() {
  static OneProcess alone;
  return alone;
}

LocalRank local_rank(Communicator& ranks) {
  const std::vector<std::string> hosts = ranks.gather(host_name());
  const auto own = hosts.begin() + ranks.rank();
  return {static_cast<int>(std::count(hosts.begin(), own, *own)),
          static_cast<int>(std::count(hosts.begin(), hosts.end(), *own))};
}

}  // namespace llsa
