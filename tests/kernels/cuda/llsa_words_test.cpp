// Bit words against their definition, and by-key lists from them against the counting sort of the CPU.
#include <doctest/doctest.h>

#include <algorithm>

#include "core/philox.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/orders.h"
#include "tests/kernels/cuda/with_words.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

const Device kGpu{DeviceType::cuda, 0};

/// Index tables [l - 1] on the host, of all heads one after the other.
struct Tables {
  LlsaPlan plan;
  std::int64_t heads = 1;
  std::vector<std::vector<std::int32_t>> level;

  Shape shape(std::size_t l) const { return {1, heads, plan.count[l + 1], plan.width[l]}; }
  std::int32_t& at(std::size_t l, std::int64_t head, std::int64_t row, int e) {
    return level[l][static_cast<std::size_t>((head * plan.count[l + 1] + row) * plan.width[l] + e)];
  }
};

LlsaPlan plan_of(std::int64_t n, int block, int topk, int levels) {
  LlsaOptions options;
  options.block = block;
  options.topk = {topk};
  options.levels = levels;
  return llsa_plan(n, options);
}

/// Random picks of a row's candidates, as llsa_select would make them.
Tables random_tables(const LlsaPlan& plan, std::int64_t heads, std::uint64_t seed) {
  Tables t{plan, heads, {}};
  t.level.resize(static_cast<std::size_t>(plan.levels));
  for (std::size_t l = t.level.size(); l-- > 0;) {
    const std::int64_t n = plan.count[l + 1];
    const int width = plan.width[l];
    t.level[l].assign(static_cast<std::size_t>(heads * n * width), -1);
    for (std::int64_t head = 0; head < heads; ++head)
      for (std::int64_t row = 0; row < n; ++row) {
        std::vector<std::pair<std::uint64_t, std::int32_t>> candidates;  // in random order
        const auto add = [&](std::int64_t first, std::int64_t end) {
          for (std::int64_t j = first; j < end; ++j)
            candidates.emplace_back(
                Philox{seed + l, 3}.below(static_cast<std::uint64_t>((head * n + row) * n + j), 1u << 30),
                static_cast<std::int32_t>(j));
        };
        if (l + 1 == t.level.size()) add(0, n);
        for (int e = 0; l + 1 < t.level.size() && e < plan.width[l + 1]; ++e) {
          const std::int64_t j = t.at(l + 1, head, row / plan.block, e);
          if (j >= 0) add(j * plan.block, std::min((j + 1) * plan.block, n));
        }
        std::sort(candidates.begin(), candidates.end());
        candidates.resize(std::min(candidates.size(), static_cast<std::size_t>(width)));
        std::sort(candidates.begin(), candidates.end(),
                  [](const auto& a, const auto& b) { return a.second < b.second; });
        for (std::size_t e = 0; e < candidates.size(); ++e)
          t.at(l, head, row, static_cast<int>(e)) = candidates[e].second;
      }
  }
  return t;
}

/// Offsets and the queries in use of all levels.
std::vector<std::int32_t> flat(Context& ctx, const std::vector<IndexTranspose>& lists) {
  std::vector<std::int32_t> all;
  for (const IndexTranspose& list : lists) {
    const auto offset = to_vector<std::int32_t>(ctx, list.offset),
               query = to_vector<std::int32_t>(ctx, list.query);
    const std::int64_t heads = list.offset.size(1), keys = list.offset.size(2) - 1,
                       places = list.query.size(2);
    all.insert(all.end(), offset.begin(), offset.end());
    for (std::int64_t h = 0; h < heads; ++h)
      for (std::int64_t e = 0; e < offset[static_cast<std::size_t>(h * (keys + 1) + keys)]; ++e)
        all.push_back(query[static_cast<std::size_t>(h * places + e)]);
  }
  return all;
}

std::vector<std::int32_t> sorted_lists(const Tables& t) {
  Context cpu;
  std::vector<IndexTranspose> lists;
  for (std::size_t l = 0; l < t.level.size(); ++l) {
    std::vector<std::int32_t> entries = t.level[l];
    for (std::int32_t& j : entries)
      if (j >= t.plan.count[l + 1]) j = -1;
    for (std::int32_t& j : entries) j = std::max(j, -1);
    lists.push_back(index_transpose(cpu, from_vector(cpu, entries, t.shape(l)), t.plan.count[l + 1]));
  }
  return flat(cpu, lists);
}

