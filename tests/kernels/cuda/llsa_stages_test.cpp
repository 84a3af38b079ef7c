// Pyramid, selection and transpose on a CUDA device: the CPU's results, bit for bit where arithmetic is the
// same.
#include <doctest/doctest.h>

#include <cstring>

#include "core/philox.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/orders.h"
#include "tests/support/llsa_run.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

const Device kGpu{DeviceType::cuda, 0};

template <class T>
std::vector<T> flat(Context& ctx, const std::vector<Tensor>& tensors) {
  std::vector<T> all;
  for (const Tensor& x : tensors) {
    const std::vector<T> values = to_vector<T>(ctx, x);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

LlsaPlan plan_of(std::int64_t n, int block, std::vector<int> topk, int levels) {
  LlsaOptions options;
  options.block = block;
  options.topk = std::move(topk);
  options.levels = levels;
  return llsa_plan(n, options);
}

}  // namespace

TEST_SUITE_BEGIN("kernels/cuda/llsa_stages");

TEST_CASE("pyramid: the CPU's bits in f64, f32 and bf16, ragged") {
  if (!cuda_device()) return;
  Context cpu, gpu(kGpu);
  for (const LlsaCase& c :
       {LlsaCase{131, 7, 3, {2}, 4, 4}, LlsaCase{300, 64, 16, {2}, 2, 2}, LlsaCase{40, 3, 17, {2}, 1, 1}}) {
    const LlsaProblem p(c, 2, 2, 5);
    const LlsaPlan plan = llsa_plan(c.n, options_of(c));
    for (DType dtype : {DType::f64, DType::f32, DType::bf16})
      CHECK(flat<double>(gpu, llsa_pyramid(gpu, tensor_of(gpu, p.q, p.shape(), dtype), plan)) ==
            flat<double>(cpu, llsa_pyramid(cpu, tensor_of(cpu, p.q, p.shape(), dtype), plan)));
  }
}

TEST_CASE("pyramid: packs of columns give the bits of single elements, one, two and more levels, strided") {
  if (!cuda_device()) return;
  Context cpu, gpu(kGpu);
  struct Sizes {
    std::int64_t n, d;
    int block, levels;
  };
  for (const Sizes& c :
       {Sizes{523, 64, 16, 2}, Sizes{523, 64, 16, 1}, Sizes{16, 32, 16, 1}, Sizes{17, 32, 16, 2},
        Sizes{600, 32, 16, 3}, Sizes{257, 128, 16, 2}, Sizes{1100, 32, 32, 2}, Sizes{200, 64, 64, 2},
        Sizes{131, 24, 2, 7}, Sizes{300, 8, 3, 4}, Sizes{100, 1024, 5, 2}, Sizes{45, 4096, 20, 2}}) {
    CAPTURE(c.n);
    CAPTURE(c.d);
    CAPTURE(c.block);
    CAPTURE(c.levels);
    const LlsaPlan plan = plan_of(c.n, c.block, {1}, c.levels);
    std::vector<float> values;
    for (std::int64_t i = 0; i < 4 * c.n * (c.d + 1); ++i)
      values.push_back(Philox{7, 7}.normal(static_cast<std::uint64_t>(i)));
    for (std::size_t i = 0; i < values.size(); ++i)
      if (i / static_cast<std::size_t>(c.d + 1) % 64 < 32 && i % 3 == 0) values[i] = -0.0f;
    for (DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      if (dtype != DType::bf16 && c.n > 1000) continue;
      // The last d of d + 1 columns: rows that do not come in packs.
      const Tensor loose = cast(gpu, from_vector(gpu, values, {2, 2, c.n, c.d + 1}), dtype);
      const Tensor single = loose.slice(3, 1, c.d + 1);
      const Tensor packed = contiguous(gpu, single);
      const Tensor merged = contiguous(gpu, packed.transpose(1, 2)).transpose(1, 2);
      const auto expected = flat<double>(gpu, llsa_pyramid(gpu, single, plan));
      for (const Tensor* x : {&packed, &merged}) {
        const auto found = flat<double>(gpu, llsa_pyramid(gpu, *x, plan));
        REQUIRE(found.size() == expected.size());
        CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(double)) == 0);
      }
      CHECK(expected == flat<double>(cpu, llsa_pyramid(cpu, transfer(gpu, packed, cpu), plan)));
    }
  }
}

