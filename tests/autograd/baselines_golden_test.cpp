// Golden vectors of VSA and SLA: inputs in f32 or f64, results computed in f64 by a separate reference.
#include <doctest/doctest.h>

#include "autograd/attention.h"
#include "autograd/matmul.h"
#include "autograd/view.h"
#include "core/safetensors.h"
#include "kernels/copy.h"
#include "kernels/pool.h"
#include "tests/support/llsa_oracle.h"

using namespace llsa;

TEST_SUITE_BEGIN("autograd/baselines_golden");

namespace {

enum Kind { kSla, kVsaPlain, kVsaGate, kVsaGateLayer };

struct Golden {
  Context& ctx;
  const SafetensorsFile& file;
  std::string name;

  Tensor get(const std::string& key) const { return file.at(name + "_" + key); }
  Var leaf(const std::string& key, DType dtype) const {
    return Var(ctx, kernels::cast(ctx, get(key), dtype), /*requires_grad=*/true);
  }
  double error(const Tensor& found, const std::string& key) const {
    return test::relative_error(kernels::to_vector<double>(ctx, found),
                                kernels::to_vector<double>(ctx, get(key)));
  }
};

/// The relative errors of the output and of all gradients of one case; NaN stays NaN.
std::vector<double> errors_of(const Golden& golden, DType dtype) {
  const auto cfg = kernels::to_vector<std::int32_t>(golden.ctx, golden.get("cfg"));  // b, H, N, D, B, K, kind
  const int heads = cfg[1], block = cfg[4], topk = cfg[5], kind = cfg[6];
  const Var q = golden.leaf("q", dtype), k = golden.leaf("k", dtype), v = golden.leaf("v", dtype);
  std::vector<std::pair<std::string, Var>> leaves = {{"dq", q}, {"dk", k}, {"dv", v}};
  Var o;
  if (kind == kSla) {
    const Var weight = golden.leaf("wp", dtype), bias = golden.leaf("bp", dtype);
    o = sla_attention(q, k, v, weight, bias, {block, topk});
    leaves.insert(leaves.end(), {{"dwp", weight}, {"dbp", bias}});
  } else {
    Var gate;
    if (kind == kVsaGate) {
      gate = golden.leaf("gate", dtype);
      leaves.emplace_back("dgate", gate);
    } else if (kind == kVsaGateLayer) {
      const Var x = golden.leaf("x", dtype), weight = golden.leaf("wg", dtype),
                bias = golden.leaf("bg", dtype);
      const Var flat = linear(x, weight, bias);  // [b,N,C]
      gate = permute(reshape(flat, {x.size(0), x.size(1), heads, -1}), {0, 2, 1, 3});
      leaves.insert(leaves.end(), {{"dx", x}, {"dwg", weight}, {"dbg", bias}});
    }
    o = vsa_attention(q, k, v, gate, {block, topk});
  }
  std::vector<double> errors = {golden.error(o.value(), "o")};
  backward(o, kernels::cast(golden.ctx, golden.get("g"), dtype));
  for (const auto& [key, leaf] : leaves) {
    const Tensor expected = golden.get(key);
    // A gradient that is exactly zero has no relative error.
    const bool zero = test::largest(kernels::to_vector<double>(golden.ctx, expected)) == 0;
    const auto found = kernels::to_vector<double>(golden.ctx, leaf.grad());
    errors.push_back(zero ? (found == kernels::to_vector<double>(golden.ctx, expected) ? 0.0 : 1.0)
                          : golden.error(leaf.grad(), key));
  }
  return errors;
}

}  // namespace

TEST_CASE("seven cases each of VSA and SLA, f64 to 1e-12 and f32 to 1e-5") {
  Context ctx;
  const SafetensorsFile file(LLSA_SOURCE_DIR "/tests/golden/baselines.safetensors");
  double worst_f32 = 0, worst_f64 = 0;
  for (const char* letter : {"v", "s"})
    for (int number = 0; number < 7; ++number) {
      const Golden golden = {ctx, file, letter + std::to_string(number)};
      CAPTURE(golden.name);
      const auto cfg = kernels::to_vector<std::int32_t>(ctx, golden.get("cfg"));
      const LlsaPlan plan = kernels::picked_blocks_plan(cfg[2], cfg[4], cfg[5]);
      for (const DType dtype : {DType::f32, DType::f64}) {
        const auto picks = kernels::llsa_select(ctx, kernels::cast(ctx, golden.get("q"), dtype),
                                                kernels::cast(ctx, golden.get("k"), dtype), plan);
        CHECK(kernels::to_vector<std::int32_t>(ctx, picks.level[0]) ==
              kernels::to_vector<std::int32_t>(ctx, golden.get("I")));
        double& worst = dtype == DType::f32 ? worst_f32 : worst_f64;
        for (const double error : errors_of(golden, dtype)) {
          CHECK(error <= (dtype == DType::f32 ? 1e-5 : 1e-12));
          worst = std::max(worst, error);
        }
      }
    }
  MESSAGE("largest relative error: f32 ", worst_f32, ", f64 ", worst_f64);
}

TEST_SUITE_END();
