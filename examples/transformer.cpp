// A small causal transformer. It reads random letters that are then repeated, and learns to predict every next
// letter of the repetition, for which it has to look back by the length of the original.
#include <llsa/llsa.h>

#include <iostream>

namespace nn = llsa::nn;
using llsa::Tensor, llsa::Var;

constexpr int kLetters = 16, kOriginal = 12, kBatch = 32, kWidth = 64;
constexpr int kLength = 2 * kOriginal - 1;  // what the model reads: all but the last letter

struct Block {
  nn::LayerNorm norm1, norm2;
  nn::Attention attention;
  nn::Mlp mlp;

  Block(nn::Parameters& params, const std::string& name)
      : norm1(params, name + ".norm1", kWidth),
        norm2(params, name + ".norm2", kWidth),
        attention(params, name + ".attention",
                  {.heads = 4, .head_dim = kWidth / 4, .kind = llsa::FullAttentionOptions{.causal = true}}),
        mlp(params, name + ".mlp", kWidth, 4 * kWidth) {}
  Var operator()(const Var& x) const {
    const Var y = x + attention(norm1(x));
    return y + mlp(norm2(y));
  }
};

int main() {
  llsa::Context ctx;
  nn::Parameters params(ctx, /*seed=*/0);
  const nn::Embedding letters(params, "letters", kLetters, kWidth);
  const Var positions = params.declare("positions", {kLength, kWidth}, nn::Init::normal(0.02));
  const nn::Sequential layers{Block(params, "block0"), Block(params, "block1"),
                              nn::LayerNorm(params, "norm", kWidth),
                              nn::Linear(params, "out", kWidth, kLetters)};
  nn::AdamW adam(params, {.weight_decay = 0.1, .clip = 1.0, .decays = nn::is_matrix});
  std::cout << params;

  double first = 0, last = 0;
  for (int step = 0; step < 120; ++step) {
    const Tensor original = llsa::randint(ctx, {kBatch, kOriginal}, 0, kLetters, /*seed=*/1, /*stream=*/step);
    const Tensor text = llsa::kernels::concat(ctx, {original, original}, 1).slice(1, 0, kLength);
    const Var scores = layers(letters(text) + positions);  // [batch,length,letters]
    const Var repetition = llsa::slice(scores, 1, kOriginal - 1, kLength);
    const Var loss = llsa::cross_entropy(llsa::reshape(repetition, {kBatch * kOriginal, kLetters}),
                                         original.reshape({kBatch * kOriginal}));
    llsa::backward(loss);
    adam.step(1e-3);
    last = loss.item();
    if (step == 0) first = last;
    if (step % 20 == 0) std::cout << "step " << step << ", loss " << last << '\n';
  }
  std::cout << "loss " << first << " -> " << last << '\n';
  return last < 0.1 * first ? 0 : 1;
}
