// Full attention by cuDNN beside our own kernels: against f64, twice with the same bits, each continuing from
// the other, and who computes what. In the emulator there is no such library.
#include <doctest/doctest.h>

#include "kernels/attention.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/support/kernels.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

TEST_SUITE_BEGIN("kernels/cuda/cudnn_attention");

namespace {

using Who = AttentionKernels;

struct Problem {
  Tensor q, k, v, d_o;
};

/// The same bf16 values on every device. q and k, v are views of [b,N,parts,H,D] memory, d_o of [b,N,H,D].
Problem make(Context& ctx, const Shape& q, std::int64_t keys, DType dtype = DType::bf16) {
  Context cpu;
  const auto draw = [&](std::int64_t rows, std::int64_t parts, std::uint64_t seed) {
    const Tensor x = random_tensor(cpu, {q[0], rows, parts, q[1], q[3]}, DType::bf16, seed);
    return transfer(cpu, cast(cpu, x, dtype), ctx).permute({2, 0, 3, 1, 4});  // [parts,b,H,N,D]
  };
  const Tensor qs = draw(q[2], 1, 1), kv = draw(keys, 2, 2), grads = draw(q[2], 1, 3);
  return {qs.select(0, 0), kv.select(0, 0), kv.select(0, 1), grads.select(0, 0)};
}

/// o, lse, dq, dk, dv
std::vector<Values> run(Context& ctx, const Problem& p, Who forward, Who backward) {
  const AttentionResult r = full_attention(ctx, p.q, p.k, p.v, {.kernels = forward});
  const AttentionGrads d =
      full_attention_backward(ctx, p.d_o, p.q, p.k, p.v, r.o, r.lse, {.kernels = backward});
  return {values_of(ctx, r.o), values_of(ctx, r.lse), values_of(ctx, d.dq), values_of(ctx, d.dk),
          values_of(ctx, d.dv)};
}

void check_close(const std::vector<Values>& got, const std::vector<Values>& expected, double bound) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    CHECK(deviation(got[i], expected[i]) <= (i == 1 ? 1e-4 : bound));
  }
}

/// Whether the library takes this problem, forward and backward; prints why not, after a word for what then
/// is not done.
bool taken(Context& gpu, const Problem& p, const char* word = "left out") {
  try {
    run(gpu, p, Who::library, Who::library);
    return true;
  } catch (const DeviceError& error) {
    std::cout << word << ": " << error.what() << "\n";
    return false;
  }
}

/// Whether the build has attention by cuDNN.
bool has_cudnn(Context& gpu) { return taken(gpu, make(gpu, {1, 2, 256, 64}, 256), "skipped"); }

}  // namespace

TEST_CASE("close to f64 and to our own kernels, equal bits, either continuing from the other") {
  if (!cuda_device()) return;
  Contexts both;
  if (!has_cudnn(both.gpu)) return;
  struct Case {
    Shape q;
    std::int64_t keys;
  };
  for (const Case& c : {Case{{2, 6, 1024, 64}, 1024}, Case{{1, 2, 200, 64}, 200}, Case{{2, 2, 129, 64}, 513},
                        Case{{1, 3, 320, 32}, 320}, Case{{1, 2, 256, 128}, 192}, Case{{1, 1, 100, 40}, 77},
                        Case{{1, 1, 1, 64}, 1}}) {
    CAPTURE(c.q);
    CAPTURE(c.keys);
    const Problem p = make(both.gpu, c.q, c.keys);
    if (!taken(both.gpu, p)) continue;
    const auto library = run(both.gpu, p, Who::library, Who::library);
    CHECK(run(both.gpu, p, Who::library, Who::library) == library);
    CHECK(run(both.gpu, p, Who::automatic, Who::automatic) == library);
    const auto exact = run(both.cpu, make(both.cpu, c.q, c.keys, DType::f64), Who::own, Who::own);
    check_close(library, exact, 8e-3);
    const auto own = run(both.gpu, p, Who::own, Who::own);
    check_close(library, own, 1.6e-2);
    check_close(run(both.gpu, p, Who::own, Who::library), exact, 8e-3);
    check_close(run(both.gpu, p, Who::library, Who::own), exact, 8e-3);
  }
}

TEST_CASE("what the library does not take is computed by our own kernels, or is an error by name") {
  if (!cuda_device()) return;
  Contexts both;
  const auto declined = [&](const Problem& p) {
    const auto own = run(both.gpu, p, Who::own, Who::own);
    CHECK(run(both.gpu, p, Who::automatic, Who::automatic) == own);
    CHECK_THROWS_AS(full_attention(both.gpu, p.q, p.k, p.v, {.kernels = Who::library}), DeviceError);
  };
  declined(make(both.gpu, {1, 2, 40, 64}, 40, DType::f32));
  declined(make(both.gpu, {1, 2, 40, 20}, 40));
  declined(make(both.gpu, {1, 1, 20, 136}, 20));
  Problem odd = make(both.gpu, {1, 2, 40, 72}, 40);
  for (Tensor* x : {&odd.q, &odd.k, &odd.v, &odd.d_o}) *x = x->slice(3, 1, 65);  // rows off their alignment
  declined(odd);
  const Problem causal = make(both.gpu, {1, 2, 40, 64}, 40);
  CHECK_THROWS_AS(
      full_attention(both.gpu, causal.q, causal.k, causal.v, {.causal = true, .kernels = Who::library}),
      DeviceError);
}

TEST_CASE("beyond a gibibyte the library's backward pass has to be asked for by name") {
  if (!cuda_device()) return;
  Contexts both;
  if (!has_cudnn(both.gpu)) return;
  const Problem p = make(both.gpu, {1, 4, 12288, 64}, 12288);  // 1.2e9 bytes of dP
  const auto peak_of = [&](Who who) {
    both.gpu.allocator()->reset_peak();
    const std::size_t before = both.gpu.allocator()->stats().active;
    run(both.gpu, p, Who::own, who);
    return both.gpu.allocator()->stats().peak - before;
  };
  const std::size_t by_name = peak_of(Who::library);
  if (by_name < std::size_t{1} << 30) {
    std::cout << "skipped: on this device the library takes " << by_name << " bytes\n";
    return;
  }
  CHECK(peak_of(Who::automatic) < std::size_t{1} << 30);
  CHECK(run(both.gpu, p, Who::own, Who::automatic) == run(both.gpu, p, Who::own, Who::own));
}

TEST_SUITE_END();
