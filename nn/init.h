// How a parameter starts.
#pragma once

#include <cstdint>
#include <string_view>

#include "../core/context.h"
#include "../core/tensor.h"

namespace llsa::nn {

/// The law from which the elements of a new parameter are drawn.
struct Init {
  enum class Law { constant, uniform, normal, fan_in, xavier };
  Law law = Law::constant;
  /// The constant, the half-width of a uniform law around 0, or the standard deviation of a normal law. The
  /// last two laws take their half-width from the sizes of a layer.
  double value = 0.0;

  static Init zeros() { return {Law::constant, 0.0}; }
  static Init ones() { return {Law::constant, 1.0}; }
  static Init uniform(double half_width) { return {Law::uniform, half_width}; }
  static Init normal(double deviation) { return {Law::normal, deviation}; }
  /// Uniform with half-width 1 / sqrt(fan_in), for weights and biases alike.
  static Init fan_in() { return {Law::fan_in, 0.0}; }
  /// Uniform with half-width sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010).
  static Init xavier() { return {Law::xavier, 0.0}; }

  /// The same law with its half-width filled in, for a layer whose outputs each read `fan_in` inputs and
  /// whose inputs each reach `fan_out` outputs. Laws that do not depend on these sizes stay as they are.
  Init for_fans(std::int64_t fan_in, std::int64_t fan_out) const;
};

/// Fills a floating tensor with numbers from the law. They come from Philox, keyed by the seed and a hash of
/// the name. Throws ValueError for fan_in and xavier: apply for_fans() first.
void initialize(Context& ctx, const Tensor& values, const Init& init, std::uint64_t seed,
                std::string_view name);

/// 64-bit FNV-1a hash of a text: the stream of a named random sequence.
std::uint64_t name_stream(std::string_view name);

}  // namespace llsa::nn