TEST_CASE("pyramid: equal bits in all lane and block orders") {
  if (!cuda_device()) return;
  const LlsaProblem p(LlsaCase{1300, 32, 16, {2}, 2, 2}, 1, 2, 6);
  const LlsaPlan plan = llsa_plan(1300, options_of(p.c));
  for_all_orders([&] {
    Context gpu(kGpu);
    return flat<double>(gpu, llsa_pyramid(gpu, tensor_of(gpu, p.q, p.shape(), DType::bf16), plan));
  });
}

TEST_CASE("selection: exact scores, many ties, the CPU's tables in every order") {
  if (!cuda_device()) return;
  Context cpu;
  for (const LlsaCase& c :
       {LlsaCase{256, 4, 4, {3, 3, 3}, 3, 3}, LlsaCase{512, 4, 2, {2, 3, 4, 5}, 4, 4},
        LlsaCase{1000, 16, 16, {8, 8}, 2, 2}, LlsaCase{97, 5, 2, {5, 4, 3, 2, 1}, 5, 5},
        LlsaCase{127, 4, 5, {100, 100}, 2, 2}, LlsaCase{600, 9, 2, {20}, 1, 1},
        LlsaCase{512, 4, 2, {1, 3, 4, 5}, 4, 4, true, true}, LlsaCase{600, 9, 2, {20}, 1, 1, true, true}}) {
    CAPTURE(c.n);
    CAPTURE(c.own);
    LlsaProblem p(c, 2, 1, 9);
    for (double& x : p.q) x = std::round(x);  // few distinct scores: many ties
    for (double& x : p.k) x = std::round(x);
    const bool exact = c.n % (c.block * c.block) == 0;  // blocks that are not full have inexact means
    const LlsaPlan plan = llsa_plan(c.n, options_of(c));
    for (DType dtype : {DType::f32, DType::f64}) {
      if (!exact && dtype == DType::f32) continue;
      const auto expected = flat<std::int32_t>(cpu, llsa_select(cpu, tensor_of(cpu, p.q, p.shape(), dtype),
                                                                tensor_of(cpu, p.k, p.shape(), dtype), plan)
                                                        .level);
      const auto run = [&] {
        Context gpu(kGpu);
        return flat<std::int32_t>(gpu, llsa_select(gpu, tensor_of(gpu, p.q, p.shape(), dtype),
                                                   tensor_of(gpu, p.k, p.shape(), dtype), plan)
                                           .level);
      };
      CHECK((dtype == DType::f32 ? for_all_orders(run) : run()) == expected);
    }
  }
}

TEST_CASE("selection: K = 64 of 1024 candidates, bf16") {
  if (!cuda_device()) return;
  Context cpu, gpu(kGpu);
  const LlsaCase c{2048, 16, 2, {64}, 1, 1};
  LlsaProblem p(c, 1, 1, 3);
  for (double& x : p.q) x = std::round(x);
  for (double& x : p.k) x = std::round(x);
  const LlsaPlan plan = llsa_plan(c.n, options_of(c));
  const auto rows = [&](Context& ctx) {
    return flat<std::int32_t>(ctx, llsa_select(ctx, tensor_of(ctx, p.q, p.shape(), DType::bf16),
                                               tensor_of(ctx, p.k, p.shape(), DType::bf16), plan)
                                       .level);
  };
  CHECK(rows(gpu) == rows(cpu));
}