/// Tables on the device, with their words.
struct Marked {
  std::vector<Tensor> level, words;
};
Marked marked(Context& gpu, const Tables& t) {
  std::vector<Tensor> level;
  for (std::size_t l = 0; l < t.level.size(); ++l) level.push_back(from_vector(gpu, t.level[l], t.shape(l)));
  return {level, words_of(gpu, t.plan, level)};
}

std::vector<std::int32_t> word_lists(const Tables& t) {
  Context gpu(kGpu);
  const Marked indices = marked(gpu, t);
  return flat(gpu, kernels::cuda::transpose_by_words(gpu, t.plan, indices.level, indices.words));
}

/// The words of all levels by their definition, a bit at a time.
std::vector<std::uint8_t> defined_words(const Tables& t) {
  std::vector<std::uint8_t> all;
  const auto bytes = static_cast<std::size_t>(kernels::cuda::word_bytes(t.plan.block));
  Tables tables = t;
  for (std::size_t l = 0; l + 1 < t.level.size(); ++l)
    for (std::int64_t head = 0; head < t.heads; ++head)
      for (std::int64_t parent = 0; parent < t.plan.count[l + 2]; ++parent)
        for (int s = 0; s < t.plan.width[l + 1]; ++s)
          for (int c = 0; c < t.plan.block; ++c) {
            std::vector<std::uint8_t> word(bytes);
            const std::int32_t above = tables.at(l + 1, head, parent, s);
            for (int r = 0; r < t.plan.block && above >= 0; ++r) {
              const std::int64_t row = parent * t.plan.block + r;
              if (row >= t.plan.count[l + 1]) break;
              for (int e = 0; e < t.plan.width[l]; ++e)
                if (tables.at(l, head, row, e) == above * t.plan.block + c)
                  word[static_cast<std::size_t>(r / 8)] |= static_cast<std::uint8_t>(1 << r % 8);
            }
            all.insert(all.end(), word.begin(), word.end());
          }
  return all;
}

