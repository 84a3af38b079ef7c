// Timing the algorithms of matrix products, and taking the choice to another context, process or run.
//
// In the emulator the library proposes ten algorithms that round differently, of which some must not be taken
// (tests/emu/cublaslt.cpp), and the tests say how long each takes.
#include "kernels/matmul.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "core/cuda/graph.h"
#include "kernels/matmul.h"
#include "kernels/random.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/data/shapes.h"
#include "nn/train.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

#ifdef SIMT_EMU
#include "tests/emu/emulator.h"
#endif

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

TEST_SUITE_BEGIN("kernels/cuda/tuning");

namespace {

Tensor normal(Context& ctx, const Shape& shape, DType dtype, std::uint64_t stream) {
  return random_normal(ctx, shape, dtype, 11, stream);
}

/// Whether two tensors of a context have the same bits.
bool same(Context& ctx, const Tensor& a, const Tensor& b) {
  return to_vector<float>(ctx, a) == to_vector<float>(ctx, b);
}

#ifdef SIMT_EMU
/// Emulated times for a scope; the order of the library's proposals.
class WithTimes {
 public:
  explicit WithTimes(const std::vector<double>& milliseconds) {
    emu::set_product_times(milliseconds);
    emu::products_since_last_asked();
  }
  ~WithTimes() { emu::set_product_times({}); }
  WithTimes(const WithTimes&) = delete;
  WithTimes& operator=(const WithTimes&) = delete;
};

// Number 6 is the fastest that may be taken: 2 adds in place, 3 does not run, 5 is proposed as unsupported, 8
// and 9 come after the first eight. So long that what the host really needs does not matter.
const std::vector<double> kSixth = {3e7, 2e7, 1e6, 1e6, 2.5e7, 1e6, 1e7, 4e7, 1e6, 1e6};
// The same with number 1.
const std::vector<double> kFirst = {3e7, 1e7, 1e6, 1e6, 2.5e7, 1e6, 2e7, 4e7, 1e6, 1e6};

using Used = std::vector<int>;
#endif

}  // namespace

TEST_CASE("products that are timed give the same values, and later ones the same bits") {
  if (!cuda_device()) return;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    CAPTURE(name_of(dtype));
    Contexts both;
    tune_products(both.gpu, true);
    const double limit = dtype == DType::f64 ? 1e-13 : dtype == DType::f32 ? 1e-5 : 1.6e-2;
    const Tensor x = normal(both.cpu, Shape{37, 40}, dtype, 1), w = normal(both.cpu, Shape{24, 40}, dtype, 2),
                 bias = normal(both.cpu, Shape{24}, dtype, 3), dy = normal(both.cpu, Shape{37, 24}, dtype, 4);
    const Tensor gx = both.to_gpu(x), gw = both.to_gpu(w), gb = both.to_gpu(bias), gdy = both.to_gpu(dy);
    const auto near = [&](const Tensor& got, const Tensor& expected) {
      CHECK(difference(both.cpu, both.to_cpu(got), expected) <= limit);
    };
    const LinearGelu layer = linear_gelu(both.cpu, x, w, bias), first = linear_gelu(both.gpu, gx, gw, gb);
    near(first.y, layer.y);
    near(first.pre, layer.pre);
    const LinearGrads grads = linear_backward(both.cpu, dy, x, w, true, true, true);
    const LinearGrads first_grads = linear_backward(both.gpu, gdy, gx, gw, true, true, true);
    near(first_grads.dx, grads.dx);
    near(first_grads.dw, grads.dw);
    near(first_grads.db, grads.db);
    const std::size_t kinds = product_choices(both.gpu).algorithms.size();
    CHECK(kinds >= 3);

    const std::uint64_t waited = both.gpu.synchronizations();
    const LinearGelu again = linear_gelu(both.gpu, gx, gw, gb);
    const LinearGrads again_grads = linear_backward(both.gpu, gdy, gx, gw, true, true, true);
    CHECK(both.gpu.synchronizations() == waited);
    CHECK(same(both.gpu, again.y, first.y));
    CHECK(same(both.gpu, again.pre, first.pre));
    CHECK(same(both.gpu, again_grads.dx, first_grads.dx));
    CHECK(same(both.gpu, again_grads.dw, first_grads.dw));
    CHECK(same(both.gpu, again_grads.db, first_grads.db));
    CHECK(product_choices(both.gpu).algorithms.size() == kinds);
  }
}

