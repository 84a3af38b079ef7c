// Sample arguments. Numbers are drawn in f32 and converted, so that every dtype computes with the same ones.

#include "autograd/table/samples.h"

#include <cmath>

#include "core/philox.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/index.h"
#include "kernels/random.h"

namespace llsa::samples {
namespace {

/// Collects the arguments of one sample; each draw takes a stream of its own.
class Maker {
 public:
  explicit Maker(const OpRequest& request)
      : b(request.size.batch),
        n(request.size.tokens),
        c(request.size.width),
        context_(request.context),
        dtype_(request.dtype),
        seed_(request.seed) {
    sample_.context = &context_;
  }

  Maker& normal(const Shape& shape) {
    sample_.inputs.push_back(kernels::cast(
        context_, kernels::random_normal(context_, shape, DType::f32, seed_, stream_++), dtype_));
    return *this;
  }
  Maker& positive(const Shape& shape) {
    const Tensor u = kernels::random_uniform(context_, shape, DType::f32, seed_, stream_++);
    sample_.inputs.push_back(kernels::cast(context_, kernels::affine(context_, u, 1.0, 0.5), dtype_));
    return *this;
  }
  /// Numbers in [0, below), the first one 0.
  Maker& numbers(const Shape& shape, std::int64_t below) {
    const Philox random{seed_, stream_++};
    std::vector<std::int32_t> values(static_cast<std::size_t>(shape.numel()));
    for (std::size_t i = 1; i < values.size(); ++i)
      values[i] = static_cast<std::int32_t>(random.below(i, static_cast<std::uint32_t>(below)));
    return constant(kernels::from_vector(context_, values, shape));
  }
  /// cos and sin of angles that differ for every token and pair.
  Maker& angles(std::int64_t tokens, std::int64_t pairs) {
    std::vector<float> cos_values, sin_values;
    for (std::int64_t t = 0; t < tokens; ++t)
      for (std::int64_t i = 0; i < pairs; ++i) {
        const double angle = static_cast<double>(t + 1) * std::pow(0.7, static_cast<double>(i));
        cos_values.push_back(static_cast<float>(std::cos(angle)));
        sin_values.push_back(static_cast<float>(std::sin(angle)));
      }
    const DType dtype = dtype_ == DType::f64 ? DType::f64 : DType::f32;
    const Shape shape{tokens, pairs};
    constant(kernels::cast(context_, kernels::from_vector(context_, cos_values, shape), dtype));
    return constant(kernels::cast(context_, kernels::from_vector(context_, sin_values, shape), dtype));
  }
  Maker& constant(Tensor value) {
    sample_.constants.push_back(std::move(value));
    return *this;
  }
  OpSample done() { return std::move(sample_); }

  std::int64_t b, n, c;

 private:
  Context& context_;
  DType dtype_;
  std::uint64_t seed_;
  std::uint64_t stream_ = 1;
  OpSample sample_;
};

}  // namespace

OpSample one(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, m.c}).done();
}

OpSample positive(const OpRequest& request) {
  Maker m(request);
  return m.positive({m.b, m.n, m.c}).done();
}

OpSample pair(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, m.c}).normal({m.b, m.n, m.c}).done();
}

OpSample row(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, m.c}).normal({m.c}).done();
}

OpSample outer(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, 1}).normal({m.b, 1, m.c}).done();
}

OpSample quotient(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, m.c}).positive({m.b, 1, m.c}).done();
}

OpSample choice(const OpRequest& request) {
  Maker m(request);
  std::vector<std::int32_t> even(static_cast<std::size_t>(m.n));
  for (std::size_t i = 0; i < even.size(); ++i) even[i] = i % 2 == 0;
  return m.normal({m.b, m.n, m.c})
      .normal({m.b, 1, m.c})
      .constant(kernels::from_vector(request.context, even, {m.n, 1}))
      .done();
}

OpSample parts(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, m.c}).normal({m.b, 3, m.c}).done();
}

OpSample thirds(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, 3 * m.c}).done();
}

OpSample column(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, 1, m.c}).constant(request.context.zeros({m.b, m.n, m.c}, request.dtype)).done();
}

OpSample matmul(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, m.c}).normal({m.b, m.c, m.c + 1}).done();
}

OpSample matmul_ta(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.c, m.n}).normal({m.b, m.c, m.c + 1}).done();
}

OpSample matmul_tb(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, m.c}).normal({m.b, m.c + 1, m.c}).done();
}

OpSample matmul_tab(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.c, m.n}).normal({m.b, m.c + 1, m.c}).done();
}

OpSample matmul_shared(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, 2, m.n, m.c}).normal({m.c, m.c + 1}).done();
}

OpSample linear(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, m.c}).normal({m.c + 1, m.c}).normal({m.c + 1}).done();
}

