// In each round a process sends '+' and a result, '!' and an error, '.' for an end, or nothing.
#include "nn/share_work.h"

#include <new>
#include <vector>

namespace llsa::nn {

bool share_work(Communicator& ranks, std::int64_t pieces,
                FunctionRef<std::optional<std::string>(std::int64_t)> work,
                FunctionRef<void(const std::string&)> take) {
  if (ranks.size() == 1) {
    for (std::int64_t i = 0; i < pieces; ++i) {
      const std::optional<std::string> result = work(i);
      if (!result) return false;
      take(*result);
    }
    return true;
  }

  std::string own;
  const auto attempt = [&](FunctionRef<void()> action) {
    try {
      action();
    } catch (const Error& error) {
      own = cat('!', error.what());
    } catch (const std::bad_alloc& error) {
      own = cat('!', error.what());
    }
  };
  const auto exchange = [&] {
    std::vector<std::string> all = ranks.gather(own);
    for (std::size_t r = 0; r < all.size(); ++r)
      if (all[r].starts_with('!')) throw SharedWorkError(cat("rank ", r, ": ", all[r].substr(1)));
    own.clear();
    return all;
  };
  for (std::int64_t first = 0; first < pieces; first += ranks.size()) {
    const std::int64_t piece = first + ranks.rank();
    if (piece < pieces && own.empty())
      attempt([&] {
        const std::optional<std::string> result = work(piece);
        own = result ? '+' + *result : ".";
      });
    const std::vector<std::string> all = exchange();
    for (const std::string& text : all)
      if (text == ".") return false;
    if (!ranks.leads()) continue;
    attempt([&] {
      for (const std::string& text : all)
        if (!text.empty()) take(text.substr(1));
    });
  }
  exchange();  // an error of the last take()
  return true;
}

}  // namespace llsa::nn
