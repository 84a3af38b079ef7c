// The contract of a device, page 1 of 4: tensors in general.
//
// Of all pages: the public functions have checked the arguments and allocated the outputs. Outputs are
// contiguous unless said otherwise, and so is every tensor of a group whose comment says "contiguous".
#pragma once

#include "../../core/context.h"
#include "entry.h"

namespace llsa::kernels {

struct CopyBackend {
  /// dst = src, converted; equal shapes, any strides (src may have strides 0), any dtypes.
  Entry<void(Context& ctx, const Tensor& src, const Tensor& dst)> copy;
  /// Every element of x, any strides, becomes the value.
  Entry<void(Context& ctx, const Tensor& x, double value)> fill;
};

enum class UnaryOp : std::uint8_t;  // elementwise_ops.h
enum class BinaryOp : std::uint8_t;

/// All tensors of one call have one floating dtype.
struct ElementwiseBackend {
  /// out = a op b; a and b have out's shape with any strides (0 where broadcast).
  Entry<void(Context& ctx, BinaryOp op, const Tensor& a, const Tensor& b, const Tensor& out)> binary;
  /// y = scale x + shift; x contiguous.
  Entry<void(Context& ctx, const Tensor& x, double scale, double shift, const Tensor& y)> affine;
  /// y = f(x); x contiguous.
  Entry<void(Context& ctx, UnaryOp op, const Tensor& x, const Tensor& y)> unary;
  /// dx from dy and what the op saves (elementwise_ops.h), both contiguous; dy twice where it saves nothing.
  Entry<void(Context& ctx, UnaryOp op, const Tensor& dy, const Tensor& saved, const Tensor& dx)>
      unary_backward;
  /// y = min(max(x, low), high), NaN stays NaN; x contiguous.
  Entry<void(Context& ctx, const Tensor& x, double low, double high, const Tensor& y)> clamp;
  /// dx = dy where low <= x <= high, else 0; dy and x contiguous.
  Entry<void(Context& ctx, const Tensor& dy, const Tensor& x, double low, double high, const Tensor& dx)>
      clamp_backward;
  /// out = a where the condition is not 0, else b; all have out's shape, with any strides.
  Entry<void(Context& ctx, const Tensor& condition, const Tensor& a, const Tensor& b, const Tensor& out)>
      where;
  /// into += x; x has into's shape, both with any strides.
  Entry<void(Context& ctx, const Tensor& x, const Tensor& into)> accumulate;
  /// flag i32[1] = 1 if every element of the contiguous x is finite, else 0.
  Entry<void(Context& ctx, const Tensor& x, const Tensor& flag)> all_finite;
};

enum class FoldOp : std::uint8_t { sum, max };

struct ReduceBackend {
  /// y [A,C] = the sum or the largest element of x [A,N,C] over axis N, N >= 1, divided by the divisor; both
  /// contiguous. x and y have a floating dtype or the one in which it is summed (f32 for bf16).
  Entry<void(Context& ctx, FoldOp op, const Tensor& x, double divisor, const Tensor& y)> fold;
  /// y i32 [A,C]: where the largest element of x [A,N,C] stands on axis N, the first of equal ones; NaN is
  /// larger than any number. Both contiguous, N >= 1.
  Entry<void(Context& ctx, const Tensor& x, const Tensor& y)> argmax;
};

/// Rows by number. Contiguous tensors; numbers are i32, values of one floating dtype. A number out of range is
/// a ValueError in the name of `op`.
struct IndexBackend {
  /// y[s,i,:] = x[s,numbers[i],:] with x [S,N,C], numbers [M], y [S,M,C]
  Entry<void(Context& ctx, const char* op, const Tensor& x, const Tensor& numbers, const Tensor& y)>
      gather_rows;
  /// dtable[v,:] = sum of dy[i,:] over the i with numbers[i] = v, in the order of i; dy [M,C], dtable [V,C]
  Entry<void(Context& ctx, const char* op, const Tensor& dy, const Tensor& numbers, const Tensor& dtable)>
      scatter_rows;
  /// inverse[order[i]] = i; ValueError unless order is a permutation.
  Entry<void(Context& ctx, const Tensor& order, const Tensor& inverse)> inverse_order;
};

enum class Distribution : std::uint8_t { uniform, normal };

struct RandomBackend {
  /// x contiguous [R,L], any floating dtype: element j of row r is element j of the Philox stream
  /// sample_stream(stream, sample_ids[r]), or of `stream` itself when sample_ids (contiguous i64 [R]) is
  /// undefined.
  Entry<void(Context& ctx, Distribution distribution, std::uint64_t seed, std::uint64_t stream,
             const Tensor& sample_ids, const Tensor& x)>
      fill_random;
};

namespace cpu {
extern const CopyBackend kCopy;
extern const ElementwiseBackend kElementwise;
extern const ReduceBackend kReduce;
extern const IndexBackend kIndex;
extern const RandomBackend kRandom;
}  // namespace cpu
namespace cuda {
extern const CopyBackend kCopy;
extern const ElementwiseBackend kElementwise;
extern const ReduceBackend kReduce;
extern const IndexBackend kIndex;
extern const RandomBackend kRandom;
}  // namespace cuda

}  // namespace llsa::kernels
