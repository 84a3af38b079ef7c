// Work that processes divide: its results in order, an end, and errors, which all processes get.
#include "nn/share_work.h"

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/support/text.h"
#include "tests/support/thread_ranks.h"

namespace {

using namespace llsa;
using llsa::test::contains;

struct Outcome {
  std::vector<std::string> ends;   // of each process: "true", "false" or an error
  std::string taken;               // by all of them
  std::vector<std::int64_t> done;  // pieces of the last process
};

Outcome share(int ranks, std::int64_t pieces,
              const std::function<std::optional<std::string>(std::int64_t)>& work,
              const std::function<void(const std::string&)>& refuse = {}) {
  Outcome outcome;
  outcome.ends.resize(static_cast<std::size_t>(ranks));
  test::run_ranks(ranks, [&](Communicator& rank) {
    std::string& end = outcome.ends[static_cast<std::size_t>(rank.rank())];
    try {
      end = nn::share_work(
                rank, pieces,
                [&](std::int64_t i) {
                  if (rank.rank() == ranks - 1) outcome.done.push_back(i);
                  return work(i);
                },
                [&](const std::string& text) {
                  if (refuse) refuse(text);
                  outcome.taken += text;
                })
                ? "true"
                : "false";
    } catch (const Error& error) {
      end = error.what();
    }
    rank.any(false);  // all can go on
  });
  return outcome;
}

std::optional<std::string> letter(std::int64_t i) { return std::string(1, static_cast<char>('a' + i)); }

}  // namespace

TEST_SUITE_BEGIN("nn/share_work");

TEST_CASE("the first process takes all results in the order of the pieces") {
  for (const int ranks : {1, 2, 3}) {
    CAPTURE(ranks);
    for (const std::int64_t pieces : {0, 1, 7}) {
      const Outcome outcome = share(ranks, pieces, letter);
      CHECK(outcome.taken == std::string("abcdefg").substr(0, static_cast<std::size_t>(pieces)));
      for (const std::string& end : outcome.ends) CHECK(end == "true");
    }
  }
  CHECK(share(3, 7, letter).done == std::vector<std::int64_t>{2, 5});
  CHECK(share(2, 3, [](std::int64_t) { return std::string(); }).ends ==
        std::vector<std::string>{"true", "true"});
}

TEST_CASE("an end and an error reach all processes") {
  for (const int ranks : {1, 2, 3}) {
    CAPTURE(ranks);
    const Outcome ended = share(ranks, 7, [](std::int64_t i) { return i == 4 ? std::nullopt : letter(i); });
    for (const std::string& end : ended.ends) CHECK(end == "false");
    const auto all_have = [&](const Outcome& outcome, const std::string& error) {
      for (const std::string& end : outcome.ends) CHECK(contains(end, error));
    };
    all_have(share(ranks, 7,
                   [](std::int64_t i) {
                     if (i == 5) throw ValueError("five");
                     return letter(i);
                   }),
             "five");
    for (const std::string refused : {"a", "g"})
      all_have(share(ranks, 7, letter,
                     [&](const std::string& text) {
                       if (text == refused) throw IoError("no room for " + text);
                     }),
               "no room for " + refused);
  }
}

TEST_SUITE_END();
