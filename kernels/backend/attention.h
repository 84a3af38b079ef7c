// The contract of a device, page 3 of 4 (tensors.h says what holds for all): attention.
#pragma once

#include <string>
#include <vector>

#include "../../core/context.h"
#include "../llsa_operands.h"

namespace llsa::kernels {

/// Tensors as in kernels/attention.h.
struct AttentionBackend {
  void (*full_attention)(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
                         const Tensor& lse);
  void (*full_attention_backward)(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                                  const Tensor& v, const Tensor& o, const Tensor& lse, const Tensor& dq,
                                  const Tensor& dk, const Tensor& dv);
};

/// The same by a library. Each returns an empty text when it is done; otherwise it has written nothing and
/// says why, which depends on dtypes, shapes, strides and the alignment of addresses only. Both null where
/// there is no library.
struct AttentionLibrary {
  std::string (*full_attention)(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                                const Tensor& o, const Tensor& lse);
  /// Declines also what takes more than `most_memory` bytes besides the tensors.
  std::string (*full_attention_backward)(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                                         const Tensor& v, const Tensor& o, const Tensor& lse,
                                         const Tensor& dq, const Tensor& dk, const Tensor& dv,
                                         std::int64_t most_memory);
};

/// The stages of LLSA, tensors as in kernels/llsa.h.
struct LlsaBackend {
  /// levels[l - 1], contiguous, becomes X^(l), for as many levels as are given.
  void (*pyramid)(Context& ctx, const Tensor& x, const LlsaPlan& plan, const std::vector<Tensor>& levels);
  /// q[l - 1], k[l - 1]: level l of the pyramids; index[l - 1] becomes I_l. L >= 1. A backend whose kernels
  /// read bit words appends R_1 .. R_{L-1} to `words`.
  void (*select)(Context& ctx, const LlsaPlan& plan, const std::vector<Tensor>& q,
                 const std::vector<Tensor>& k, const std::vector<Tensor>& index, std::vector<Tensor>& words);
  /// index i32 [b,H,rows,width] contiguous to offset i32 [b,H,keys+1], query i32 [b,H,rows*width].
  void (*transpose)(Context& ctx, const Tensor& index, std::int64_t keys, const Tensor& offset,
                    const Tensor& query);
  void (*attend)(Context& ctx, const LlsaOperands& args, const Tensor& o, const Tensor& lse);
  void (*attend_backward)(Context& ctx, const LlsaOperands& args, const Tensor& d_o, const Tensor& o,
                          const Tensor& lse, const Tensor& dq, const Tensor& dk, const Tensor& dv);
};

namespace cpu {
extern const AttentionBackend kAttention;
extern const LlsaBackend kLlsa;
}  // namespace cpu
namespace cuda {
extern const AttentionBackend kAttention;
extern const AttentionLibrary kAttentionLibrary;
extern const LlsaBackend kLlsa;
}  // namespace cuda

}  // namespace llsa::kernels
