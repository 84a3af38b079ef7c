// Transpose of an index table on the CPU: counting sort, one head at a time, queries in ascending order.
#include "kernels/cpu/llsa.h"

namespace llsa::kernels::cpu {

void index_transpose(Context& ctx, const Tensor& index, std::int64_t keys, const Tensor& offset,
                     const Tensor& query) {
  const std::int64_t heads = index.size(0) * index.size(1);
  const std::int64_t rows = index.size(2), width = index.size(3);
  const std::int32_t* const table = index.data<std::int32_t>();
  ctx.pool().parallel_for(heads, [&](std::int64_t head) {
    const std::int32_t* const entries = table + head * rows * width;
    std::int32_t* const at = offset.data<std::int32_t>() + head * (keys + 1);
    std::int32_t* const out = query.data<std::int32_t>() + head * rows * width;

    // at[j + 1] counts key j; after the running sum at[j] is where key j's queries begin.
    for (std::int64_t j = 0; j <= keys; ++j) at[j] = 0;
    for (std::int64_t e = 0; e < rows * width; ++e) {
      const std::int32_t j = entries[e];
      if (j == -1) continue;
      if (j < 0 || j >= keys)
        throw ValueError(cat("[index_transpose] entry ", j, " in a table over ", keys, " keys"));
      ++at[j + 1];
    }
    for (std::int64_t j = 0; j < keys; ++j) at[j + 1] += at[j];
    // Filling moves each beginning to its end, which is the beginning of the next: shift back afterwards.
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t e = i * width; e < (i + 1) * width; ++e)
        if (entries[e] >= 0) out[at[entries[e]]++] = static_cast<std::int32_t>(i);
    for (std::int64_t j = keys; j > 0; --j) at[j] = at[j - 1];
    at[0] = 0;
  });
}

}  // namespace llsa::kernels::cpu
