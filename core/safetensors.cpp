// The reader trusts nothing. Every number is checked for type, sign and range before it is used. The tensors have
// to cover the data exactly, without gap or overlap, as the format demands.
#include "core/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <system_error>

#include "core/atomic_file.h"
#include "core/closest.h"

namespace llsa {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

static_assert(std::endian::native == std::endian::little, "the format is little-endian, and mapped as it is");

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kMaxHeader = 100'000'000;  // the reference reader's limit
constexpr int kMaxDepth = 8;                     // the format itself needs three levels
constexpr std::string_view kMetadata = "__metadata__";

/// How elements are stored, and the dtype that they are read as.
struct Stored {
  std::string_view name;
  DType dtype;
  std::size_t bytes;  // of one element
};
constexpr Stored kStored[] = {
    {"F32", DType::f32, 4}, {"F64", DType::f64, 8}, {"BF16", DType::bf16, 2}, {"I32", DType::i32, 4},
    {"I64", DType::i64, 8}, {"U8", DType::u8, 1},   {"F16", DType::f32, 2},  // last: F32 is written as F32
};
constexpr std::string_view kForeignDTypes[] = {"BOOL", "I8",  "U16",     "I16",
                                               "U32",  "U64", "F8_E4M3", "F8_E5M2"};

[[noreturn]] void fail(const std::string& path, const std::string& what, std::string hint = {}) {
  throw IoError(cat("[safetensors] ", path, ": ", what), std::move(hint));
}

std::string system_reason() { return std::generic_category().message(errno); }

/// Maps a whole regular file copy-on-write.
std::shared_ptr<Storage> map_file(const std::string& path) {
  const int descriptor =
      open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // opening a pipe must not wait for its writer
  if (descriptor < 0) fail(path, "cannot open: " + system_reason());
  struct stat info {};
  const bool known = fstat(descriptor, &info) == 0;
  const bool regular = known && S_ISREG(info.st_mode);
  const auto bytes = regular ? static_cast<std::size_t>(info.st_size) : 0;
  void* mapping = MAP_FAILED;
  if (bytes >= kLengthBytes)
    mapping = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0);
  const std::string reason = system_reason();
  close(descriptor);
  if (!regular) fail(path, "is no regular file");
  if (bytes < kLengthBytes) fail(path, cat("has ", bytes, " bytes, too few for a header"));
  if (mapping == MAP_FAILED) fail(path, "cannot map: " + reason);
  return std::make_shared<Storage>(mapping, bytes, Device{}, [mapping, bytes] { munmap(mapping, bytes); });
}

/// Parses JSON. Duplicate keys (nlohmann would keep the last one) and deep nesting are errors.
json parse_header(const std::string& path, std::string_view text) {
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto check = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > kMaxDepth) fail(path, "header is nested too deeply");
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) fail(path, cat("name \"", key, "\" occurs twice in the header"));
    }
    return true;
  };
  try {
    return json::parse(text, check);
  } catch (const json::exception& error) {
    fail(path, cat("header is not valid JSON: ", error.what()));
  }
}

/// The checks of one tensor's entry, with the names for messages.
struct EntryReader {
  const std::string& path;
  const std::string& name;
  const json& entry;

  [[noreturn]] void wrong(const std::string& what) const { fail(path, cat("tensor \"", name, "\" ", what)); }

  const json& field(const char* key) const {
    const auto found = entry.find(key);
    if (found == entry.end()) wrong(cat("has no \"", key, "\""));
    return *found;
  }

  std::vector<std::int64_t> integers(const char* key) const {
    const json& list = field(key);
    if (!list.is_array()) wrong(cat("has a \"", key, "\" that is not a list"));
    std::vector<std::int64_t> out;
    for (const json& value : list) {
      if (!value.is_number_unsigned() ||
          value.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max()) {
        wrong(cat("has ", value.dump(-1, ' ', false, json::error_handler_t::replace), " in \"", key,
                  "\", where an integer from 0 to 2^63 - 1 is expected"));
      }
      out.push_back(value.get<std::int64_t>());
    }
    return out;
  }

