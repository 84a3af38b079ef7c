// Log-Linear Sparse Attention alone, for a network of your own: any number of tokens, and gradients.
#include <llsa/llsa.h>

#include <iostream>

using llsa::Var;

int main() {
  llsa::Context ctx;                           // the CPU; llsa::Context ctx(llsa::Device::cuda()) for a GPU
  const llsa::Shape shape = {1, 2, 1000, 32};  // [batch, heads, tokens, head dimension]
  const Var q(ctx, llsa::randn(ctx, shape, /*seed=*/0, /*stream=*/0), /*requires_grad=*/true);
  const Var k(ctx, llsa::randn(ctx, shape, 0, 1), true);
  const Var v(ctx, llsa::randn(ctx, shape, 0, 2), true);

  llsa::LlsaOptions options;
  options.block = 16;  // so many tokens are one token of the next level
  options.topk = {8};  // so many tokens does a query pick on each level
  const Var o = llsa::llsa_attention(q, k, v, options);
  const Var loss = llsa::mean(llsa::square(o));
  llsa::backward(loss);
  std::cout << "output " << o << "\nloss " << loss.item() << "\ngradient of q " << q.grad() << "\n\n";

  // What a query attends to grows with the logarithm of the number of tokens.
  for (const int tokens : {1000, 10'000, 100'000, 1'000'000})
    std::cout << tokens << " tokens: " << llsa::kernels::llsa_plan(tokens, options).keys_per_query()
              << " keys per query\n";

  // A query that picks everything, and takes no coarse tokens beside it, has full attention.
  const llsa::NoGrad no_gradients;
  options.topk = {63};  // 1000 tokens are 63 blocks of 16
  options.enriched = 0;
  const Var difference = llsa::llsa_attention(q, k, v, options) - llsa::full_attention(q, k, v);
  const double error = llsa::mean(llsa::square(difference)).item();
  std::cout << "\nall picks against full attention: mean squared difference " << error << "\n";
  return error < 1e-10 ? 0 : 1;
}
