// Draws what one query of a trained model attends to:
//
//     inspect MODEL IMAGE LAYER HEAD X,Y SIGMA OUT.png
//
// MODEL is the folder of a run, or a checkpoint, of a DiT with LLSA. The image gets noise of level SIGMA (0: none, 1:
// nothing but noise) and goes through the model once. OUT.png shows the noisy image and then each level, finest first.
// On a level, dark tokens are not attended. The more yellow a token is, the larger is its share of the softmax. White
// frames are picks. The green frame is the query, or the node above it.
//
// An op keeps on the tape what its backward reads. Of llsa_attention that is all there is to draw.
#include <llsa/autograd/node.h>
#include <llsa/kernels/backend/attention.h>
#include <llsa/llsa.h>
#include <llsa/nn/data/transform.h>
#include <llsa/nn/morton.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <iostream>
#include <map>
#include <numeric>
#include <sstream>

namespace nn = llsa::nn;
using llsa::Tensor, llsa::Var, llsa::kernels::LlsaState;

constexpr nn::Rgb kBlack{0, 0, 0}, kWhite{255, 255, 255}, kGreen{0, 255, 64}, kYellow{255, 210, 0};

double number(const std::string& text) {
  std::istringstream in(text);
  double value = 0;
  if (!(in >> value) || !in.eof()) throw llsa::ValueError("expected a number, got '" + text + "'");
  return value;
}

// What the LLSA layers that `out` was computed by have kept, first layer first. This is the walk of backward().
std::vector<std::shared_ptr<const LlsaState>> llsa_layers(const Var& out) {
  std::vector<std::shared_ptr<const LlsaState>> layers;
  std::map<std::uint64_t, const llsa::Node*> waiting = {{out.node()->sequence, out.node().get()}};
  while (!waiting.empty()) {
    const llsa::Node* node = waiting.rbegin()->second;  // the youngest
    waiting.erase(node->sequence);
    if (const auto* state = std::any_cast<std::shared_ptr<const LlsaState>>(&node->attributes))
      layers.insert(layers.begin(), *state);
    for (const llsa::Edge& edge : node->inputs)
      if (edge.node) waiting.emplace(edge.node->sequence, edge.node.get());
  }
  return layers;
}

// A token that a query attends to, and its share of the softmax.
struct Attended {
  int level;
  std::int64_t token;
  double share;
};

struct Head {
  const LlsaState& state;
  const llsa::LlsaPlan& plan = state.plan;
  std::int64_t head;

  std::int64_t span(int level) const {
    std::int64_t tokens = 1;
    for (int l = 0; l < level; ++l) tokens *= plan.block;
    return tokens;
  }
  // What a node of level 1 .. L has picked.
  std::vector<std::int64_t> picks(int level, std::int64_t node) const {
    const auto width = plan.width[level - 1];
    const auto* row = state.index[level - 1].data<std::int32_t>() + (head * plan.count[level] + node) * width;
    std::vector<std::int64_t> list(row, row + width);
    std::erase(list, -1);
    return list;
  }
  // P = c exp(q . k / sqrt(D) - lse)
  double share(std::int64_t query, int level, std::int64_t token) const {
    const auto row = [&](const Tensor& x, std::int64_t i) {
      return x.data<float>() + head * x.stride(1) + i * x.stride(2);
    };
    const auto d = state.q.size(3);
    const float *q = row(state.q, query), *k = row(state.k[level], token);
    const double score = std::inner_product(q, q + d, k, 0.0) / std::sqrt(static_cast<double>(d));
    const double weight = plan.reweight ? static_cast<double>(plan.covered(level, token)) : 1.0;
    return weight * std::exp(score - state.lse.data<float>()[head * plan.tokens + query]);
  }
  std::vector<Attended> attended(std::int64_t query) const {
    std::vector<Attended> list;
    const auto add = [&](int level, std::int64_t begin, std::int64_t end) {
      for (std::int64_t j = begin; j < std::min(end, plan.count[level]); ++j)
        list.push_back({level, j, share(query, level, j)});
    };
    for (int level = 0; level <= plan.enriched; ++level) {
      if (level == plan.levels)
        add(level, 0, plan.count[level]);
      else
        for (const auto parent : picks(level + 1, query / span(level + 1)))
          add(level, parent * plan.block, (parent + 1) * plan.block);
    }
    return list;
  }
};