TEST_CASE("choices taken to another context give the same bits there, untimed") {
  if (!cuda_device()) return;
  Contexts one, other;
  tune_products(one.gpu, true);
  const Tensor x = normal(one.gpu, Shape{65, 300}, DType::f32, 1),
               y = normal(one.gpu, Shape{300, 70}, DType::f32, 2);
  const Tensor first = matmul(one.gpu, x, y);
  static_cast<void>(matmul(one.gpu, y, x, true, true));
  const ProductChoices choices = product_choices(one.gpu);
  CHECK(choices.algorithms.size() == 2);
  CHECK(contains(choices.machine, cuda::device_properties(0).name));
  CHECK(contains(choices.machine, "cuBLASLt"));

  CHECK(restore_product_choices(other.gpu, choices));
  tune_products(other.gpu, true);
  const std::uint64_t waited = other.gpu.synchronizations();
  const Tensor second = matmul(other.gpu, x, y);
  CHECK(other.gpu.synchronizations() == waited);
  CHECK(same(other.gpu, second, first));
  CHECK(product_choices(other.gpu).algorithms == choices.algorithms);
}

TEST_CASE("a kind that is first met in a capture is not timed, and stays as it was captured") {
  if (!cuda_device()) return;
  Contexts both;
  tune_products(both.gpu, true);
  const Tensor x = normal(both.gpu, Shape{33, 300}, DType::f32, 1),
               y = normal(both.gpu, Shape{300, 16}, DType::f32, 2);
#ifdef SIMT_EMU
  const WithTimes times(kSixth);
#endif
  const std::uint64_t waited = both.gpu.synchronizations();
  Tensor captured;
  cuda::Graph graph(both.gpu, [&] { captured = matmul(both.gpu, x, y); });
  CHECK(graph.size() >= 1);
  CHECK(both.gpu.synchronizations() == waited);
  CHECK(product_choices(both.gpu).algorithms.size() == 1);
  graph.launch();
  const Tensor eager = matmul(both.gpu, x, y);
#ifdef SIMT_EMU
  CHECK(emu::products_since_last_asked() == Used{0, 0});
#endif
  CHECK(same(both.gpu, captured, eager));
  CHECK(difference(both.cpu, both.to_cpu(captured), matmul(both.cpu, both.to_cpu(x), both.to_cpu(y))) <=
        1e-5);
}

#ifdef SIMT_EMU
TEST_CASE("a weight's gradient with the sums of its bias cuts a long sum where there are few tiles") {
  Contexts both;
  for (const std::int64_t tokens : {100, 4096}) {
    CAPTURE(tokens);
    const Tensor x = normal(both.gpu, Shape{tokens, 8}, DType::f32, 1),
                 w = normal(both.gpu, Shape{8, 8}, DType::f32, 2),
                 dy = normal(both.gpu, Shape{tokens, 8}, DType::f32, 3);
    emu::products_since_last_asked();
    const LinearGrads grads = linear_backward(both.gpu, dy, x, w, false, true, true);
    CHECK(emu::products_since_last_asked() == Used{tokens == 100 ? 0 : 1});
    const LinearGrads expected =
        linear_backward(both.cpu, both.to_cpu(dy), both.to_cpu(x), both.to_cpu(w), false, true, true);
    CHECK(difference(both.cpu, both.to_cpu(grads.dw), expected.dw) <= 1e-4);
    CHECK(difference(both.cpu, both.to_cpu(grads.db), expected.db) <= 1e-4);
  }
}
#endif

TEST_CASE("nothing is kept by a context that does not tune") {
  if (!cuda_device()) return;
  Contexts both;
  const Tensor x = normal(both.gpu, Shape{20, 20}, DType::f32, 1);
  static_cast<void>(matmul(both.gpu, x, x));
  CHECK(product_choices(both.gpu).algorithms.empty());
  tune_products(both.gpu, true);  // from now on: what has been computed stays as it is
  static_cast<void>(matmul(both.gpu, x, x));
  CHECK(product_choices(both.gpu).algorithms.empty());
}

