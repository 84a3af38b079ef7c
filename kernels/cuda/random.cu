// Random tensors. Four neighbouring elements are the four words of one Philox 4x32-10 block. The counter of the
// block is its place in the row and the stream, which is mixed with the row's sample id if there are ids; the key
// is the seed.
//
//     uniform   (w >> 8) 2^-24
//     normal    sqrt(-2 ln u) (cos 2 pi v, sin 2 pi v),  u = ((w_0 >> 8) + 1/2) 2^-24,  v uniform from w_1
//
// A thread per block of four elements, which it stores one by one. Bytes: 16 written per thread in f32, 8 in bf16;
// 8 per row are read for sample ids. Arithmetic: 10 rounds of two products of 32 x 32 bits, exclusive ors and
// additions; normals also take two logarithms, two roots, two sines and two cosines. That is more than 100
// instructions per thread for uniforms and at least twice as many for normals: bound by issuing instructions
// (device/launch.cuh).
#include "kernels/backend/tensors.h"

#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/device/philox.cuh"
#include "kernels/cuda/device/types.cuh"
#include "kernels/random.h"

namespace llsa::kernels::cuda {
namespace {

struct Draw {
  std::int64_t rows, length, blocks;  // blocks of four elements per row
  std::uint64_t seed, stream;
};

/// The bijection of kernels::sample_stream.
__device__ std::uint64_t stream_of_sample(std::uint64_t stream, std::int64_t sample_id) {
  auto h = static_cast<std::uint64_t>(sample_id) + 0x9E3779B97F4A7C15u;
  h = (h ^ (h >> 32)) * 0xD6E8FEB86659FD93u;
  h = (h ^ (h >> 32)) * 0xD6E8FEB86659FD93u;
  return stream ^ h ^ (h >> 32);
}

template <bool kNormal, class T>
__global__ void draw_elements(Draw draw, const std::int64_t* sample_ids, T* x) {
  using A = accumulator_t<T>;
  const std::int64_t i = piece_of_thread();
  if (i >= draw.rows * draw.blocks) return;
  const std::int64_t row = i / draw.blocks, first = i % draw.blocks * 4;
  const Philox philox{draw.seed,
                      sample_ids != nullptr ? stream_of_sample(draw.stream, sample_ids[row]) : draw.stream};
  const auto words = philox.words(static_cast<std::uint64_t>(first / 4));
  float values[4];
  if constexpr (kNormal) {
    const NormalPair a = box_muller(words[0], words[1]), b = box_muller(words[2], words[3]);
    values[0] = a.first;
    values[1] = a.second;
    values[2] = b.first;
    values[3] = b.second;
  } else {
    SIMT_UNROLL
    for (int j = 0; j < 4; ++j) values[j] = Philox::to_uniform(words[static_cast<std::size_t>(j)]);
  }
  SIMT_UNROLL
  for (int j = 0; j < 4; ++j)
    if (first + j < draw.length) x[row * draw.length + first + j] = static_cast<T>(static_cast<A>(values[j]));
}

void fill_random(Context& ctx, Distribution distribution, std::uint64_t seed, std::uint64_t stream,
                 const Tensor& sample_ids, const Tensor& x) {
  const Draw draw{x.size(0), x.size(1), ceil_div(x.size(1), 4), seed, stream};
  visit_device(x.dtype(), "random", [&]<class T>() {
    const std::int64_t* const ids = device_data<std::int64_t>(sample_ids);
    if (distribution == Distribution::normal)
      launch_threads(ctx, draw_elements<true, T>, draw.rows * draw.blocks, draw, ids, device_data<T>(x));
    else
      launch_threads(ctx, draw_elements<false, T>, draw.rows * draw.blocks, draw, ids, device_data<T>(x));
  });
}

}  // namespace

constinit const RandomBackend kRandom = {.fill_random = fill_random};

}  // namespace llsa::kernels::cuda
