// Slices of flat buffers: where they begin, and that sums over them have the bits of a sum over the whole.
#include "nn/slices.h"

#include <doctest/doctest.h>

#include <mutex>
#include <string>
#include <vector>

#include "kernels/copy.h"
#include "kernels/make.h"
#include "kernels/optim.h"
#include "kernels/random.h"
#include "tests/support/tensors.h"
#include "tests/support/thread_ranks.h"

namespace {

using namespace llsa;
using namespace llsa::nn;

constexpr std::int64_t kStretch = kernels::kSquareStretch;

}  // namespace

TEST_SUITE_BEGIN("nn/slices");

TEST_CASE("slices follow one another, begin at multiples of a stretch, and may be empty") {
  for (const int ranks : {1, 2, 3, 4, 7})
    for (const std::int64_t size : {std::int64_t{0}, std::int64_t{16}, kStretch, 5 * kStretch + 48}) {
      CAPTURE(ranks);
      CAPTURE(size);
      std::vector<std::int64_t> begins(static_cast<std::size_t>(ranks)), ends(begins);
      test::run_ranks(ranks, [&](Communicator& rank) {
        const Slices slices(rank, size);
        begins[static_cast<std::size_t>(rank.rank())] = slices.begin();
        ends[static_cast<std::size_t>(rank.rank())] = slices.end();
      });
      CHECK(begins.front() == 0);
      CHECK(ends.back() == size);
      for (std::size_t r = 0; r < begins.size(); ++r) {
        CHECK((begins[r] % kStretch == 0 || begins[r] == size));
        CHECK(begins[r] <= ends[r]);
        if (r > 0) CHECK(begins[r] == ends[r - 1]);
      }
    }
}

TEST_CASE("a sum of squares over slices has the bits of that over the whole") {
  Context ctx(1);
  for (const std::int64_t size : {std::int64_t{100}, 9 * kStretch + 16}) {
    const Tensor x = kernels::random_normal(ctx, {size}, DType::f32, 3, 1);
    const double whole = ctx.item(kernels::sum_squares(ctx, x));
    CHECK(whole > 0);
    for (const int ranks : {1, 2, 3, 4}) {
      CAPTURE(ranks);
      std::vector<double> sums(static_cast<std::size_t>(ranks));
      test::run_ranks(ranks, [&](Communicator& rank) {
        Context own(1);
        const Slices slices(rank, size);
        sums[static_cast<std::size_t>(rank.rank())] =
            own.item(slices.sum_squares(own, kernels::clone(own, slices.of(x))));
      });
      for (const double sum : sums) CHECK(sum == whole);
    }
  }
}

TEST_CASE("gradients are added in the order of the ranks, and slices become a whole again") {
  const std::int64_t size = 3 * kStretch + 32;
  const int ranks = 3;
  Context ctx(1);
  std::vector<Tensor> gradients;
  for (std::uint64_t r = 0; r < ranks; ++r)
    gradients.push_back(kernels::random_normal(ctx, {size}, DType::f32, 4, r));
  for (const int senders : {2, 3}) {
    CAPTURE(senders);
    const Tensor expected = ctx.zeros({size}, DType::f32);
    const Slices alone(one_process(), size);
    for (int r = 0; r < senders; ++r) alone.add(ctx, gradients[static_cast<std::size_t>(r)], 1, expected);
    std::vector<Tensor> sums(ranks);
    test::run_ranks(ranks, [&](Communicator& rank) {
      Context own(1);
      const Slices slices(rank, size);
      const auto self = static_cast<std::size_t>(rank.rank());
      const Tensor sum = own.zeros(Shape{slices.end() - slices.begin()}, DType::f32);
      slices.add(own, gradients[self], senders, sum);
      sums[self] = slices.whole(own, sum);
    });
    for (const Tensor& sum : sums) CHECK(test::same_bits(ctx, sum, expected));
  }
}

TEST_CASE("texts of any length are gathered in the order of the ranks") {
  for (const int ranks : {1, 3}) {
    std::vector<std::vector<std::string>> all(static_cast<std::size_t>(ranks));
    std::vector<int> any(static_cast<std::size_t>(ranks));
    test::run_ranks(ranks, [&](Communicator& rank) {
      const auto self = static_cast<std::size_t>(rank.rank());
      all[self] = rank.gather(std::string(self * 1000, static_cast<char>('a' + rank.rank())));
      any[self] = 2 * rank.any(rank.rank() == ranks - 1) + rank.any(false);
    });
    for (const auto& texts : all) {
      REQUIRE(texts.size() == static_cast<std::size_t>(ranks));
      for (std::size_t r = 0; r < texts.size(); ++r)
        CHECK(texts[r] == std::string(r * 1000, static_cast<char>('a' + static_cast<int>(r))));
    }
    for (const int answers : any) CHECK(answers == 2);
  }
  CHECK_THROWS_AS(test::run_ranks(2,
                                  [](Communicator& rank) {
                                    if (rank.rank() == 1) throw ValueError("out of order");
                                    rank.any(false);
                                  }),
                  Error);
}

TEST_SUITE_END();
