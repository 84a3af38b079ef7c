#include <bit>

#include "tests/emu/block.h"

namespace llsa::emu {
namespace {

std::uint64_t next_random(std::uint64_t& state) {  // xorshift64
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state >> 8;
}

unsigned lowest(std::uint32_t bits) { return static_cast<unsigned>(std::countr_zero(bits)); }
unsigned highest(std::uint32_t bits) { return 31 - static_cast<unsigned>(std::countl_zero(bits)); }

// The next set bit above (below) `bit`, starting over at the other end.
unsigned above(std::uint32_t bits, int bit) {
  const std::uint32_t rest = bit >= 31 ? 0 : bits & (~0u << (bit + 1));
  return lowest(rest ? rest : bits);
}
unsigned below(std::uint32_t bits, int bit) {
  const std::uint32_t rest = bit <= 0 ? 0 : bits & static_cast<std::uint32_t>((std::uint64_t{1} << bit) - 1);
  return highest(rest ? rest : bits);
}

unsigned any(std::uint32_t bits, std::uint64_t& state) {
  auto skip = static_cast<unsigned>(next_random(state) % static_cast<unsigned>(std::popcount(bits)));
  while (skip-- > 0) bits &= bits - 1;
  return lowest(bits);
}

}  // namespace

void LaneSet::add(unsigned warp, std::uint32_t lanes) {
  if (lanes == 0) return;
  lanes_[warp] |= lanes;
  warps_ |= 1u << warp;
}

void LaneSet::remove(unsigned lane) {
  std::uint32_t& lanes = lanes_[lane / kWarp];
  lanes &= ~(1u << (lane % kWarp));
  if (lanes == 0) warps_ &= ~(1u << (lane / kWarp));
}

void LaneSet::move_to(LaneSet& other) {
  for (std::uint32_t w = warps_; w; w &= w - 1) {
    other.add(lowest(w), lanes_[lowest(w)]);
    lanes_[lowest(w)] = 0;
  }
  warps_ = 0;
}

unsigned LaneSet::next(int current, Order order, std::uint64_t& random) const {
  if (order == Order::random) {
    const unsigned warp = any(warps_, random);
    return warp * kWarp + any(lanes_[warp], random);
  }
  // The lanes of a warp take their turns before those of the next.
  const int warp = current < 0 ? -1 : current / static_cast<int>(kWarp);
  const int lane = current % static_cast<int>(kWarp);
  const bool stay = current >= 0 && lanes_[static_cast<unsigned>(warp)] != 0;
  if (order == Order::forward) {
    const unsigned w = stay ? static_cast<unsigned>(warp) : above(warps_, warp);
    return w * kWarp + (stay ? above(lanes_[w], lane) : lowest(lanes_[w]));
  }
  const unsigned w = stay ? static_cast<unsigned>(warp) : below(warps_, warp < 0 ? 32 : warp);
  return w * kWarp + (stay ? below(lanes_[w], lane) : highest(lanes_[w]));
}

}  // namespace llsa::emu
