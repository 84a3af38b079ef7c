// The op table: one explicit array with everything that tests and benchmarks need to know about an op.
//
// A row is a case of an op: "matmul" or, for a second case of it, "matmul/trans_a". An op that is listed is
// tested (forward in f32 against f64, gradcheck, odd sizes, strided inputs, NaN, bits over runs and threads,
// bf16, its definition in ordinary ops) and timed; the table is the list of what the engine can
// differentiate.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../attention.h"
#include "../var.h"

namespace llsa {

/// How large a sample is. Makers take their extents from these, so each can be odd, 1, or large.
struct OpSize {
  std::int64_t tokens = 6;
  std::int64_t width = 5;  ///< of a token, or of a head
  std::int64_t batch = 2;
};

struct OpRequest {
  Context& context;
  OpSize size;
  DType dtype = DType::f32;
  std::uint64_t seed = 1;
};

/// The arguments of one call.
struct OpSample {
  Context* context = nullptr;
  std::vector<Tensor> inputs;     ///< one floating dtype; each is differentiable
  std::vector<Tensor> constants;  ///< numbers, orders, tables
  int heads = 2;
  LlsaOptions llsa;
  LlsaPlan plan;

  Var constant(int index) const { return Var(*context, constants[static_cast<std::size_t>(index)]); }
};

/// What rounding is expected of an op in f32 or bf16.
enum class OpTolerance {
  exact,     ///< elements are moved only
  rounding,  ///< a few roundings per element
  sums       ///< sums over an axis
};

using Vars = std::vector<Var>;
using OpFunction = Vars (*)(const OpSample& sample, const Vars& inputs);

struct OpRow {
  const char* name;    ///< "op" or "op/case"
  const char* inputs;  ///< per input: 'b' when its first axis is a batch of independent samples, as in the
                       ///< outputs; 'w' when shared
  OpTolerance tolerance;
  OpSample (*sample)(const OpRequest& request);
  OpFunction apply;
  OpFunction definition;                    ///< the same in other ops, or nullptr
  double (*flops)(const OpSample& sample);  ///< of the forward pass; 0 for moves
  bool narrow = true;  ///< comparable in bf16; false if rounding to bf16 may change the selection

  /// The name before the slash.
  std::string_view op() const {
    const std::string_view all = name;
    return all.substr(0, all.find('/'));
  }
};

/// All rows.
std::span<const OpRow> op_table();

/// The sample's inputs as leaves.
Vars leaves_of(const OpSample& sample, bool requires_grad);

/// The same numbers in another dtype; floating constants become f64 for f64 and f32 otherwise.
OpSample cast_sample(const OpSample& sample, DType dtype);

}  // namespace llsa
