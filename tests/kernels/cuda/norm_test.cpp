// Gate, norm and modulation in one on the CUDA backend against the CPU backend: rows that a warp holds in one, two or
// three packs per lane, rows that are too wide or not aligned for that, and more rows than one warp goes through.
#include "kernels/norm.h"

#include "kernels/random.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/orders.h"

using namespace llsa;
using namespace llsa::test;
namespace k = llsa::kernels;

TEST_SUITE_BEGIN("kernels/cuda/norm");

namespace {

constexpr double kEps = 1e-6;

/// What one call takes and, backward, gets.
struct Call {
  Tensor x, y, factors, dr, dh;

  Call(Context& ctx, std::int64_t tokens, std::int64_t width, DType dtype) {
    std::uint64_t stream = 0;
    for (Tensor* t : {&x, &y, &dr, &dh}) *t = k::random_normal(ctx, {2, tokens, width}, dtype, 3, ++stream);
    factors = k::random_normal(ctx, {2, 3 * width}, dtype, 3, ++stream);
  }
  std::vector<Tensor> run(Context& ctx, bool with_dr) const {
    const auto out = k::gate_norm_modulate(ctx, x, y, factors, kEps);
    const auto grads = k::gate_norm_modulate_backward(ctx, with_dr ? dr : Tensor(), dh, out.r, y, factors,
                                                      out.mean, out.rstd);
    return {out.r, out.h, out.mean, out.rstd, grads.dx, grads.dy, grads.dfactors};
  }
  Call moved(Contexts& both) const {
    Call other = *this;
    for (Tensor* t : {&other.x, &other.y, &other.factors, &other.dr, &other.dh}) *t = both.to_gpu(*t);
    return other;
  }
};

}  // namespace

TEST_CASE("gate, norm and modulation agree with the CPU at every width") {
  if (!cuda_device()) return;
  Contexts both;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    for (const std::int64_t width : {4, 30, 96, 136, 264, 384, 392})
      for (const bool with_dr : {true, false}) {
        INFO(std::string(name_of(dtype)) << ", width " << width << ", dr " << with_dr);
        const Call call(both.cpu, 21, width, dtype);
        const std::vector<Tensor> expected = call.run(both.cpu, with_dr);
        const std::vector<Tensor> found = call.moved(both).run(both.gpu, with_dr);
        REQUIRE(found.size() == expected.size());
        for (std::size_t i = 0; i < found.size(); ++i) {
          CAPTURE(i);
          CHECK(difference(both.cpu, both.to_cpu(found[i]), expected[i]) <= (dtype == DType::f64   ? 1e-12
                                                                             : dtype == DType::f32 ? 1e-5
                                                                                                   : 1.5e-2));
        }
      }
}

TEST_CASE("the gradients of gate, shift and scale over many blocks of rows, in all orders") {
  if (!cuda_device()) return;
  Contexts both;
  const Call call(both.cpu, 701, 8, DType::f32);
  const std::vector<Tensor> expected = call.run(both.cpu, true);
  const Call moved = call.moved(both);
  const std::vector<double> sums =
      for_all_orders([&] { return k::to_vector<double>(both.gpu, moved.run(both.gpu, true)[6]); });
  const std::vector<double> on_cpu = k::to_vector<double>(both.cpu, expected[6]);
  REQUIRE(sums.size() == on_cpu.size());
  for (std::size_t i = 0; i < sums.size(); ++i) CHECK(sums[i] == doctest::Approx(on_cpu[i]).epsilon(1e-4));
}

TEST_CASE("no rows: gradients of zero") {
  if (!cuda_device()) return;
  Contexts both;
  const auto results = Call(both.gpu, 0, 8, DType::f32).run(both.gpu, true);
  CHECK(results[1].numel() == 0);
  CHECK(k::to_vector<double>(both.gpu, results[6]) == std::vector<double>(48, 0.0));
}

TEST_SUITE_END();
