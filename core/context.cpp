#include "core/context.h"

#include <cstring>

namespace llsa {
namespace {

constexpr std::int64_t kZeroGrain = std::int64_t{1} << 20;  // bytes per chunk

}  // namespace

Context::Context(int threads, std::size_t memory_limit)
    : pool_(threads), allocator_(make_cpu_allocator(memory_limit)) {}

Tensor Context::zeros(const Shape& shape, DType dtype) {
  Tensor tensor = empty(shape, dtype);
  std::byte* bytes = tensor.raw();
  pool_.parallel_ranges(static_cast<std::int64_t>(tensor.nbytes()), kZeroGrain,
                        [bytes](std::int64_t begin, std::int64_t end) {
                          std::memset(bytes + begin, 0, static_cast<std::size_t>(end - begin));
                        });
  return tensor;
}

double Context::item(const Tensor& tensor) {
  if (tensor.numel() != 1) throw ShapeError(cat("[item] expected one element, got shape ", tensor.shape()));
  ++synchronizations_;
  return visit_any(tensor.dtype(), [&]<class T>() { return static_cast<double>(*tensor.data<T>()); });
}

}  // namespace llsa
