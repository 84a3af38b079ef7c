// Mean over blocks of consecutive tokens.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// y[...,i,:] = mean of x[...,j,:] over the tokens j of block i, with x [...,N,D] -> [...,ceil(N/block),D].
/// The last block is divided by the tokens it has. Summed in f32 (f64 for f64), in token order, and rounded
/// once. Saved: nothing. Throws ShapeError for rank < 2, ValueError for block < 1, DTypeError.
Tensor mean_pool(Context& ctx, const Tensor& x, std::int64_t block);
/// dx[...,j,:] = dy[...,j/block,:] / (tokens of that block), with dy [...,ceil(N/block),D] -> [...,N,D]. It
/// checks nothing: tokens and block are those of the forward.
Tensor mean_pool_backward(Context& ctx, const Tensor& dy, std::int64_t tokens, std::int64_t block);

}  // namespace llsa::kernels