TEST_CASE("another machine's choices are left alone") {
  if (!cuda_device()) return;
  Contexts one, other;
  tune_products(one.gpu, true);
  const Tensor x = normal(one.gpu, Shape{20, 20}, DType::f32, 1);
  static_cast<void>(matmul(one.gpu, x, x));
  ProductChoices choices = product_choices(one.gpu);
  choices.machine += '0';
  CHECK_FALSE(restore_product_choices(other.gpu, choices));
  CHECK(product_choices(other.gpu).algorithms.empty());
  CHECK_FALSE(restore_product_choices(other.cpu, choices));
}

TEST_CASE("a text that is no algorithm, or another kind's, is an error that names the kind") {
  if (!cuda_device()) return;
  Contexts one;
  tune_products(one.gpu, true);
  const Tensor x = normal(one.gpu, Shape{20, 24}, DType::f32, 1),
               y = normal(one.gpu, Shape{24, 33}, DType::f32, 2);
  static_cast<void>(matmul(one.gpu, x, y));
  const ProductChoices good = product_choices(one.gpu);
  REQUIRE(good.algorithms.size() == 1);
  const auto& [kind, algorithm] = *good.algorithms.begin();
  CHECK(contains(kind, "f32 [20,24] times [24,33], plain"));
  for (const std::string& wrong : {std::string(), algorithm.substr(1), algorithm + "0",
                                   "g" + algorithm.substr(1), " " + algorithm.substr(1)}) {
    CAPTURE(wrong);
    Contexts other;
    ProductChoices choices = good;
    choices.algorithms["another kind"] = wrong;
    const std::string message = failure_of<ValueError>([&] { restore_product_choices(other.gpu, choices); });
    CHECK(contains(message, "128 hexadecimal digits for \"another kind\""));
    CHECK(product_choices(other.gpu).algorithms.empty());
  }
}

TEST_CASE("the cpu has nothing to choose") {
  Context cpu(1);
  tune_products(cpu, true);
  const Tensor x = normal(cpu, Shape{20, 20}, DType::f32, 1);
  static_cast<void>(matmul(cpu, x, x));
  CHECK(product_choices(cpu).algorithms.empty());
  CHECK(restore_product_choices(cpu, product_choices(cpu)));
  CHECK_FALSE(restore_product_choices(cpu, {"another machine", {}}));
}

#ifdef SIMT_EMU
TEST_CASE("the fastest algorithm that may be taken is taken") {
  const WithTimes times(kSixth);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    CAPTURE(name_of(dtype));
    Contexts both;
    const Tensor x = normal(both.gpu, Shape{16, 24}, dtype, 1), y = normal(both.gpu, Shape{24, 8}, dtype, 2),
                 bias = normal(both.gpu, Shape{16}, dtype, 3);
    static_cast<void>(matmul(both.gpu, x, y));
    CHECK(emu::products_since_last_asked() == Used{0});  // untimed: the first proposal

    tune_products(both.gpu, true);
    static_cast<void>(matmul(both.gpu, y, x, true, true));
    const Used trials = emu::products_since_last_asked();
    CHECK(trials.back() == 6);
    for (const int allowed : {0, 1, 4, 6, 7}) CHECK(std::count(trials.begin(), trials.end(), allowed) > 1);
    for (const int trap : {2, 3, 5, 8, 9}) CHECK(std::count(trials.begin(), trials.end(), trap) == 0);

    static_cast<void>(linear_gelu(both.gpu, normal(both.gpu, Shape{5, 24}, dtype, 4), x, bias));
    CHECK(emu::products_since_last_asked().back() == 6);
    static_cast<void>(matmul(both.gpu, y, x, true, true));
    CHECK(emu::products_since_last_asked() == Used{6});
    static_cast<void>(matmul(both.gpu, x, y));  // met before the context tuned
    CHECK(emu::products_since_last_asked() == Used{0});
  }
}

