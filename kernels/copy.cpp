#include "kernels/copy.h"

#include <cstddef>
#include <utility>

#include "kernels/backend.h"
#include "kernels/check.h"

namespace llsa::kernels {

Tensor contiguous(Context& ctx, const Tensor& x) { return x.is_contiguous() ? x : clone(ctx, x); }

Tensor with_unit_last_stride(Context& ctx, const Tensor& x) {
  return x.stride(-1) == 1 || x.size(-1) == 1 ? x : clone(ctx, x);
}

Tensor clone(Context& ctx, const Tensor& x) {
  check::on_device(ctx, "clone", {{"x", x}});
  Tensor out = ctx.empty_like(x);
  backend(ctx).copy.copy(ctx, x, out);
  return out;
}

void copy(Context& ctx, const Tensor& src, const Tensor& dst) {
  check::on_device(ctx, "copy", {{"src", src}, {"dst", dst}});
  backend(ctx).copy.copy(ctx, src.shape() == dst.shape() ? src : src.expand(dst.shape()), dst);
}

Tensor cast(Context& ctx, const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  check::on_device(ctx, "cast", {{"x", x}});
  Tensor out = ctx.empty(x.shape(), dtype);
  backend(ctx).copy.copy(ctx, x, out);
  return out;
}

void fill(Context& ctx, const Tensor& x, double value) {
  check::on_device(ctx, "fill", {{"x", x}});
  backend(ctx).copy.fill(ctx, x, value);
}

Tensor concat(Context& ctx, const std::vector<Tensor>& parts, int axis) {
  if (parts.empty()) throw ValueError("[concat] expected at least one tensor, got none");
  const Tensor& head = parts.front();
  const int at = head.shape().normalize_axis(axis);
  std::vector<std::int64_t> extents = head.shape().extents();
  std::int64_t& joined = extents[static_cast<std::size_t>(at)];
  joined = 0;
  for (const Tensor& part : parts) {
    check::on_device(ctx, "concat", {{"a part", part}});
    check::same_dtype("concat", {"the first part", head}, {"another", part});
    bool fits = part.rank() == head.rank();
    for (int i = 0; fits && i < head.rank(); ++i) fits = i == at || part.size(i) == head.size(i);
    if (!fits) {
      throw ShapeError(cat("[concat] expected ", head.shape(), " but for axis ", at, ", got ", part.shape()));
    }
    joined += part.size(at);
  }
  Tensor out = ctx.empty(Shape(extents), head.dtype());
  std::int64_t begin = 0;
  for (const Tensor& part : parts) {
    const std::int64_t end = begin + part.size(at);
    if (part.numel() != 0) backend(ctx).copy.copy(ctx, part, out.slice(at, begin, end));
    begin = end;
  }
  return out;
}

namespace {

/// A tensor over the caller's memory, for the duration of one copy.
Tensor host_view(void* host, const Tensor& like) {
  auto storage = std::make_shared<Storage>(host, like.nbytes(), Device{}, [] {});
  return Tensor::over(std::move(storage), like.shape(), like.dtype());
}

}  // namespace

void copy_from_host(Context& ctx, const void* host, const Tensor& dst) {
  check::on_device(ctx, "copy_from_host", {{"dst", dst}});
  if (dst.numel() == 0) return;
  if (ctx.device().is_cpu()) return backend(ctx).copy.copy(ctx, host_view(const_cast<void*>(host), dst), dst);
  if (dst.is_contiguous()) return ctx.upload(host, dst);
  const Tensor dense = ctx.empty_like(dst);
  ctx.upload(host, dense);
  backend(ctx).copy.copy(ctx, dense, dst);
}

void copy_to_host(Context& ctx, const Tensor& src, void* host) {
  check::on_device(ctx, "copy_to_host", {{"src", src}});
  if (src.numel() == 0) return;
  if (ctx.device().is_cpu())
    backend(ctx).copy.copy(ctx, src, host_view(host, src));
  else
    ctx.download(contiguous(ctx, src), host);
}

Tensor transfer(Context& from, const Tensor& x, Context& to) {
  check::on_device(from, "transfer", {{"x", x}});
  if (from.device() == to.device() && from.cuda_stream() == to.cuda_stream()) return x;
  const Tensor dense = contiguous(from, x);
  const Tensor out = to.empty_like(x);
  if (from.device() == to.device()) {
    llsa::cuda::Event written, read;
    written.record(*from.cuda_stream());
    written.block(*to.cuda_stream());
    to.cuda_stream()->copy(dense.raw(), out.raw(), dense.nbytes());
    read.record(*to.cuda_stream());
    read.block(*from.cuda_stream());  // before x's memory is used again
  } else if (from.device().is_cpu()) {
    to.upload(dense.raw(), out);
  } else if (to.device().is_cpu()) {
    from.download(dense, out.raw());
  } else {
    std::vector<std::byte> bytes(dense.nbytes());
    from.download(dense, bytes.data());
    to.upload(bytes.data(), out);
  }
  return out;
}

}  // namespace llsa::kernels
