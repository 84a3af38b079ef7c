// By-key lists of all levels (CSR to CSC) from bit words, coarsest level first, in a fixed order without a
// sort.
//
// Selection is hierarchical: the B children of a query node i' pick among the children of the keys that i'
// picked. So all picks of level l under i' and its s-th pick J are B words of B bits,
//
//     R_l[i'][s][c] = { r : child r of i' picked child c of J },
//
// and who picked child c of J stands in the words of those who picked J:
//
//     list_l(J B + c) = for i' in list_{l+1}(J), ascending: i' B + r for the bits r of R_l[i'][s][c]
//
//     coarsest  list_L from an n_L x n_L bit matrix in shared memory, rows of keys: bits are set in any order
//               (integer atomics), read in one. A block has some rows and looks through the whole table.
//     mark      R_l: a warp per parent i' turns the B w_l picks of its children into words in shared memory;
//               counts the picks of every key
//     scan      offsets from the counts, a block per head
//     fill      the lists: a warp per key J of level l + 1, a lane per child (two at B > 32), eight entries
//               (four) of J's list in flight
//
// What it saves against the counting sort of llsa_transpose.cu, which has three launches per level and in two
// of them goes through rows one after the other: level L takes one launch, a level below three and a clearing
// of counters, so at L = 2 four launches instead of six; and no warp's work grows with N, only with the
// length of a key's list (a hot key is one long list for one warp, here as there). Bytes below level L: the
// table once for every 512 / B picks of a parent, the words (as many bytes as the table at B <= 32, twice as
// many above) written and read, the lists written; integer work. Bound by latencies; the bit matrix by its
// blocks' looks through the table, which is why tables of very many keys at level L are sorted.
//
// The forward and dQ read the rows of I_1 themselves: 4 w_1 bytes for a query block, as many as its share of
// the words at B = 16, and nothing to decode. What the words offer them is the union of what siblings picked,
// with each block of keys loaded once for all; that saves a part of the fill, in exchange for a barrier at
// every tile, and only a measurement could tell which is more.
//
// Tables may come from elsewhere, and then a pick need not be a child of its parent's picks. A word cannot
// say that. The marking warp notices, and raises a flag for its head, upon which fill searches the whole
// table of level l for each J instead: correct, in n_{l+1} n_l w_l steps, and without the host having to
// wait for an answer.
#include "kernels/cuda/llsa_words.h"

#include "kernels/cuda/device/block_scan.cuh"
#include "kernels/cuda/llsa.h"
#include "kernels/cuda/llsa_operands.cuh"

