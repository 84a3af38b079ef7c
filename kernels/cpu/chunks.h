// How CPU kernels cut their work into chunks: by shape only, so that results do not depend on the number of threads.
//
// A chunk is about kChunkWork elements, 64 kB of floats, which stay in the second-level cache. Work of up to one
// chunk runs on the calling thread, because it ends before another thread would have started. Sums over rows are
// computed per chunk and then added in the order of chunks, in f64.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../../core/context.h"

namespace llsa::kernels::cpu {

constexpr std::int64_t kChunkWork = 16384;

/// Rows of a chunk, for rows of `width` elements.
inline std::int64_t chunk_rows(std::int64_t width) {
  return std::max<std::int64_t>(1, kChunkWork / std::max<std::int64_t>(width, 1));
}

inline std::int64_t ceil_div(std::int64_t n, std::int64_t d) { return (n + d - 1) / d; }

/// body(chunk) for every chunk in [0, chunks), on the pool when `work` elements are worth it.
template <class Body>
void run_chunks(Context& ctx, std::int64_t chunks, std::int64_t work, Body&& body) {
  if (work <= kChunkWork) {
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) body(chunk);
  } else {
    ctx.pool().parallel_for(chunks, body);
  }
}

/// body(begin, end) for ranges of [0, rows), rows of `width` elements.
template <class Body>
void run_rows(Context& ctx, std::int64_t rows, std::int64_t width, Body&& body) {
  const std::int64_t grain = chunk_rows(width);
  run_chunks(ctx, ceil_div(rows, grain), rows * width,
             [&](std::int64_t chunk) { body(chunk * grain, std::min(rows, (chunk + 1) * grain)); });
}

/// out[group, i] = sum of partial[chunk, i] over the group's `per_group` chunks, in order; i < count.
template <class A, class T>
void sum_partials(Context& ctx, const A* partial, std::int64_t groups, std::int64_t per_group,
                  std::int64_t count, T* out) {
  constexpr std::int64_t kColumns = 64;
  const std::int64_t blocks = ceil_div(count, kColumns);
  run_chunks(ctx, groups * blocks, groups * per_group * count, [&](std::int64_t index) {
    const std::int64_t group = index / blocks;
    const std::int64_t begin = index % blocks * kColumns;
    const std::int64_t n = std::min(kColumns, count - begin);
    double sum[kColumns] = {};
    for (std::int64_t chunk = group * per_group; chunk < (group + 1) * per_group; ++chunk) {
      const A* row = partial + chunk * count + begin;
#pragma omp simd
      for (std::int64_t i = 0; i < n; ++i) sum[i] += static_cast<double>(row[i]);
    }
    for (std::int64_t i = 0; i < n; ++i)
      out[group * count + begin + i] = static_cast<T>(static_cast<accumulator_t<T>>(sum[i]));
  });
}

/// Rows in groups, [G,R,C], for example with one shift and scale per group; cut into even chunks that do not cross
/// groups.
struct GroupedRows {
  std::int64_t groups, rows, width;  // G, R, C
  std::int64_t per_group, grain, chunks;

  GroupedRows(std::int64_t g, std::int64_t r, std::int64_t c)
      : groups(g),
        rows(r),
        width(c),
        per_group(ceil_div(r, std::max<std::int64_t>(chunk_rows(c), 64))),
        grain(per_group == 0 ? 1 : ceil_div(r, per_group)),
        chunks(g * per_group) {}

  /// body(chunk, group, begin, end): rows [begin, end) of a group.
  template <class Body>
  void run(Context& ctx, Body&& body) const {
    run_chunks(ctx, chunks, groups * rows * width, [&](std::int64_t chunk) {
      const std::int64_t begin = chunk % per_group * grain;
      body(chunk, chunk / per_group, std::min(rows, begin), std::min(rows, begin + grain));
    });
  }
};

}  // namespace llsa::kernels::cpu
