// The head split, its norm and its rotation for heads of 64, 128, 256 or 512 bytes (D = 32, 64, 128 in bf16 and
// f32). Each lane holds 16 bytes of a head in registers, so L = 4 to 32 lanes hold a whole head, and a warp works
// on 32 / L heads at a time. The maths is that of rope.cu.
//
// Bytes per element in f32 (bf16), each moved once: the split 8 (4); its gradient 12 (6) with a norm, 8 (4)
// without, as for v; weight gradients 8 (4) more for q and k, and partial sums of 4 D per kHeadBlock heads.
// Cosines and sines, 4 D per token, serve all heads. FLOPs per element: 7, 10 and 6. The split issues some 160
// (200) instructions for the 32 bytes of a lane, two quotients of 64-bit numbers among them; memory traffic takes
// about as long (launch.cuh), so both bind.
//
// Lanes beyond the last head compute the warp's first head again without storing it, so that all lanes reach the
// shuffles.
#pragma once

#include <cmath>

#include "heads.cuh"

namespace llsa::kernels::cuda {

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
  __device__ void turn(const Turn<A>& around, std::int64_t token, int column, A sign) {
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

/// Which head a lane works on, and which of its elements.
template <int L, class T>
struct LanePlace {
  std::int64_t piece;
  bool mine;
  int column;
  __device__ LanePlace(std::int64_t first, std::int64_t count) {
    const std::int64_t wanted = first + lane_of_thread() / L;
    mine = wanted < count;
    piece = mine ? wanted : first;
    column = lane_of_thread() % L * kPack<T>;
  }
};

template <int L, class T, class A>
__global__ void split_packs(Heads size, const T* qkv, Parts<T> parts, Turn<A> turn, A eps) {
  const std::int64_t count = 3 * size.samples * size.tokens * size.heads;
  const std::int64_t first = piece_of_warp() * (32 / L);
  if (first >= count) return;
  const LanePlace<L, T> lane(first, count);
  const Place place(size, lane.piece);
  const Part<T> part = parts.of[place.part];
  const std::int64_t row = place.row(size);
  Held<T> x = Held<T>::load(qkv + lane.piece * size.d + lane.column);
  A squares = 0;
  SIMT_UNROLL
  for (int i = 0; i < Held<T>::N; ++i) squares += x.value[i] * x.value[i];
  squares = lanes_sum<L>(squares);
  if (part.rstd != nullptr) {
    const A scale = A(1) / std::sqrt(squares / static_cast<A>(size.d) + eps);
    const Held<T> weight = Held<T>::load(part.weight + lane.column);
    SIMT_UNROLL
    for (int i = 0; i < Held<T>::N; ++i) x.value[i] = x.value[i] * scale * weight.value[i];
    if (lane.mine && lane.column == 0) part.rstd[row] = scale;
  }
  if (place.part < 2) x.turn(turn, place.token, lane.column, A(1));
  if (lane.mine) x.store(part.out + row * size.d + lane.column);
}

/// Undoes the turn, then, with u = x rstd and du = dz weight: dx = rstd (du - u mean(du u)).
template <int L, class T, class A>
__global__ void split_packs_backward(Heads size, const T* qkv, Parts<T> parts, Turn<A> turn, T* dqkv) {
  const std::int64_t count = 3 * size.samples * size.tokens * size.heads;
  const std::int64_t first = piece_of_warp() * (32 / L);
  if (first >= count) return;
  const LanePlace<L, T> lane(first, count);
  const Place place(size, lane.piece);
  const Part<T> part = parts.of[place.part];
  const std::int64_t at = lane.piece * size.d + lane.column;
  Held<T> dz = Held<T>::load(part.grad.at(place.sample, place.head, place.token) + lane.column);
  if (place.part < 2) dz.turn(turn, place.token, lane.column, A(-1));
  const bool normed = part.rstd != nullptr;  // otherwise qkv is not needed
  const Held<T> x = normed ? Held<T>::load(qkv + at) : Held<T>::ones();
  const Held<T> weight = normed ? Held<T>::load(part.weight + lane.column) : Held<T>::ones();
  A dot = 0;
  SIMT_UNROLL
  for (int i = 0; i < Held<T>::N; ++i) dot += dz.value[i] * weight.value[i] * x.value[i];
  dot = lanes_sum<L>(dot);
  if (normed) {
    const A s = part.rstd[place.row(size)];
    const A b = s * s * s * dot / static_cast<A>(size.d);
    SIMT_UNROLL
    for (int i = 0; i < Held<T>::N; ++i) dz.value[i] = s * (dz.value[i] * weight.value[i]) - x.value[i] * b;
  }
  if (lane.mine) dz.store(dqkv + at);
}

/// sums[block,:] = sum of dz u over kHeadBlock rows (sample, token, head) of q or of k: each group of L lanes
/// adds up every 32 / L-th row, then the groups are added as a tree.
template <int L, class T, class A>
__global__ void weight_sum_packs(Heads size, int which, const T* qkv, Part<T> part, Turn<A> turn, A* sums) {
  const std::int64_t block = piece_of_warp(), rows = size.samples * size.tokens * size.heads;
  if (block * kHeadBlock >= rows) return;
  const std::int64_t end = (block + 1) * kHeadBlock < rows ? (block + 1) * kHeadBlock : rows;
  const int column = lane_of_thread() % L * kPack<T>;
  A sum[kPack<T>] = {};
  for (std::int64_t r = block * kHeadBlock + lane_of_thread() / L; r < end; r += 32 / L) {
    const std::int64_t head = r % size.heads, token = r / size.heads % size.tokens;
    const std::int64_t sample = r / size.heads / size.tokens;
    const Held<T> x = Held<T>::load(
        qkv + (((sample * size.tokens + token) * 3 + which) * size.heads + head) * size.d + column);
    Held<T> dz = Held<T>::load(part.grad.at(sample, head, token) + column);
    dz.turn(turn, token, column, A(-1));
    const A s = part.rstd[(sample * size.heads + head) * size.tokens + token];
    SIMT_UNROLL
    for (int i = 0; i < kPack<T>; ++i) sum[i] += dz.value[i] * (x.value[i] * s);
  }
  SIMT_UNROLL
  for (int i = 0; i < kPack<T>; ++i) {
    SIMT_UNROLL
    for (int step = 16; step >= L; step /= 2) sum[i] += __shfl_xor_sync(kAllLanes, sum[i], step);
    if (lane_of_thread() < L) sums[block * size.d + column + i] = sum[i];
  }
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

/// Whether everything that is moved in packs starts at a multiple of 16 bytes.
template <class T, class A, class... Rows>
bool packed_heads(const Heads& size, const Turn<A>& turn, const Parts<T>& parts, const Rows*... rows) {
  bool fits = packable(size.d, rows...) && packable(16, turn.cos, turn.sin);
  for (const Part<T>& part : parts.of) {
    const auto& grad = part.grad;
    fits = fits && packable(16, part.weight, part.out, grad.data) && grad.sample % kPack<T> == 0 &&
           grad.head % kPack<T> == 0 && grad.token % kPack<T> == 0;
  }
  return fits;
}

}  // namespace llsa::kernels::cuda