namespace llsa::kernels::cuda {
namespace {

// ---- the coarsest level -------------------------------------------------------------------------------

constexpr std::int64_t kMostBitRows = 16 * 1024;  // keys up to which the bit matrix is used
constexpr std::int64_t kKeysPerBlock = 128;       // rows of it that a block has, or fewer

struct BitMatrix {
  const std::int32_t* entries;  // [heads, n, width]
  int n, width;
  int keys, words;  // rows of a block, words of a row
};

/// Block (rows, head). Shared memory: the rows, then where each list begins.
__global__ void __launch_bounds__(kScanThreads)
    list_coarsest(BitMatrix m, std::int32_t* offset, std::int32_t* query) {
  SIMT_DYNAMIC_SHARED(memory);
  SIMT_SHARED(totals, int[2]);  // entries for keys before this block's, for those of this block
  std::uint32_t* const bits = reinterpret_cast<std::uint32_t*>(memory);
  std::int32_t* const begin = reinterpret_cast<std::int32_t*>(bits + m.keys * m.words);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int first = static_cast<int>(blockIdx.x) * m.keys, keys = min(m.n - first, m.keys);
  const std::int64_t all = static_cast<std::int64_t>(m.n) * m.width;
  const std::int32_t* const entries = m.entries + blockIdx.y * all;
  offset += blockIdx.y * static_cast<std::int64_t>(m.n + 1) + first;
  query += blockIdx.y * all;

  for (int w = thread; w < keys * m.words; w += kScanThreads) bits[w] = 0;
  if (thread < 2) totals[thread] = 0;
  __syncthreads();
  int before = 0, inside = 0;
  for (std::int64_t e = thread; e < all; e += kScanThreads) {
    const std::int32_t j = entries[e];
    if (j < 0 || j >= first + keys) continue;
    if (j < first) {
      ++before;
      continue;
    }
    ++inside;
    const unsigned row = static_cast<unsigned>(e) / static_cast<unsigned>(m.width);
    atomicOr(bits + ((j - first) * m.words + static_cast<int>(row / 32)), 1u << row % 32);
  }
  before = __reduce_add_sync(kAllLanes, before);
  inside = __reduce_add_sync(kAllLanes, inside);
  if (lane == 0) {
    atomicAdd(totals, before);
    atomicAdd(totals + 1, inside);
  }
  __syncthreads();

  for (int key = warp; key < keys; key += kScanThreads / 32) {
    int n = 0;
    for (int w = lane; w < m.words; w += 32) n += __popc(bits[key * m.words + w]);
    n = __reduce_add_sync(kAllLanes, n);
    if (lane == 0) begin[key] = n;
  }
  __syncthreads();
  block_exclusive_scan(
      keys, [&](std::int64_t key) { return begin[key]; },
      [&](std::int64_t key, std::int32_t sum) {
        if (key < keys) {
          begin[key] = offset[key] = totals[0] + sum;
          return;
        }
        if (first + keys == m.n) offset[keys] = totals[0] + totals[1];
        // A row that names a key twice has one bit for it. No place may stay without a query even then.
        for (int p = sum; p < totals[1]; ++p) query[totals[0] + p] = 0;
      });
  __syncthreads();

  for (int key = warp; key < keys; key += kScanThreads / 32) {
    std::int32_t* to = query + begin[key];
    for (int w = lane; w - lane < m.words; w += 32) {
      std::uint32_t word = w < m.words ? bits[key * m.words + w] : 0;
      const int n = __popc(word);
      int upto = n;
      SIMT_UNROLL
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(kAllLanes, upto, step);
        if (lane >= step) upto += other;
      }
      for (int at = upto - n; word != 0; word &= word - 1)
        to[at++] = 32 * w + __ffs(static_cast<int>(word)) - 1;
      to += __shfl_sync(kAllLanes, upto, 31);
    }
  }
}

// ---- the levels below ---------------------------------------------------------------------------------

/// Level l and the one above it.
template <class W>
struct WordLevel {
  using Word = W;                              // with B bits or more
  const std::int32_t* picks = nullptr;         // I_l, [heads, n, width]
  const std::int32_t* above = nullptr;         // I_{l+1}, [heads, above_n, above_width]
  const std::int32_t* above_offset = nullptr;  // list_{l+1}
  const std::int32_t* above_query = nullptr;
  Word* words = nullptr;           // R_l, [heads, above_n, above_width, B]
  std::int32_t* counts = nullptr;  // [heads, n], picks of each key; zero at first, like the next
  std::int32_t* strays = nullptr;  // [heads], not 0: words cannot say everything
  std::int32_t* offset = nullptr;
  std::int32_t* query = nullptr;
  std::int64_t heads = 0;
  int n = 0, width = 0, above_n = 0, above_width = 0, block = 1;

