// The head split, its norm and its rotation for heads of 64, 128, 256 or 512 bytes (D = 32, 64, 128 in bf16 and
// f32). Each lane holds 16 bytes of a head in registers, so L = 4 to 32 lanes hold a whole head, and a warp works
// on 32 / L heads at a time. The maths is that of rope.cu.
//
// A block of threads has one head, of q, k or v, in kTokenBlock tokens of a sample; the grid names all three, so that
// no index has to be divided. Blocks of one run of tokens follow each other.
//
// Bytes per element in f32 (bf16), each moved once: the split 8 (4); its gradient 12 (6) with a norm, 8 (4)
// without, as for v. Weight gradients are added up from the same reading, and leave partial sums of 4 D per block.
// Cosines and sines, 4 D per token, serve all heads. FLOPs per element: 7 and 16. Memory traffic binds.
//
// Lanes beyond the last token compute the block's first one again without storing it, so that all lanes reach the
// shuffles.
#pragma once

#include <cmath>

#include "heads.cuh"

namespace llsa::kernels::cuda {

constexpr int kTokenBlock = 64;  // tokens that a block of threads goes through

/// Sum over L neighbouring lanes, with the same bits in each.
template <int L, class A>
__device__ A lanes_sum(A value) {
  SIMT_UNROLL
  for (int step = L / 2; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

/// 16 bytes in the accumulator's type.
template <class T, class A = accumulator_t<T>>
struct Held {
  static constexpr int N = kPack<T>;
  A value[N];

  __device__ static Held load(const T* from) {
    const Pack<T, N> pack = load_pack<N>(from);
    Held held;
    SIMT_UNROLL
    for (int i = 0; i < N; ++i) held.value[i] = static_cast<A>(pack.value[i]);
    return held;
  }
  __device__ static Held ones() {
    Held held;
    SIMT_UNROLL
    for (int i = 0; i < N; ++i) held.value[i] = A(1);
    return held;
  }
  __device__ void store(T* to) const {
    Pack<T, N> pack;
    SIMT_UNROLL
    for (int i = 0; i < N; ++i) pack.value[i] = static_cast<T>(value[i]);
    store_pack(to, pack);
  }
  /// Turns the pairs from `column` on of a token; sign = -1 turns back.
  __device__ void turn(const Turn<A>& around, int token, int column, A sign) {
    if (around.cos == nullptr) return;
    const std::int64_t at = token * around.half + column / 2;
    const auto cos = load_pack<N / 2>(around.cos + at), sin = load_pack<N / 2>(around.sin + at);
    SIMT_UNROLL
    for (int i = 0; i < N / 2; ++i) {
      const A even = value[2 * i], odd = value[2 * i + 1], s = sign * sin.value[i];
      value[2 * i] = cos.value[i] * even - s * odd;
      value[2 * i + 1] = s * even + cos.value[i] * odd;
    }
  }
};

/// The head and the tokens [first, end) of a block of threads.
struct HeadBlock {
  int part, head, first, end;
  std::int64_t sample;

  __device__ explicit HeadBlock(const Heads& size) {
    const int heads = static_cast<int>(size.heads), column = static_cast<int>(blockIdx.x);
    part = (column >= heads) + (column >= 2 * heads);
    head = column - part * heads;
    first = static_cast<int>(blockIdx.y) * kTokenBlock;
    end = min(first + kTokenBlock, static_cast<int>(size.tokens));
    sample = blockIdx.z;
  }
  /// This head of token 0 in a projection [b,N,3,H,D], and elements from token to token.
  __device__ std::int64_t in_projection(const Heads& size) const {
    return (sample * size.tokens * gridDim.x + blockIdx.x) * size.d;
  }
  __device__ std::int64_t stride(const Heads& size) const { return gridDim.x * size.d; }
  /// Row of token 0 in a [b,H,N,..] tensor.
  __device__ std::int64_t row(const Heads& size) const { return (sample * size.heads + head) * size.tokens; }
};

template <int L, class T, class A>
__global__ void split_packs(Heads size, const T* qkv, Parts<T> parts, Turn<A> turn, A eps) {
  const HeadBlock block(size);
  const Part<T> part = parts.of[block.part];
  const int column = lane_of_thread() % L * kPack<T>;
  const std::int64_t stride = block.stride(size), row = block.row(size);
  const T* const in = qkv + block.in_projection(size) + column;
  const bool normed = part.rstd != nullptr;
  const Held<T> weight = normed ? Held<T>::load(part.weight + column) : Held<T>::ones();
  for (int base = block.first; base < block.end; base += kWarps * 32 / L) {
    const int wanted = base + static_cast<int>(threadIdx.x) / L;
    const bool mine = wanted < block.end;
    const int token = mine ? wanted : block.first;
    Held<T> x = Held<T>::load(in + token * stride);
    A squares = 0;
    SIMT_UNROLL
    for (int i = 0; i < Held<T>::N; ++i) squares += x.value[i] * x.value[i];
    squares = lanes_sum<L>(squares);
    if (normed) {
      const A scale = A(1) / std::sqrt(squares / static_cast<A>(size.d) + eps);
      SIMT_UNROLL
      for (int i = 0; i < Held<T>::N; ++i) x.value[i] = x.value[i] * scale * weight.value[i];
      if (mine && column == 0) part.rstd[row + token] = scale;
    }
    if (block.part < 2) x.turn(turn, token, column, A(1));
    if (mine) x.store(part.out + (row + token) * size.d + column);
  }
}

/// Undoes the turn, then, with u = x rstd and du = dz weight: dx = rstd (du - u mean(du u)). sums[part,block,:] = the
/// sum of dz u over the tokens of a block, for q and k where they have a norm.
template <int L, class T, class A>
__global__ void split_packs_backward(Heads size, const T* qkv, Parts<T> parts, Turn<A> turn, T* dqkv,
                                     A* sums) {
  constexpr int N = kPack<T>;
  SIMT_SHARED(of_warps, A[kWarps][L * N]);
  const HeadBlock block(size);
  const Part<T> part = parts.of[block.part];
  const int column = lane_of_thread() % L * N;
  const std::int64_t stride = block.stride(size), row = block.row(size);
  const std::int64_t from = block.in_projection(size) + column;
  const T* const grad = part.grad.at(block.sample, block.head, 0) + column;
  const bool normed = part.rstd != nullptr;  // otherwise qkv is not needed
  const Held<T> weight = normed ? Held<T>::load(part.weight + column) : Held<T>::ones();
  A sum[N] = {};
  for (int base = block.first; base < block.end; base += kWarps * 32 / L) {
    const int wanted = base + static_cast<int>(threadIdx.x) / L;
    const bool mine = wanted < block.end;
    const int token = mine ? wanted : block.first;
    Held<T> dz = Held<T>::load(grad + token * part.grad.token);
    const Held<T> x = normed ? Held<T>::load(qkv + from + token * stride) : Held<T>::ones();
    if (block.part < 2) dz.turn(turn, token, column, A(-1));
    A dot = 0;
    SIMT_UNROLL
    for (int i = 0; i < N; ++i) dot += dz.value[i] * weight.value[i] * x.value[i];
    dot = lanes_sum<L>(dot);
    if (normed) {
      const A s = part.rstd[row + token];
      const A b = s * s * s * dot / static_cast<A>(size.d);
      SIMT_UNROLL
      for (int i = 0; i < N; ++i) {
        if (mine) sum[i] += dz.value[i] * (x.value[i] * s);
        dz.value[i] = s * (dz.value[i] * weight.value[i]) - x.value[i] * b;
      }
    }
    if (mine) dz.store(dqkv + from + token * stride);
  }
  if (!normed) return;  // the whole block
  SIMT_UNROLL
  for (int i = 0; i < N; ++i) {
    SIMT_UNROLL
    for (int step = 16; step >= L; step /= 2) sum[i] += __shfl_xor_sync(kAllLanes, sum[i], step);
    if (lane_of_thread() < L) of_warps[threadIdx.x / 32][column + i] = sum[i];
  }
  __syncthreads();
  const std::int64_t tile = (block.sample * gridDim.y + blockIdx.y) * size.heads + block.head;
  const std::int64_t tiles = size.samples * gridDim.y * size.heads;
  for (int c = static_cast<int>(threadIdx.x); c < L * N; c += kWarps * 32) {
    A all = of_warps[0][c];
    for (int warp = 1; warp < kWarps; ++warp) all += of_warps[warp][c];
    sums[(block.part * tiles + tile) * size.d + c] = all;
  }
}

/// The gradients of the weights of q and k, either may be null, from sums[2,tiles,D]: a warp per element.
template <class A>
__global__ void fold_weight_sums(std::int64_t tiles, int d, const A* sums, A* q, A* k) {
  const int piece = static_cast<int>(piece_of_warp());
  if (piece >= 2 * d) return;
  const int part = piece >= d, column = piece - part * d;
  A* const out = part == 0 ? q : k;
  if (out == nullptr) return;
  A sum = 0;
  for (std::int64_t i = lane_of_thread(); i < tiles; i += 32) sum += sums[(part * tiles + i) * d + column];
  sum = warp_sum(sum);
  if (lane_of_thread() == 0) out[column] = sum;
}

/// Starts a block of threads for each head, of q, k and v, of kTokenBlock tokens.
template <class... Params, class... Args>
void launch_heads(LaunchContext on, void (*kernel)(Params...), const Heads& size, Args... args) {
  const dim3 grid(static_cast<unsigned>(3 * size.heads),
                  static_cast<unsigned>(ceil_div(size.tokens, kTokenBlock)),
                  static_cast<unsigned>(size.samples));
  llsa::simt::launch(kernel, grid, dim3(kWarps * 32), 0, on.stream(), size, args...);
}

/// Calls f.template operator()<L>() if L lanes hold a head of d elements; whether that is so.
template <class T, class F>
bool visit_head_lanes(std::int64_t d, F&& f) {
  switch (d * static_cast<std::int64_t>(sizeof(T))) {
    case 64:
      f.template operator()<4>();
      return true;
    case 128:
      f.template operator()<8>();
      return true;
    case 256:
      f.template operator()<16>();
      return true;
    case 512:
      f.template operator()<32>();
      return true;
    default:
      return false;
  }
}

/// Whether the grid can name all heads, and everything that is moved in packs starts at a multiple of 16 bytes.
template <class T, class A, class... Rows>
bool packed_heads(const Heads& size, const Turn<A>& turn, const Parts<T>& parts, const Rows*... rows) {
  constexpr std::int64_t kMostBlocks = 65535;  // along the second and the third axis of a grid
  bool fits = size.tokens <= kMostBlocks * kTokenBlock && size.samples <= kMostBlocks &&
              packable(size.d, rows...) && packable(16, turn.cos, turn.sin);
  for (const Part<T>& part : parts.of) {
    const auto& grad = part.grad;
    fits = fits && packable(16, part.weight, part.out, grad.data) && grad.sample % kPack<T> == 0 &&
           grad.head % kPack<T> == 0 && grad.token % kPack<T> == 0;
  }
  return fits;
}

}  // namespace llsa::kernels::cuda
