// Selection on tensor cores: bf16 with f32 accumulation, D = 32, 64 or 128, at most 64 picks, any number of
// candidates; below the coarsest level B a multiple of 16.
#pragma once

#include "../index/select.cuh"

namespace llsa::kernels::cuda {

/// Whether these kernels can take a level.
bool fits_mma_select(const SelectLevel<__nv_bfloat16>& s);

/// One level: out i32 [heads, n_l, w_l] becomes I_l, and s.words, if there are any, R_l.
void select_level_mma(Context& ctx, const SelectLevel<__nv_bfloat16>& s, std::int32_t* out);

}  // namespace llsa::kernels::cuda
