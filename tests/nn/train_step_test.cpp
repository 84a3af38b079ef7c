// The training step and the training state with a model that is no Dit.
#include "nn/train_step.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "autograd/loss.h"
#include "autograd/matmul.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"
#include "nn/checkpoint/training_state.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

namespace {

using namespace llsa;
using namespace llsa::nn;
using llsa::test::contains;

// y = x w^T on random x, with all that trains it.
struct Regression {
  Context ctx{2};
  Parameters parameters{ctx, 1};
  Var w = parameters.declare("w", {1, 3}, Init::normal(1.0));
  AdamW adam{parameters};
  Ema average{parameters};
  Tensor goal = kernels::from_vector(ctx, std::vector<float>{0.5f, -1.0f, 2.0f}, {1, 3});
  Var x, y;
  std::uint64_t taken = 0;
  TrainStep step;

  explicit Regression(std::int64_t accumulate = 1)
      : step(parameters, adam, &average, {[this] { next(); }, [this] { return loss(); }}, {accumulate}) {}
  void next() {
    const NoGrad no_grad;
    x = Var(ctx, kernels::random_normal(ctx, {16, 3}, DType::f32, 5, taken++));
    y = linear(x, Var(ctx, goal));
  }
  Var loss() const { return mse(linear(x, w), y); }
  void run(int steps) {
    for (int i = 0; i < steps; ++i) step.run(3e-2);
  }
  TrainingState state() { return {parameters, adam, &average}; }
  std::vector<float> weights() { return kernels::to_vector<float>(ctx, parameters.flat()); }
  std::vector<float> averages() { return kernels::to_vector<float>(ctx, average.flat()); }
};

std::string failure_of(FunctionRef<void()> work, std::string* hint = nullptr) {
  try {
    work();
  } catch (const Error& error) {
    if (hint) *hint = error.hint();
    return error.what();
  }
  return "";
}

}  // namespace

TEST_SUITE_BEGIN("nn/train_step");

TEST_CASE("a step is next, loss, backward, update, gradients to zero, for any loss") {
  Regression stepped, by_hand;
  for (int i = 0; i < 5; ++i) {
    stepped.step.run(3e-2);
    by_hand.next();
    const Var loss = by_hand.loss();
    backward(loss);
    by_hand.adam.step(3e-2, &by_hand.average);
    by_hand.parameters.zero_grad();
    CHECK(stepped.ctx.item(stepped.step.loss()) == by_hand.ctx.item(loss.value()));
    CHECK(stepped.weights() == by_hand.weights());
    CHECK(stepped.averages() == by_hand.averages());
  }
  CHECK_FALSE(stepped.step.captured());
  stepped.run(300);
  CHECK(stepped.ctx.item(stepped.step.loss()) < 1e-2);
}

TEST_CASE("losses and gradients of micro-batches are averaged") {
  Regression three(3), by_hand;
  three.run(1);
  CHECK(three.taken == 3);
  double mean = 0;
  for (int i = 0; i < 3; ++i) {
    by_hand.next();
    mean += by_hand.ctx.item(by_hand.loss().value()) / 3;
  }
  CHECK(three.ctx.item(three.step.loss()) == doctest::Approx(mean));
}

TEST_CASE("gradients alone do not move the weights, and show where a value is not finite") {
  Regression model;
  const auto before = model.weights();
  model.step.compute_gradients();
  CHECK(model.weights() == before);
  CHECK(model.ctx.item(kernels::sum_squares(model.ctx, model.parameters.flat_grad())) > 0);
  kernels::fill(model.ctx, model.goal, std::numeric_limits<double>::infinity());
  const FindNonFinite finder;
  CHECK(contains(failure_of([&] { model.step.compute_gradients(); }), "linear"));
}

TEST_CASE("a loss that is missing, no micro-batches, and graphs on the CPU are refused") {
  Regression model;
  const auto make = [&](Objective objective, const TrainStepOptions& options) {
    return failure_of(
        [&] { TrainStep(model.parameters, model.adam, nullptr, std::move(objective), options); });
  };
  const Objective good{{}, [&] { return model.loss(); }};
  CHECK(make(good, {}) == "");
  CHECK(contains(make({}, {}), "no loss"));
  CHECK(contains(make(good, {0}), "at least 1 micro-batch"));
  CHECK(contains(make(good, {1, true}), "CUDA device"));
}