  /// The slot in which node i' (counted over all heads) picked key J, or -1.
  __device__ int slot_of(std::int64_t node, std::int32_t key) const {
    const std::int32_t* const row = above + node * above_width;
    int low = 0, high = above_width;
    while (low < high) {  // unused places hold -1, the largest as an unsigned number
      const int middle = (low + high) / 2;
      if (static_cast<std::uint32_t>(row[middle]) < static_cast<std::uint32_t>(key))
        low = middle + 1;
      else
        high = middle;
    }
    return low < above_width && row[low] == key ? low : -1;
  }
};

__device__ inline std::uint32_t set_bits(std::uint32_t* word, std::uint32_t bits) {
  return atomicOr(word, bits);
}
__device__ inline unsigned long long set_bits(unsigned long long* word, unsigned long long bits) {
  return atomicOr(word, bits);
}
__device__ inline int lowest_bit(std::uint32_t word) { return __ffs(static_cast<int>(word)) - 1; }
__device__ inline int lowest_bit(unsigned long long word) {
  return __ffsll(static_cast<long long>(word)) - 1;
}

constexpr int kMarkedWords = 512;  // that a warp has in shared memory at a time

template <class Word>
__global__ void __launch_bounds__(kWarps * 32) mark_words(WordLevel<Word> level) {
  SIMT_SHARED(marks, Word[kWarps][kMarkedWords]);
  const std::int64_t node = piece_of_warp();
  if (node >= level.heads * level.above_n) return;  // whole warps leave; no barrier of the block follows
  const int lane = lane_of_thread(), block = level.block, width = level.width;
  const std::int64_t head = node / level.above_n;
  const int first = static_cast<int>(node % level.above_n) * block;
  const int entries = min(level.n - first, block) * width;
  const std::int32_t* const picks = level.picks + (head * level.n + first) * width;
  Word* const mark = marks[threadIdx.x / 32];
  bool stray = false;

  const int slots_at_a_time = kMarkedWords / block;
  for (int slot0 = 0; slot0 < level.above_width; slot0 += slots_at_a_time) {
    const int slots = min(level.above_width - slot0, slots_at_a_time);
    for (int w = lane; w < slots * block; w += 32) mark[w] = 0;
    __syncwarp();
    for (int e = lane; e < entries; e += 32) {
      const std::int32_t j = picks[e];
      if (j < 0 || j >= level.n) continue;
      if (slot0 == 0) atomicAdd(level.counts + (head * level.n + j), 1);
      const int slot = level.slot_of(node, j / block);
      stray = stray || slot < 0;
      if (slot < slot0 || slot >= slot0 + slots) continue;
      const Word bit = Word{1} << (e / width);
      const Word old = set_bits(mark + ((slot - slot0) * block + j % block), bit);
      stray = stray || (old & bit) != 0;  // twice in a row
    }
    __syncwarp();
    Word* const to = level.words + (node * level.above_width + slot0) * block;
    for (int w = lane; w < slots * block; w += 32) to[w] = mark[w];
    __syncwarp();
  }
  if (stray) atomicOr(level.strays + head, 1);
}

/// One block per head.
template <class Word>
__global__ void __launch_bounds__(kScanThreads) scan_counts(WordLevel<Word> level) {
  const std::int32_t* const counts = level.counts + static_cast<std::int64_t>(blockIdx.x) * level.n;
  std::int32_t* const offset = level.offset + static_cast<std::int64_t>(blockIdx.x) * (level.n + 1);
  block_exclusive_scan(
      level.n, [&](std::int64_t j) { return counts[j]; },
      [&](std::int64_t j, std::int32_t begin) { offset[j] = begin; });
}

template <class Word>
__global__ void __launch_bounds__(kWarps * 32) fill_lists(WordLevel<Word> level) {
  constexpr int kOwn = sizeof(Word) / 4;  // children of a lane: c = lane, lane + 32
  constexpr int kAhead = 8 / kOwn;        // entries whose words are on their way
  const std::int64_t piece = piece_of_warp();
  if (piece >= level.heads * level.above_n) return;  // whole warps leave
  const int lane = lane_of_thread(), block = level.block;
  const std::int64_t head = piece / level.above_n;
  const int key = static_cast<int>(piece % level.above_n), first = key * block;
  const std::int64_t entries = static_cast<std::int64_t>(level.n) * level.width;
  std::int32_t* const query = level.query + head * entries;

  std::int32_t next[kOwn], end[kOwn];
  SIMT_UNROLL
  for (int own = 0; own < kOwn; ++own) {
    const int c = lane + 32 * own;
    const bool there = c < block && first + c < level.n;
    const std::int32_t* const offset = level.offset + head * (level.n + 1) + first + c;
    next[own] = there ? offset[0] : 0;
    end[own] = there ? offset[1] : 0;
  }

  if (level.strays[head] != 0) {
    const std::int32_t* const picks = level.picks + head * entries;
    for (std::int64_t base = 0; base < entries; base += 32) {
      const std::int64_t e = base + lane;
      const std::int32_t j = e < entries ? picks[e] : -1;
      unsigned hits = __ballot_sync(kAllLanes, j >= first && j < level.n && j - first < block);
      for (; hits != 0; hits &= hits - 1) {
        const int from = __ffs(static_cast<int>(hits)) - 1;
        const int c = __shfl_sync(kAllLanes, j, from) - first;
        const auto row = static_cast<std::int32_t>(static_cast<unsigned>(base + from) /
                                                   static_cast<unsigned>(level.width));
        SIMT_UNROLL
        for (int own = 0; own < kOwn; ++own)
          if (c == lane + 32 * own) query[next[own]++] = row;
      }
    }
    return;
  }

  const std::int32_t* const list = level.above_offset + head * (level.above_n + 1) + key;
  const std::int32_t* const nodes =
      level.above_query + head * static_cast<std::int64_t>(level.above_n) * level.above_width;
  const std::int32_t list_end = list[1];
  for (std::int32_t base = list[0]; base < list_end; base += 32) {
    // A lane finds where its entry's words are.
    std::int32_t node = 0;
    int slot = -1;
    if (base + lane < list_end) {
      node = nodes[base + lane];
      slot = level.slot_of(head * level.above_n + node, key);
    }
    for (int at = 0; at < 32 && base + at < list_end; at += kAhead) {
      Word word[kAhead][kOwn];
      SIMT_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const std::int32_t node_i = __shfl_sync(kAllLanes, node, at + i);
        const int slot_i = __shfl_sync(kAllLanes, slot, at + i);
        const Word* const from =
            level.words + ((head * level.above_n + node_i) * level.above_width + slot_i) * block;
        SIMT_UNROLL
        for (int own = 0; own < kOwn; ++own)
          word[i][own] = slot_i >= 0 && lane + 32 * own < block ? from[lane + 32 * own] : 0;
      }
      SIMT_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const std::int32_t row = __shfl_sync(kAllLanes, node, at + i) * block;
        SIMT_UNROLL
        for (int own = 0; own < kOwn; ++own)
          for (; word[i][own] != 0 && next[own] < end[own]; word[i][own] &= word[i][own] - 1)
            query[next[own]++] = row + lowest_bit(word[i][own]);
      }
    }
  }
}

