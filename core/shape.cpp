// Extents and broadcasting. The number of elements is checked once, at construction, with zero extents counted as
// one. Row-major strides, and the bytes of any dtype, then fit into int64, too.
#include "core/shape.h"

#include <algorithm>
#include <ostream>

#include "core/error.h"

namespace llsa {
namespace {

constexpr std::int64_t kMaxElements = std::int64_t{1} << 60;  // of at most 8 bytes each

std::string text_of(const std::vector<std::int64_t>& extents) {
  TextStream out;
  out << '[';
  for (std::size_t i = 0; i < extents.size(); ++i) out << (i == 0 ? "" : ",") << extents[i];
  out << ']';
  return out.str();
}

std::int64_t checked_numel(const std::vector<std::int64_t>& extents) {
  std::int64_t product = 1;
  bool empty = false;
  for (const std::int64_t extent : extents) {
    if (extent < 0) throw ShapeError("[shape] extents must not be negative, got " + text_of(extents));
    empty = empty || extent == 0;
    if (__builtin_mul_overflow(product, std::max<std::int64_t>(extent, 1), &product) ||
        product > kMaxElements) {
      throw ShapeError("[shape] " + text_of(extents) + " has more than 2^60 elements");
    }
  }
  return empty ? 0 : product;
}

}  // namespace

Shape::Shape(std::initializer_list<std::int64_t> extents) : Shape(std::vector<std::int64_t>(extents)) {}

Shape::Shape(std::vector<std::int64_t> extents)
    : extents_(std::move(extents)), numel_(checked_numel(extents_)) {}

int Shape::normalize_axis(int axis) const {
  if (axis < -rank() || axis >= rank()) {
    throw ShapeError(cat("[shape] axis ", axis, " is outside ", str(), " of rank ", rank()));
  }
  return axis < 0 ? axis + rank() : axis;
}

std::vector<std::int64_t> Shape::contiguous_strides() const {
  std::vector<std::int64_t> strides(extents_.size());
  std::int64_t stride = 1;
  for (std::size_t i = extents_.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<std::int64_t>(extents_[i], 1);
  }
  return strides;
}

std::string Shape::str() const { return text_of(extents_); }

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.str(); }

Shape broadcast_shapes(const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  std::vector<std::int64_t> extents(static_cast<std::size_t>(rank));
  for (int i = 1; i <= rank; ++i) {  // from the last axis; missing leading axes count as 1
    const std::int64_t from_a = i <= a.rank() ? a[-i] : 1;
    const std::int64_t from_b = i <= b.rank() ? b[-i] : 1;
    if (from_a != from_b && from_a != 1 && from_b != 1) {
      throw ShapeError(
          cat("[broadcast] ", a, " and ", b, " differ in axis ", -i, ": ", from_a, " against ", from_b),
          "extents must be equal, or one of them 1");
    }
    extents[static_cast<std::size_t>(rank - i)] = from_a == 1 ? from_b : from_a;
  }
  return Shape(std::move(extents));
}

}  // namespace llsa
