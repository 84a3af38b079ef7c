// Copies training batches to a CUDA device while the device computes.
//
//   host memory -> pinned memory -> [own stream] -> staging memory -> [context's stream] -> tensors
//
// The slow part, over the bus, runs in its own stream beside earlier steps. The context's stream waits only
// for a copy within the device. There are two buffers of each kind, so two batches may be on their way. The
// host waits when it is more than two batches ahead of the device, which bounds how far ahead a run without
// other waits can get. This does not synchronise the host with the work in the context's stream.
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

  /// Copies a batch into x f32, y i32 [batch], sample_ids i64 [batch], all contiguous. The host memory may be
  /// reused when the call returns.
  void send(const float* images, const std::int32_t* classes, const std::int64_t* ids, const Tensor& x,
            const Tensor& y, const Tensor& sample_ids);

 private:
  struct Slot {
    Slot(Context& ctx, std::size_t bytes);

    cuda::PinnedBuffer host;
    Tensor staged;         // u8: ids, images, classes one behind the other
    cuda::Event arrived;   // the batch is in `staged`: `host` may be overwritten
    cuda::Event consumed;  // the batch is in its tensors: `staged` may be overwritten
  };

  Context& ctx_;
  std::size_t id_bytes_, image_bytes_, class_bytes_;
  std::array<Slot, 2> slots_;
  std::size_t next_ = 0;
  cuda::Stream stream_;  // last, so that its copies end before the memory they use goes
};

}  // namespace llsa::nn
