// Rings in shared memory: how many stages they have on which device, and equal bits with two and three.
#include <doctest/doctest.h>

#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/with_words.h"

#ifdef SIMT_EMU
#include "tests/emu/emulator.h"
#endif

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;
using kernels::cuda::dense_keys_ring;
using kernels::cuda::listed_keys_ring;
using kernels::cuda::Ring;
using kernels::cuda::words_ring;

namespace {

constexpr std::int64_t kKiB = 1024;

/// Stages, and blocks of a multiprocessor with them.
struct Fit {
  int stages, blocks;
  friend bool operator==(const Fit&, const Fit&) = default;
};
Fit fit(const Ring& ring, std::int64_t shared) {
  const int stages = ring.stages(shared);
  return {stages, ring.blocks(stages, shared)};
}

}  // namespace

TEST_SUITE_BEGIN("kernels/cuda/llsa_rings");

TEST_CASE("stages and resident blocks by compute capability") {
  // Shared memory of a multiprocessor, from the table of the CUDA programming guide.
  constexpr std::int64_t k80 = 164 * kKiB, k86 = 100 * kKiB, k89 = 100 * kKiB, k90 = 228 * kKiB,
                         k120 = 100 * kKiB;
  CHECK(fit(words_ring(64), k80) == Fit{2, 2});  // three stages: one block
  CHECK(fit(words_ring(128), k80) == Fit{2, 2});
  CHECK(fit(words_ring(32), k80) == Fit{3, 2});
  CHECK(fit(listed_keys_ring(64), k80) == Fit{3, 3});
  CHECK(fit(listed_keys_ring(32), k80) == Fit{3, 4});
  for (std::int64_t d : {32, 64, 128}) {
    CAPTURE(d);
    CHECK(fit(dense_keys_ring(d), k80) == Fit{3, 2});
    CHECK(fit(dense_keys_ring(d), k90) == Fit{3, 2});
    CHECK(fit(words_ring(d), k90) == Fit{3, 2});
  }
  CHECK(fit(listed_keys_ring(64), k90) == Fit{3, 3});
  CHECK(fit(listed_keys_ring(32), k90) == Fit{3, 4});
  for (const std::int64_t shared : {k86, k89, k120}) {
    CHECK(fit(words_ring(64), shared) == Fit{3, 1});  // two blocks do not fit in any case
    CHECK(fit(words_ring(32), shared) == Fit{2, 2});
    CHECK(fit(listed_keys_ring(64), shared) == Fit{2, 2});
    CHECK(fit(listed_keys_ring(32), shared) == Fit{2, 4});
    CHECK(fit(dense_keys_ring(64), shared) == Fit{2, 2});
    CHECK(fit(dense_keys_ring(32), shared) == Fit{3, 2});
    CHECK(fit(dense_keys_ring(128), shared) == Fit{3, 2});
  }
  // The system takes 1 KiB of each block, and sizes are rounded up to 128 bytes.
  const Ring ring = {.stage = 10 * kKiB, .rest = 1, .most = 9};
  CHECK(ring.blocks(3, 2 * (31 * kKiB + 128)) == 2);
  CHECK(ring.blocks(3, 2 * (31 * kKiB + 128) - 1) == 1);
  CHECK(ring.blocks(3, 30 * kKiB) == 0);
}

#ifdef SIMT_EMU
namespace {

const Device kGpu{DeviceType::cuda, 0};
constexpr std::int64_t kUsual = 99 * kKiB;  // of a block of the emulated device

/// A block's shared memory for a scope; a multiprocessor has 1 KiB more.
struct WithShared {
  explicit WithShared(std::int64_t bytes) { emu::set_shared_memory(static_cast<std::size_t>(bytes)); }
  ~WithShared() { emu::set_shared_memory(static_cast<std::size_t>(kUsual)); }
  WithShared(const WithShared&) = delete;
  WithShared& operator=(const WithShared&) = delete;
};

LlsaCase sized(std::int64_t n, std::int64_t d, std::int64_t k, int levels) {
  return {n, d, 16, std::vector<std::int64_t>(static_cast<std::size_t>(levels), k), levels, levels, true};
}

}  // namespace

TEST_CASE("equal bits with rings of two and of three stages") {
  if (!cuda_device()) return;
  for (const LlsaCase& c : {sized(600, 64, 8, 2), sized(700, 32, 5, 2), sized(280, 128, 3, 2)}) {
    CAPTURE(c.d);
    const LlsaProblem p(c, 1, 1, 7);
    Context gpu(kGpu);
    const LlsaPlan plan = llsa_plan(p.c.n, options_of(p.c));
    const auto tensor = [&](const Matrix& x) { return tensor_of(gpu, x, p.shape(), DType::bf16); };
    const Tensor q = tensor(p.q), k = tensor(p.k), v = tensor(p.v), g = tensor(p.g);
    const LlsaIndices indices = indices_of(gpu, p, run_oracle(p).picks, plan);
    LlsaState state = *llsa_attend(gpu, q, k, v, indices, plan).state;  // by rows
    state.words = words_of(gpu, plan, indices.level);
    const auto run = [&](std::int64_t shared, int words_stages, int listed_stages) {
      CAPTURE(shared);
      const WithShared limit(shared);
      const std::int64_t processor = kernels::cuda::shared_memory_of_processor(gpu);
      CHECK(words_ring(64).stages(processor) == words_stages);
      CHECK(listed_keys_ring(64).stages(processor) == listed_stages);
      const LlsaResult r = llsa_attend(gpu, q, k, v, state);
      const AttentionGrads d = llsa_attention_backward(gpu, g, *r.state);
      Matrix all;
      for (const Tensor& x : {r.o, r.lse, d.dq, d.dk, d.dv}) append(all, to_vector<double>(gpu, x));
      return all;
    };
    const Matrix expected = run(227 * kKiB, 3, 3);
    CHECK(run(163 * kKiB, 2, 3) == expected);
    CHECK(run(kUsual, 3, 2) == expected);
    CHECK(run(80 * kKiB, 2, 2) == expected);  // three stages of words do not fit a block
  }
}

TEST_CASE("gradients of keys in less memory than three stages take") {
  if (!cuda_device()) return;
  for (const LlsaCase& c : {LlsaCase{300, 64, 16, {3}, 1, 0, true}, sized(300, 64, 1, 0)}) {
    CAPTURE(c.levels);
    const LlsaProblem p(c, 1, 1, 9);
    Context gpu(kGpu);
    const LlsaPlan plan = llsa_plan(p.c.n, options_of(p.c));
    const auto tensor = [&](const Matrix& x) { return tensor_of(gpu, x, p.shape(), DType::bf16); };
    const LlsaResult r = llsa_attend(gpu, tensor(p.q), tensor(p.k), tensor(p.v),
                                     indices_of(gpu, p, run_oracle(p).picks, plan), plan);
    const Tensor g = tensor(p.g);
    const auto run = [&](std::int64_t shared) {
      const WithShared limit(shared);
      const Tensor dk = gpu.empty_like(g), dv = gpu.empty_like(g);
      kernels::cuda::keys_backward_mma(gpu, *r.state, g, kernels::cuda::query_terms(gpu, g, r.o, r.lse), dk,
                                       dv);
      Matrix both = to_vector<double>(gpu, dk);
      append(both, to_vector<double>(gpu, dv));
      return both;
    };
    CHECK(run(40 * kKiB) == run(227 * kKiB));
  }
}
#endif

TEST_SUITE_END();
