// Bit words of the selection, and by-key lists of all levels (CSR to CSC) made from them, coarsest level
// first, in a fixed order without a sort.
//
// Selection is hierarchical: the B children of a query node i' pick among the children of the keys that i'
// picked. So all picks of level l under i' and its s-th pick J are B words of B bits,
//
//     R_l[i'][s][c] = { r : child r of i' picked child c of J },
//
// a word for each of the candidates that the children of i' have in common. The selection on tensor cores
// writes the words as it picks (mma/select.cu); after the plain selection mark_words does. The attention by
// query reads which keys siblings picked together (mma/words.cuh). To find who picked child c of J, scan only
// the queries that picked J:
//
//     list_l(J B + c) = for i' in list_{l+1}(J), ascending: i' B + r for the bits r of R_l[i'][s][c]
//
//     mark      R_l: a warp per parent i' turns the B w_l picks of its children into words in shared memory
//     coarsest  list_L from an n_L x n_L bit matrix in shared memory, rows of keys: bits are set in any order
//               (integer atomics) and read in ascending order. A block has some rows and reads the whole
//               table.
//     count     how long the lists are: a warp per key J of level l + 1, a lane per child (two at B > 32),
//               eight entries (four) of J's list in flight
//     scan      offsets from the counts, a block per head
//     fill      the lists, in the same walk as count
//
// The counting sort of index/transpose.cu has three launches per level, and two of them go through rows one
// after the other. Here level L takes one launch, and the work of a warp grows with the length of a key's
// list only, not with N. (A key that many queries pick is one long list for one warp, here as there.) Bytes
// below level L: the words twice, 2 B w_{l+1} for each parent at B = 16, and the lists written; integer work.
// Bound by latencies. The bit matrix is bound by its blocks, each of which reads the whole table; hence
// tables of very many keys at level L are sorted.
//
// In tables from elsewhere, a pick need not be a child of its parent's picks, which a word cannot express. So
// such tables have no words, and they are sorted if there are several levels.
#include "kernels/cuda/device/block_scan.cuh"
#include "kernels/cuda/llsa/llsa.h"
#include "kernels/cuda/llsa/operands.cuh"

namespace llsa::kernels::cuda {
namespace {

// ---- the coarsest level -------------------------------------------------------------------------------

constexpr std::int64_t kMostBitRows = 16 * 1024;  // keys up to which the bit matrix is used
constexpr std::int64_t kKeysPerBlock = 128;       // most rows of a block

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

/// The slot of a row of picks that holds a key, or -1.
__device__ inline int slot_of(const std::int32_t* row, int width, std::int32_t key) {
  int low = 0, high = width;
  while (low < high) {  // unused places hold -1, the largest as an unsigned number
    const int middle = (low + high) / 2;
    if (static_cast<std::uint32_t>(row[middle]) < static_cast<std::uint32_t>(key))
      low = middle + 1;
    else
      high = middle;
  }
  return low < width && row[low] == key ? low : -1;
}

/// What arithmetic on a word is done in.
template <class Word>
using Bits = std::conditional_t<sizeof(Word) == 8, unsigned long long, std::uint32_t>;

__device__ inline int count_bits(std::uint32_t word) { return __popc(word); }
__device__ inline int count_bits(unsigned long long word) { return __popcll(word); }
__device__ inline int lowest_bit(std::uint32_t word) { return __ffs(static_cast<int>(word)) - 1; }
__device__ inline int lowest_bit(unsigned long long word) {
  return __ffsll(static_cast<long long>(word)) - 1;
}

/// Level l and the one above it.
template <class W>
struct WordLevel {
  using Word = W;                       // with B bits or more
  const std::int32_t* above = nullptr;  // I_{l+1}, [heads, above_n, above_width]
  Word* words = nullptr;                // R_l, [heads, above_n, above_width, B]
  std::int64_t heads = 0;
  int n = 0, width = 0, above_n = 0, above_width = 0, block = 1;

