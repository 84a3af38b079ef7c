// Order, sharding, resumption and failure of the loader, for any number of workers.
#include "nn/data/loader.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <set>

#include "core/error.h"
#include "tests/nn/data/image_bytes.h"
#include "tests/support/files.h"

namespace llsa::nn {
namespace {

using namespace llsa::test;

/// `count` images of 6 x 5 in two classes; image i has the salt i.
struct Fixture {
  TempDir dir;
  Context ctx{1};
  std::shared_ptr<const ImageFolder> folder;

  explicit Fixture(int count = 7, int damaged = 0) {
    for (int i = 0; i < count; ++i) {
      const std::string name = (i % 2 ? "odd/" : "even/") + std::to_string(100 + i) + ".png";
      std::filesystem::create_directories(dir / (i % 2 ? "odd" : "even"));
      Bytes png = rgb_png(6, 5, i);
      if (i < damaged) png[60] ^= 1;  // found only by decoding
      write_file(dir / name, as_text(png));
    }
    folder = std::make_shared<ImageFolder>(dir.path());
  }

  LoaderOptions options(std::int64_t batch = 3) const {
    LoaderOptions o;
    o.batch = batch;
    o.seed = 5;
    o.height = 4;
    o.width = 4;
    o.random_crop = o.flip = true;
    return o;
  }
};

struct Seen {
  std::vector<float> x;
  std::vector<std::int32_t> y;
  std::vector<std::int64_t> ids;
  friend bool operator==(const Seen&, const Seen&) = default;
};

Seen take(Loader& loader, int batches) {
  Seen seen;
  for (int i = 0; i < batches; ++i) {
    const Batch batch = loader.next();
    seen.x.insert(seen.x.end(), batch.x.data<float>(), batch.x.data<float>() + batch.x.numel());
    seen.y.insert(seen.y.end(), batch.y.data<std::int32_t>(), batch.y.data<std::int32_t>() + batch.y.numel());
    seen.ids.insert(seen.ids.end(), batch.sample_ids.data<std::int64_t>(),
                    batch.sample_ids.data<std::int64_t>() + batch.sample_ids.numel());
  }
  return seen;
}

TEST_SUITE_BEGIN("nn/data/loader");

TEST_CASE("an epoch is a permutation that depends on seed and number") {
  const auto order = epoch_order(100, 3, 0);
  auto sorted = order;
  std::sort(sorted.begin(), sorted.end());
  std::vector<std::uint32_t> all(100);
  std::iota(all.begin(), all.end(), 0u);
  CHECK(sorted == all);
  CHECK(order != all);
  CHECK(epoch_order(100, 3, 0) == order);
  CHECK(epoch_order(100, 3, 1) != order);
  CHECK(epoch_order(100, 4, 0) != order);
  CHECK(epoch_order(1, 3, 0) == std::vector<std::uint32_t>{0});
  // Every place is about equally likely: image 0 over 4000 epochs of 8.
  std::vector<int> places(8, 0);
  for (int epoch = 0; epoch < 4000; ++epoch) {
    const auto o = epoch_order(8, 9, epoch);
    ++places[static_cast<std::size_t>(std::find(o.begin(), o.end(), 0u) - o.begin())];
  }
  for (const int n : places) CHECK(std::abs(n - 500) < 120);
}

TEST_CASE("batches have shapes, labels and ids; epochs follow without a gap") {
  Fixture f;
  LoaderOptions options = f.options(3);
  options.random_crop = options.flip = false;
  Loader loader(f.ctx, f.folder, options);
  const Batch first = loader.next();
  CHECK(first.x.shape() == Shape{3, 3, 4, 4});
  CHECK(first.x.dtype() == DType::f32);
  CHECK(first.y.dtype() == DType::i32);
  CHECK(first.sample_ids.dtype() == DType::i64);
  loader.restore({5, 0, 0, f.folder->fingerprint()});
  const Seen seen = take(loader, 7);  // 21 draws: three epochs of 7
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::set<float> distinct;
    int odd = 0;
    const auto order = epoch_order(7, 5, epoch);
    for (int p = 0; p < 7; ++p) {
      const std::size_t draw = static_cast<std::size_t>(7 * epoch + p);
      CHECK(seen.ids[draw] == static_cast<std::int64_t>(draw));
      CHECK(seen.y[draw] == f.folder->entries()[order[static_cast<std::size_t>(p)]].label);
      odd += seen.y[draw];
      distinct.insert(std::accumulate(seen.x.begin() + static_cast<std::ptrdiff_t>(draw * 48),
                                      seen.x.begin() + static_cast<std::ptrdiff_t>(draw * 48 + 48), 0.0f));
    }
    CHECK(odd == 3);
    CHECK(distinct.size() == 7);
  }
}

TEST_CASE("batches come into given tensors, which have to fit") {
  Fixture f;
  Loader a(f.ctx, f.folder, f.options()), b(f.ctx, f.folder, f.options());
  const Batch into = b.make_batch();
  for (int i = 0; i < 3; ++i) {
    const Batch fresh = a.next();
    b.next(into);
    CHECK(std::equal(fresh.x.data<float>(), fresh.x.data<float>() + fresh.x.numel(), into.x.data<float>()));
    CHECK(into.sample_ids.data<std::int64_t>()[2] == 3 * i + 2);
  }
  const LoaderState before = b.state();
  CHECK_THROWS_AS(b.next({into.x.slice(0, 0, 2), into.y, into.sample_ids}), ShapeError);
  CHECK_THROWS_AS(b.next({into.x, into.sample_ids, into.sample_ids}), ShapeError);
  CHECK_THROWS_AS(b.next({into.x, into.y, Tensor()}), ShapeError);
  CHECK(b.state() == before);
}

TEST_CASE("a batch may be larger than the folder") {
  Fixture f(3);
  Loader loader(f.ctx, f.folder, f.options(10));
  const Seen seen = take(loader, 2);
  CHECK(seen.ids.back() == 19);
  CHECK(loader.state().epoch == 6);
  CHECK(loader.state().cursor == 2);
}

TEST_CASE("workers, prefetch and cache change nothing") {
  Fixture f;
  Seen expected;
  {
    LoaderOptions options = f.options();
    options.workers = 0;
    options.cache_bytes = 0;
    Loader loader(f.ctx, f.folder, options);
    expected = take(loader, 20);
  }
  for (const int workers : {1, 2, 5}) {
    for (const int prefetch : {1, 7}) {
      for (const std::size_t cache : {std::size_t{0}, std::size_t{400}, std::size_t{1} << 20}) {
        LoaderOptions options = f.options();
        options.workers = workers;
        options.prefetch = prefetch;
        options.cache_bytes = cache;
        Loader loader(f.ctx, f.folder, options);
        CHECK((take(loader, 20) == expected));
        CHECK(loader.wait_seconds() >= 0);
      }
    }
  }
  LoaderOptions other = f.options();
  other.seed = 6;
  Loader loader(f.ctx, f.folder, other);
  CHECK(!(take(loader, 20) == expected));
}

TEST_CASE("resuming in the middle of an epoch continues exactly") {
  Fixture f;
  Loader whole(f.ctx, f.folder, f.options());
  take(whole, 4);
  const LoaderState state = whole.state();
  CHECK(state.epoch == 1);
  CHECK(state.cursor == 5);
  const Seen expected = take(whole, 9);
  for (const int workers : {0, 1, 3}) {
    LoaderOptions options = f.options();
    options.workers = workers;
    Loader resumed(f.ctx, f.folder, options);
    take(resumed, workers);  // wherever it was, with batches prefetched
    resumed.restore(state);
    CHECK(resumed.state() == state);
    CHECK((take(resumed, 9) == expected));
    CHECK(resumed.state() == whole.state());
  }
}

TEST_CASE("ranks share the draws of one larger batch") {
  Fixture f;
  Loader one(f.ctx, f.folder, f.options(6));
  LoaderOptions options = f.options(2);
  options.world = 3;
  std::vector<std::unique_ptr<Loader>> ranks;
  for (int rank = 0; rank < 3; ++rank) {
    options.rank = rank;
    ranks.push_back(std::make_unique<Loader>(f.ctx, f.folder, options));
  }
  for (int step = 0; step < 5; ++step) {
    Seen together;
    for (auto& rank : ranks) {
      const Seen part = take(*rank, 1);
      together.x.insert(together.x.end(), part.x.begin(), part.x.end());
      together.y.insert(together.y.end(), part.y.begin(), part.y.end());
      together.ids.insert(together.ids.end(), part.ids.begin(), part.ids.end());
    }
    CHECK((take(one, 1) == together));
  }
  CHECK(ranks[2]->state() == one.state());
}

TEST_CASE("ranks share the micro-batches of a step, which may be no multiple of their number") {
  Fixture f(11);
  LoaderOptions options = f.options(2);
  options.micro_batches = 5;
  Loader alone(f.ctx, f.folder, options);
  std::vector<Seen> steps;  // one for each micro-batch of two steps
  for (int i = 0; i < 10; ++i) steps.push_back(take(alone, 1));
  for (const int world : {2, 3, 5})
    for (int rank = 0; rank < world; ++rank) {
      CAPTURE(world);
      CAPTURE(rank);
      LoaderOptions own = options;
      own.world = world;
      own.rank = rank;
      Loader loader(f.ctx, f.folder, own);
      for (int step = 0; step < 2; ++step)
        for (int i = rank; i < 5; i += world)
          CHECK(take(loader, 1) == steps[static_cast<std::size_t>(5 * step + i)]);
      CHECK(loader.state() == alone.state());
    }
}

TEST_CASE("a file that cannot be decoded is replaced by the next one and listed once") {
  Fixture f(6, 1);  // even/100.png, the first of the folder
  REQUIRE(f.folder->size() == 6);
  Seen expected;
  for (const int workers : {0, 3}) {
    LoaderOptions options = f.options(6);
    options.workers = workers;
    options.random_crop = options.flip = false;
    Loader loader(f.ctx, f.folder, options);
    const Seen seen = take(loader, 4);
    if (expected.ids.empty()) expected = seen;
    CHECK((seen == expected));
    REQUIRE(loader.failures().size() == 1);
    CHECK(loader.failures()[0].path == "even/100.png");
    CHECK(loader.failures()[0].reason.find("wrong checksum") != std::string::npos);
    const auto order = epoch_order(6, 5, 0);
    const auto damaged = std::find(order.begin(), order.end(), 0u) - order.begin();
    const auto next = std::find(order.begin(), order.end(), 1u) - order.begin();
    CHECK(std::equal(seen.x.begin() + damaged * 48, seen.x.begin() + damaged * 48 + 48,
                     seen.x.begin() + next * 48));
  }
}

TEST_CASE("when nothing can be decoded next() throws, each time, and the destructor still works") {
  Fixture f(4, 4);
  for (const int workers : {0, 2}) {
    LoaderOptions options = f.options();
    options.workers = workers;
    Loader loader(f.ctx, f.folder, options);
    CHECK_THROWS_WITH_AS(loader.next(), doctest::Contains("none of the 4 images"), IoError);
    CHECK_THROWS_AS(loader.next(), IoError);
    CHECK(loader.state().cursor == 0);
    CHECK(loader.failures().size() == 4);
  }
}

TEST_CASE("a folder that goes away is no set of damaged files") {
  Fixture f;
  LoaderOptions options = f.options(1);
  options.workers = 0;
  Loader loader(f.ctx, f.folder, options);
  take(loader, 3);
  const LoaderState before = loader.state();
  const std::string away = f.dir.path() + ".away";
  std::filesystem::rename(f.dir.path(), away);
  CHECK_THROWS_WITH_AS(take(loader, 4), doctest::Contains("is gone"), IoError);
  CHECK(loader.failures().empty());
  std::filesystem::rename(away, f.dir.path());
  loader.restore(before);
  Loader whole(f.ctx, f.folder, options);
  take(whole, 3);
  CHECK(take(loader, 4) == take(whole, 4));
}

TEST_CASE("a loader may go at any moment") {
  Fixture f;
  LoaderOptions options = f.options();
  options.workers = 4;
  options.prefetch = 9;
  for (int i = 0; i < 20; ++i) {
    Loader loader(f.ctx, f.folder, options);
    if (i % 2) loader.next();
    if (i % 3 == 0) loader.restore(loader.state());
  }
}

TEST_CASE("options and states outside their range are refused") {
  Fixture f;
  auto refused = [&](auto change) {
    LoaderOptions options = f.options();
    change(options);
    CHECK_THROWS_AS(Loader(f.ctx, f.folder, options), ValueError);
  };
  refused([](LoaderOptions& o) { o.batch = 0; });
  refused([](LoaderOptions& o) { o.height = 0; });
  refused([](LoaderOptions& o) { o.workers = -1; });
  refused([](LoaderOptions& o) { o.prefetch = 0; });
  refused([](LoaderOptions& o) { o.rank = 1; });
  refused([](LoaderOptions& o) { o.world = 0; });
  refused([](LoaderOptions& o) { o.world = 3, o.micro_batches = 2; });
  CHECK_THROWS_AS(Loader(f.ctx, nullptr, f.options()), ValueError);

  Loader loader(f.ctx, f.folder, f.options());
  const LoaderState good = loader.state();
  auto state_refused = [&](auto change) {
    LoaderState state = good;
    change(state);
    CHECK_THROWS_AS(loader.restore(state), ValueError);
  };
  state_refused([](LoaderState& s) { ++s.seed; });
  state_refused([](LoaderState& s) { ++s.fingerprint; });
  state_refused([](LoaderState& s) { s.cursor = 7; });
  state_refused([](LoaderState& s) { s.cursor = -1; });
  state_refused([](LoaderState& s) { s.epoch = -1; });
  state_refused([](LoaderState& s) { s.epoch = INT64_MAX; });
  loader.restore(good);
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
