#include "core/cuda/stopwatch.h"

#include "core/cuda/check.h"
#include "core/error.h"

namespace llsa::cuda {
namespace {

cudaEvent_t make_event() {
  cudaEvent_t event = nullptr;
  LLSA_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDefault));
  return event;
}

}  // namespace

/// marks[0 .. used): start, stop, start, stop, ..; events are kept and used again.
struct Stopwatch::Impl {
  cudaStream_t stream;
  std::vector<cudaEvent_t> marks;
  std::size_t used = 0;

  void mark() {
    if (used == marks.size()) marks.push_back(make_event());
    LLSA_CUDA_CHECK(cudaEventRecord(marks[used], stream));
    ++used;
  }
};

Stopwatch::Stopwatch(void* stream, std::size_t spans) : impl_(std::make_unique<Impl>()) {
  impl_->stream = static_cast<cudaStream_t>(stream);
  for (std::size_t i = 0; i < 2 * spans; ++i) impl_->marks.push_back(make_event());
}

Stopwatch::~Stopwatch() {
  for (cudaEvent_t event : impl_->marks) static_cast<void>(cudaEventDestroy(event));
}

void Stopwatch::start() {
  if (impl_->used % 2 != 0) throw Error("[stopwatch] started twice without a stop in between");
  impl_->mark();
}

void Stopwatch::stop() {
  if (impl_->used % 2 == 0) throw Error("[stopwatch] stopped without a start");
  impl_->mark();
}

std::vector<double> Stopwatch::seconds() {
  if (impl_->used % 2 != 0) throw Error("[stopwatch] read while it runs");
  std::vector<double> spans;
  if (impl_->used > 0) LLSA_CUDA_CHECK(cudaEventSynchronize(impl_->marks[impl_->used - 1]));
  for (std::size_t i = 0; i < impl_->used; i += 2) {
    float milliseconds = 0;
    LLSA_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, impl_->marks[i], impl_->marks[i + 1]));
    spans.push_back(1e-3 * static_cast<double>(milliseconds));
  }
  impl_->used = 0;
  return spans;
}

void Stopwatch::forget() { impl_->used = 0; }

}  // namespace llsa::cuda