  WordLevel(const LlsaPlan& plan, const Tensor& table, const Tensor& above_table, const Tensor& word_table)
      : above(above_table.data<std::int32_t>()),
        words(device_data<Word>(word_table)),
        heads(table.size(0) * table.size(1)),
        n(static_cast<int>(table.size(2))),
        width(static_cast<int>(table.size(3))),
        above_n(static_cast<int>(above_table.size(2))),
        above_width(static_cast<int>(above_table.size(3))),
        block(plan.block) {}
};

constexpr int kMarkedWords = 512;  // words of a warp in shared memory at a time

template <class Word>
__global__ void __launch_bounds__(kWarps * 32) mark(WordLevel<Word> level, const std::int32_t* table) {
  SIMT_SHARED(marks, Bits<Word>[kWarps][kMarkedWords]);
  const std::int64_t node = piece_of_warp();
  if (node >= level.heads * level.above_n) return;  // whole warps leave; no barrier of the block follows
  const int lane = lane_of_thread(), block = level.block, width = level.width;
  const std::int64_t head = node / level.above_n;
  const int first = static_cast<int>(node % level.above_n) * block;
  const int entries = min(level.n - first, block) * width;
  const std::int32_t* const picks = table + (head * level.n + first) * width;
  const std::int32_t* const above = level.above + node * level.above_width;
  Bits<Word>* const marked = marks[threadIdx.x / 32];

  const int slots_at_a_time = kMarkedWords / block;
  for (int slot0 = 0; slot0 < level.above_width; slot0 += slots_at_a_time) {
    const int slots = min(level.above_width - slot0, slots_at_a_time);
    for (int w = lane; w < slots * block; w += 32) marked[w] = 0;
    __syncwarp();
    for (int e = lane; e < entries; e += 32) {
      const std::int32_t j = picks[e];
      if (j < 0 || j >= level.n) continue;
      const int slot = slot_of(above, level.above_width, j / block) - slot0;
      if (slot >= 0 && slot < slots)
        atomicOr(marked + (slot * block + j % block), Bits<Word>{1} << (e / width));
    }
    __syncwarp();
    Word* const to = level.words + (node * level.above_width + slot0) * block;
    for (int w = lane; w < slots * block; w += 32) to[w] = static_cast<Word>(marked[w]);
    __syncwarp();
  }
}

/// The lists of level l, and what they are made from besides the words.
struct ListsBelow {
  const std::int32_t* above_offset;  // list_{l+1}
  const std::int32_t* above_query;
  std::int32_t* counts;  // [heads, n], picks of each key
  std::int32_t* offset;
  std::int32_t* query;
};

/// Walks over the words of the children of a warp's key J of level l + 1, in the order of J's list: calls
/// visit(i' B, words of the lane's children). Child lane + 32 own is the lane's.
template <class Word, class Visit>
__device__ void for_words_of_key(const WordLevel<Word>& level, const ListsBelow& lists, std::int64_t head,
                                 int key, Visit visit) {
  constexpr int kOwn = (sizeof(Word) + 3) / 4, kBits = 8 * static_cast<int>(sizeof(Bits<Word>));
  constexpr int kAhead = 8 / kOwn;  // entries whose words are on their way
  const int lane = lane_of_thread(), block = level.block;
  const std::int32_t* const list = lists.above_offset + head * (level.above_n + 1) + key;
  const std::int32_t* const nodes =
      lists.above_query + head * static_cast<std::int64_t>(level.above_n) * level.above_width;
  const std::int32_t end = list[1];
  for (std::int32_t base = list[0]; base < end; base += 32) {
    // A lane finds where its entry's words are.
    std::int32_t node = 0;
    int slot = -1;
    if (base + lane < end) {
      node = nodes[base + lane];
      slot = slot_of(level.above + (head * level.above_n + node) * level.above_width, level.above_width, key);
    }
    for (int at = 0; at < 32 && base + at < end; at += kAhead) {
      Bits<Word> word[kAhead][kOwn];
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
        const int rows = min(level.n - row, block);  // no bit names a row beyond the last
        const Bits<Word> mask = rows < kBits ? (Bits<Word>{1} << rows) - 1 : ~Bits<Word>{0};
        SIMT_UNROLL
        for (int own = 0; own < kOwn; ++own) word[i][own] &= mask;
        visit(row, word[i]);
      }
    }
  }
}

template <class Word>
__global__ void __launch_bounds__(kWarps * 32) count_lists(WordLevel<Word> level, ListsBelow lists) {
  constexpr int kOwn = (sizeof(Word) + 3) / 4;
  const std::int64_t piece = piece_of_warp();
  if (piece >= level.heads * level.above_n) return;  // whole warps leave
  const std::int64_t head = piece / level.above_n;
  const int key = static_cast<int>(piece % level.above_n), first = key * level.block;
  std::int32_t count[kOwn] = {};
  for_words_of_key(level, lists, head, key, [&](std::int32_t, const Bits<Word>(&word)[kOwn]) {
    SIMT_UNROLL
    for (int own = 0; own < kOwn; ++own) count[own] += count_bits(word[own]);
  });
  SIMT_UNROLL
  for (int own = 0; own < kOwn; ++own) {
    const int c = lane_of_thread() + 32 * own;
    if (c < level.block && first + c < level.n) lists.counts[head * level.n + first + c] = count[own];
  }
}

/// One block per head.
__global__ void __launch_bounds__(kScanThreads) scan_counts(int n, int width, ListsBelow lists) {
  const std::int32_t* const counts = lists.counts + static_cast<std::int64_t>(blockIdx.x) * n;
  std::int32_t* const offset = lists.offset + static_cast<std::int64_t>(blockIdx.x) * (n + 1);
  // Words with more bits than there are picks must not go beyond these places.
  const unsigned places = static_cast<unsigned>(n) * static_cast<unsigned>(width);
  block_exclusive_scan(
      n, [&](std::int64_t j) { return counts[j]; },
      [&](std::int64_t j, std::int32_t begin) { offset[j] = min(static_cast<unsigned>(begin), places); });
}

template <class Word>
__global__ void __launch_bounds__(kWarps * 32) fill_lists(WordLevel<Word> level, ListsBelow lists) {
  constexpr int kOwn = (sizeof(Word) + 3) / 4;
  const std::int64_t piece = piece_of_warp();
  if (piece >= level.heads * level.above_n) return;  // whole warps leave
  const std::int64_t head = piece / level.above_n;
  const int key = static_cast<int>(piece % level.above_n), first = key * level.block;
  std::int32_t* const query = lists.query + head * static_cast<std::int64_t>(level.n) * level.width;
  std::int32_t next[kOwn] = {}, end[kOwn] = {};
  SIMT_UNROLL
  for (int own = 0; own < kOwn; ++own) {
    const int c = lane_of_thread() + 32 * own;
    if (c >= level.block || first + c >= level.n) continue;
    const std::int32_t* const offset = lists.offset + head * (level.n + 1) + first + c;
    next[own] = offset[0];
    end[own] = offset[1];
  }
  for_words_of_key(level, lists, head, key, [&](std::int32_t row, const Bits<Word>(&word)[kOwn]) {
    SIMT_UNROLL
    for (int own = 0; own < kOwn; ++own)
      for (Bits<Word> rest = word[own]; rest != 0 && next[own] < end[own]; rest &= rest - 1)
        query[next[own]++] = row + lowest_bit(rest);
  });
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
void transpose_below(Context& ctx, const WordLevel<Word>& level, const IndexTranspose& above,
                     const IndexTranspose& to) {
  const std::int64_t nodes = level.heads * level.above_n;
  const Tensor counts = ctx.empty(Shape{level.heads * level.n}, DType::i32);
  const ListsBelow lists = {above.offset.data<std::int32_t>(), above.query.data<std::int32_t>(),
                            counts.data<std::int32_t>(), to.offset.data<std::int32_t>(),
                            to.query.data<std::int32_t>()};
  launch_warps(ctx, count_lists<Word>, nodes, level, lists);
  simt::launch(scan_counts, grid_of(level.heads), dim3(kScanThreads), 0, stream_of(ctx), level.n, level.width,
               lists);
  launch_warps(ctx, fill_lists<Word>, nodes, level, lists);
}

/// Calls f.operator()<Word>() with the type of a plan's words.
template <class F>
void visit_word(const LlsaPlan& plan, F&& f) {
  const int bytes = word_bytes(plan.block);
  if (bytes == 2) return f.template operator()<std::uint16_t>();
  if (bytes == 4) return f.template operator()<std::uint32_t>();
  f.template operator()<unsigned long long>();
}

}  // namespace

std::vector<Tensor> empty_words(Context& ctx, const LlsaPlan& plan, const std::vector<Tensor>& index) {
  std::vector<Tensor> words;
  const std::int64_t bytes = word_bytes(plan.block);
  for (std::size_t l = 1; bytes > 0 && l < index.size(); ++l) {
    const Tensor& above = index[l];
    words.push_back(ctx.empty(
        {above.size(0), above.size(1), above.size(2), above.size(3) * plan.block, bytes}, DType::u8));
  }
  return words;
}

void mark_words(Context& ctx, const LlsaPlan& plan, const Tensor& table, const Tensor& above,
                const Tensor& words) {
  visit_word(plan, [&]<class Word>() {
    const WordLevel<Word> level(plan, table, above, words);
    launch_warps(ctx, mark<Word>, level.heads * level.above_n, level, table.data<std::int32_t>());
  });
}

std::vector<IndexTranspose> transpose_by_words(Context& ctx, const LlsaPlan& plan,
                                               const std::vector<Tensor>& index,
                                               const std::vector<Tensor>& words) {
  std::vector<IndexTranspose> lists;
  for (const Tensor& table : index) lists.push_back(empty_transpose(ctx, table));
  if (lists.empty() || index[0].size(0) * index[0].size(1) == 0) return lists;
  transpose_coarsest(ctx, index.back(), lists.back());
  for (std::size_t l = words.size(); l-- > 0;)
    visit_word(plan, [&]<class Word>() {
      const WordLevel<Word> level(plan, index[l], index[l + 1], words[l]);
      transpose_below(ctx, level, lists[l + 1], lists[l]);
    });
  return lists;
}

}  // namespace llsa::kernels::cuda
