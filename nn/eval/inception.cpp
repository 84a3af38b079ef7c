// The network as a table of its convolutions and the order in which they meet. Pools are made of slices: the largest of
// three neighbours, or their sum, along one axis and then along the other.
#include "nn/eval/inception.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "core/safetensors.h"
#include "kernels/conv.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/make.h"
#include "kernels/matmul.h"
#include "kernels/reduce.h"

namespace llsa::nn {
namespace {

constexpr std::int64_t kSide = 299;
constexpr double kBatchNormEps = 1e-3;

struct Spec {
  std::string name;
  std::int64_t in, out;
  std::array<std::int64_t, 2> kernel;
  std::int64_t stride;
  std::array<std::int64_t, 2> padding;
};

/// All 94 convolutions.
std::vector<Spec> network() {
  std::vector<Spec> all;
  std::string block;
  using Pair = std::array<std::int64_t, 2>;
  const auto add = [&](const char* name, std::int64_t in, std::int64_t out, Pair kernel,
                       std::int64_t stride = 1, Pair padding = {0, 0}) {
    all.push_back({block + name, in, out, kernel, stride, padding});
  };
  const Pair one = {1, 1}, three = {3, 3}, row = {1, 7}, column = {7, 1}, by_row = {0, 3}, by_column = {3, 0};
  add("Conv2d_1a_3x3", 3, 32, three, 2);
  add("Conv2d_2a_3x3", 32, 32, three);
  add("Conv2d_2b_3x3", 32, 64, three, 1, {1, 1});
  add("Conv2d_3b_1x1", 64, 80, one);
  add("Conv2d_4a_3x3", 80, 192, three);
  std::int64_t in = 192;
  for (const char* name : {"5b", "5c", "5d"}) {
    block = cat("Mixed_", name, ".");
    const std::int64_t pool = in == 192 ? 32 : 64;
    add("branch1x1", in, 64, one);
    add("branch5x5_1", in, 48, one);
    add("branch5x5_2", 48, 64, {5, 5}, 1, {2, 2});
    add("branch3x3dbl_1", in, 64, one);
    add("branch3x3dbl_2", 64, 96, three, 1, {1, 1});
    add("branch3x3dbl_3", 96, 96, three, 1, {1, 1});
    add("branch_pool", in, pool, one);
    in = 64 + 64 + 96 + pool;
  }
  block = "Mixed_6a.";
  add("branch3x3", 288, 384, three, 2);
  add("branch3x3dbl_1", 288, 64, one);
  add("branch3x3dbl_2", 64, 96, three, 1, {1, 1});
  add("branch3x3dbl_3", 96, 96, three, 2);
  for (const auto& [name, c] : std::vector<std::pair<const char*, std::int64_t>>{
           {"6b", 128}, {"6c", 160}, {"6d", 160}, {"6e", 192}}) {
    block = cat("Mixed_", name, ".");
    add("branch1x1", 768, 192, one);
    add("branch7x7_1", 768, c, one);
    add("branch7x7_2", c, c, row, 1, by_row);
    add("branch7x7_3", c, 192, column, 1, by_column);
    add("branch7x7dbl_1", 768, c, one);
    add("branch7x7dbl_2", c, c, column, 1, by_column);
    add("branch7x7dbl_3", c, c, row, 1, by_row);
    add("branch7x7dbl_4", c, c, column, 1, by_column);
    add("branch7x7dbl_5", c, 192, row, 1, by_row);
    add("branch_pool", 768, 192, one);
  }
  block = "Mixed_7a.";
  add("branch3x3_1", 768, 192, one);
  add("branch3x3_2", 192, 320, three, 2);
  add("branch7x7x3_1", 768, 192, one);
  add("branch7x7x3_2", 192, 192, row, 1, by_row);
  add("branch7x7x3_3", 192, 192, column, 1, by_column);
  add("branch7x7x3_4", 192, 192, three, 2);
  in = 1280;
  for (const char* name : {"7b", "7c"}) {
    block = cat("Mixed_", name, ".");
    add("branch1x1", in, 320, one);
    add("branch3x3_1", in, 384, one);
    add("branch3x3_2a", 384, 384, {1, 3}, 1, {0, 1});
    add("branch3x3_2b", 384, 384, {3, 1}, 1, {1, 0});
    add("branch3x3dbl_1", in, 448, one);
    add("branch3x3dbl_2", 448, 384, three, 1, {1, 1});
    add("branch3x3dbl_3a", 384, 384, {1, 3}, 1, {0, 1});
    add("branch3x3dbl_3b", 384, 384, {3, 1}, 1, {1, 0});
    add("branch_pool", in, 192, one);
    in = 2048;
  }
  return all;
}

/// A tensor of the file, of the expected shape, in f64.
std::vector<double> read(Context& host, const SafetensorsFile& file, const std::string& path,
                         const std::string& name, const Shape& shape) {
  const Tensor& x = file.at(name);
  if (!(x.shape() == shape) || !is_floating(x.dtype()))
    throw IoError(
        cat(path, ": expected ", name, " of shape ", shape, " and a floating dtype, got ", x.shape(), " ",
            name_of(x.dtype())),
        "expected the Inception-v3 of 2015-12-05 with 1008 classes; that of torchvision is another network");
  auto values = kernels::to_vector<double>(host, x);
  if (!std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); }))
    throw IoError(cat(path, ": ", name, " has a value that is not finite"));
  return values;
}