// Panels side by side, in which a pixel of the model's images is `scale` pixels wide.
struct Picture {
  const nn::DitConfig& config;
  int scale = std::max(1, 256 / config.width);
  int width = config.width * scale, height = config.height * scale;
  std::vector<std::int32_t> token = std::vector<std::int32_t>(config.tokens());  // by place, row by row
  nn::Image image;

  Picture(const nn::DitConfig& of, int panels)
      : config(of), image(panels * (width + 4) - 4, height, {255, 255, 255}) {
    std::iota(token.begin(), token.end(), 0);
    if (config.reorder) token = nn::inverse_order(nn::morton_order(config.rows(), config.columns()));
  }
  // The token at a pixel of an image.
  std::int64_t token_at(int x, int y) const {
    return token[y / config.patch * config.columns() + x / config.patch];
  }
  // colour(x, y, node) of a pixel; frame(node): the colour of a frame around it, black for none.
  template <class Colour, class Frame>
  void draw(int panel, std::int64_t span, Colour colour, Frame frame) {
    const auto node_at = [&](int x, int y) -> std::int64_t {
      return x < 0 || y < 0 || x >= width || y >= height ? -1 : token_at(x / scale, y / scale) / span;
    };
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        const std::int64_t node = node_at(x, y);
        const bool edge = node_at(x - 2, y) != node || node_at(x + 2, y) != node ||
                          node_at(x, y - 2) != node || node_at(x, y + 2) != node;
        const nn::Rgb line = edge ? frame(node) : kBlack;
        const nn::Rgb shown = line == kBlack ? colour(x / scale, y / scale, node) : line;
        std::copy(shown.begin(), shown.end(), image.at(panel * (width + 4) + x, y));
      }
  }
};

nn::Rgb mix(const nn::Rgb& a, const nn::Rgb& b, double share_of_b) {
  nn::Rgb c;
  for (std::size_t i = 0; i < 3; ++i) c[i] = static_cast<std::uint8_t>(a[i] + share_of_b * (b[i] - a[i]));
  return c;
}

