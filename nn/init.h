// How a parameter starts.
#pragma once

#include <cstdint>
#include <string_view>

#include "../core/context.h"
#include "../core/tensor.h"

namespace llsa::nn {

/// A law for the elements of a new parameter.
struct Init {
  enum class Law { constant, uniform, normal };
  Law law = Law::constant;
  double value =
      0.0;  ///< the constant, the half-width of the uniform law around 0, or the standard deviation

  static Init zeros() { return {Law::constant, 0.0}; }
  static Init ones() { return {Law::constant, 1.0}; }
  static Init uniform(double half_width) { return {Law::uniform, half_width}; }
  static Init normal(double deviation) { return {Law::normal, deviation}; }
  /// Uniform with half-width sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010).
  static Init xavier(std::int64_t fan_in, std::int64_t fan_out);
  /// Uniform with half-width 1 / sqrt(fan_in), for weights and biases alike.
  static Init fan_in(std::int64_t fan_in);
};

/// Fills a floating tensor by the law with Philox numbers of (seed, hash of the name).
void initialize(Context& ctx, const Tensor& values, const Init& init, std::uint64_t seed,
                std::string_view name);

/// 64-bit FNV-1a hash of a text: the stream of a named random sequence.
std::uint64_t name_stream(std::string_view name);

}  // namespace llsa::nn