void hash(std::uint64_t& h, const std::vector<float>& values) {
  for (const float value : values) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    h = (h ^ bits) * 0x100000001b3u;  // FNV-1a, by words
  }
}

// ---- pools ------------------------------------------------------------------------------------------------

/// x with a border of zeros, one pixel wide.
Tensor with_border(Context& ctx, const Tensor& x) {
  const std::int64_t h = x.size(2), w = x.size(3);
  const Tensor y = ctx.zeros({x.size(0), x.size(1), h + 2, w + 2}, x.dtype());
  kernels::copy(ctx, x, y.slice(2, 1, h + 1).slice(3, 1, w + 1));
  return y;
}

/// f of three neighbours at every stride-th place of an axis.
template <class F>
Tensor along(Context& ctx, const Tensor& x, int axis, std::int64_t stride, F f) {
  const std::int64_t last = (x.size(axis) - 3) / stride * stride + 1;  // past the last first neighbour
  const auto neighbours = [&](std::int64_t i) { return x.slice(axis, i, i + last, stride); };
  return f(ctx, f(ctx, neighbours(0), neighbours(1)), neighbours(2));
}

/// 3 x 3. Inputs come from ReLU, so a border of zeros changes no maximum.
Tensor max_pool(Context& ctx, const Tensor& x, std::int64_t stride) {
  return along(ctx, along(ctx, x, 2, stride, kernels::maximum), 3, stride, kernels::maximum);
}

/// 3 x 3 with stride 1 over a border; divided by the number of pixels inside the image.
Tensor average_pool(Context& ctx, const Tensor& x) {
  const std::int64_t h = x.size(2), w = x.size(3);
  const auto inside = [](std::int64_t i, std::int64_t n) {
    return std::min(i + 2, n) - std::max<std::int64_t>(i - 1, 0);
  };
  std::vector<float> share;
  for (std::int64_t i = 0; i < h; ++i)
    for (std::int64_t j = 0; j < w; ++j)
      share.push_back(1.0f / static_cast<float>(inside(i, h) * inside(j, w)));
  const Tensor sums = along(ctx, along(ctx, with_border(ctx, x), 2, 1, kernels::add), 3, 1, kernels::add);
  return kernels::mul(ctx, sums, kernels::from_vector(ctx, share, {h, w}));
}

// ---- resize -----------------------------------------------------------------------------------------------

