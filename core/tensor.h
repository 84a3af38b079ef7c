// Tensor: a typed, strided view of reference-counted storage.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <iosfwd>
#include <memory>
#include <vector>

#include "allocator.h"
#include "device.h"
#include "dtype.h"
#include "error.h"
#include "shape.h"

namespace llsa {

/// A block of bytes on one device. It is freed when the last tensor over it is destroyed.
class Storage {
 public:
  /// Uninitialised bytes from an allocator. The storage keeps the allocator alive.
  Storage(std::shared_ptr<Allocator> allocator, std::size_t bytes);
  /// Memory owned by others. `release` is called once, when the storage is destroyed.
  Storage(void* data, std::size_t bytes, Device device, std::function<void()> release);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  Device device_;
  std::shared_ptr<Allocator> allocator_;
  std::function<void()> release_;
};

/// A handle: copies and views share the storage. Strides are in elements; they are never negative, and 0 for
/// broadcast axes. The default tensor is undefined: every accessor except defined() throws Error.
class Tensor {
 public:
  Tensor() = default;

  /// Uninitialised, contiguous. Throws OutOfMemoryError.
  static Tensor empty(const Shape& shape, DType dtype, const std::shared_ptr<Allocator>& allocator);
  /// Contiguous view of existing storage, from element `offset`. Throws ShapeError when it does not fit.
  static Tensor over(std::shared_ptr<Storage> storage, const Shape& shape, DType dtype,
                     std::int64_t offset = 0);
  /// Contiguous tensor over the caller's memory on the CPU or a CUDA device. Nothing is copied. `release` is called
  /// once: when the last tensor over the memory is destroyed, or when this function throws. On a CUDA device, work
  /// in a stream may still use the memory at that time. Throws ValueError for a null pointer (if there are
  /// elements), Error if the memory is not aligned to the dtype.
  static Tensor over(void* data, const Shape& shape, DType dtype, Device device = {},
                     std::function<void()> release = {});

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return checked().shape_; }
  const std::vector<std::int64_t>& strides() const { return checked().strides_; }
  std::int64_t stride(int axis) const {
    return strides()[static_cast<std::size_t>(shape().normalize_axis(axis))];
  }
  std::int64_t size(int axis) const { return shape()[axis]; }
  int rank() const { return shape().rank(); }
  std::int64_t numel() const { return shape().numel(); }
  std::size_t nbytes() const { return static_cast<std::size_t>(numel()) * size_of(dtype_); }
  DType dtype() const { return checked().dtype_; }
  Device device() const { return checked().storage_->device(); }
  std::int64_t offset() const { return checked().offset_; }
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  /// Whether the elements lie in row-major order without gaps. Strides of axes with extent 1 do not matter.
  bool is_contiguous() const;

  /// Pointer to the first element. Throws DTypeError unless T matches the dtype. The handle is const, the
  /// elements are not.
  template <class T>
  T* data() const {
    require_dtype(dtype_of<T>::value);
    return reinterpret_cast<T*>(storage_->data()) + offset_;
  }
  std::byte* raw() const {
    return checked().storage_->data() + offset_ * static_cast<std::int64_t>(size_of(dtype_));
  }

  // Views. They copy no element, and throw ShapeError for axes or ranges outside the tensor.

  /// The same elements in row-major order under another shape. One extent may be -1. Throws if the strides do not
  /// allow a view; then make the tensor contiguous first.
  Tensor reshape(const std::vector<std::int64_t>& extents) const;
  Tensor reshape(std::initializer_list<std::int64_t> extents) const {
    return reshape(std::vector<std::int64_t>(extents));
  }
  Tensor reshape(const Shape& shape) const { return reshape(shape.extents()); }
  /// Whether the strides allow that view.
  bool can_view_as(const std::vector<std::int64_t>& extents) const;
  Tensor transpose(int axis_a, int axis_b) const;
  Tensor permute(const std::vector<int>& axes) const;
  /// Elements begin, begin + step, ... < end of one axis; 0 <= begin <= end <= extent, step >= 1.
  Tensor slice(int axis, std::int64_t begin, std::int64_t end, std::int64_t step = 1) const;
  /// One index of an axis, which disappears.
  Tensor select(int axis, std::int64_t index) const;
  Tensor unsqueeze(int axis) const;
  Tensor squeeze(int axis) const;
  /// Broadcast to a larger shape (strides 0).
  Tensor expand(const Shape& shape) const;

 private:
  const Tensor& checked() const {
    if (!storage_) throw Error("[tensor] used before a value was assigned to it");
    return *this;
  }
  void require_dtype(DType wanted) const;

  std::shared_ptr<Storage> storage_;
  std::int64_t offset_ = 0;
  Shape shape_;
  std::vector<std::int64_t> strides_;
  DType dtype_ = DType::f32;
};

/// Writes dtype, shape, device and elements: "f32 [2,3] on cpu: [[1, 2, 3], [4, 5, 6]]". Of a long axis it writes
/// the first and the last elements. Floating numbers have four digits. For a tensor on a CUDA device, the host waits
/// for all work of that device.
std::ostream& operator<<(std::ostream& out, const Tensor& x);

}  // namespace llsa
