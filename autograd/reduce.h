// Sums and means over axes. Nothing is saved for backward.
#pragma once

#include <vector>

#include "var.h"

namespace llsa {

/// Sum over the axes, all of them when the list is empty; a reduced axis disappears, or stays with extent 1
/// (keepdim). dx = dy, broadcast (a view with strides 0).
Var sum(const Var& x, const std::vector<int>& axes = {}, bool keepdim = false);
/// Sum divided by the number of elements n that go into it. dx = dy / n, broadcast.
Var mean(const Var& x, const std::vector<int>& axes = {}, bool keepdim = false);

/// Where the largest element stands on an axis, i32: the first one of equals; NaN is larger than any number. It has no
/// gradient.
Tensor argmax(const Var& x, int axis, bool keepdim = false);

}  // namespace llsa
