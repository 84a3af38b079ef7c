// The fastest that a device can do one kind of work; contracts in kernels/bench_ceilings.h.
//
// mma      d += a b. A warp keeps 8 results, so 8 independent chains hide the latency of the tensor core. There
//          are no loads, and one store at the end. A product is 4096 FLOP.
// exp2     x = 2^-x. A thread keeps 8 independent chains; the negation costs nothing.
// gather   A warp keeps 4 copies of 2 KiB under way, so a multiprocessor with three blocks keeps 144 KiB of
//          them. Each lane then reads one word of every 64 bytes.
//
// Bytes: the first two kernels write 4 bytes per thread at the end; the third reads 2 KiB per warp and round,
// from L2 where the set fits into it. Each kernel is bound by the unit that it measures if there are enough
// rounds to outweigh the launch.
#include "kernels/bench_ceilings.h"

#include "kernels/check.h"
#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/device/types.cuh"
#include "kernels/cuda/simt/ptx.h"

namespace llsa::kernels::cuda {
namespace {

constexpr int kBlockThreads = static_cast<int>(kCeilingThreads);
constexpr int kStages = 4;
constexpr unsigned kGatherBytes = 4 * kGatherWords;
constexpr std::size_t kRings = std::size_t{kBlockThreads / 32} * kStages * kGatherBytes;

__global__ void __launch_bounds__(kBlockThreads) mma_chains(std::int64_t rounds, float* out) {
  // Ones times 2^-10, 16 of them: every product adds 2^-6 to every element.
  const __nv_bfloat162 ones = __floats2bfloat162_rn(1.0f, 1.0f),
                       small = __floats2bfloat162_rn(0x1p-10f, 0x1p-10f);
  const auto one = reinterpret_cast<const std::uint32_t&>(ones),
             factor = reinterpret_cast<const std::uint32_t&>(small);
  const std::uint32_t a[4] = {one, one, one, one};
  float d[kCeilingChains][4];
  SIMT_UNROLL
  for (int c = 0; c < kCeilingChains; ++c) SIMT_UNROLL
  for (int i = 0; i < 4; ++i) d[c][i] = 0;
  for (std::int64_t r = 0; r < rounds; ++r) {
    SIMT_UNROLL
    for (int c = 0; c < kCeilingChains; ++c) ptx::mma_m16n8k16_bf16(d[c], a, factor, factor);
  }
  float sum = 0;
  SIMT_UNROLL
  for (int c = 0; c < kCeilingChains; ++c) SIMT_UNROLL
  for (int i = 0; i < 4; ++i) sum += d[c][i];
  out[piece_of_thread()] = sum;
}

__global__ void __launch_bounds__(kBlockThreads) exp2_chains(std::int64_t rounds, float* out) {
  float x[kCeilingChains];
  SIMT_UNROLL
  for (int c = 0; c < kCeilingChains; ++c)
    x[c] = static_cast<float>((threadIdx.x + static_cast<unsigned>(c)) % 16) / 16.0f;
  for (std::int64_t r = 0; r < rounds; ++r) {
    SIMT_UNROLL
    for (int c = 0; c < kCeilingChains; ++c) x[c] = ptx::exp2_approx(-x[c]);
  }
  float sum = 0;
  SIMT_UNROLL
  for (int c = 0; c < kCeilingChains; ++c) sum += x[c];
  out[piece_of_thread()] = sum;
}

template <bool through_l1>
__global__ void __launch_bounds__(kBlockThreads)
    gather_blocks(const unsigned char* blocks, std::uint32_t n, std::uint32_t rounds, std::uint32_t* out) {
  SIMT_DYNAMIC_SHARED(memory);
  const auto lane = static_cast<unsigned>(lane_of_thread());
  unsigned char* const ring = memory + threadIdx.x / 32 * (kStages * kGatherBytes);
  const auto warp = static_cast<std::uint32_t>(piece_of_thread() / 32);
  const auto fetch = [&](std::uint32_t r) {
    if (r < rounds) {
      const unsigned char* const from =
          blocks + static_cast<std::size_t>(gathered_block(warp, r, n)) * kGatherBytes + lane * 16;
      const unsigned to = simt::smem_address(ring) + r % kStages * kGatherBytes + lane * 16;
      SIMT_UNROLL
      for (unsigned part = 0; part < kGatherBytes; part += 512) {
        if constexpr (through_l1)
          ptx::cp_async16_ca(to + part, from + part);
        else
          ptx::cp_async16(to + part, from + part);
      }
    }
    ptx::cp_async_commit();
  };
  SIMT_UNROLL
  for (std::uint32_t r = 0; r + 1 < kStages; ++r) fetch(r);
  std::uint32_t sum = 0;
  for (std::uint32_t r = 0; r < rounds; ++r) {
    ptx::cp_async_wait<kStages - 2>();
    __syncwarp();  // round r has come for all lanes, and all have read the stage of round r - 1
    fetch(r + kStages - 1);
    const auto* const words = reinterpret_cast<const std::uint32_t*>(ring + r % kStages * kGatherBytes);
    sum += words[lane + 32 * (r % 16)];
  }
  ptx::cp_async_wait<0>();
  out[piece_of_thread()] = sum;
}

/// Blocks of the grid.
dim3 checked_grid(const Context& ctx, const char* where, std::int64_t rounds, const Tensor& out,
                  DType dtype) {
  check::on_device(ctx, where, {{"out", out}});
  check::dtype(where, {"out", out}, dtype);
  if (!out.is_contiguous() || out.numel() == 0 || out.numel() % kCeilingThreads != 0)
    throw ShapeError(cat("[", where, "] expected out contiguous with a multiple of ", kCeilingThreads,
                         " elements, got ", out.shape()));
  if (rounds < 0 || rounds >= std::int64_t{1} << 31)
    throw ValueError(cat("[", where, "] expected 0 to 2^31 - 1 rounds, got ", rounds));
  return grid_of(out.numel() / kCeilingThreads);
}

void mma_loop(Context& ctx, std::int64_t rounds, const Tensor& out) {
  const dim3 grid = checked_grid(ctx, "mma_loop", rounds, out, DType::f32);
  simt::launch(mma_chains, grid, dim3(kBlockThreads), 0, stream_of(ctx), rounds, device_data<float>(out));
}

void exp2_loop(Context& ctx, std::int64_t rounds, const Tensor& out) {
  const dim3 grid = checked_grid(ctx, "exp2_loop", rounds, out, DType::f32);
  simt::launch(exp2_chains, grid, dim3(kBlockThreads), 0, stream_of(ctx), rounds, device_data<float>(out));
}

void gather_loop(Context& ctx, const Tensor& blocks, std::int64_t rounds, bool through_l1,
                 const Tensor& out) {
  const dim3 grid = checked_grid(ctx, "gather_loop", rounds, out, DType::i32);
  check::on_device(ctx, "gather_loop", {{"blocks", blocks}});
  check::dtype("gather_loop", {"blocks", blocks}, DType::i32);
  if (blocks.rank() != 2 || blocks.size(0) < 1 || blocks.size(0) >= std::int64_t{1} << 31 ||
      blocks.size(1) != kGatherWords || !blocks.is_contiguous() ||
      reinterpret_cast<std::uintptr_t>(blocks.raw()) % 16 != 0)
    throw ShapeError(
        cat("[gather_loop] expected contiguous blocks [n,", kGatherWords, "], got ", blocks.shape()));
  simt::launch(through_l1 ? gather_blocks<true> : gather_blocks<false>, grid, dim3(kBlockThreads), kRings,
               stream_of(ctx), reinterpret_cast<const unsigned char*>(blocks.raw()),
               static_cast<std::uint32_t>(blocks.size(0)), static_cast<std::uint32_t>(rounds),
               reinterpret_cast<std::uint32_t*>(out.raw()));
}

}  // namespace

constinit const CeilingBackend kCeilings = {
    .mma_loop = mma_loop, .exp2_loop = exp2_loop, .gather_loop = gather_loop};

}  // namespace llsa::kernels::cuda