TEST_CASE("training that was saved and resumed equals training without a break, bit for bit") {
  const test::TempDir dir;
  Regression whole;
  whole.run(9);
  {
    Regression first;
    RunFolder run(dir / "run");
    CHECK(resume_latest(run, first.state()) == 0);
    first.run(4);
    const std::string saved = save_checkpoint(run, first.state(), 4);
    REQUIRE(run.latest());
    CHECK(run.latest()->path == saved);
  }
  Regression second;
  RunFolder run(dir / "run");
  CHECK(resume_latest(run, second.state()) == 4);
  second.taken = 4;
  second.run(5);
  CHECK(second.weights() == whole.weights());
  CHECK(second.averages() == whole.averages());
}

TEST_CASE("a training state holds what any optimiser keeps") {
  const test::TempDir dir;
  Regression model;
  for (const double momentum : {0.0, 0.9}) {
    CAPTURE(momentum);
    Sgd whole(model.parameters, {.momentum = momentum});
    const Tensor start = kernels::clone(model.ctx, model.parameters.flat());
    const auto train = [&](Sgd& sgd, std::uint64_t begin, std::uint64_t end) {
      for (model.taken = begin; model.taken < end;) {
        model.next();
        backward(model.loss());
        sgd.step(1e-2);
      }
    };
    train(whole, 0, 5);
    const auto expected = model.weights();
    model.parameters.load(start);
    const std::string path = dir / cat("state", momentum);
    std::filesystem::create_directory(path);
    Sgd first(model.parameters, {.momentum = momentum}), second(model.parameters, {.momentum = momentum});
    train(first, 0, 3);
    write_training_state(path, {model.parameters, first}, 3);
    model.parameters.load(start);
    CHECK(restore_training_state(path, {model.parameters, second}) == 3);
    train(second, 3, 5);
    CHECK(model.weights() == expected);
    CHECK(second.calls() == 5);
    CHECK(contains(failure_of([&] {
                     restore_training_state(path, {model.parameters, model.adam});
                   }),
                   "missing w"));
  }
}

TEST_CASE("the format of a training state has a version") {
  const test::TempDir dir;
  Regression model;
  model.run(2);
  std::filesystem::create_directory(dir / "state");
  write_training_state(dir / "state", model.state(), 2);
  const std::string path = training_state_folder(dir / "state") + "/state.json";
  const std::string text = test::read_file(path), field = "\"format_version\": 2,";
  REQUIRE(contains(text, field));
  const auto with = [&](const std::string& version) {
    std::string changed = text;
    test::write_file(path, changed.replace(text.find(field), field.size(), version));
  };
  const auto read = [&](std::string* hint = nullptr) {
    return failure_of([&] { restore_training_state(dir / "state", Regression().state()); }, hint);
  };
  CHECK(read() == "");
  with("");  // version 1
  CHECK(read() == "");
  CHECK(read_training_step(dir / "state") == 2);
  std::string hint;
  with("\"format_version\": 3,");
  CHECK(contains(read(&hint), path + " has format version 3, this version of llsa reads up to 2"));
  CHECK(contains(hint, "the version of llsa that wrote it"));
  with("\"format_version\": 0,");
  CHECK(contains(read(), "format_version"));
}

TEST_CASE("an average that was not saved is missing by name; whoever keeps it elsewhere does without") {
  const test::TempDir dir;
  Regression model;
  model.run(2);
  std::filesystem::create_directory(dir / "state");
  TrainingState without = model.state();
  without.ema = nullptr;
  write_training_state(dir / "state", without, 2);
  Regression other;
  TrainingState state = other.state();
  CHECK(contains(failure_of([&] { restore_training_state(dir / "state", state); }), "missing w"));
  const auto before = other.averages();
  state.ema = nullptr;
  CHECK(restore_training_state(dir / "state", state) == 2);
  CHECK(other.weights() == model.weights());
  CHECK(other.averages() == before);
}

TEST_SUITE_END();
