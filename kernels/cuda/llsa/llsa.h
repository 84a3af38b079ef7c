// The host functions of LLSA on CUDA devices, and of full attention by our own kernels: what the files of
// this folder offer each other and the tests.
//
// Index tables from elsewhere are not checked here, because the host would have to wait for the device.
// Entries outside [0, keys) count as unused, so no memory outside the tensors is touched.
#pragma once

#include <algorithm>

#include "../../backend/attention.h"

namespace llsa::kernels::cuda {

// ---- stages (pyramid.cu, index/select.cu, index/transpose.cu) --------------------------------------------

void llsa_pyramid(Context& ctx, const Tensor& x, const LlsaPlan& plan, const std::vector<Tensor>& levels);
void llsa_select(Context& ctx, const std::vector<Tensor>& q, const std::vector<Tensor>& k, LlsaState& state);
void index_transpose(Context& ctx, const Tensor& index, std::int64_t keys, const Tensor& offset,
                     const Tensor& query);

// ---- bit words (index/words.cu) ---------------------------------------------------------------------------
//
// words[l - 1] = R_l for l = 1..L-1, the same picks as I_l, u8 [b,H,n_{l+1},w_{l+1} B,bytes]: bit r of word
// (i', s B + c) is set where child r of query token i' picked child c of the key in place s of row i' of
// I_{l+1}. Words are integers.

/// Bytes of a word that has a bit for each of the B children of a token: 2, 4 or 8 for B <= 16, 32 or 64;
/// 0 for larger blocks, which have no words.
inline int word_bytes(int block) { return block <= 16 ? 2 : block <= 32 ? 4 : block <= 64 ? 8 : 0; }

/// Uninitialised R_1 .. R_{L-1} beside the tables index[l - 1] = I_l; empty where B > 64.
std::vector<Tensor> empty_words(Context& ctx, const LlsaPlan& plan, const std::vector<Tensor>& index);

/// R_l from I_l and I_{l+1}, for a selection that writes tables only. Every pick of I_l must be a child of a
/// pick of the parent's row.
void mark_words(Context& ctx, const LlsaPlan& plan, const Tensor& table, const Tensor& above,
                const Tensor& words);

/// [l - 1]: the transpose of I_l for l = 1..L, equal to index_transpose's, from I_1 .. I_L and R_1 ..
/// R_{L-1}.
std::vector<IndexTranspose> transpose_by_words(Context& ctx, const LlsaPlan& plan,
                                               const std::vector<Tensor>& index,
                                               const std::vector<Tensor>& words);

// ---- what the backward kernels read besides the state (attention.cu) --------------------------------------

/// Per query, [b,H,N] f32 (f64 for f64). All backward kernels take the LSE in base 2.
struct QueryTerms {
  Tensor lse2;   ///< LSE log2(e)
  Tensor delta;  ///< sum(O dO)
};
QueryTerms query_terms(Context& ctx, const Tensor& d_o, const Tensor& o, const Tensor& lse);

/// [l - 1]: the transpose of I_l, queries ascending, for the levels through which keys get gradients: l = 1
/// .. L_e + 1, at most L. Made from bit words, or by sorting where there are none and more than one level.
/// Throws ShapeError for tables with more than 2^31 - 1 entries per head.
std::vector<IndexTranspose> transposed_levels(Context& ctx, const LlsaState& args);

// ---- work lists of the key-major half of the backward pass (index/work_list.cu) ---------------------------
//
// The queries that attend to a block of keys come in tiles of 16. Their number differs from block to block by
// two orders of magnitude, and a third of the blocks may have none. So every list is cut into items of at
// most `cap` tiles, heaviest first. An empty list is an item of no tiles, because its keys still get the
// gradients of the levels above. The items of one block write partial results into numbered slots, which are
// added up afterwards in the order of the items, so the result does not depend on where and when an item
// runs.

/// Query tiles first .. first + tiles - 1 of a block's list. slot = -1: the item is the whole list; otherwise
/// its partial result goes into this slot.
struct WorkItem {
  std::int32_t block, first, tiles, slot;
};

/// The block that a slot belongs to. `pieces` is the number of the block's slots in its first slot, and 0 in
/// the others.
struct SplitBlock {
  std::int32_t block, pieces;
};

/// Made on the device. The host knows bounds only; `count` says how many elements of a head's arrays are in
/// use.
struct WorkList {
  Tensor item;   ///< i32 [b,H,items,4], WorkItem
  Tensor split;  ///< i32 [b,H,slots,2], SplitBlock
  Tensor count;  ///< i32 [b,H,2]: items, slots
};

/// The items of lists by key whose nodes are 2^node_shift queries each, 4 <= node_shift <= 30; the last node
/// may have fewer. Items are sorted by sixteen classes of weight, within a class by block and piece.
WorkList work_list(Context& ctx, const IndexTranspose& lists, std::int64_t queries, int node_shift, int cap);

// ---- attention over an attended set; L = 0 is full attention ----------------------------------------------

/// The plain kernels take any B, K, N, L, L_e, D and dtype. The tensor-core kernels are tested against them.
void attend_plain(Context& ctx, const LlsaState& args, const Tensor& o, const Tensor& lse);
/// The gradient of q.
void queries_backward_plain(Context& ctx, const LlsaState& args, const Tensor& d_o, const QueryTerms& terms,
                            const Tensor& dq);
/// The gradients of k and v, including what the coarse levels pass down.
void keys_backward_plain(Context& ctx, const LlsaState& args, const Tensor& d_o, const QueryTerms& terms,
                         const Tensor& dk, const Tensor& dv);

/// Whether the tensor-core kernels take the problem: bf16 with f32 accumulation, D = 32, 64 or 128, B = 16,
/// 32 or 64 (attend_obstacle), and rows at multiples of 16 bytes. `o` is O in the forward pass, dO in the
/// backward pass.
bool fits_mma(const LlsaState& args, const Tensor& o);
void attend_mma(Context& ctx, const LlsaState& args, const Tensor& o, const Tensor& lse);
void queries_backward_mma(Context& ctx, const LlsaState& args, const Tensor& d_o, const QueryTerms& terms,
                          const Tensor& dq);
void keys_backward_mma(Context& ctx, const LlsaState& args, const Tensor& d_o, const QueryTerms& terms,
                       const Tensor& dk, const Tensor& dv);

// ---- rings in shared memory ------------------------------------------------------------------------------
//
// Some tensor-core kernels keep copies under way in a ring of three stages, or of two where a multiprocessor then
// has room for more blocks. Results do not depend on it.

struct Ring {
  std::int64_t stage = 0;  ///< bytes of a stage, over all rings of a block
  std::int64_t rest = 0;   ///< bytes of a block's other shared memory
  int most = 0;            ///< blocks for which a multiprocessor has registers