/// Weights [299,size] of the pixels of one axis.
Tensor resize_matrix(Context& ctx, std::int64_t size, InceptionResize kind) {
  std::vector<float> all(static_cast<std::size_t>(kSide * size));
  const double ratio = static_cast<double>(size) / kSide;
  for (std::int64_t i = 0; i < kSide; ++i) {
    float* const row = all.data() + i * size;
    if (kind == InceptionResize::tf) {
      const double at = static_cast<double>(i) * static_cast<double>(static_cast<float>(ratio));
      const auto low = static_cast<std::int64_t>(at);
      const double right = at - static_cast<double>(low);
      row[low] += static_cast<float>(1 - right);
      row[std::min(low + 1, size - 1)] += static_cast<float>(right);
      continue;
    }
    const double reach = std::max(ratio, 1.0), centre = ratio * (static_cast<double>(i) + 0.5);
    const auto first = std::max<std::int64_t>(static_cast<std::int64_t>(centre - reach + 0.5), 0);
    const auto end = std::min(static_cast<std::int64_t>(centre + reach + 0.5), size);
    std::vector<double> weights;
    double sum = 0;
    for (std::int64_t j = first; j < end; ++j) {
      weights.push_back(std::max(0.0, 1 - std::abs(static_cast<double>(j) - centre + 0.5) / reach));
      sum += weights.back();
    }
    for (std::int64_t j = first; j < end; ++j)
      row[j] = static_cast<float>(weights[static_cast<std::size_t>(j - first)] / sum);
  }
  return kernels::from_vector(ctx, all, {kSide, size});
}

Tensor map_means(Context& ctx, const Tensor& x) { return kernels::mean(ctx, x, {2, 3}); }

}  // namespace

std::string name_of(InceptionResize resize) { return resize == InceptionResize::aa ? "aa" : "tf"; }

InceptionResize inception_resize(const std::string& name) {
  for (const auto resize : {InceptionResize::aa, InceptionResize::tf})
    if (name == name_of(resize)) return resize;
  throw ValueError(cat("[inception] resize: expected \"aa\" or \"tf\", got \"", name, '"'));
}

Inception::Inception(Context& ctx, const std::string& path) : ctx_(ctx), fingerprint_(0xcbf29ce484222325u) {
  const SafetensorsFile file(path);
  Context host(1);
  for (const Spec& spec : network()) {
    const auto [name, in, out, kernel, stride, padding] = spec;
    const Shape shape{out, in, kernel[0], kernel[1]};
    const auto weight = read(host, file, path, name + ".conv.weight", shape);
    const auto scale = read(host, file, path, name + ".bn.weight", {out}),
               shift = read(host, file, path, name + ".bn.bias", {out}),
               mean = read(host, file, path, name + ".bn.running_mean", {out}),
               variance = read(host, file, path, name + ".bn.running_var", {out});
    std::vector<float> w(weight.size()), b(scale.size());
    const std::size_t per_channel = weight.size() / scale.size();
    for (std::size_t o = 0; o < b.size(); ++o) {
      const double factor = scale[o] / std::sqrt(variance[o] + kBatchNormEps);
      if (!std::isfinite(factor))
        throw IoError(
            cat(path, ": ", name, ".bn.running_var has the value ", variance[o], ", expected one above 0"));
      for (std::size_t i = o * per_channel; i < (o + 1) * per_channel; ++i)
        w[i] = static_cast<float>(weight[i] * factor);
      b[o] = static_cast<float>(shift[o] - mean[o] * factor);
    }
    hash(fingerprint_, w);
    hash(fingerprint_, b);
    convolutions_[name] = {kernels::from_vector(ctx, w, shape), kernels::from_vector(ctx, b, {out}), stride,
                           padding};
  }
  const auto last = read(host, file, path, "fc.weight", {kClasses, kFeatures});
  const std::vector<float> classifier(last.begin(), last.end());
  hash(fingerprint_, classifier);
  classifier_ = kernels::from_vector(ctx, classifier, {kClasses, kFeatures});
}

Tensor Inception::convolution(const Tensor& x, const std::string& name) const {
  const Convolution& c = convolutions_.at(name);
  return kernels::relu(ctx_, kernels::conv2d(ctx_, x, c.weight, c.bias, {c.stride, c.stride}, c.padding));
}

Tensor Inception::chain(const Tensor& x, const std::string& block,
                        std::initializer_list<const char*> names) const {
  Tensor y = x;
  for (const char* name : names) y = convolution(y, cat("Mixed_", block, ".", name));
  return y;
}