TEST_CASE("a restored choice outlives other times, and what is new then is chosen and kept too") {
  Contexts one, other;
  const Tensor x = normal(one.gpu, Shape{16, 24}, DType::f32, 1),
               y = normal(one.gpu, Shape{24, 8}, DType::f32, 2);
  {
    const WithTimes times(kSixth);
    tune_products(one.gpu, true);
    static_cast<void>(matmul(one.gpu, x, y));
  }
  const WithTimes times(kFirst);
  CHECK(restore_product_choices(other.gpu, product_choices(one.gpu)));
  const Tensor restored = matmul(other.gpu, x, y);
  CHECK(emu::products_since_last_asked() == Used{6});
  static_cast<void>(matmul(other.gpu, y, x, true, true));
  CHECK(emu::products_since_last_asked() == Used{0});  // it does not tune
  CHECK(product_choices(other.gpu).algorithms.size() == 2);

  Contexts third;  // the algorithms do round differently
  tune_products(third.gpu, true);
  CHECK_FALSE(same(one.gpu, matmul(third.gpu, x, y), restored));
  CHECK(emu::products_since_last_asked().back() == 1);
  static_cast<void>(restore_product_choices(third.gpu, product_choices(other.gpu)));
  static_cast<void>(matmul(third.gpu, x, y));
  CHECK(emu::products_since_last_asked() == Used{1});  // what is in use stays
  static_cast<void>(matmul(third.gpu, y, x, true, true));
  CHECK(emu::products_since_last_asked() == Used{0});  // and is not timed again either
}

TEST_CASE("a stored algorithm is checked against the product before it runs") {
  Contexts one;
  tune_products(one.gpu, true);
  const Tensor x = normal(one.gpu, Shape{20, 24}, DType::f32, 1),
               y = normal(one.gpu, Shape{24, 33}, DType::f32, 2);
  static_cast<void>(matmul(one.gpu, x, y));
  const ProductChoices good = product_choices(one.gpu);
  const std::string algorithm = good.algorithms.begin()->second;
  // The emulated library keeps scheme and number in the last word: 2 adds in place, 63 is none.
  const std::string start = algorithm.substr(0, 112);
  const struct {
    const char* end;
    const char* reason;
  } cases[] = {{"0000000100000002", "no fixed order"}, {"000000020000003f", "an unsupported value"}};
  for (const auto& wrong : cases) {
    CAPTURE(wrong.end);
    Contexts other;
    ProductChoices choices = good;
    choices.algorithms.begin()->second = start + wrong.end;
    CHECK(restore_product_choices(other.gpu, choices));
    emu::products_since_last_asked();
    for (int attempt = 0; attempt < 2; ++attempt) {
      const std::string message = failure_of<CudaError>([&] { static_cast<void>(matmul(other.gpu, x, y)); });
      CHECK(contains(message, "f32 [20,24] times [24,33]"));
      CHECK(contains(message, wrong.reason));
      CHECK(contains(message, "go on without the stored choices"));
    }
    CHECK(emu::products_since_last_asked().empty());
  }
}
#endif

// ---- whole runs ---------------------------------------------------------------------------------------

namespace {

namespace fs = std::filesystem;

nn::TrainOptions tiny_options(const std::string& folder) {
  nn::ShapesOptions shapes;
  shapes.out = folder;
  shapes.count = 6;
  shapes.size = 8;
  if (!fs::exists(folder)) write_shapes(shapes);
  nn::TrainOptions options;
  options.data = folder;
  options.model.height = options.model.width = 8;
  options.model.heads = 2;
  options.model.head_dim = 8;
  options.model.layers = 1;
  options.model.attention = nn::AttentionKind::llsa;
  options.model.llsa.block = 4;
  options.model.llsa.topk = {2};
  options.steps = 4;
  options.batch = 2;
  options.lr = 1e-2;
  options.sample_every = 0;
  options.save_every = 0;
  options.threads = 1;
  options.device = "cuda";
  options.tune = true;
  return options;
}

/// A sound file of a machine that is none.
constexpr const char* kForeign =
    R"({"machine": "another machine", "products": {}, "check": "3a6ef514e9755411"})";

struct Told {
  nn::TrainResult result;
  std::string messages;
};

/// Trains until `steps` steps are done in this call, or to the end.
Told run(const nn::TrainOptions& options, const std::string& out, bool resume = false, int steps = 1000) {
  Told told;
  nn::TrainCallbacks callbacks;
  callbacks.on_message = [&](const std::string& text) { told.messages += text + "\n"; };
  callbacks.should_stop = [left = steps]() mutable { return left-- <= 0; };
  told.result = nn::train(options, out, resume, callbacks);
  return told;
}

std::string weights_of(const Told& told) {
  return read_file(nn::diffusers_weights_path(told.result.checkpoint)) +
         read_file(told.result.checkpoint + "/training_state/state.safetensors");
}

}  // namespace

