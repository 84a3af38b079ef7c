// The extents of a tensor.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <string>
#include <vector>

namespace llsa {

/// Extents from the slowest to the fastest axis. Rank 0 is a scalar with one element. Negative axes count from
/// the end. Construction throws ShapeError for a negative extent and for more than 2^60 elements, zero extents
/// counted as one. Strides and bytes therefore fit into int64.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents);
  explicit Shape(std::vector<std::int64_t> extents);

  int rank() const { return static_cast<int>(extents_.size()); }
  std::int64_t numel() const { return numel_; }

  /// Extent of an axis in [-rank, rank). Throws ShapeError outside.
  std::int64_t operator[](int axis) const { return extents_[static_cast<std::size_t>(normalize_axis(axis))]; }

  /// Maps an axis in [-rank, rank) to [0, rank). Throws ShapeError outside.
  int normalize_axis(int axis) const;

  const std::vector<std::int64_t>& extents() const { return extents_; }
  auto begin() const { return extents_.begin(); }
  auto end() const { return extents_.end(); }

  /// Row-major strides, in elements.
  std::vector<std::int64_t> contiguous_strides() const;

  /// "[2,3,4]"
  std::string str() const;

  friend bool operator==(const Shape& a, const Shape& b) { return a.extents_ == b.extents_; }

 private:
  std::vector<std::int64_t> extents_;
  std::int64_t numel_ = 1;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape);

/// NumPy broadcasting of two shapes. Throws ShapeError when an axis differs and neither extent is 1.
Shape broadcast_shapes(const Shape& a, const Shape& b);

}  // namespace llsa