Tensor Inception::block(const Tensor& x, const std::string& name) const {
  const auto branch = [&](std::initializer_list<const char*> names) { return chain(x, name, names); };
  const auto joined = [&](const std::vector<Tensor>& parts) { return kernels::concat(ctx_, parts, 1); };
  const auto pooled = [&](const Tensor& y) { return chain(y, name, {"branch_pool"}); };
  if (name[0] == '5')
    return joined({branch({"branch1x1"}), branch({"branch5x5_1", "branch5x5_2"}),
                   branch({"branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"}),
                   pooled(average_pool(ctx_, x))});
  if (name == "6a")
    return joined({branch({"branch3x3"}), branch({"branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"}),
                   max_pool(ctx_, x, 2)});
  if (name[0] == '6')
    return joined(
        {branch({"branch1x1"}), branch({"branch7x7_1", "branch7x7_2", "branch7x7_3"}),
         branch({"branch7x7dbl_1", "branch7x7dbl_2", "branch7x7dbl_3", "branch7x7dbl_4", "branch7x7dbl_5"}),
         pooled(average_pool(ctx_, x))});
  if (name == "7a")
    return joined({branch({"branch3x3_1", "branch3x3_2"}),
                   branch({"branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4"}),
                   max_pool(ctx_, x, 2)});
  const Tensor single = branch({"branch3x3_1"}), twice = branch({"branch3x3dbl_1", "branch3x3dbl_2"});
  return joined({branch({"branch1x1"}), chain(single, name, {"branch3x3_2a"}),
                 chain(single, name, {"branch3x3_2b"}), chain(twice, name, {"branch3x3dbl_3a"}),
                 chain(twice, name, {"branch3x3dbl_3b"}),
                 pooled(name == "7b" ? average_pool(ctx_, x) : max_pool(ctx_, with_border(ctx_, x), 1))});
}

Tensor Inception::resized(const Tensor& levels, InceptionResize resize) const {
  const Tensor columns = resize_matrix(ctx_, levels.size(3), resize),
               rows = resize_matrix(ctx_, levels.size(2), resize);
  return kernels::matmul(ctx_, rows, kernels::matmul(ctx_, levels, columns, false, true));
}

InceptionOutput Inception::operator()(const Tensor& levels, InceptionResize resize,
                                      std::map<std::string, Tensor>* maps) const {
  if (levels.rank() != 4 || levels.size(1) != 3 || levels.numel() == 0)
    throw ShapeError(cat("[inception] expected images [n,3,H,W], got ", levels.shape()));
  const Tensor input = resized(levels, resize);
  const auto note = [&](const char* name, const Tensor& value) {
    if (maps) (*maps)[name] = value;
  };
  note("resized", input);
  Tensor x = kernels::affine(ctx_, input, 1.0 / 128, -1.0);
  for (const char* name : {"Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"}) x = convolution(x, name);
  x = max_pool(ctx_, x, 2);
  if (maps) note("f64", map_means(ctx_, x));
  for (const char* name : {"Conv2d_3b_1x1", "Conv2d_4a_3x3"}) x = convolution(x, name);
  x = max_pool(ctx_, x, 2);
  if (maps) note("f192", map_means(ctx_, x));
  for (const char* name : {"5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e"}) x = block(x, name);
  if (maps) note("f768", map_means(ctx_, x));
  for (const char* name : {"7a", "7b", "7c"}) x = block(x, name);
  const Tensor features = map_means(ctx_, x);
  return {features, kernels::matmul(ctx_, features, classifier_, false, true)};
}

Tensor levels_of(Context& ctx, const Tensor& images) {
  const Tensor x = kernels::contiguous(ctx, images);
  const Tensor levels = ctx.empty(x.shape(), DType::f32);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const float value = x.data<float>()[i];
    if (std::isnan(value))
      throw NonFiniteError(cat("[inception] image ", i / std::max<std::int64_t>(x.numel() / x.size(0), 1),
                               " of ", x.size(0), " holds a NaN"));
    levels.data<float>()[i] = std::round(std::clamp((value + 1.0f) * 127.5f, 0.0f, 255.0f));
  }
  return levels;
}

Tensor levels_of(Context& ctx, const Image& image) {
  const Tensor levels = ctx.empty({1, 3, image.height, image.width}, DType::f32);
  float* to = levels.data<float>();
  for (int c = 0; c < 3; ++c)
    for (int y = 0; y < image.height; ++y)
      for (int x = 0; x < image.width; ++x) *to++ = static_cast<float>(image.at(x, y)[c]);
  return levels;
}

}  // namespace llsa::nn
