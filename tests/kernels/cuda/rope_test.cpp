// The head split on the CUDA backend against the CPU backend: heads of all widths that lanes hold and of others, more
// tokens than one block of threads takes, with two norms, one and none.
#include "kernels/rope.h"

#include "kernels/check.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/orders.h"

using namespace llsa;
using namespace llsa::test;
namespace k = llsa::kernels;

TEST_SUITE_BEGIN("kernels/cuda/rope");

namespace {

constexpr int kHeads = 3;
constexpr double kEps = 1e-5;

/// What one call takes and, backward, gets; q_weight may be undefined.
struct Call {
  Tensor qkv, q_weight, k_weight, dq, dk, dv, cos, sin;

  Call(Context& ctx, std::int64_t tokens, std::int64_t d, DType dtype, bool q_norm) {
    std::uint64_t stream = 0;
    qkv = k::random_normal(ctx, {2, tokens, 3 * kHeads * d}, dtype, 5, ++stream);
    if (q_norm) q_weight = k::random_normal(ctx, {d}, dtype, 5, ++stream);
    k_weight = k::random_normal(ctx, {d}, dtype, 5, ++stream);
    // The memory of gradients is that of the attention's, [b,N,H,D].
    for (Tensor* t : {&dq, &dk, &dv})
      *t = k::random_normal(ctx, {2, tokens, kHeads, d}, dtype, 5, ++stream).transpose(1, 2);
    const Tensor angle = k::random_normal(ctx, {tokens, d / 2}, k::accumulator_of(dtype), 5, ++stream);
    cos = k::tanh(ctx, angle);
    sin = k::sqrt(ctx, k::affine(ctx, k::square(ctx, cos), -1.0, 1.0));
  }
  std::vector<Tensor> run(Context& ctx) const {
    const auto heads = k::qkv_split(ctx, qkv, kHeads, q_weight, k_weight, kEps, {cos, sin});
    const auto grads = k::qkv_split_backward(ctx, dq, dk, dv, qkv, q_weight, k_weight, heads.q_rstd,
                                             heads.k_rstd, {cos, sin});
    return {heads.q,      heads.k,    heads.v,         heads.q_rstd,
            heads.k_rstd, grads.dqkv, grads.dq_weight, grads.dk_weight};
  }
  Call moved(Contexts& both) const {
    Call other = *this;
    for (Tensor* t : {&other.qkv, &other.q_weight, &other.k_weight, &other.dq, &other.dk, &other.dv,
                      &other.cos, &other.sin})
      *t = both.to_gpu(*t);
    return other;
  }
};

}  // namespace

TEST_CASE("the split and its gradients agree with the CPU") {
  if (!cuda_device()) return;
  Contexts both;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    for (const std::int64_t d : {16, 20, 32, 64, 128})
      for (const std::int64_t tokens : {3, 150})
        for (const bool q_norm : {true, false}) {
          INFO(std::string(name_of(dtype)) << ", D " << d << ", " << tokens << " tokens, q norm " << q_norm);
          const Call call(both.cpu, tokens, d, dtype, q_norm);
          const std::vector<Tensor> expected = call.run(both.cpu), found = call.moved(both).run(both.gpu);
          REQUIRE(found.size() == expected.size());
          for (std::size_t i = 0; i < found.size(); ++i) {
            CAPTURE(i);
            REQUIRE(found[i].defined() == expected[i].defined());
            if (!found[i].defined()) continue;
            CHECK(found[i].dtype() == expected[i].dtype());
            CHECK(difference(both.cpu, both.to_cpu(found[i]), expected[i]) <= (dtype == DType::f64   ? 1e-12
                                                                               : dtype == DType::f32 ? 1e-5
                                                                                                     : 1e-2));
          }
        }
}

TEST_CASE("the gradients of the weights have the same bits in all orders") {
  if (!cuda_device()) return;
  Contexts both;
  const Call call = Call(both.cpu, 201, 32, DType::f32, true).moved(both);
  for_all_orders([&] {
    std::vector<double> all;
    const std::vector<Tensor> results = call.run(both.gpu);
    for (const std::size_t i : {std::size_t{6}, std::size_t{7}})
      for (const double value : k::to_vector<double>(both.gpu, results[i])) all.push_back(value);
    return all;
  });
}

TEST_SUITE_END();