  const Stored& stored() const {
    const json& value = field("dtype");
    if (!value.is_string()) wrong("has a \"dtype\" that is not a text");
    const auto& text = value.get_ref<const std::string&>();
    for (const Stored& known : kStored) {
      if (text == known.name) return known;
    }
    if (std::find(std::begin(kForeignDTypes), std::end(kForeignDTypes), text) != std::end(kForeignDTypes)) {
      fail(path, cat("tensor \"", name, "\" has dtype ", text, ", which is not supported"),
           "convert it to F32, F64, BF16, F16, I32, I64 or U8");
    }
    wrong(cat("has the unknown dtype \"", text, "\""));
  }

  Shape shape() const {
    const std::vector<std::int64_t> extents = integers("shape");
    try {
      return Shape(extents);
    } catch (const ShapeError& error) {
      wrong(cat("has an impossible shape: ", error.what()));
    }
  }
};

struct Entry {
  std::size_t begin;  // from the start of the data
  std::size_t end;
  std::string name;
};

/// The entries have to follow each other from 0 to `data_bytes`.
void check_cover(const std::string& path, std::vector<Entry> entries, std::size_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  std::size_t covered = 0;
  for (const Entry& entry : entries) {
    if (entry.begin < covered)
      fail(path, cat("tensor \"", entry.name, "\" overlaps another one at byte ", entry.begin));
    if (entry.begin > covered)
      fail(path, cat("bytes ", covered, " to ", entry.begin, " of the data belong to no tensor"));
    covered = entry.end;
  }
  if (covered != data_bytes)
    fail(path, cat("bytes ", covered, " to ", data_bytes, " of the data belong to no tensor"));
}

/// A tensor with memory of its own, without values yet.
Tensor own_tensor(const Shape& shape, DType dtype) {
  const std::size_t bytes = static_cast<std::size_t>(shape.numel()) * size_of(dtype);
  auto memory = std::make_shared<std::vector<std::max_align_t>>(bytes / sizeof(std::max_align_t) + 1);
  void* data = memory->data();
  return Tensor::over(std::make_shared<Storage>(data, bytes, Device{}, [memory = std::move(memory)] {}),
                      shape, dtype);
}

/// The value of an IEEE half, which a float holds exactly.
float widen(std::uint16_t half) {
  constexpr std::uint32_t kInfinity = 0x7c00, kSmallestNormal = 0x0400;
  constexpr std::uint32_t kBias = (127 - 15) << 23, kFloatInfinity = 0x7f800000;
  const std::uint32_t magnitude = half & 0x7fffu;
  const std::uint32_t shifted = magnitude << 13;  // the exponent and the fraction in their places
  const std::uint32_t bits = magnitude >= kInfinity ? shifted | kFloatInfinity
                             : magnitude >= kSmallestNormal
                                 ? shifted + kBias
                                 : std::bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1p-24f);
  return std::bit_cast<float>(bits | (half & 0x8000u) << 16);
}

