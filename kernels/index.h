// Rows by number: embedding tables and token orders.
//
// Floating dtypes for values, i32 for numbers. A number outside its range is a ValueError that names it and
// its place. Gradients are added in the order of the numbers, whatever the number of threads.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// y[...,:] = table[ids[...],:] with table [V,C], ids i32 of any shape. Saved: ids.
Tensor embedding(Context& ctx, const Tensor& table, const Tensor& ids);
/// dtable [rows,C]: the sum of the rows of dy [...,C] by number, 0 for a number that does not occur. It checks
/// nothing but the numbers: dy and ids are those of the forward.
Tensor embedding_backward(Context& ctx, const Tensor& dy, const Tensor& ids, std::int64_t rows);

/// y[b,i,:] = x[b,order[i],:] with x [b,N,C], order i32 [M] in [0, N) -> [b,M,C]. When order is a
/// permutation, the backward is gather_tokens(dy, inverse_order(order)).
Tensor gather_tokens(Context& ctx, const Tensor& x, const Tensor& order);
/// inverse[order[i]] = i. Throws ValueError unless order i32 [N] is a permutation of 0..N-1.
Tensor inverse_order(Context& ctx, const Tensor& order);

}  // namespace llsa::kernels
