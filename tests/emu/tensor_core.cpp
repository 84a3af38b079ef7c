// ldmatrix and mma: the lanes' registers to matrices, the product, and back.
#include <array>

#include "tests/emu/ptx_api.h"

namespace llsa::emu {
namespace {

using Row8 = float __attribute__((vector_size(32)));

float bf16_to_float(std::uint32_t bits) { return std::bit_cast<float>(bits << 16); }

}  // namespace

void compute_ldmatrix(void* const* slots, std::uint32_t) {
  for (int lane = 0; lane < 32; ++lane) {
    auto& m = *static_cast<LoadMatrix*>(slots[lane]);
    for (int k = 0; k < m.matrices; ++k)
      m.result[k] = static_cast<LoadMatrix*>(slots[8 * k + lane / 4])->row[lane % 4];
  }
}

void compute_ldmatrix_trans(void* const* slots, std::uint32_t) {
  for (int lane = 0; lane < 32; ++lane) {
    auto& m = *static_cast<LoadMatrix*>(slots[lane]);
    const int column = lane / 4, row = 2 * (lane % 4);
    for (int k = 0; k < m.matrices; ++k) {
      const auto element = [&](int r) {
        return static_cast<LoadMatrix*>(slots[8 * k + r])->row[column / 2] >> (16 * (column & 1)) & 0xffff;
      };
      m.result[k] = element(row) | element(row + 1) << 16;
    }
  }
}

// A [16][16] and B [16][8] in bf16, D [16][8] in f32. Lane l = 4 g + t holds columns 2t, 2t + 1 of rows g
// and g + 8 of A and D (and of columns 8 further of A), and rows 2t, 2t + 1 (and 8 further) of column g of
// B.
void compute_mma_m16n8k16_bf16(void* const* slots, std::uint32_t) {
  std::array<std::array<float, 16>, 16> a;
  alignas(32) float b[16][8], d[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& m = *static_cast<MultiplyAdd*>(slots[lane]);
    const std::size_t g = static_cast<std::size_t>(lane) / 4, t = 2 * (static_cast<std::size_t>(lane) % 4);
    for (std::size_t i = 0; i < 4; ++i) {
      const std::size_t row = g + 8 * (i & 1), column = t + 8 * (i >> 1);
      a[row][column] = bf16_to_float(m.a[i] & 0xffff);
      a[row][column + 1] = bf16_to_float(m.a[i] >> 16);
      d[g + 8 * (i >> 1)][t + (i & 1)] = m.d[i];
    }
    for (std::size_t i = 0; i < 2; ++i) {
      b[t + 8 * i][g] = bf16_to_float(m.b[i] & 0xffff);
      b[t + 8 * i + 1][g] = bf16_to_float(m.b[i] >> 16);
    }
  }
  Row8 rows_of_b[16];
  std::memcpy(rows_of_b, b, sizeof b);
  for (std::size_t row = 0; row < 16; ++row) {
    Row8 sum = {}, old;
    for (std::size_t k = 0; k < 16; ++k) sum += a[row][k] * rows_of_b[k];
    std::memcpy(&old, d[row], sizeof old);
    sum += old;
    std::memcpy(d[row], &sum, sizeof sum);
  }
  for (int lane = 0; lane < 32; ++lane) {
    auto& m = *static_cast<MultiplyAdd*>(slots[lane]);
    const std::size_t g = static_cast<std::size_t>(lane) / 4, t = 2 * (static_cast<std::size_t>(lane) % 4);
    for (std::size_t i = 0; i < 4; ++i) m.d[i] = d[g + 8 * (i >> 1)][t + (i & 1)];
  }
}

}  // namespace llsa::emu
