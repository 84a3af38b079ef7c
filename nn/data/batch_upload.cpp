#include "nn/data/batch_upload.h"

#include <cstring>

namespace llsa::nn {

BatchUpload::Slot::Slot(Context& ctx, std::size_t bytes)
    : host(bytes), staged(ctx.empty({static_cast<std::int64_t>(bytes)}, DType::u8)) {
  consumed.record(*ctx.cuda_stream());  // earlier work may still use this memory
}

BatchUpload::BatchUpload(Context& ctx, std::int64_t batch, std::int64_t numbers)
    : ctx_(ctx),
      id_bytes_(static_cast<std::size_t>(batch) * sizeof(std::int64_t)),
      image_bytes_(static_cast<std::size_t>(batch * numbers) * sizeof(float)),
      class_bytes_(static_cast<std::size_t>(batch) * sizeof(std::int32_t)),
      slots_{Slot(ctx, id_bytes_ + image_bytes_ + class_bytes_),
             Slot(ctx, id_bytes_ + image_bytes_ + class_bytes_)},
      stream_(ctx.device().index) {}

void BatchUpload::send(const float* images, const std::int32_t* classes, const std::int64_t* ids,
                       const Tensor& x, const Tensor& y, const Tensor& sample_ids) {
  Slot& slot = slots_[next_];
  next_ = 1 - next_;
  slot.arrived.synchronize();  // of the batch before the last one, which usually arrived long ago
  std::byte* const host = slot.host.data();
  std::memcpy(host, ids, id_bytes_);
  std::memcpy(host + id_bytes_, images, image_bytes_);
  std::memcpy(host + id_bytes_ + image_bytes_, classes, class_bytes_);

  slot.consumed.block(stream_);
  stream_.upload(host, slot.staged.raw(), slot.host.bytes());
  slot.arrived.record(stream_);

  const cuda::Stream& work = *ctx_.cuda_stream();
  slot.arrived.block(work);
  const std::byte* const staged = slot.staged.raw();
  work.copy(staged, sample_ids.raw(), id_bytes_);
  work.copy(staged + id_bytes_, x.raw(), image_bytes_);
  work.copy(staged + id_bytes_ + image_bytes_, y.raw(), class_bytes_);
  slot.consumed.record(work);
}

}  // namespace llsa::nn
