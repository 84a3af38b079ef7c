#include "core/context.h"

#include <cstring>

namespace llsa {
namespace {

constexpr std::int64_t kZeroGrain = std::int64_t{1} << 20;  // bytes per chunk

}  // namespace

Context::Context(int threads, std::size_t memory_limit)
    : pool_(threads), allocator_(make_cpu_allocator(memory_limit)) {}

Context::Context(Device device, int threads, std::size_t memory_limit) : pool_(threads) {
  if (device.is_cuda()) stream_ = std::make_shared<cuda::Stream>(device.index);
  allocator_ = stream_ ? cuda::make_allocator(stream_, memory_limit) : make_cpu_allocator(memory_limit);
}

Context::Context(std::shared_ptr<cuda::Stream> stream, int threads, std::size_t memory_limit)
    : pool_(threads), stream_(std::move(stream)) {
  if (!stream_) throw ValueError("[context] expected a stream, got a null pointer");
  allocator_ = cuda::make_allocator(stream_, memory_limit);
}

Tensor Context::zeros(const Shape& shape, DType dtype) {
  Tensor tensor = empty(shape, dtype);
  std::byte* bytes = tensor.raw();
  if (stream_) {
    stream_->fill(bytes, 0, tensor.nbytes());
    return tensor;
  }
  pool_.parallel_ranges(static_cast<std::int64_t>(tensor.nbytes()), kZeroGrain,
                        [bytes](std::int64_t begin, std::int64_t end) {
                          std::memset(bytes + begin, 0, static_cast<std::size_t>(end - begin));
                        });
  return tensor;
}

void Context::check_transfer(const char* where, const Tensor& tensor) const {
  if (tensor.device() != device())
    throw DeviceError(
        cat("[", where, "] expected a tensor on ", device().str(), ", got one on ", tensor.device().str()));
  if (!tensor.is_contiguous())
    throw ShapeError(cat("[", where, "] expected a contiguous tensor, got strides ", Shape(tensor.strides()),
                         " for shape ", tensor.shape()));
}

void Context::refuse_in_capture(const char* where) const {
  if (stream_ && stream_->capturing())
    throw CudaError(cat("[", where, "] needs the host, which a graph that is being captured cannot replay"),
                    "do it before the capture");
}

void Context::upload(const void* host, const Tensor& to) {
  check_transfer("upload", to);
  if (to.numel() == 0) return;
  refuse_in_capture("upload");
  if (stream_) {
    stream_->upload(host, to.raw(), to.nbytes());
    if (stream_->reads_host_memory()) stream_->synchronize();
  } else {
    std::memcpy(to.raw(), host, to.nbytes());
  }
}

void Context::download(const Tensor& from, void* host) {
  check_transfer("download", from);
  if (from.numel() == 0) return;
  refuse_in_capture("download");
  if (stream_) {
    ++synchronizations_;
    stream_->download(from.raw(), host, from.nbytes());
  } else {
    std::memcpy(host, from.raw(), from.nbytes());
  }
}

double Context::item(const Tensor& tensor) {
  if (tensor.numel() != 1) throw ShapeError(cat("[item] expected one element, got shape ", tensor.shape()));
  return visit_any(tensor.dtype(), [&]<class T>() {
    T value;
    if (!stream_) ++synchronizations_;  // on a device, download() counts the wait
    download(tensor, &value);
    return static_cast<double>(value);
  });
}

void Context::synchronize() {
  if (!stream_) return;
  refuse_in_capture("synchronize");
  ++synchronizations_;
  stream_->synchronize();
}

}  // namespace llsa
