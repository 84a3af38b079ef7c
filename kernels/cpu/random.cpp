// Random tensors on the CPU. A chunk is a multiple of four elements, which are the words of one Philox block.
#include "kernels/backend/tensors.h"

#include <array>

#include "core/philox.h"
#include "kernels/cpu/chunks.h"
#include "kernels/random.h"

namespace llsa::kernels::cpu {
namespace {

constexpr std::int64_t kGrain = 4096;

/// Elements 4 block .. 4 block + 3 of a stream.
std::array<float, 4> block_values(Distribution distribution, const Philox& philox, std::int64_t block) {
  const auto w = philox.words(static_cast<std::uint64_t>(block));
  if (distribution == Distribution::uniform)
    return {Philox::to_uniform(w[0]), Philox::to_uniform(w[1]), Philox::to_uniform(w[2]),
            Philox::to_uniform(w[3])};
  const std::pair<float, float> a = Philox::box_muller(w[0], w[1]);
  const std::pair<float, float> b = Philox::box_muller(w[2], w[3]);
  return {a.first, a.second, b.first, b.second};
}

void fill_random(Context& ctx, Distribution distribution, std::uint64_t seed, std::uint64_t stream,
                 const Tensor& sample_ids, const Tensor& x) {
  const std::int64_t length = x.size(1);
  const std::int64_t per_row = ceil_div(length, kGrain);
  visit_floating(x.dtype(), "random", [&]<class T>() {
    using A = accumulator_t<T>;
    run_chunks(ctx, x.size(0) * per_row, 4 * x.numel(), [&](std::int64_t chunk) {
      const std::int64_t row = chunk / per_row;
      const Philox philox{
          seed, sample_ids.defined() ? sample_stream(stream, sample_ids.data<std::int64_t>()[row]) : stream};
      T* out = x.data<T>() + row * length;
      const std::int64_t end = std::min(length, (chunk % per_row + 1) * kGrain);
      for (std::int64_t i = chunk % per_row * kGrain; i < end; i += 4) {
        const std::array<float, 4> values = block_values(distribution, philox, i / 4);
        for (std::int64_t j = 0; j < std::min<std::int64_t>(4, end - i); ++j)
          out[i + j] = static_cast<T>(static_cast<A>(values[static_cast<std::size_t>(j)]));
      }
    });
  });
}

}  // namespace

constinit const RandomBackend kRandom = {.fill_random = fill_random};

}  // namespace llsa::kernels::cpu
