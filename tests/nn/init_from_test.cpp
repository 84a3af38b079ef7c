// Fine-tuning: which rows of the class table a new model takes over.
#include "nn/checkpoint/init_from.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/safetensors.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/make.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/class_names.h"
#include "nn/dit.h"
#include "nn/image_model.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"
#include "tests/support/text.h"

namespace llsa::nn {
namespace {

using llsa::test::contains;
namespace fs = std::filesystem;

using Names = std::vector<std::string>;

DitConfig config_with(int classes) {
  DitConfig config;
  config.height = config.width = 8;
  config.head_dim = 8;
  config.layers = 2;
  config.classes = classes;
  config.attention = AttentionKind::full;
  return config;
}

std::vector<Parameter> tables_of(const ImageModel& model) {
  std::vector<Parameter> tables;
  for (const Parameter& parameter : model.parameters().all())
    if (parameter.name.ends_with(kClassTable)) tables.push_back(parameter);
  return tables;
}

/// A checkpoint whose class r has the value r + 1 in all of its row; the row for "no class" comes last.
void write_source(Context& ctx, const std::string& path, int classes, const Names& names,
                  ModelKind kind = ModelKind::dit) {
  const auto model = make_model(ctx, kind, config_with(classes), 5);
  for (const Parameter& table : tables_of(*model))
    for (std::int64_t r = 0; r <= classes; ++r)
      kernels::fill(ctx, model->parameters().view(model->parameters().flat(), table).slice(0, r, r + 1),
                    static_cast<double>(r + 1));
  fs::create_directory(path);
  write_diffusers_model(path, *model, model->parameters().flat(), 1.0, names);
}

/// What row i of every table holds: r + 1 for row r of the source, 0 where it is still as it was made.
std::vector<float> rows_of(Context& ctx, const ImageModel& model, const ImageModel& fresh) {
  std::vector<float> rows;
  for (const Parameter& table : tables_of(model)) {
    const Tensor now = model.parameters().view(model.parameters().flat(), table);
    const Tensor was = fresh.parameters().view(fresh.parameters().flat(), table);
    for (std::int64_t i = 0; i < table.shape[0]; ++i)
      rows.push_back(test::same_bits(ctx, now.slice(0, i, i + 1), was.slice(0, i, i + 1))
                         ? 0.0f
                         : kernels::to_vector<float>(ctx, now)[static_cast<std::size_t>(i * table.shape[1])]);
  }
  return rows;
}

struct Started {
  std::vector<float> rows;
  std::string notes;
};

/// Starts a model with classes of these names from the source.
Started start(Context& ctx, const std::string& source, int classes, const Names& names,
              ModelKind kind = ModelKind::dit) {
  const auto model = make_model(ctx, kind, config_with(classes), 6),
             fresh = make_model(ctx, kind, config_with(classes), 6);
  Started started;
  for (const std::string& note : init_from_diffusers_model(*model, source, names))
    started.notes += note + "\n";
  started.rows = rows_of(ctx, *model, *fresh);
  return started;
}

TEST_SUITE_BEGIN("nn/init_from");

TEST_CASE("rows of the class table are matched by name, new ones start fresh, and it is said") {
  Context ctx(1);
  const test::TempDir dir;
  const std::string source = dir / "source";
  write_source(ctx, source, 3, {"a", "b", "c"});
  const struct {
    Names names;
    std::vector<float> rows;  // of one block; both have the same
    const char* says;
  } cases[] = {
      {{"a", "b", "c"}, {1, 2, 3, 4}, ""},
      {{"c", "a", "b"}, {3, 1, 2, 4}, "class table: rows are taken by name for c, a, b\n"},
      {{"b", "x"},
       {2, 0, 4},
       "class table: rows are taken by name for b; new and fresh: x; not used of the checkpoint: a, c\n"},
      {{"a", "b", "bb", "c", "d"},
       {1, 2, 0, 3, 0, 4},
       "class table: rows are taken by name for a, b, c; new and fresh: bb, d\n"},
      {{"x", "y", "z"},
       {0, 0, 0, 4},
       "class table: no row is taken; new and fresh: x, y, z; not used of the checkpoint: a, b, c\n"},
      {{},
       {1, 2, 3, 4},
       "class table: the 3 rows are taken by position, because the classes of this model have no names\n"},
  };
  for (const auto& wanted : cases) {
    const int classes = static_cast<int>(wanted.rows.size()) - 1;
    const Started started = start(ctx, source, classes, wanted.names);
    CHECK(started.notes == wanted.says);
    std::vector<float> twice = wanted.rows;
    twice.insert(twice.end(), wanted.rows.begin(), wanted.rows.end());
    CHECK(started.rows == twice);
  }
}

TEST_CASE("a checkpoint that does not name its classes gives its rows by position, if there are as many") {
  Context ctx(1);
  const test::TempDir dir;
  const std::string source = dir / "source";
  write_source(ctx, source, 3, {}, ModelKind::pixelflow);
  const Started same = start(ctx, source, 3, {"a", "b", "c"}, ModelKind::pixelflow);
  CHECK(same.rows == std::vector<float>{1, 2, 3, 4});
  CHECK(same.notes ==
        "class table: the 3 rows are taken by position, because the checkpoint does not name its classes\n");
  const Started fewer = start(ctx, source, 2, {"a", "b"}, ModelKind::pixelflow);
  CHECK(fewer.rows == std::vector<float>{0, 0, 4});
  CHECK(fewer.notes ==
        "class table: all rows but the one for no class start fresh, because the checkpoint does not "
        "name its classes, and it has 3, not 2\n");
}

TEST_CASE("a model without classes starts as the checkpoint draws without one, and the other way round") {
  Context ctx(1);
  const test::TempDir dir;
  for (const ModelKind kind : {ModelKind::dit, ModelKind::pixelflow}) {
    CAPTURE(name_of(kind));
    const std::string with = dir / ("with-" + name_of(kind)), without = dir / ("without-" + name_of(kind));
    write_source(ctx, with, 3, {"a", "b", "c"}, kind);
    const auto source = load_diffusers_model(ctx, with);
    for (const Parameter& parameter : source->parameters().all())  // no layer is left at zero
      if (!parameter.name.ends_with(kClassTable))
        kernels::fill(ctx, source->parameters().view(source->parameters().flat(), parameter),
                      0.01 * static_cast<double>(parameter.name.size()));
    fs::remove_all(with);
    fs::create_directory(with);
    write_diffusers_model(with, *source, source->parameters().flat(), 1.0, {"a", "b", "c"});
    const auto model = make_model(ctx, kind, config_with(0), 6);
    const auto notes = init_from_diffusers_model(*model, with, {});
    REQUIRE(notes.size() == 1);
    CHECK(contains(notes[0], "starts as the checkpoint without a class"));

    const Denoiser conditional = *source, plain = *model;
    const Tensor x = kernels::from_vector(ctx, std::vector<float>(192, 0.25f), Shape{1, 3, 8, 8});
    const Tensor t = kernels::from_vector(ctx, std::vector<float>{500}, Shape{1});
    const Tensor none = kernels::from_vector(ctx, std::vector<std::int32_t>{3}, Shape{1});
    const auto expected = kernels::to_vector<float>(ctx, conditional(Var(ctx, x), t, none).value());
    const auto got = kernels::to_vector<float>(ctx, plain(Var(ctx, x), t, {}).value());
    const auto other = kernels::to_vector<float>(
        ctx, conditional(Var(ctx, x), t, kernels::from_vector(ctx, std::vector<std::int32_t>{0}, Shape{1}))
                 .value());
    double difference = 0, effect = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double d = std::abs(static_cast<double>(got[i] - expected[i]));
      REQUIRE(std::isfinite(d));
      difference = std::max(difference, d);
      effect = std::max(effect, std::abs(static_cast<double>(got[i] - other[i])));
    }
    CHECK(difference < 1e-4 * effect);

    fs::create_directory(without);
    write_diffusers_model(without, *model, model->parameters().flat(), 1.0, {});
    const Started classes = start(ctx, without, 2, {"a", "b"}, kind);
    CHECK(classes.notes == "the checkpoint has no classes: the class table starts fresh\n");
    for (const float row : classes.rows) CHECK(row == 0.0f);
  }
}

TEST_CASE("names that do not fit the table are refused") {
  Context ctx(1);
  const test::TempDir dir;
  write_source(ctx, dir / "source", 3, {"a", "b", "c"});
  test::write_file(dir / "source/classes.json", R"({"names": ["a"]})");
  CHECK(contains(test::failure_of<ValueError>([&] {
                   start(ctx, dir / "source", 2, {"a", "b"});
                 }),
                 "names 1 classes, the model has 3"));
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