/// A view of the mapping, or a copy if the bytes are not aligned or have to be converted.
Tensor tensor_at(const std::shared_ptr<Storage>& file, std::size_t position, const Shape& shape,
                 const Stored& stored) {
  const std::byte* from = file->data() + position;
  if (stored.bytes != size_of(stored.dtype)) {
    Tensor wide = own_tensor(shape, stored.dtype);
    for (std::int64_t i = 0; i < shape.numel(); ++i) {
      std::uint16_t half = 0;
      std::memcpy(&half, from + static_cast<std::size_t>(i) * sizeof half, sizeof half);
      wide.data<float>()[i] = widen(half);
    }
    return wide;
  }
  if (position % stored.bytes == 0)
    return Tensor::over(file, shape, stored.dtype, static_cast<std::int64_t>(position / stored.bytes));
  Tensor copy = own_tensor(shape, stored.dtype);
  std::memcpy(copy.raw(), from, copy.nbytes());
  return copy;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path) {
  const std::shared_ptr<Storage> file = map_file(path);
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file->data(), kLengthBytes);
  const std::size_t rest = file->bytes() - kLengthBytes;
  if (header_bytes > rest) {
    fail(path, cat("announces a header of ", header_bytes, " bytes, ", rest, " follow"),
         "the file is truncated, or no safetensors file");
  }
  if (header_bytes > kMaxHeader) fail(path, cat("header of ", header_bytes, " bytes is beyond ", kMaxHeader));
  const std::string_view text(reinterpret_cast<const char*>(file->data()) + kLengthBytes, header_bytes);
  if (text.empty() || text.front() != '{') fail(path, "header is not a JSON object");
  const json header = parse_header(path, text);
  const std::size_t data_begin = kLengthBytes + header_bytes;
  const std::size_t data_bytes = file->bytes() - data_begin;

  std::vector<Entry> entries;
  for (const auto& [name, entry] : header.items()) {
    if (!entry.is_object()) fail(path, cat("\"", name, "\" is not an object"));
    if (name == kMetadata) {
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string()) fail(path, cat("metadata \"", key, "\" is not a text"));
        metadata_[key] = value.get<std::string>();
      }
      continue;
    }
    const EntryReader reader{path, name, entry};
    const Stored& stored = reader.stored();
    const Shape shape = reader.shape();
    const std::vector<std::int64_t> offsets = reader.integers("data_offsets");
    if (offsets.size() != 2) reader.wrong(cat("has ", offsets.size(), " data offsets instead of 2"));
    const auto begin = static_cast<std::size_t>(offsets[0]);
    const auto end = static_cast<std::size_t>(offsets[1]);
    if (begin > end) reader.wrong(cat("ends at byte ", end, ", before its begin at ", begin));
    if (end > data_bytes) {
      fail(path, cat("tensor \"", name, "\" ends at byte ", end, " of the data, the file has ", data_bytes),
           "the file is truncated");
    }
    const std::size_t bytes = static_cast<std::size_t>(shape.numel()) * stored.bytes;
    if (end - begin != bytes) {
      reader.wrong(cat("has ", end - begin, " bytes, ", shape, " of ", stored.name, " needs ", bytes));
    }
    entries.push_back({begin, end, name});
    tensors_[name] = tensor_at(file, data_begin + begin, shape, stored);
  }
  check_cover(path, std::move(entries), data_bytes);
}

const Tensor& SafetensorsFile::at(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) return found->second;
  constexpr std::size_t kShown = 3;
  std::vector<std::pair<std::size_t, std::string>> closest;
  for (const auto& item : tensors_) closest.emplace_back(edit_distance(name, item.first), item.first);
  std::sort(closest.begin(), closest.end());
  std::string names;
  for (std::size_t i = 0; i < std::min(kShown, closest.size()); ++i)
    names += (i == 0 ? "" : ", ") + closest[i].second;
  fail(path_, cat("has no tensor \"", name, "\""),
       names.empty() ? "the file has no tensors" : "closest names: " + names);
}

void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const std::pair<std::string, Tensor>*> order;
  for (const auto& item : tensors) order.push_back(&item);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return size_of(a->second.dtype()) > size_of(b->second.dtype());
  });

  ordered_json header = ordered_json::object();
  if (!metadata.empty()) header[std::string(kMetadata)] = metadata;
  std::set<std::string> names;
  std::size_t position = 0;
  for (const auto* item : order) {
    const auto& [name, tensor] = *item;
    if (name == kMetadata) throw ValueError(cat("[safetensors] the name ", kMetadata, " is reserved"));
    if (!names.insert(name).second) throw ValueError(cat("[safetensors] name \"", name, "\" is given twice"));
    if (!tensor.device().is_cpu()) throw DeviceError(cat("[safetensors] \"", name, "\" is not on the CPU"));
    if (!tensor.is_contiguous()) throw ShapeError(cat("[safetensors] \"", name, "\" is not contiguous"));
    const Stored* known =
        std::find_if(std::begin(kStored), std::end(kStored),
                     [dtype = tensor.dtype()](const Stored& stored) { return stored.dtype == dtype; });
    const std::size_t end = position + tensor.nbytes();
    header[name] = {
        {"dtype", known->name}, {"shape", tensor.shape().extents()}, {"data_offsets", {position, end}}};
    position = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const ordered_json::exception& error) {
    throw ValueError(cat("[safetensors] a name or the metadata is not UTF-8: ", error.what()));
  }
  text.append((kLengthBytes - text.size() % kLengthBytes) % kLengthBytes,
              ' ');  // so that the data begins at a multiple of 8 bytes

  AtomicFile file(path);
  const std::uint64_t header_bytes = text.size();
  file.write(&header_bytes, kLengthBytes);
  file.write(text);
  for (const auto* item : order) file.write(item->second.raw(), item->second.nbytes());
  file.commit();
}

}  // namespace llsa