OpSample mlp(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, m.c})
      .normal({m.c + 1, m.c})
      .normal({m.c + 1})
      .normal({m.c, m.c + 1})
      .normal({m.c})
      .done();
}

OpSample conv(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.c, 6, m.n}).normal({m.c + 1, m.c, 3, 2}).normal({m.c + 1}).done();
}

OpSample patches(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, 3, 4, 2 * m.n}).normal({m.c, 3, 2, 2}).normal({m.c}).done();
}

OpSample norm(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, m.c}).normal({m.c}).normal({m.c}).done();
}

OpSample modulate(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, m.c}).normal({m.b, m.c}).normal({m.b, m.c}).done();
}

OpSample gate(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, m.c}).normal({m.b, m.n, m.c}).normal({m.b, m.c}).done();
}

OpSample gate_norm(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, m.c}).normal({m.b, m.n, m.c}).normal({m.b, 3 * m.c}).done();
}

OpSample heads(const OpRequest& request) {
  Maker m(request);
  const std::int64_t d = m.c + m.c % 2;
  return m.normal({m.b, 2, m.n, d}).angles(m.n, d / 2).done();
}

OpSample qkv(const OpRequest& request) {
  Maker m(request);
  const std::int64_t d = m.c + m.c % 2;
  return m.normal({m.b, m.n, 3 * 2 * d}).normal({d}).normal({d}).angles(m.n, d / 2).done();
}

OpSample qkv_plain(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.b, m.n, 3 * 2 * m.c}).done();
}

OpSample table(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.c + 2, m.c}).numbers({m.b, m.n}, m.c + 2).done();
}

OpSample order(const OpRequest& request) {
  Maker m(request);
  const auto order = random_order<std::int32_t>({request.seed, 0}, m.n);
  const Tensor numbers = kernels::from_vector(request.context, order, {m.n});
  return m.normal({m.b, m.n, m.c})
      .constant(numbers)
      .constant(kernels::inverse_order(request.context, numbers))
      .done();
}

OpSample labels(const OpRequest& request) {
  Maker m(request);
  return m.normal({m.n, m.c + 1}).numbers({m.n}, m.c + 1).done();
}

OpSample attention(const OpRequest& request) {
  Maker m(request);
  const Shape shape{m.b, 2, m.n, m.c};
  return m.normal(shape).normal(shape).normal(shape).done();
}

OpSample cross(const OpRequest& request) {
  Maker m(request);
  const Shape shape{m.b, 2, m.n + 3, m.c};
  return m.normal({m.b, 2, m.n, m.c}).normal(shape).normal(shape).done();
}

namespace {

/// Sets block size and number of picks by the number of tokens.
OpSample with_block_size(OpSample sample, std::int64_t tokens) {
  sample.llsa.block = tokens < 1024 ? 4 : 16;
  sample.llsa.topk = {tokens < 1024 ? 2 : 8};
  return sample;
}

/// The sample with a plan and what q and k select in f64.
OpSample with_picks(OpSample sample, const LlsaPlan& plan) {
  Context& ctx = *sample.context;
  sample.plan = plan;
  sample.constants = kernels::llsa_select(ctx, kernels::cast(ctx, sample.inputs[0], DType::f64),
                                          kernels::cast(ctx, sample.inputs[1], DType::f64), plan)
                         .level;
  return sample;
}

OpSample with_picked_blocks(OpSample sample) {
  const std::int64_t tokens = sample.inputs[0].size(2);
  sample = with_block_size(std::move(sample), tokens);
  const LlsaPlan plan = kernels::picked_blocks_plan(tokens, sample.llsa.block, sample.llsa.topk[0]);
  return with_picks(std::move(sample), plan);
}

}  // namespace

OpSample llsa(const OpRequest& request) {
  OpSample sample = with_block_size(attention(request), request.size.tokens);
  const LlsaPlan plan = kernels::llsa_plan(request.size.tokens, sample.llsa);
  return with_picks(std::move(sample), plan);
}

OpSample picked_blocks(const OpRequest& request) { return with_picked_blocks(attention(request)); }

OpSample vsa(const OpRequest& request) {
  Maker m(request);
  const Shape shape{m.b, 2, m.n, m.c};
  return with_picked_blocks(m.normal(shape).normal(shape).normal(shape).normal(shape).done());
}

OpSample sla(const OpRequest& request) {
  Maker m(request);
  const Shape shape{m.b, 2, m.n, m.c};
  return with_picked_blocks(
      m.normal(shape).normal(shape).normal(shape).normal({m.c, m.c}).normal({m.c}).done());
}

OpSample rest(const OpRequest& request) {
  Maker m(request);
  const Shape shape{m.b, 2, m.n, m.c};
  return with_picked_blocks(m.normal(shape).normal(shape).normal({m.b, 2, m.n, m.c + 1}).done());
}

}  // namespace llsa::samples
