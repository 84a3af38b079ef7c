// How the processes of a run divide the flat buffers of the parameters, and what they send each other in a step.
//
// Every process owns a slice of all flat buffers. It alone adds up the gradients of its slice, and keeps moments and
// averages of it; after an update all processes get the new weights. Because the owner adds the gradients of the
// micro-batches in their order, and because slices begin at multiples of kernels::kSquareStretch, weights and gradient
// norm have the same bits for any number of processes, one among them.
#pragma once

#include <cstdint>

#include "../core/communicator.h"

namespace llsa::nn {

class Slices {
 public:
  /// The slices of flat buffers of `size` elements. The communicator must outlive this.
  Slices(Communicator& ranks, std::int64_t size);

  Communicator& ranks() const { return *ranks_; }
  bool shared() const { return ranks_->size() > 1; }

  /// The slice of this process: elements [begin(), end()).
  std::int64_t begin() const { return begins_[own_]; }
  std::int64_t end() const { return begins_[own_ + 1]; }
  /// This process's slice of a flat buffer, as a view; undefined for an undefined one.
  Tensor of(const Tensor& flat) const;

  // Collective where the buffers are shared:

  /// A flat buffer from the slices of all processes; `slice` itself where it is everything.
  Tensor whole(Context& ctx, const Tensor& slice) const;
  /// Every process has changed its slice of `flat`, and gets those of the others.
  void collect(Context& ctx, const Tensor& flat) const;
  /// sum += the gradients of the ranks 0 .. senders - 1, one after the other. `gradient` is a flat buffer, `sum` a slice.
  void add(Context& ctx, const Tensor& gradient, int senders, const Tensor& sum) const;
  /// The sum of squares over all slices, f64 [1]: that of kernels::sum_squares on the flat buffer.
  Tensor sum_squares(Context& ctx, const Tensor& slice) const;

 private:
  Communicator* ranks_;
  std::size_t own_;
  Communicator::Begins begins_;     // elements
  Communicator::Begins stretches_;  // of kSquareStretch elements, the last one may be shorter
};

}  // namespace llsa::nn
