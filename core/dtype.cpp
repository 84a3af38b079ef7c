#include "core/dtype.h"

namespace llsa {

DType dtype_from_name(std::string_view name) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64, DType::i32, DType::i64, DType::u8}) {
    if (name == name_of(dtype)) return dtype;
  }
  throw ValueError(cat("[dtype] expected f32, bf16, f64, i32, i64 or u8, got \"", name, "\""));
}

}  // namespace llsa
