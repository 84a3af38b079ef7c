// Loops that keep one unit of a CUDA device busy. They show what the device can reach; `llsa bench` compares the
// attention kernels with that. No operation of the library uses them, and there are none for the CPU.
//
// Each call starts out.numel() threads, a multiple of kCeilingThreads, and puts into `out` numbers that show
// whether the work was done.
#pragma once

#include <cstdint>

#include "../core/context.h"

namespace llsa::kernels {

constexpr std::int64_t kCeilingThreads = 256;  ///< of a block
constexpr int kCeilingChains = 8;              ///< independent chains of a thread, or of a warp

constexpr double mma_loop_flops(std::int64_t threads, std::int64_t rounds) {
  return 2.0 * 16 * 8 * 16 * kCeilingChains * static_cast<double>(threads / 32) * static_cast<double>(rounds);
}

constexpr double exp2_loop_count(std::int64_t threads, std::int64_t rounds) {
  return static_cast<double>(kCeilingChains) * static_cast<double>(threads) * static_cast<double>(rounds);
}

constexpr std::int64_t kGatherWords = 512;  ///< i32 words of a block: 2 KiB, 16 keys of D = 64 in bf16

/// Which of n blocks a warp fetches in a round: pseudo-random, all about equally often.
constexpr std::uint32_t gathered_block(std::uint32_t warp, std::uint32_t round, std::uint32_t n) {
  std::uint32_t x = warp * 0x9e3779b1u + round * 0x85ebca77u + 0x165667b1u;
  x = (x ^ x >> 15) * 0x2c1b3c6du;
  x = (x ^ x >> 12) * 0x297a2d39u;
  x ^= x >> 15;
  return static_cast<std::uint32_t>(static_cast<std::uint64_t>(x) * n >> 32);
}

constexpr double gather_loop_bytes(std::int64_t threads, std::int64_t rounds) {
  return 4.0 * kGatherWords * static_cast<double>(threads / 32) * static_cast<double>(rounds);
}

struct CeilingBackend {
  /// Tensor cores through mma.sync m16n8k16, bf16 with sums in f32: every warp adds `rounds` times a product
  /// [16,16] [16,8] to each of its 8 results. out f32 [threads] = rounds / 2, exact up to 2^17 rounds.
  void (*mma_loop)(Context& ctx, std::int64_t rounds, const Tensor& out);
  /// Exponentials: every thread applies x <- 2^-x `rounds` times to each of 8 numbers in [0, 1].
  /// out f32 [threads] = their sum, which tends to 8 x 0.6411857445 (the x with x = 2^-x).
  void (*exp2_loop)(Context& ctx, std::int64_t rounds, const Tensor& out);
  /// Scattered reads as LLSA makes them: every warp brings `rounds` blocks of 2 KiB to shared memory by
  /// cp.async, four stages deep, past the L1 cache or through it. blocks i32 [n,512]; out i32 [threads]: lane l
  /// of warp w sums, modulo 2^32, word l + 32 (r mod 16) of block gathered_block(w, r, n) over its rounds r.
  void (*gather_loop)(Context& ctx, const Tensor& blocks, std::int64_t rounds, bool through_l1,
                      const Tensor& out);
};

namespace cuda {
extern const CeilingBackend kCeilings;
}

}  // namespace llsa::kernels
