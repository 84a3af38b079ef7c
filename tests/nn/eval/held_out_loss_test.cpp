// The held-out loss: against the flow loss of single images, and the same however it is computed.
#include "nn/eval/held_out_loss.h"

#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "kernels/make.h"
#include "nn/data/held_out.h"
#include "nn/data/shapes.h"
#include "nn/data/transform.h"
#include "nn/dit.h"
#include "nn/init.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

namespace {

using namespace llsa;
using namespace llsa::nn;
using llsa::test::contains;

struct Fixture {
  test::TempDir dir;
  std::shared_ptr<const ImageFolder> folder;
  DitConfig config;

  explicit Fixture(std::int64_t count = 10) {
    ShapesOptions options;
    options.out = dir / "shapes";
    options.count = count;
    options.size = 8;
    write_shapes(options);
    folder = std::make_shared<const ImageFolder>(options.out);
    config.height = config.width = 8;
    config.head_dim = 8;
    config.layers = 1;
    config.classes = 4;
    config.init = InitKind::published;  // the prediction is not zero
    config = config.resolved();
  }

  double loss(const HeldOutLossOptions& options, int threads = 1) const {
    Context ctx(threads);
    Dit model(ctx, config, 0);
    return HeldOutLoss(folder, options)(ctx, model).value();
  }
};

bool close(double a, double b) { return std::abs(a - b) <= 1e-6 * std::abs(b); }

}  // namespace

TEST_SUITE_BEGIN("nn/eval/held_out_loss");

TEST_CASE("the loss is the mean of the flow losses of the images, each with its own noise and level") {
  const Fixture f;
  Context ctx(1);
  Dit model(ctx, f.config, 0);
  FlowOptions flow;
  flow.class_drop = 0;
  flow.seed = name_stream("held-out loss");
  double sum = 0;
  for (std::int64_t i = 0; i < f.folder->size(); ++i) {
    const ImageEntry& entry = f.folder->entries()[static_cast<std::size_t>(i)];
    const std::vector<std::int32_t> label = {entry.label};
    const std::vector<std::int64_t> id = {static_cast<std::int64_t>(image_hash(entry))};
    const Tensor x = load_images(ctx, *f.folder, {i}, 8, 8);
    sum += flow_loss(ctx, model,
                     make_flow_batch(ctx, x, kernels::from_vector(ctx, label, Shape{1}),
                                     kernels::from_vector(ctx, id, Shape{1}), flow))
               .item();
  }
  CHECK(close(f.loss({}), sum / 10));
}

TEST_CASE("it depends on the batch by rounding only, on threads and on the seed of the run not at all") {
  const Fixture f;
  const double expected = f.loss({.batch = 3});
  CHECK(expected > 0.1);
  for (const std::int64_t batch : {1, 4, 10, 64}) CHECK(close(f.loss({.batch = batch}), expected));
  for (const int threads : {2, 3}) CHECK(f.loss({.batch = 3}, threads) == expected);
  CHECK(f.loss({.batch = 3, .noise_scale = 2}) != expected);
}

TEST_CASE("some of the images: a fixed set, which a larger one contains") {
  const Fixture f;
  CHECK(HeldOutLoss(f.folder, {.images = 4}).size() == 4);
  CHECK(HeldOutLoss(f.folder, {.images = 11}).size() == 10);
  CHECK(HeldOutLoss(f.folder, {.images = 0}).size() == 10);
  CHECK(f.loss({.images = 10, .batch = 3}) == f.loss({.batch = 3}));
  const double four = f.loss({.images = 4}), five = f.loss({.images = 5});
  CHECK(four == f.loss({.images = 4}));
  // The fifth image adds its loss, which is not negative, to the sum.
  CHECK(5 * five >= 4 * four - 1e-6);
  CHECK_THROWS_AS(HeldOutLoss(f.folder, {.images = -1}), ValueError);
  CHECK_THROWS_AS(HeldOutLoss(f.folder, {.batch = 0}), ValueError);
}

TEST_CASE("it records no graph, and memory does not grow with the number of images") {
  const Fixture few(4), many(40);
  const auto peak = [](const Fixture& f) {
    Context ctx(1);
    Dit model(ctx, f.config, 0);
    HeldOutLoss(f.folder, {.batch = 4})(ctx, model);
    return ctx.allocator()->stats().peak;
  };
  CHECK(peak(many) == peak(few));
}

TEST_CASE("files that cannot be decoded are left out") {
  Fixture f;
  const ImageEntry& damaged = f.folder->entries()[3];
  const std::string path = f.folder->root() + "/" + damaged.path, whole = test::read_file(path);
  test::write_file(path, whole.substr(0, whole.size() / 2));
  Context ctx(1);
  Dit model(ctx, f.config, 0);
  HeldOutLoss loss(f.folder, {.batch = 3});
  const double first = loss(ctx, model).value();
  REQUIRE(loss.skipped().size() == 1);
  CHECK(loss.skipped()[0].path == damaged.path);
  CHECK(loss.size() == 9);
  CHECK(close(loss(ctx, model).value(), first));
  CHECK(loss.skipped().size() == 1);
  std::vector<ImageEntry> others = f.folder->entries();
  others.erase(others.begin() + 3);
  f.folder = std::make_shared<const ImageFolder>(f.folder->with_entries(others, f.folder->class_names()));
  CHECK(close(f.loss({.batch = 3}), first));

  for (const ImageEntry& entry : others) test::write_file(f.folder->root() + "/" + entry.path, "nothing");
  CHECK(contains(test::failure_of<IoError>([&] { HeldOutLoss(f.folder, {})(ctx, model); }),
                 "none of the images"));
}

TEST_CASE("should_stop ends it after a batch") {
  const Fixture f;
  Context ctx(1);
  Dit model(ctx, f.config, 0);
  std::vector<std::int64_t> progress;
  HeldOutLoss loss(f.folder, {.batch = 4});
  CHECK_FALSE(loss(ctx, model,
                   {.on_progress = [&](std::int64_t done, std::int64_t) { progress.push_back(done); },
                    .should_stop = [&] { return progress.size() == 2; }}));
  CHECK(progress == std::vector<std::int64_t>{4, 8});
}

TEST_SUITE_END();
