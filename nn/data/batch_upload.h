// The way of training batches to a CUDA device, beside the work there.
//
//   host memory -> pinned memory -> (a stream of its own) -> staging memory -> (the context's stream) ->
//   tensors
//
// The slow part, over the bus, runs in its own stream while the device computes earlier steps; what the
// context's stream waits for is a copy within the device. Everything is there twice, so two batches may be on
// their way. The host waits only where it is more than that ahead of the device, which bounds how far a run
// without other waits can get ahead; this is no synchronisation with the work in the context's stream.
#pragma once

#include <array>
#include <cstdint>

#include "../../core/context.h"

namespace llsa::nn {

class BatchUpload {
 public:
  /// For batches of `batch` images of `numbers` f32 numbers each. The context, on a CUDA device, must outlive
  /// this.
  BatchUpload(Context& ctx, std::int64_t batch, std::int64_t numbers);

  /// Brings a batch into x f32, y i32 [batch], sample_ids i64 [batch], all contiguous. The host memory may be
  /// reused when the call returns.
  void send(const float* images, const std::int32_t* classes, const std::int64_t* ids, const Tensor& x,
            const Tensor& y, const Tensor& sample_ids);

 private:
  struct Slot {
    Slot(Context& ctx, std::size_t bytes);

    cuda::PinnedBuffer host;
    Tensor staged;         // u8: ids, images, classes one behind the other
    cuda::Event arrived;   // in `staged`; `host` may be written to
    cuda::Event consumed;  // `staged` may be written to
  };

  Context& ctx_;
  std::size_t id_bytes_, image_bytes_, class_bytes_;
  std::array<Slot, 2> slots_;
  std::size_t next_ = 0;
  cuda::Stream stream_;  // goes first, and waits for its copies
};

}  // namespace llsa::nn
