#include "tests/emu/warp.h"

#include <algorithm>
#include <bit>

namespace llsa::emu {
namespace {

// f(operand) for the lanes of a set, in ascending order.
template <class Operand, class F>
void for_each(void* const* slots, std::uint32_t lanes, F f) {
  for (; lanes; lanes &= lanes - 1) f(*static_cast<Operand*>(slots[std::countr_zero(lanes)]));
}

template <class Combine>
void reduce_with(void* const* slots, std::uint32_t lanes, Combine combine) {
  std::int64_t total = static_cast<Reduction*>(slots[std::countr_zero(lanes)])->value;
  for_each<Reduction>(slots, lanes & (lanes - 1), [&](Reduction& r) { total = combine(total, r.value); });
  for_each<Reduction>(slots, lanes, [&](Reduction& r) { r.result = total; });
}

}  // namespace

void compute_shuffle(void* const* slots, std::uint32_t lanes) {
  for_each<Shuffle>(slots, lanes, [&](Shuffle& s) {
    s.result = lanes >> s.source & 1 ? static_cast<Shuffle*>(slots[s.source])->value : ~std::uint64_t{0};
  });
}

void compute_vote(void* const* slots, std::uint32_t lanes) {
  std::uint32_t ballot = 0;
  for (std::uint32_t rest = lanes; rest; rest &= rest - 1)
    if (static_cast<Vote*>(slots[std::countr_zero(rest)])->predicate) ballot |= rest & (~rest + 1);
  for_each<Vote>(slots, lanes, [&](Vote& v) { v.ballot = ballot; });
}

void compute_sum(void* const* slots, std::uint32_t lanes) {
  reduce_with(slots, lanes, [](std::int64_t a, std::int64_t b) { return a + b; });
}
void compute_min(void* const* slots, std::uint32_t lanes) {
  reduce_with(slots, lanes, [](std::int64_t a, std::int64_t b) { return std::min(a, b); });
}
void compute_max(void* const* slots, std::uint32_t lanes) {
  reduce_with(slots, lanes, [](std::int64_t a, std::int64_t b) { return std::max(a, b); });
}
void compute_and(void* const* slots, std::uint32_t lanes) {
  reduce_with(slots, lanes, [](std::int64_t a, std::int64_t b) { return a & b; });
}
void compute_or(void* const* slots, std::uint32_t lanes) {
  reduce_with(slots, lanes, [](std::int64_t a, std::int64_t b) { return a | b; });
}
void compute_xor(void* const* slots, std::uint32_t lanes) {
  reduce_with(slots, lanes, [](std::int64_t a, std::int64_t b) { return a ^ b; });
}

}  // namespace llsa::emu
