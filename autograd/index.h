// Rows by number: embedding tables and token orders. Numbers have no gradient.
#pragma once

#include "var.h"

namespace llsa {

/// y[...,:] = table[ids[...],:], table [V,C], ids i32. dtable is the sum of dy's rows by number; saves ids.
Var embedding(const Var& table, const Tensor& ids);

/// y[b,i,:] = x[b,order[i],:], x [b,N,C], order i32 [N] a permutation. dx is dy gathered by `inverse`,
/// inverse[order[i]] = i (from kernels::inverse_order), which is saved.
Var gather_tokens(const Var& x, const Tensor& order, const Tensor& inverse);

}  // namespace llsa