// ---- all levels ---------------------------------------------------------------------------------------

IndexTranspose empty_transpose(Context& ctx, const Tensor& table) {
  const std::int64_t b = table.size(0), h = table.size(1), n = table.size(2);
  return {ctx.empty({b, h, n + 1}, DType::i32), ctx.empty({b, h, n * table.size(3)}, DType::i32)};
}

void transpose_coarsest(Context& ctx, const Tensor& table, const IndexTranspose& to) {
  const std::int64_t heads = table.size(0) * table.size(1), n = table.size(2);
  if (n > kMostBitRows) return index_transpose(ctx, table, n, to.offset, to.query);
  const std::int64_t words = ceil_div(n, 32), row_bytes = 4 * (words + 1);
  const std::int64_t keys = std::min({n, kKeysPerBlock, kSharedBytes / row_bytes});
  const BitMatrix m = {table.data<std::int32_t>(), static_cast<int>(n), static_cast<int>(table.size(3)),
                       static_cast<int>(keys), static_cast<int>(words)};
  simt::launch(list_coarsest, head_grid(ceil_div(n, keys), heads), dim3(kScanThreads),
               static_cast<std::size_t>(keys * row_bytes), stream_of(ctx), m, to.offset.data<std::int32_t>(),
               to.query.data<std::int32_t>());
}

template <class Word>
void transpose_below(Context& ctx, const Tensor& table, const Tensor& above,
                     const IndexTranspose& above_lists, int block, const IndexTranspose& to) {
  WordLevel<Word> level;
  level.heads = table.size(0) * table.size(1);
  level.n = static_cast<int>(table.size(2));
  level.width = static_cast<int>(table.size(3));
  level.above_n = static_cast<int>(above.size(2));
  level.above_width = static_cast<int>(above.size(3));
  level.block = block;
  level.picks = table.data<std::int32_t>();
  level.above = above.data<std::int32_t>();
  level.above_offset = above_lists.offset.data<std::int32_t>();
  level.above_query = above_lists.query.data<std::int32_t>();
  level.offset = to.offset.data<std::int32_t>();
  level.query = to.query.data<std::int32_t>();
  const std::int64_t nodes = level.heads * level.above_n;
  const Tensor words = ctx.empty(
      Shape{nodes * level.above_width * block * static_cast<std::int64_t>(sizeof(Word))}, DType::u8);
  const Tensor counts = ctx.zeros(Shape{level.heads * (level.n + 1)}, DType::i32);
  level.words = device_data<Word>(words);
  level.counts = counts.data<std::int32_t>();
  level.strays = level.counts + level.heads * level.n;
  launch_warps(ctx, mark_words<Word>, nodes, level);
  simt::launch(scan_counts<Word>, grid_of(level.heads), dim3(kScanThreads), 0, stream_of(ctx), level);
  launch_warps(ctx, fill_lists<Word>, nodes, level);
}

}  // namespace

bool fits_words(const LlsaPlan& plan) { return plan.levels <= 1 || plan.block <= 64; }

std::vector<IndexTranspose> transpose_by_words(Context& ctx, const LlsaPlan& plan,
                                               const std::vector<Tensor>& index) {
  std::vector<IndexTranspose> lists;
  for (const Tensor& table : index) lists.push_back(empty_transpose(ctx, table));
  if (lists.empty() || index[0].size(0) * index[0].size(1) == 0) return lists;
  transpose_coarsest(ctx, index.back(), lists.back());
  for (std::size_t l = index.size() - 1; l-- > 0;)
    (plan.block <= 32 ? transpose_below<std::uint32_t>
                      : transpose_below<unsigned long long>)(ctx, index[l], index[l + 1], lists[l + 1],
                                                             plan.block, lists[l]);
  return lists;
}

}  // namespace llsa::kernels::cuda
