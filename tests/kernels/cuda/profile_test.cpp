// What a profiler sees on a CUDA device: launches and calls of libraries within ops; and how many of them, and how
// much traffic, a layer of a DiT takes.
#include "core/profiler.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/cuda/graph.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "kernels/norm.h"
#include "kernels/random.h"
#include "nn/diffusion/flow.h"
#include "nn/dit.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/support/text.h"

using namespace llsa;
using namespace llsa::nn;
using namespace llsa::test;

TEST_SUITE_BEGIN("kernels/cuda/profile");

namespace {

/// The only op of this name.
const ProfiledOp& op_of(const Profile& profile, const std::string& name) {
  const auto found = std::find_if(profile.ops.begin(), profile.ops.end(),
                                  [&](const ProfiledOp& op) { return op.name == name; });
  if (found == profile.ops.end()) FAIL("no op " << name);
  return *found;
}

std::int64_t launches_of(const ProfiledOp& op) {
  std::int64_t launches = 0;
  for (const ProfiledKernel& kernel : op.kernels) launches += kernel.work.calls;
  return launches;
}

}  // namespace

TEST_CASE("launches and products stand below their ops") {
  if (!cuda_device()) return;
  Contexts both;
  Context& gpu = both.gpu;
  const Tensor x = kernels::random_normal(gpu, {64, 32}, DType::bf16, 1, 0),
               w = kernels::random_normal(gpu, {16, 32}, DType::bf16, 1, 1);
  const Tensor plain = kernels::linear(gpu, x, w, Tensor());
  Profiler profiler(gpu);
  const std::uint64_t waited = gpu.synchronizations();
  Tensor timed;
  for (int run = 0; run < 3; ++run) {
    const Profiler::Running running(profiler);
    timed = kernels::linear(gpu, x, w, Tensor());
    kernels::layer_norm(gpu, x, Tensor(), Tensor(), 1e-6);
    const Tensor zeros = gpu.zeros({128}, DType::f32);
  }
  CHECK(gpu.synchronizations() == waited);
  const Profile profile = profiler.read();
  CHECK(both.gpu.item(kernels::all_finite(gpu, timed)) == 1);
  CHECK(kernels::to_vector<float>(gpu, kernels::cast(gpu, timed, DType::f32)) ==
        kernels::to_vector<float>(gpu, kernels::cast(gpu, plain, DType::f32)));
  CHECK(profile.runs == 3);
  CHECK(profile.spans == 9);
  CHECK(profile.span_seconds > 0);
  const ProfiledOp &linear = op_of(profile, "linear"), &norm = op_of(profile, "layer_norm");
  REQUIRE(linear.kernels.size() == 1);
  CHECK(linear.work.calls == 3);
  CHECK(linear.kernels[0].work.calls == 3);
  CHECK(linear.kernels[0].work.flops == 3 * 2.0 * 64 * 32 * 16);
  CHECK(linear.kernels[0].work.bytes == 3 * 2.0 * (64 * 32 + 16 * 32 + 64 * 16));
  CHECK(linear.work.bytes == linear.kernels[0].work.bytes);
  CHECK(linear.work.flops == linear.kernels[0].work.flops);
  CHECK(contains(linear.kernels[0].text.name, "cublasLt bf16 [64,32] times [32,16]"));
  REQUIRE(norm.kernels.size() == 1);
  CHECK(contains(norm.kernels[0].text.place, "kernels/cuda/norm.cu:"));
  CHECK(norm.work.bytes == 3 * (2 * 2.0 * 64 * 32 + 2 * 4.0 * 64));
  CHECK(launches_of(op_of(profile, "outside of ops")) == 3);
  CHECK(op_of(profile, "outside of ops").kernels[0].text.name == "memset");
  CHECK(profile.elsewhere() >= 0);
#ifndef SIMT_EMU
  CHECK(contains(norm.kernels[0].text.resources, "blocks of"));
#endif
}

TEST_CASE("what is captured, or goes to other streams, is not timed") {
  if (!cuda_device()) return;
  Contexts both;
  Context other(Device{DeviceType::cuda, 0}, 1);
  const Tensor x = both.gpu.empty({64}, DType::f32), y = other.empty({64}, DType::f32);
  Profiler profiler(both.gpu);
  {
    const Profiler::Running running(profiler);
    kernels::fill(other, y, 1.0);
    cuda::Graph graph(both.gpu, [&] { kernels::fill(both.gpu, x, 2.0); });
    graph.launch();
    graph.launch();
  }
  CHECK(profiler.read().spans == 0);
  CHECK(kernels::to_vector<float>(both.gpu, x)[0] == 2);
}

namespace {

struct Cost {
  std::int64_t launches = 0;  ///< and calls of libraries
  double bytes = 0;           ///< that ops read and write
};

/// Forward and backward of a bf16 DiT with LLSA on tensor cores.
Cost cost_of(Context& gpu, const DitConfig& config, std::int64_t batch) {
  Dit model(gpu, config, 3, DType::bf16);
  FlowOptions options;
  options.null_class = config.classes;
  const std::vector<std::int32_t> classes(static_cast<std::size_t>(batch), 1);
  const std::vector<std::int64_t> ids(static_cast<std::size_t>(batch), 7);
  const FlowBatch flow = make_flow_batch(
      gpu, kernels::random_uniform(gpu, {batch, 3, config.height, config.width}, DType::f32, 5, 0),
      kernels::from_vector(gpu, classes, {batch}), kernels::from_vector(gpu, ids, {batch}), options);
  Profiler profiler(gpu);
  {
    const Profiler::Running running(profiler);
    backward(flow_loss(gpu, model, flow));
  }
  const Profile profile = profiler.read();
  Cost cost{profile.spans, 0};
  for (const ProfiledOp& op : profile.ops) cost.bytes += op.work.bytes;
  return cost;
}

}  // namespace

// Take the bounds down when the layer gets better. One pass over a tensor [tokens, width] more is at least one unit.
TEST_CASE("a layer of a DiT takes no more launches and traffic, forward and backward, than it did") {
  if (!cuda_device()) return;
  constexpr std::int64_t kMostLaunches[] = {45, 48};  // with one image, and with three
  constexpr double kMostUnits = 108.2;
  Contexts both;
  DitConfig config;
  config.heads = 2;
  config.head_dim = 32;
  config.height = config.width = 16;
  config.classes = 3;
  config.attention = AttentionKind::llsa;
  config.llsa = {16, {3}, -1, -1, true};
  // A layer is what a model with two has more than one with one. Traffic of weights is the same for any batch.
  Cost layer[2];
  for (const std::int64_t batch : {1, 3}) {
    config.layers = 1;
    const Cost one = cost_of(both.gpu, config, batch);
    config.layers = 2;
    const Cost two = cost_of(both.gpu, config, batch);
    layer[batch / 2] = {two.launches - one.launches, two.bytes - one.bytes};
  }
  const double unit = 2.0 * static_cast<double>(config.tokens() * config.channels());
  const double units = (layer[1].bytes - layer[0].bytes) / (2 * unit);
  CAPTURE(layer[0].launches);
  CAPTURE(layer[1].launches);
  CAPTURE(units);
  CHECK(layer[0].launches <= kMostLaunches[0]);
  CHECK(layer[1].launches <= kMostLaunches[1]);
  CHECK(units <= kMostUnits);
  CHECK(units > 30);  // the products alone
}

TEST_SUITE_END();
