// Mean over blocks of consecutive tokens.
#pragma once

#include "var.h"

namespace llsa {

/// y[...,i,:] = mean of x[...,j,:] over the tokens of block i, x [...,N,D] -> [...,ceil(N/block),D]; the last
/// block is divided by the tokens it has. dx[...,j,:] = dy[...,j/block,:] / (tokens of that block); nothing
/// saved.
Var mean_pool(const Var& x, std::int64_t block);

}  // namespace llsa