std::vector<std::uint8_t> flat_words(Context& ctx, const std::vector<Tensor>& words) {
  std::vector<std::uint8_t> all;
  for (const Tensor& x : words) {
    const auto values = to_vector<std::uint8_t>(ctx, x);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

}  // namespace

TEST_SUITE_BEGIN("kernels/cuda/llsa_words");

TEST_CASE("words: the lists of the counting sort, B = 16, 32, 64, K = 1 to 64, L = 1 to 4, ragged N") {
  if (!cuda_device()) return;
  std::uint64_t seed = 0;
  for (int block : {16, 32, 64})
    for (int topk : {1, 3, 8, 20, 64})
      for (std::int64_t n : {2, 17, 65, 257, 1000, 4097, 5003})
        for (int levels = 1; levels <= 4; ++levels) {
          std::int64_t count = n;
          for (int l = 1; l < levels; ++l) count = (count + block - 1) / block;
          if (count == 1) continue;  // no such level
          CAPTURE(block);
          CAPTURE(topk);
          CAPTURE(n);
          CAPTURE(levels);
          const Tables t = random_tables(plan_of(n, block, topk, levels), 1 + n % 2, ++seed);
          CHECK(word_lists(t) == sorted_lists(t));
        }
}

TEST_CASE("words: any block size up to 64, K per level") {
  if (!cuda_device()) return;
  for (int block : {2, 3, 5, 17, 33, 63}) {
    CAPTURE(block);
    LlsaOptions options;
    options.block = block;
    options.topk = {5, 2, 9};
    options.levels = 3;
    const Tables t =
        random_tables(llsa_plan(block * block * block + 7, options), 2, static_cast<std::uint64_t>(block));
    CHECK(word_lists(t) == sorted_lists(t));
  }
  Context gpu(kGpu);
  const Tables large = random_tables(plan_of(100000, 65, 2, 2), 1, 7);
  CHECK(marked(gpu, large).words.empty());
  const Tables single = random_tables(plan_of(1000, 16, 2, 1), 1, 8);
  CHECK(marked(gpu, single).words.empty());
  CHECK(word_lists(single) == sorted_lists(single));
}

TEST_CASE("words: bit r says that child r picked, by marking tables") {
  if (!cuda_device()) return;
  Context gpu(kGpu);
  std::uint64_t seed = 70;
  for (int block : {2, 5, 16, 17, 32, 33, 64})
    for (int topk : {1, 8, 64}) {
      CAPTURE(block);
      CAPTURE(topk);
      const Tables t = random_tables(plan_of(block * block * 3 + 5, block, topk, 2), 2, ++seed);
      CHECK(flat_words(gpu, marked(gpu, t).words) == defined_words(t));
    }
  const Tables three = random_tables(plan_of(16 * 16 * 16 + 300, 16, 3, 3), 1, ++seed);
  CHECK(flat_words(gpu, marked(gpu, three).words) == defined_words(three));
}

TEST_CASE("words: four levels of large blocks, and a key that all queries pick") {
  if (!cuda_device()) return;
  const Tables large = random_tables(plan_of(262145, 64, 3, 4), 1, 5);
  CHECK(word_lists(large) == sorted_lists(large));
  Tables hot = random_tables(plan_of(9000, 16, 2, 2), 2, 6);
  for (std::size_t l : {1, 0})
    for (std::int64_t row = 0; row < hot.plan.count[l + 1]; ++row) {
      hot.at(l, 1, row, 0) = l == 1 ? 3 : 3 * 16 + 7;
      hot.at(l, 1, row, 1) = -1;
    }
  CHECK(word_lists(hot) == sorted_lists(hot));
}

TEST_CASE("words: the coarsest level in one block, in several, and by sorting") {
  if (!cuda_device()) return;
  for (std::int64_t n : {1, 31, 128, 129, 700, 9001, 16385}) {
    CAPTURE(n);
    // Picks near the diagonal: candidates need not be listed for so many rows.
    Tables t{plan_of(2 * n, 2, 3, 1), n < 1000 ? 2 : 1, {}};
    t.level.assign(1, std::vector<std::int32_t>(static_cast<std::size_t>(t.heads * n * t.plan.width[0]), -1));
    for (std::int64_t head = 0; head < t.heads; ++head)
      for (std::int64_t row = 0; row < n; ++row) {
        auto j = static_cast<std::int32_t>(Philox{9, 9}.below(static_cast<std::uint64_t>(row + head), 40));
        for (int e = 0; e < t.plan.width[0]; ++e, j += 1 + static_cast<std::int32_t>(row % 7 * n / 30))
          if (j < n) t.at(0, head, row, e) = j;
      }
    CHECK(word_lists(t) == sorted_lists(t));
  }
}

TEST_CASE("words: with more bits than there are picks the lists name existing queries, in their places") {
  if (!cuda_device()) return;
  Context gpu(kGpu);
  for (int block : {5, 16, 64}) {
    CAPTURE(block);
    const Tables t = random_tables(plan_of(block == 64 ? 8300 : 3001, block, 3, 3), 2, 21);
    const Marked indices = marked(gpu, t);
    for (const Tensor& words : indices.words) fill(gpu, words, 255);
    const auto lists = kernels::cuda::transpose_by_words(gpu, t.plan, indices.level, indices.words);
    for (std::size_t l = 0; l < lists.size(); ++l) {
      const auto offset = to_vector<std::int32_t>(gpu, lists[l].offset);
      const auto query = to_vector<std::int32_t>(gpu, lists[l].query);
      const std::int64_t keys = lists[l].offset.size(2) - 1, places = lists[l].query.size(2);
      for (std::int64_t head = 0; head < t.heads; ++head) {
        const auto begin = offset.begin() + head * (keys + 1), end = begin + keys + 1;
        REQUIRE(std::is_sorted(begin, end));
        REQUIRE(end[-1] <= places);
        for (std::int64_t e = 0; e < end[-1]; ++e) {
          REQUIRE(query[static_cast<std::size_t>(head * places + e)] >= 0);
          REQUIRE(query[static_cast<std::size_t>(head * places + e)] < t.plan.count[l + 1]);
        }
      }
    }
  }
}

TEST_CASE("words: equal lists in all lane and block orders") {
  if (!cuda_device()) return;
  const Tables words = random_tables(plan_of(5003, 16, 8, 3), 2, 31);
  CHECK(for_all_orders([&] { return word_lists(words); }) == sorted_lists(words));
  const Tables wide = random_tables(plan_of(4200, 64, 3, 2), 2, 32);
  CHECK(for_all_orders([&] { return word_lists(wide); }) == sorted_lists(wide));
}

TEST_SUITE_END();
