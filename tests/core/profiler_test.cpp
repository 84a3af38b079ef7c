// What a profiler counts on the CPU: ops by name, with the time, bytes and FLOPs of their own.
#include "core/profiler.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "autograd/table/op_table.h"
#include "core/context.h"
#include "core/cuda/ranges.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "kernels/random.h"

using namespace llsa;

TEST_SUITE_BEGIN("core/profiler");

namespace {

const ProfiledOp* find(const Profile& profile, const std::string& name) {
  const auto found = std::find_if(profile.ops.begin(), profile.ops.end(),
                                  [&](const ProfiledOp& op) { return op.name == name; });
  return found == profile.ops.end() ? nullptr : &*found;
}

}  // namespace

TEST_CASE("ops have the names of public functions, their bytes, and the FLOPs that kernels state") {
  Context ctx(2);
  const Tensor a = kernels::random_normal(ctx, {8, 16}, DType::f32, 1, 0),
               b = kernels::random_normal(ctx, {16, 4}, DType::f32, 1, 1);
  const auto plain = kernels::to_vector<float>(ctx, kernels::matmul(ctx, a, b));
  Profiler profiler(ctx);
  CHECK(profiler.read().ops.empty());
  CHECK(profiler.read().span_seconds > 0);
  std::vector<float> timed;
  for (int run = 0; run < 2; ++run) {
    const Profiler::Running running(profiler);
    CHECK(Profiler::active() == &profiler);
    timed = kernels::to_vector<float>(ctx, kernels::matmul(ctx, a, b));
  }
  CHECK(Profiler::active() == nullptr);
  kernels::matmul(ctx, a, b);  // not counted
  CHECK(timed == plain);
  const Profile profile = profiler.read();
  CHECK(profile.runs == 2);
  const ProfiledOp* const matmul = find(profile, "matmul");
  REQUIRE(matmul != nullptr);
  CHECK(matmul->work.calls == 2);
  CHECK(matmul->work.flops == 2 * 2.0 * 8 * 16 * 4);
  CHECK(matmul->work.bytes == 2 * 4.0 * (8 * 16 + 16 * 4 + 8 * 4));
  CHECK(matmul->work.seconds > 0);
  CHECK(matmul->kernels.empty());
  profiler.clear();
  CHECK(profiler.read().ops.empty());
  CHECK(profiler.read().seconds == 0);
}

TEST_CASE("an op within another has its own row, and what lies in no op is elsewhere") {
  Context ctx(1);
  const Tensor x = kernels::random_normal(ctx, {64, 96}, DType::f32, 1, 0).transpose(0, 1);
  Profiler profiler(ctx);
  {
    const Profiler::Running running(profiler);
    kernels::affine(ctx, x, 2.0, 0.0);  // makes its argument contiguous first
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const Profile profile = profiler.read();
  REQUIRE(find(profile, "affine") != nullptr);
  REQUIRE(find(profile, "clone") != nullptr);
  CHECK(find(profile, "affine")->work.bytes == 2 * 4.0 * 64 * 96);
  CHECK(profile.spans == 2);
  CHECK(profile.ops.front().work.seconds >= profile.ops.back().work.seconds);
  CHECK(profile.elsewhere() >= 0.02);
  double sum = profile.elsewhere();
  for (const ProfiledOp& op : profile.ops) sum += op.work.seconds;
  CHECK(sum == doctest::Approx(profile.seconds));
  CHECK(find(profile, "affine")->work.seconds + find(profile, "clone")->work.seconds <=
        profile.seconds - 0.02);
}

TEST_CASE("other threads are not counted, and one profiler runs in a thread") {
  Context ctx(1);
  Profiler profiler(ctx), second(ctx);
  const Profiler::Running running(profiler);
  std::thread([] {
    Context other(1);
    kernels::fill(other, other.empty({8}, DType::f32), 1.0);
    CHECK(Profiler::active() == nullptr);
  }).join();
  CHECK_THROWS_AS(Profiler::Running{second}, Error);
  CHECK(Profiler::active() == &profiler);
  CHECK(profiler.read().ops.empty());
}

TEST_CASE("bytes of a tensor: what it has in memory") {
  Context ctx(1);
  const Tensor x = ctx.empty({3, 1, 5}, DType::bf16);
  CHECK(bytes_of(x) == 30);
  CHECK(bytes_of(x.expand(Shape{3, 7, 5})) == 30);
  CHECK(bytes_of(x.transpose(0, 2)) == 30);
  CHECK(bytes_of(ctx.empty({0, 4}, DType::f32)) == 0);
  CHECK(bytes_of(Tensor()) == 0);
  CHECK(bytes_of(std::vector<Tensor>{x, Tensor(), x}) == 60);
  CHECK(bytes_of(3.5) == 0);
}

TEST_CASE("every op of the table is counted, under a name") {
  Context ctx(1);
  Profiler profiler(ctx);
  for (const OpRow& row : op_table()) {
    CAPTURE(std::string(row.name));
    const OpSample sample = row.sample({ctx, {6, 4, 2}, DType::f32, 1});
    const Vars leaves = leaves_of(sample, true);
    {
      const Profiler::Running running(profiler);
      for (const Var& out : row.apply(sample, leaves))
        if (out.requires_grad()) backward(out, kernels::contiguous(ctx, out.value()), Graph::retain);
    }
    for (const ProfiledOp& op : profiler.read().ops) {
      CAPTURE(op.name);
      CHECK(std::all_of(op.name.begin(), op.name.end(),
                        [](unsigned char c) { return std::islower(c) || std::isdigit(c) || c == '_'; }));
      CHECK(op.work.calls > 0);
    }
    profiler.clear();
  }
}

TEST_CASE("ranges need a build that has them") {
  Context ctx(1);
  if (!cuda::has_ranges()) {
    CHECK_THROWS_AS(Profiler(ctx, true), DeviceError);
    return;
  }
  Profiler profiler(ctx, true);
  const Profiler::Running running(profiler);
  kernels::fill(ctx, ctx.empty({8}, DType::f32), 1.0);
  CHECK(profiler.read().spans == 1);
}

TEST_CASE("names of kernels without namespaces and parameters") {
  CHECK(kernel_name("_ZN4llsa7kernels4cuda12_GLOBAL__N_16attendILi64ELi16EEEvPKfPfi") == "attend<64, 16>");
  CHECK(kernel_name("_ZN4llsa7kernels4cuda11scan_countsEPi") == "scan_counts");
  CHECK(kernel_name("_ZN4llsa7kernels4cuda12_GLOBAL__N_14poolINS1_5PacksIfEEEEvT_") == "pool<Packs<float> >");
  CHECK(kernel_name("plain") == "plain");
}

TEST_SUITE_END();