  /// Blocks that a multiprocessor with `shared` bytes of shared memory runs at once. The system takes 1 KiB of each
  /// block; sizes are rounded up to 128 bytes.
  int blocks(int stages, std::int64_t shared) const {
    const std::int64_t bytes = (rest + stages * stage + 127) / 128 * 128 + 1024;
    return static_cast<int>(std::min<std::int64_t>(most, shared / bytes));
  }
  int stages(std::int64_t shared) const { return blocks(2, shared) > blocks(3, shared) ? 2 : 3; }
};

/// Output and dQ by words at B = 16 (mma/words.cuh).
Ring words_ring(std::int64_t d);
/// dK and dV below picks at B = 16, D = 32 or 64 (mma/keys_lists.cu).
Ring listed_keys_ring(std::int64_t d);
/// dK and dV of the coarsest level (mma/keys_dense.cu).
Ring dense_keys_ring(std::int64_t d);

/// Bytes of shared memory of a multiprocessor of the context's device.
std::int64_t shared_memory_of_processor(const Context& ctx);

/// The body of both attentions: the tensor-core kernels where they fit, otherwise the plain ones.
void llsa_attention(Context& ctx, const LlsaState& state);
void llsa_attention_backward(Context& ctx, const Tensor& d_o, const LlsaState& state, const Tensor& dq,
                             const Tensor& dk, const Tensor& dv);

}  // namespace llsa::kernels::cuda
