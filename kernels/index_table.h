// Rows by number, as the backends provide them.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// Contiguous tensors; numbers are i32, values of one floating dtype. A number out of range is a ValueError
/// in the name of `op`.
struct IndexBackend {
  /// y[s,i,:] = x[s,numbers[i],:] with x [S,N,C], numbers [M], y [S,M,C]
  void (*gather_rows)(Context& ctx, const char* op, const Tensor& x, const Tensor& numbers, const Tensor& y);
  /// dtable[v,:] = sum of dy[i,:] over the i with numbers[i] = v, in the order of i; dy [M,C], dtable [V,C]
  void (*scatter_rows)(Context& ctx, const char* op, const Tensor& dy, const Tensor& numbers,
                       const Tensor& dtable);
  /// inverse[order[i]] = i; ValueError unless order is a permutation.
  void (*inverse_order)(Context& ctx, const Tensor& order, const Tensor& inverse);
};

}  // namespace llsa::kernels