TEST_CASE("selection: signed zeros are equal, NaN is picked only where numbers run out") {
  if (!cuda_device()) return;
  Context cpu, gpu(kGpu);
  LlsaOptions o;
  o.levels = 1;
  o.topk = {5};
  std::vector<float> q(1024, 1.0f), k(1024);
  for (std::size_t i = 0; i < k.size(); ++i) k[i] = i % 32 < 16 ? 0.0f : -0.0f;
  const LlsaIndices indices = llsa_select(gpu, from_vector(gpu, q, {1, 1, 1024, 1}),
                                          from_vector(gpu, k, {1, 1, 1024, 1}), llsa_plan(1024, o));
  const auto rows = to_vector<std::int32_t>(gpu, indices.level[0]);
  for (std::size_t e = 0; e < rows.size(); ++e) REQUIRE(rows[e] == static_cast<std::int32_t>(e % 5));

  const LlsaCase c{64, 2, 4, {6}, 1, 1};
  LlsaProblem p(c, 1, 1, 3);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (std::int64_t block : {0, 3, 5}) p.k[static_cast<std::size_t>(block * 4 * 2)] = nan;
  const LlsaPlan plan = llsa_plan(c.n, options_of(c));
  for (DType dtype : {DType::f32, DType::f64}) {
    const auto picked = [&](const Matrix& queries, const Matrix& keys_, Context& ctx) {
      return flat<std::int32_t>(ctx, llsa_select(ctx, tensor_of(ctx, queries, p.shape(), dtype),
                                                 tensor_of(ctx, keys_, p.shape(), dtype), plan)
                                         .level);
    };
    CHECK(picked(p.q, p.k, gpu) == picked(p.q, p.k, cpu));
    Matrix one_number(p.k.size(), nan);
    one_number[72] = -std::numeric_limits<double>::infinity();
    for (std::size_t i = 73; i < 80; ++i) one_number[i] = 0;
    const auto row = picked(Matrix(p.q.size(), 1.0), one_number, gpu);
    CHECK(std::vector<std::int32_t>(row.begin(), row.begin() + 6) ==
          std::vector<std::int32_t>{0, 1, 2, 3, 4, 9});
  }
}

TEST_CASE(
    "transpose lists the queries of each key, ascending, in every order; foreign entries are left out") {
  if (!cuda_device()) return;
  Context cpu;
  const std::int64_t heads = 3, rows = 341, keys = 23;
  for (const std::int64_t width : {5, 40}) {
    std::vector<std::int32_t> table;
    for (std::int64_t r = 0; r < heads * rows; ++r) {
      std::vector<std::int32_t> row;
      for (std::int32_t j = 0; j < keys; ++j)
        if (j != 7 && Philox{1, 2}.below(static_cast<std::uint64_t>(r * keys + j), 6) == 0 && row.size() < 5)
          row.push_back(j);
      row.resize(static_cast<std::size_t>(width), -1);
      table.insert(table.end(), row.begin(), row.end());
    }
    const Shape shape = {1, heads, rows, width};
    const auto lists = [&](Context& ctx, const std::vector<std::int32_t>& entries) {
      const IndexTranspose t = index_transpose(ctx, from_vector(ctx, entries, shape), keys);
      const auto offset = to_vector<std::int32_t>(ctx, t.offset),
                 query = to_vector<std::int32_t>(ctx, t.query);
      std::vector<std::int32_t> all = offset;
      for (std::int64_t h = 0; h < heads; ++h)
        for (std::int32_t e = 0; e < offset[static_cast<std::size_t>(h * (keys + 1) + keys)]; ++e)
          all.push_back(query[static_cast<std::size_t>(h * rows * width + e)]);
      return all;
    };
    const auto expected = lists(cpu, table);
    std::vector<std::int32_t> foreign = table;
    for (std::size_t e = 4; e < foreign.size(); e += 5)
      if (foreign[e] == -1) foreign[e] = e % 2 == 0 ? 23 : -9;
    const auto found = for_all_orders([&] {
      Context gpu(kGpu);
      return lists(gpu, foreign);
    });
    CHECK(found == expected);
  }
}

TEST_SUITE_END();
