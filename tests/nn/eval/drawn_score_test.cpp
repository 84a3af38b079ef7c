// The score within training equals that of the same images, drawn and scored by hand.
#include "nn/eval/drawn_score.h"

#include <doctest/doctest.h>

#include <memory>
#include <vector>

#include "core/error.h"
#include "kernels/make.h"
#include "nn/data/shapes.h"
#include "nn/eval/frechet.h"
#include "tests/support/files.h"

namespace {

using namespace llsa;
using namespace llsa::nn;

struct Fixture {
  test::TempDir dir;
  std::shared_ptr<const ImageFolder> folder;
  Context ctx{2};
  std::unique_ptr<ImageModel> model;
  DrawnScoreOptions options;

  Fixture() {
    ShapesOptions shapes;
    shapes.out = dir / "shapes";
    shapes.count = 20;
    shapes.size = 8;
    write_shapes(shapes);
    folder = std::make_shared<const ImageFolder>(shapes.out);
    DitConfig config;
    config.height = config.width = 8;
    config.head_dim = 8;
    config.layers = 1;
    config.classes = 4;
    config.init = InitKind::published;
    model = make_model(ctx, ModelKind::dit, config.resolved(), 0);
    options.sampling.count = 7;
    options.sampling.batch = 3;
    options.sampling.steps = 2;
  }
};

}  // namespace

TEST_SUITE_BEGIN("nn/eval/drawn_score");

TEST_CASE("it is the distance of all drawn images, whatever the batch, and its ratio to real images") {
  Fixture f;
  std::vector<std::int64_t> progress;
  DrawnScorer scorer(f.ctx, f.folder, 8, 8, f.options);
  const DrawnScore score = scorer(*f.model, {.on_progress = [&](std::int64_t done, std::int64_t) {
                             progress.push_back(done);
                           }}).value();
  CHECK(progress == std::vector<std::int64_t>{3, 6, 7});
  SampleOptions all = f.options.sampling;
  all.batch = 7;
  const FrechetReference reference(f.ctx, *f.folder, 8, 8, 7);
  const double expected = reference.score(f.ctx, f.model->draw(all));
  CHECK(std::abs(score.value - expected) <= 1e-4 * expected);
  CHECK(score.over_real.value() == score.value / reference.real_score());
  CHECK(scorer(*f.model)->value == score.value);
  CHECK_FALSE(scorer.is_fid());
}

TEST_CASE("should_stop ends it, and too few real images are an error") {
  Fixture f;
  DrawnScorer scorer(f.ctx, f.folder, 8, 8, f.options);
  int asked = 0;
  CHECK_FALSE(scorer(*f.model, {.should_stop = [&] { return ++asked == 3; }}));
  CHECK(asked == 3);
  f.options.sampling.count = 11;
  CHECK_THROWS_AS(DrawnScorer(f.ctx, f.folder, 8, 8, f.options), ValueError);
}

TEST_SUITE_END();