TEST_CASE("a resumed run keeps its algorithms, and thereby its bits") {
  if (!cuda_device()) return;
  const TempDir dir;
  nn::TrainOptions options = tiny_options(dir / "data");
  options.save_every = 2;
  const std::string expected = [&] {
#ifdef SIMT_EMU
    const WithTimes times(kSixth);
#endif
    return weights_of(run(options, dir / "run"));
  }();
  const std::string choices = read_file(dir / "run/tuning.json");
  CHECK(contains(choices, cuda::device_properties(0).name));
  fs::remove_all(dir / "run/checkpoints/step_000000004");

#ifdef SIMT_EMU
  const WithTimes times(kFirst);
#endif
  for (const bool tune : {true, false}) {
    CAPTURE(tune);
    fs::remove_all(dir / "again");
    fs::copy(dir / "run", dir / "again", fs::copy_options::recursive);
    options.tune = options.graph = tune;
    const Told resumed = run(options, dir / "again", true);
    CHECK(contains(resumed.messages, "resumed at step 2"));
    CHECK(weights_of(resumed) == expected);
    CHECK(read_file(dir / "again/tuning.json") == choices);
#ifdef SIMT_EMU
    const Used used = emu::products_since_last_asked();
    CHECK(std::count(used.begin(), used.end(), 6) == std::ssize(used));
#endif
  }
#ifdef SIMT_EMU
  fs::remove(dir / "run/tuning.json");  // without it the run does go another way
  CHECK(weights_of(run(options, dir / "run", true)) != expected);
  CHECK_FALSE(fs::exists(dir / "run/tuning.json"));
#endif
}

TEST_CASE("a run with another machine's choices says so and makes its own") {
  if (!cuda_device()) return;
  const TempDir dir;
  nn::TrainOptions options = tiny_options(dir / "data");
  options.steps = 1;
  static_cast<void>(run(options, dir / "run"));
  write_file(dir / "run/tuning.json", kForeign);
  options.steps = 2;
  const Told resumed = run(options, dir / "run", true);
  CHECK(contains(resumed.messages, dir / "run/tuning.json"));
  CHECK(contains(resumed.messages, "another machine"));
  CHECK(contains(resumed.messages, cuda::device_properties(0).name));
  CHECK(resumed.result.step == 2);
  CHECK(contains(read_file(dir / "run/tuning.json"), cuda::device_properties(0).name));
}

TEST_CASE("a run stops before its first step where a stored algorithm is damaged") {
  if (!cuda_device()) return;
  const TempDir dir;
  nn::TrainOptions options = tiny_options(dir / "data");
  options.steps = 1;
  static_cast<void>(run(options, dir / "run"));
  std::string text = read_file(dir / "run/tuning.json");
  const std::size_t end = text.find("\",", text.find("plain"));  // of the first algorithm
  REQUIRE(end != std::string::npos);
  text[end - 1] = text[end - 1] == '0' ? '1' : '0';
  write_file(dir / "run/tuning.json", text);
  options.steps = 2;
  const std::string message = failure_of<ValueError>([&] { run(options, dir / "run", true); });
  CHECK(contains(message, dir / "run/tuning.json"));
  CHECK(contains(message, "damaged"));
  CHECK(contains(message, "remove it"));
  fs::remove(dir / "run/tuning.json");
  CHECK(run(options, dir / "run", true).result.step == 2);
}

TEST_SUITE_END();
