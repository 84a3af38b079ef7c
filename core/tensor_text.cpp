// Tensors as text, in the same way under every locale.
#include <array>
#include <charconv>
#include <ostream>
#include <string>

#include "core/cuda/device.h"
#include "core/tensor.h"

namespace llsa {
namespace {

constexpr int kDigits = 4;
// How many elements are written at each end of an axis. An element of an outer axis is a matrix, so there are fewer.
constexpr std::int64_t kEdge = 3;
constexpr std::int64_t kOuterEdge = 1;

/// The element at a place in memory.
template <class T>
T read(const T* element, Device device) {
  if (device.is_cpu()) return *element;
  T value;
  cuda::download(device.index, element, &value, sizeof value);
  return value;
}

template <class T>
void append_number(std::string& text, T value) {
  std::array<char, 32> digits;
  char* const begin = digits.data();
  char* end = begin + digits.size();
  if constexpr (std::is_integral_v<T>)
    end = std::to_chars(begin, end, static_cast<std::int64_t>(value)).ptr;
  else
    end = std::to_chars(begin, end, static_cast<double>(value), std::chars_format::general, kDigits).ptr;
  text.append(begin, end);
}

/// Appends the elements of the axes from `axis` on. `element` is the first one.
template <class T>
void append_elements(std::string& text, const Tensor& x, int axis, const T* element) {
  if (axis == x.rank()) return append_number(text, read(element, x.device()));
  const std::int64_t extent = x.size(axis);
  const std::int64_t edge = axis + 2 < x.rank() ? kOuterEdge : kEdge;
  text += '[';
  for (std::int64_t i = 0; i < extent; ++i) {
    if (i != 0) text += ", ";
    if (i == edge && extent > 2 * edge) {
      text += "..., ";
      i = extent - edge;
    }
    append_elements(text, x, axis + 1, element + i * x.stride(axis));
  }
  text += ']';
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Tensor& x) {
  if (!x.defined()) return out << "undefined";
  std::string text = cat(name_of(x.dtype()), " ", x.shape(), " on ", x.device().str(), ": ");
  visit_any(x.dtype(), [&]<class T>() { append_elements(text, x, 0, x.data<T>()); });
  return out << text;
}

}  // namespace llsa
