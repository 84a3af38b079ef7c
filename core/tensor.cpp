// Storage, and the views: each view is a new offset, shape and strides over the same storage.
//
// A view without elements keeps the offset of the tensor that it is a view of. So no pointer ever leaves its
// storage.
#include "core/tensor.h"

#include <algorithm>
#include <cstdint>
#include <utility>

namespace llsa {
namespace {

using Extents = std::vector<std::int64_t>;

/// Replaces one -1 so that the number of elements stays the same. Throws ShapeError if that is not possible.
Shape complete_extents(const Extents& extents, const Shape& from) {
  Extents out = extents;
  const auto unknown = std::find(out.begin(), out.end(), -1);
  if (unknown != out.end()) {
    *unknown = 1;
    if (std::find(out.begin(), out.end(), -1) != out.end()) {
      throw ShapeError("[reshape] at most one extent may be -1");
    }
    const std::int64_t known = Shape(out).numel();
    if (known == 0 || from.numel() % known != 0) {
      throw ShapeError(cat("[reshape] the extent -1 cannot be found: ", from, " has ", from.numel(),
                           " elements, the other extents make ", known));
    }
    *unknown = from.numel() / known;
  }
  Shape shape(std::move(out));
  if (shape.numel() != from.numel()) {
    throw ShapeError(
        cat("[reshape] ", from, " has ", from.numel(), " elements, ", shape, " has ", shape.numel()));
  }
  return shape;
}

/// Strides of the shape `to` over the elements of (from, strides) in row-major order, in `out`. Neighbouring axes
/// of `from` that lie in memory like one axis form a run. Every new axis has to fall into one run; false if it
/// does not.
bool reshaped_strides(const Shape& from, const Extents& strides, const Shape& to, Extents& out) {
  out = to.contiguous_strides();
  if (to.numel() == 0) return true;
  int next = to.rank() - 1;  // the new axis whose stride is found next, from the last one on
  for (int last = from.rank() - 1; last >= 0;) {
    if (from[last] == 1) {
      --last;
      continue;
    }
    const std::int64_t base = strides[static_cast<std::size_t>(last)];
    std::int64_t run = from[last];
    int first = last - 1;
    for (; first >= 0; --first) {
      if (from[first] != 1 && strides[static_cast<std::size_t>(first)] != base * run) break;
      run *= from[first];
    }
    std::int64_t covered = 1;
    for (; next >= 0 && covered < run; --next) {
      out[static_cast<std::size_t>(next)] = base * covered;
      covered *= to[next];
    }
    if (covered != run) return false;
    last = first;
  }
  return true;
}

}  // namespace

Storage::Storage(std::shared_ptr<Allocator> allocator, std::size_t bytes)
    : bytes_(bytes), allocator_(std::move(allocator)) {
  if (!allocator_) throw Error("[storage] needs an allocator");
  device_ = allocator_->device();
  data_ = static_cast<std::byte*>(allocator_->allocate(bytes));
}

Storage::Storage(void* data, std::size_t bytes, Device device, std::function<void()> release)
    : data_(static_cast<std::byte*>(data)), bytes_(bytes), device_(device), release_(std::move(release)) {}

Storage::~Storage() {
  if (allocator_) allocator_->deallocate(data_, bytes_);
  if (release_) release_();
}

Tensor Tensor::empty(const Shape& shape, DType dtype, const std::shared_ptr<Allocator>& allocator) {
  const std::size_t bytes = static_cast<std::size_t>(shape.numel()) * size_of(dtype);
  return over(std::make_shared<Storage>(allocator, bytes), shape, dtype);
}

Tensor Tensor::over(std::shared_ptr<Storage> storage, const Shape& shape, DType dtype, std::int64_t offset) {
  if (!storage) throw Error("[tensor] needs a storage");
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  const std::int64_t fits = static_cast<std::int64_t>(storage->bytes()) / size;  // elements
  if (offset < 0 || offset > fits || shape.numel() > fits - offset) {
    throw ShapeError(cat("[tensor] ", shape, " of ", name_of(dtype), " from element ", offset,
                         " does not fit into a storage of ", storage->bytes(), " bytes"));
  }
  if (reinterpret_cast<std::uintptr_t>(storage->data()) % size_of(dtype) != 0) {
    throw Error(
        cat("[tensor] the storage is not aligned to ", size, " bytes, as ", name_of(dtype), " needs"));
  }
  Tensor tensor;
  tensor.storage_ = std::move(storage);
  tensor.offset_ = offset;
  tensor.shape_ = shape;
  tensor.strides_ = shape.contiguous_strides();
  tensor.dtype_ = dtype;
  return tensor;
}

Tensor Tensor::over(void* data, const Shape& shape, DType dtype, Device device,
                    std::function<void()> release) {
  const std::size_t bytes = static_cast<std::size_t>(shape.numel()) * size_of(dtype);
  auto storage = std::make_shared<Storage>(data, bytes, device, std::move(release));
  if (data == nullptr && bytes != 0)
    throw ValueError(cat("[tensor] expected memory for ", shape, ", got a null pointer"));
  return over(std::move(storage), shape, dtype);
}

void Tensor::require_dtype(DType wanted) const {
  checked();
  if (dtype_ != wanted) {
    throw DTypeError(cat("[tensor] elements are ", name_of(dtype_), ", read as ", name_of(wanted)));
  }
}

bool Tensor::is_contiguous() const {
  checked();
  if (numel() == 0) return true;
  std::int64_t expected = 1;
  for (int axis = rank() - 1; axis >= 0; --axis) {
    const std::int64_t extent = shape_[axis];
    if (extent == 1) continue;
    if (strides_[static_cast<std::size_t>(axis)] != expected) return false;
    expected *= extent;
  }
  return true;
}

bool Tensor::can_view_as(const std::vector<std::int64_t>& extents) const {
  checked();
  Extents strides;
  return reshaped_strides(shape_, strides_, complete_extents(extents, shape_), strides);
}

Tensor Tensor::reshape(const std::vector<std::int64_t>& extents) const {
  checked();
  const Shape shape = complete_extents(extents, shape_);
  Extents strides;
  if (!reshaped_strides(shape_, strides_, shape, strides)) {
    throw ShapeError(
        cat("[reshape] ", shape_, " with strides ", Shape(strides_), " is not a view as ", shape),
        "make the tensor contiguous first");
  }
  Tensor view = *this;
  view.shape_ = shape;
  view.strides_ = std::move(strides);
  return view;
}

Tensor Tensor::transpose(int axis_a, int axis_b) const {
  checked();
  std::vector<int> axes(static_cast<std::size_t>(rank()));
  for (int i = 0; i < rank(); ++i) axes[static_cast<std::size_t>(i)] = i;
  std::swap(axes[static_cast<std::size_t>(shape_.normalize_axis(axis_a))],
            axes[static_cast<std::size_t>(shape_.normalize_axis(axis_b))]);
  return permute(axes);
}

Tensor Tensor::permute(const std::vector<int>& axes) const {
  checked();
  if (static_cast<int>(axes.size()) != rank()) {
    throw ShapeError(cat("[permute] got ", axes.size(), " axes for ", shape_, " of rank ", rank()));
  }
  Extents extents;
  Extents strides;
  std::vector<bool> seen(axes.size(), false);
  for (const int given : axes) {
    const auto axis = static_cast<std::size_t>(shape_.normalize_axis(given));
    if (seen[axis]) throw ShapeError(cat("[permute] axis ", given, " of ", shape_, " is named twice"));
    seen[axis] = true;
    extents.push_back(shape_.extents()[axis]);
    strides.push_back(strides_[axis]);
  }
  Tensor view = *this;
  view.shape_ = Shape(std::move(extents));
  view.strides_ = std::move(strides);
  return view;
}

Tensor Tensor::slice(int axis, std::int64_t begin, std::int64_t end, std::int64_t step) const {
  checked();
  const auto at = static_cast<std::size_t>(shape_.normalize_axis(axis));
  const std::int64_t extent = shape_.extents()[at];
  if (begin < 0 || begin > end || end > extent || step < 1) {
    throw ShapeError(
        cat("[slice] range ", begin, ":", end, ":", step, " does not fit axis ", axis, " of ", shape_));
  }
  Extents extents = shape_.extents();
  extents[at] = end == begin ? 0 : (end - begin - 1) / step + 1;
  Tensor view = *this;
  view.shape_ = Shape(std::move(extents));
  if (view.shape_.numel() != 0) view.offset_ += begin * strides_[at];
  view.strides_[at] =
      strides_[at] *
      std::min(step, std::max<std::int64_t>(extent, 1));  // with a longer step there is only one element
  return view;
}

Tensor Tensor::select(int axis, std::int64_t index) const {
  checked();
  const int normal = shape_.normalize_axis(axis);
  if (index < 0 || index >= shape_[normal]) {
    throw ShapeError(cat("[select] index ", index, " is outside axis ", axis, " of ", shape_));
  }
  return slice(normal, index, index + 1).squeeze(normal);
}

Tensor Tensor::unsqueeze(int axis) const {
  checked();
  if (axis < -rank() - 1 || axis > rank()) {
    throw ShapeError(cat("[unsqueeze] axis ", axis, " is outside ", shape_, " of rank ", rank()));
  }
  const int at = axis < 0 ? axis + rank() + 1 : axis;
  Extents extents = shape_.extents();
  extents.insert(extents.begin() + at, 1);
  Tensor view = *this;
  view.shape_ = Shape(std::move(extents));
  view.strides_.insert(view.strides_.begin() + at, 1);
  return view;
}

Tensor Tensor::squeeze(int axis) const {
  checked();
  const int at = shape_.normalize_axis(axis);
  if (shape_[at] != 1)
    throw ShapeError(cat("[squeeze] axis ", axis, " of ", shape_, " has extent ", shape_[at]));
  Extents extents = shape_.extents();
  extents.erase(extents.begin() + at);
  Tensor view = *this;
  view.shape_ = Shape(std::move(extents));
  view.strides_.erase(view.strides_.begin() + at);
  return view;
}

Tensor Tensor::expand(const Shape& shape) const {
  checked();
  const int added = shape.rank() - rank();
  bool fits = added >= 0;
  for (int i = 0; fits && i < rank(); ++i) fits = shape_[i] == shape[added + i] || shape_[i] == 1;
  if (!fits) throw ShapeError(cat("[expand] ", shape_, " does not broadcast to ", shape));
  Extents strides(static_cast<std::size_t>(shape.rank()), 0);
  for (int i = 0; i < rank(); ++i) {
    if (shape_[i] == shape[added + i])
      strides[static_cast<std::size_t>(added + i)] = strides_[static_cast<std::size_t>(i)];
  }
  Tensor view = *this;
  view.shape_ = shape;
  view.strides_ = std::move(strides);
  return view;
}

}  // namespace llsa
