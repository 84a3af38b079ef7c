#include "nn/slices.h"

#include <algorithm>

#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/optim.h"
#include "kernels/reduce.h"

namespace llsa::nn {

using kernels::kSquareStretch;

Slices::Slices(Communicator& ranks, std::int64_t size)
    : ranks_(&ranks), own_(static_cast<std::size_t>(ranks.rank())) {
  const std::int64_t stretches = (size + kSquareStretch - 1) / kSquareStretch;
  for (int r = 0; r <= ranks.size(); ++r) {
    stretches_.push_back(stretches * r / ranks.size());
    begins_.push_back(std::min(size, stretches_.back() * kSquareStretch));
  }
}

Tensor Slices::of(const Tensor& flat) const {
  return flat.defined() && shared() ? flat.slice(0, begin(), end()) : flat;
}

Tensor Slices::whole(Context& ctx, const Tensor& slice) const {
  if (!shared()) return slice;
  Tensor flat = ctx.empty(Shape{begins_.back()}, slice.dtype());
  kernels::copy(ctx, slice, of(flat));
  collect(ctx, flat);
  return flat;
}

void Slices::collect(Context& ctx, const Tensor& flat) const { ranks_->collect(ctx, flat, begins_); }

void Slices::add(Context& ctx, const Tensor& gradient, int senders, const Tensor& sum) const {
  if (!shared()) return kernels::accumulate(ctx, gradient, sum);
  const Tensor received = ctx.empty(Shape{senders, end() - begin()}, gradient.dtype());
  ranks_->exchange(ctx, gradient, begins_, senders, received);
  for (int r = 0; r < senders; ++r) kernels::accumulate(ctx, received.select(0, r), sum);
}

Tensor Slices::sum_squares(Context& ctx, const Tensor& slice) const {
  const Tensor own = kernels::square_sums(ctx, slice);
  if (!shared()) return kernels::sum(ctx, own, {0}, true);
  const Tensor all = ctx.empty(Shape{stretches_.back()}, DType::f64);
  kernels::copy(ctx, own, all.slice(0, stretches_[own_], stretches_[own_ + 1]));
  ranks_->collect(ctx, all, stretches_);
  return kernels::sum(ctx, all, {0}, true);
}

}  // namespace llsa::nn
