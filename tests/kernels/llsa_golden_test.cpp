// Golden vectors: inputs in f32, results computed in f64 by a separate reference (docs in tests/golden).
#include <doctest/doctest.h>

#include "core/safetensors.h"
#include "kernels/copy.h"
#include "kernels/llsa_stages.h"
#include "tests/support/llsa_oracle.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

TEST_SUITE_BEGIN("kernels/llsa_golden");

TEST_CASE("five cases, f32 to 2e-5 and f64 to 1e-10") {
  Context ctx;
  const SafetensorsFile file(LLSA_SOURCE_DIR "/tests/golden/llsa.safetensors");
  for (int number = 0; number < 5; ++number) {
    CAPTURE(number);
    const auto get = [&](const std::string& name) {
      return file.at("c" + std::to_string(number) + "_" + name);
    };
    const auto cfg = to_vector<std::int32_t>(ctx, get("cfg"));  // side n, B, K, L, H, D
    LlsaOptions options;
    options.block = cfg[1];
    options.topk = {cfg[2]};
    options.levels = cfg[3];
    const LlsaPlan plan = llsa_plan(static_cast<std::int64_t>(cfg[0]) * cfg[0], options);
    LlsaIndices golden;
    for (int l = 1; l <= cfg[3]; ++l) golden.level.push_back(get("I" + std::to_string(l)));

    for (DType dtype : {DType::f32, DType::f64}) {
      const double tolerance = dtype == DType::f32 ? 2e-5 : 1e-10;
      const Tensor q = cast(ctx, get("q"), dtype), k = cast(ctx, get("k"), dtype),
                   v = cast(ctx, get("v"), dtype), g = cast(ctx, get("g"), dtype);
      const LlsaIndices picked = llsa_select(ctx, q, k, plan);
      for (std::size_t l = 0; l < golden.level.size(); ++l)
        CHECK(to_vector<std::int32_t>(ctx, picked.level[l]) == to_vector<std::int32_t>(ctx, golden.level[l]));
      const LlsaResult r = llsa_attend(ctx, q, k, v, golden, plan);
      const AttentionGrads d = llsa_attention_backward(ctx, g, *r.state);
      const auto close = [&](const Tensor& x, const char* name) {
        CAPTURE(name);
        CHECK(relative_error(to_vector<double>(ctx, x), to_vector<double>(ctx, get(name))) <= tolerance);
      };
      close(r.o, "o");
      close(r.lse, "lse");
      close(d.dq, "dq");
      close(d.dk, "dk");
      close(d.dv, "dv");
    }
  }
}

TEST_SUITE_END();
