#include "nn/parameter_file.h"

#include <doctest/doctest.h>

#include <limits>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/safetensors.h"
#include "kernels/copy.h"
#include "nn/modules.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"
#include "tests/support/text.h"

namespace llsa::nn {

namespace {

struct Net {
  Parameters params;
  Linear up, down;

  explicit Net(Context& ctx, std::uint64_t seed, DType dtype = DType::f32)
      : params(ctx, seed, dtype), up(params, "up", 3, 5), down(params, "down", 5, 2) {}
};

std::string failure(Parameters& params, const std::string& path) {
  try {
    load(params, path);
  } catch (const IoError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_SUITE_BEGIN("nn/parameter_file");

TEST_CASE("parameters read back bit for bit, in every dtype and before any optimiser") {
  const test::TempDir dir;
  Context ctx(1);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    CAPTURE(name_of(dtype));
    Net net(ctx, 1, dtype), other(ctx, 2, dtype);
    save(net.params, dir / "net.safetensors");
    CHECK_FALSE(test::same_bits(ctx, net.params.flat(), other.params.flat()));
    load(other.params, dir / "net.safetensors");
    CHECK(test::same_bits(ctx, net.params.flat(), other.params.flat()));
    CHECK(test::same_bits(ctx, net.up.weight().value(), other.up.weight().value()));
  }
  Net wide(ctx, 1, DType::f64), narrow(ctx, 2, DType::f32), same(ctx, 1, DType::f32);
  save(wide.params, dir / "wide.safetensors");
  load(narrow.params, dir / "wide.safetensors");
  CHECK(test::relative_error(ctx, narrow.params.flat(), same.params.flat()) <= 1e-6);
}

TEST_CASE("one message names all that does not fit, and nothing is loaded") {
  const test::TempDir dir;
  const std::string path = dir / "net.safetensors";
  Context ctx(1);
  Net net(ctx, 1), from(ctx, 2);
  const Tensor before = kernels::clone(ctx, net.params.flat());
  const auto tensor = [&](const char* name) { return from.params.at(name).value(); };
  std::vector<std::pair<std::string, Tensor>> tensors = {{"up.weight", tensor("up.weight")},
                                                         {"up.bias", tensor("up.bias")},
                                                         {"down.weight", tensor("down.weight")}};

  SUBCASE("names and shapes") {
    tensors.emplace_back("left.bias", tensor("down.bias"));
    tensors[1].second = tensor("down.bias");
    write_safetensors(path, tensors);
    const std::string text = failure(net.params, path);
    CHECK(test::contains(text, path));
    CHECK(test::contains(text, "missing down.bias"));
    CHECK(test::contains(text, "unknown left.bias"));
    CHECK(test::contains(text, "wrong shape up.bias (file [2], model [5])"));
  }
  SUBCASE("a value in the last tensor") {
    const Tensor bad = kernels::clone(ctx, tensor("down.bias"));
    kernels::fill(ctx, bad, std::numeric_limits<double>::infinity());
    tensors.emplace_back("down.bias", bad);
    write_safetensors(path, tensors);
    CHECK(test::contains(failure(net.params, path), "down.bias has a value that is not finite"));
  }
  SUBCASE("integers") {
    tensors.emplace_back("down.bias", ctx.zeros(Shape{2}, DType::i32));
    write_safetensors(path, tensors);
    CHECK(test::contains(failure(net.params, path), "down.bias has dtype i32"));
  }
  SUBCASE("no file") { CHECK(test::contains(failure(net.params, path), path)); }
  CHECK(test::same_bits(ctx, net.params.flat(), before));
}

TEST_CASE("a folder that is not there is an error, and no file appears") {
  const test::TempDir dir;
  Context ctx(1);
  const Net net(ctx, 1);
  CHECK_THROWS_AS(save(net.params, dir / "no/net.safetensors"), IoError);
}

TEST_SUITE_END();

}  // namespace llsa::nn