int main(int argc, char** argv) try {
  if (argc != 8) throw llsa::ValueError("usage: inspect MODEL IMAGE LAYER HEAD X,Y SIGMA OUT.png");
  llsa::Context ctx;
  const auto model = nn::load_diffusers_model(ctx, argv[1]);
  const nn::DitConfig config = model->last_stage();
  if (model->kind() != nn::ModelKind::dit || config.attention != nn::AttentionKind::llsa ||
      config.plan().levels == 0)
    throw llsa::ValueError(llsa::cat(argv[1], " is no DiT with levels of LLSA"),
                           "train one with --attention llsa and --levels 1 or more");

  const int layer = static_cast<int>(number(argv[3])), head_number = static_cast<int>(number(argv[4]));
  const std::string place = argv[5];
  const std::size_t comma = std::min(place.find(','), place.size());
  const int px = static_cast<int>(number(place.substr(0, comma)));
  const int py = static_cast<int>(number(comma < place.size() ? place.substr(comma + 1) : ""));
  const double sigma = number(argv[6]);
  if (layer < 0 || layer >= config.layers || head_number < 0 || head_number >= config.heads || px < 0 ||
      px >= config.width || py < 0 || py >= config.height || !(sigma >= 0 && sigma <= 1))
    throw llsa::ValueError(llsa::cat("expected a layer below ", config.layers, ", a head below ",
                                     config.heads, ", a pixel X,Y of ", config.width, " x ", config.height,
                                     ", a noise level from 0 to 1"));

  // One pass as in training, without a class.
  const nn::TransformOptions crop{.height = config.height, .width = config.width};
  const nn::Image clean = nn::resize(nn::decode_image(argv[2]), config.width, config.height);
  std::vector<float> pixels(clean.pixels.size());
  nn::crop_to_floats(clean, crop, /*seed=*/0, /*sample_id=*/0, pixels.data());
  const Var x(ctx, llsa::from_vector(ctx, pixels, {1, 3, crop.height, crop.width}));
  const Var noise(ctx, llsa::randn(ctx, x.shape(), /*seed=*/1));
  const Var noisy = (1 - sigma) * x + sigma * nn::noise_rescale(crop.height, crop.width) * noise;
  const nn::Denoiser denoiser = *model;
  const Var flow = denoiser(noisy, llsa::full(ctx, {1}, std::max(1.0, 1000 * sigma)),
                            llsa::full(ctx, {1}, denoiser.null_class(), llsa::DType::i32));

  const auto layers = llsa_layers(flow);
  const Head head{.state = *layers[layer], .head = head_number};
  const llsa::LlsaPlan& plan = head.plan;
  Picture picture(config, plan.levels + 2);
  const std::int64_t query = picture.token_at(px, py);
  const nn::Image seen = nn::to_image(noisy.value().reshape({3, crop.height, crop.width}));
  picture.draw(
      0, 1,
      [&](int col, int row, std::int64_t) {
        return nn::Rgb{seen.at(col, row)[0], seen.at(col, row)[1], seen.at(col, row)[2]};
      },
      [&](std::int64_t token) { return token == query ? kGreen : kBlack; });

  std::vector<double> mean(plan.levels + 1);  // share of a level, over all queries
  for (std::int64_t t = 0; t < plan.tokens; ++t)
    for (const Attended& a : head.attended(t)) mean[a.level] += a.share / static_cast<double>(plan.tokens);

  std::cout << "level  tokens  attended  share  of all queries\n" << std::fixed << std::setprecision(3);
  for (int level = 0; level <= plan.levels; ++level) {
    std::map<std::int64_t, double> share;
    double sum = 0, largest = 0;
    for (const Attended& a : head.attended(query)) {
      if (a.level != level) continue;
      share[a.token] = a.share;
      sum += a.share;
      largest = std::max(largest, a.share);
    }
    std::cout << std::setw(5) << level << std::setw(8) << plan.count[level] << std::setw(10) << share.size()
              << std::setw(7) << sum << std::setw(16) << mean[level] << "\n";
    const std::int64_t own = query / head.span(level);
    const auto picks = level > 0 ? head.picks(level, own) : std::vector<std::int64_t>{};
    picture.draw(
        level + 1, head.span(level),
        [&](int col, int row, std::int64_t node) {
          const auto* p = clean.at(col, row);
          const auto grey = static_cast<std::uint8_t>((p[0] + p[1] + p[2]) / 3);
          const auto found = share.find(node);
          if (found == share.end()) return mix(kBlack, {grey, grey, grey}, 0.3);
          return mix(mix({60, 60, 60}, {grey, grey, grey}, 0.4), kYellow, std::sqrt(found->second / largest));
        },
        [&](std::int64_t node) {
          return node == own ? kGreen : std::count(picks.begin(), picks.end(), node) > 0 ? kWhite : kBlack;
        });
  }
  nn::write_png(argv[7], picture.image);

  std::cout << "\npicks of level " << plan.levels << ", a row for each query node\n";
  for (std::int64_t node = 0; node < plan.count.back(); ++node) {
    for (const auto j : head.picks(plan.levels, node)) std::cout << j << " ";
    std::cout << "\n";
  }
} catch (const llsa::Error& error) {
  std::cerr << error.what() << "\n" << error.hint() << "\n";
  return 1;
}
