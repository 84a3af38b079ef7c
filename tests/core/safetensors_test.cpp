// Round trips, and every way in which a file can be malformed.
#include "core/safetensors.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <numeric>
#include <string>

#include "core/context.h"
#include "tests/support/child_process.h"
#include "tests/support/files.h"

using namespace llsa;
using namespace llsa::test;

namespace {

/// A file from its parts.
std::string bytes_of(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

/// The message that reading such a file gives; empty when it can be read.
std::string error_of(const std::string& file) {
  TempDir dir;
  write_file(dir / "x.safetensors", file);
  try {
    SafetensorsFile read(dir / "x.safetensors");
  } catch (const IoError& error) {
    CHECK(std::strstr(error.what(), "x.safetensors") != nullptr);
    return error.what();
  }
  return {};
}

bool fails_with(const std::string& file, const char* text) {
  const std::string error = error_of(file);
  INFO("got: " << error);
  const bool found = error.find(text) != std::string::npos;
  CHECK(found);
  return found;
}

Tensor counting(Context& context, const Shape& shape, float first) {
  Tensor tensor = context.empty(shape, DType::f32);
  std::iota(tensor.data<float>(), tensor.data<float>() + tensor.numel(), first);
  return tensor;
}

}  // namespace

TEST_SUITE_BEGIN("core/safetensors");

TEST_CASE("what is written is read back, for every dtype") {
  TempDir dir;
  Context context(1);
  const std::string path = dir / "all.safetensors";
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const DType dtype : {DType::u8, DType::bf16, DType::f32, DType::i32, DType::i64, DType::f64}) {
    Tensor tensor = context.empty({3, 5}, dtype);
    for (std::size_t i = 0; i < tensor.nbytes(); ++i) tensor.raw()[i] = static_cast<std::byte>(i * 7 + 1);
    tensors.emplace_back(std::string(name_of(dtype)), tensor);
  }
  tensors.emplace_back("scalar", counting(context, {}, 4));
  tensors.emplace_back("nothing", context.empty({0, 2}, DType::f32));
  tensors.emplace_back("slice", counting(context, {4, 2}, 0).slice(0, 1, 3));
  write_safetensors(path, tensors, {{"format", "pt"}, {"note", "\"quoted\" \n \xc3\xa9"}});

  const SafetensorsFile file(path);
  CHECK(file.tensors().size() == tensors.size());
  CHECK(file.metadata().at("note") == "\"quoted\" \n \xc3\xa9");
  for (const auto& [name, tensor] : tensors) {
    const Tensor& read = file.at(name);
    REQUIRE(read.shape() == tensor.shape());
    REQUIRE(read.dtype() == tensor.dtype());
    CHECK(reinterpret_cast<std::uintptr_t>(read.raw()) % size_of(read.dtype()) == 0);
    if (tensor.numel() != 0) CHECK(std::memcmp(read.raw(), tensor.raw(), tensor.nbytes()) == 0);
  }
  CHECK(file.at("slice").data<float>()[0] == 2.0f);
  CHECK(file.contains("f32"));
  CHECK_FALSE(file.contains("F32"));
  CHECK(dir.entries() == 1);
}

TEST_CASE("tensors outlive the reader and the file's name, and writing to them leaves the file alone") {
  TempDir dir;
  Context context(1);
  const std::string path = dir / "a.safetensors";
  write_safetensors(path, {{"x", counting(context, {1000}, 0)}});
  const Tensor x = SafetensorsFile(path).at("x");
  x.data<float>()[1] = -1.0f;
  CHECK(SafetensorsFile(path).at("x").data<float>()[1] == 1.0f);
  write_safetensors(path, {{"x", counting(context, {2}, 7)}});  // replaced by rename: the mapping stays whole
  CHECK(x.data<float>()[999] == 999.0f);
  std::filesystem::remove(path);
  CHECK(x.data<float>()[998] == 998.0f);
}

TEST_CASE("files of other writers: padding, unsorted entries, misaligned data") {
  TempDir dir;
  const std::string header =
      R"({"b":{"data_offsets":[4,8],"shape":[1],"dtype":"F32","extra":1},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})";
  for (std::size_t padding = 0; padding < 8; ++padding) {
    const float values[] = {1.5f, 2.5f};
    write_file(dir / "x", bytes_of(header + std::string(padding, ' '),
                                   std::string(reinterpret_cast<const char*>(values), 8)));
    const SafetensorsFile file(dir / "x");
    CHECK(*file.at("a").data<float>() == 1.5f);
    CHECK(*file.at("b").data<float>() == 2.5f);
  }
  CHECK(error_of(bytes_of("{}", "")).empty());
  CHECK(error_of(bytes_of(R"({"__metadata__":{}})", "")).empty());
}

TEST_CASE("F16 is read as f32: every number, both infinities, and what is none") {
  std::string data(2 * 65536, '\0');
  for (std::size_t half = 0; half < 65536; ++half) {
    data[2 * half] = static_cast<char>(half & 0xff);
    data[2 * half + 1] = static_cast<char>(half >> 8);
  }
  TempDir dir;
  const std::string header = R"({"a":{"dtype":"F16","shape":[256,256],"data_offsets":[0,131072]}})";
  write_file(dir / "x", bytes_of(header, data));
  const Tensor read = SafetensorsFile(dir / "x").at("a");
  REQUIRE(read.dtype() == DType::f32);
  REQUIRE(read.shape() == Shape{256, 256});
  int wrong = 0;
  for (int half = 0; half < 65536; ++half) {
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    const double magnitude = exponent == 31  ? std::numeric_limits<double>::infinity()
                             : exponent == 0 ? std::ldexp(fraction, -24)
                                             : std::ldexp(1024 + fraction, exponent - 25);
    const float value = read.data<float>()[half];
    const bool number = exponent < 31 || fraction == 0;
    wrong += number ? !(std::fabs(value) == magnitude && std::signbit(value) == (half >= 32768))
                    : !std::isnan(value);
  }
  CHECK(wrong == 0);
}

TEST_CASE("a missing name lists the closest ones") {
  TempDir dir;
  Context context(1);
  const Tensor x = counting(context, {1}, 0);
  write_safetensors(dir / "x", {{"blocks.0.weight", x}, {"blocks.1.weight", x}, {"head", x}});
  const SafetensorsFile file(dir / "x");
  try {
    file.at("blocks.1.weigth");
    CHECK(false);
  } catch (const IoError& error) {
    CHECK(error.hint().find("closest names: blocks.1.weight") == 0);
  }
}

TEST_CASE("files that cannot be opened") {
  TempDir dir;
  CHECK_THROWS_AS(SafetensorsFile(dir / "missing"), IoError);
  CHECK_THROWS_AS(SafetensorsFile(dir.path()), IoError);
  CHECK_THROWS_AS(SafetensorsFile("/dev/null"), IoError);
  write_file(dir / "secret", bytes_of("{}", ""));
  std::filesystem::permissions(dir / "secret", std::filesystem::perms{0});
  CHECK(run_as_ordinary_user([&] {
          try {
            SafetensorsFile file(dir / "secret");
          } catch (const IoError& error) {
            return std::strstr(error.what(), "Permission denied") != nullptr ? 0 : 1;
          }
          return 2;
        }) == 0);
}

TEST_CASE("malformed headers") {
  fails_with("", "has 0 bytes");
  fails_with("1234567", "has 7 bytes");
  fails_with(bytes_of("{}", "").substr(0, 9), "announces a header of 2 bytes, 1 follow");
  fails_with(std::string(8, '\xff') + "{}", "announces a header");
  fails_with(std::string(8, '\0'), "not a JSON object");
  fails_with(bytes_of("[]", ""), "not a JSON object");
  fails_with(bytes_of(" {}", ""), "not a JSON object");
  fails_with(bytes_of("{", ""), "not valid JSON");
  fails_with(bytes_of("{}x", ""), "not valid JSON");
  fails_with(bytes_of("{\"\xff\":1}", ""), "not valid JSON");
  fails_with(bytes_of(R"({"a":)" + std::string(100000, '['), ""), "nested too deeply");
  fails_with(bytes_of(R"({"a":1})", ""), "\"a\" is not an object");
  fails_with(bytes_of(R"({"__metadata__":[]})", ""), "is not an object");
  fails_with(bytes_of(R"({"__metadata__":{"k":1}})", ""), "metadata \"k\" is not a text");
}

TEST_CASE("malformed entries") {
  const auto entry = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"a":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  const std::string data(8, 'x');
  CHECK(error_of(bytes_of(entry("\"F32\"", "[2]", "[0,8]"), data)).empty());
  fails_with(bytes_of(R"({"a":{"shape":[2],"data_offsets":[0,8]}})", data), "has no \"dtype\"");
  fails_with(bytes_of(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", data), "has no \"shape\"");
  fails_with(bytes_of(R"({"a":{"dtype":"F32","shape":[2]}})", data), "has no \"data_offsets\"");
  fails_with(bytes_of(entry("3", "[2]", "[0,8]"), data), "\"dtype\" that is not a text");
  fails_with(bytes_of(entry("\"F31\"", "[2]", "[0,8]"), data), "unknown dtype \"F31\"");
  fails_with(bytes_of(entry("\"I16\"", "[4]", "[0,8]"), data), "I16, which is not supported");
  fails_with(bytes_of(entry("\"F16\"", "[2]", "[0,8]"), data), "has 8 bytes, [2] of F16 needs 4");
  fails_with(bytes_of(entry("\"F32\"", "2", "[0,8]"), data), "\"shape\" that is not a list");
  fails_with(bytes_of(entry("\"F32\"", "[-2]", "[0,8]"), data), "has -2 in \"shape\"");
  fails_with(bytes_of(entry("\"F32\"", "[2.0]", "[0,8]"), data), "has 2.0 in \"shape\"");
  fails_with(bytes_of(entry("\"F32\"", "[\"2\"]", "[0,8]"), data), "in \"shape\"");
  fails_with(bytes_of(entry("\"F32\"", "[18446744073709551615]", "[0,8]"), data), "in \"shape\"");
  fails_with(bytes_of(entry("\"F32\"", "[4294967296,4294967296]", "[0,8]"), data), "impossible shape");
  fails_with(bytes_of(entry("\"F32\"", "[0,9223372036854775807,2]", "[0,0]"), data), "impossible shape");
  fails_with(bytes_of(entry("\"F32\"", "[2]", "[0,4]"), data), "has 4 bytes, [2] of F32 needs 8");
  fails_with(bytes_of(entry("\"F32\"", "[2]", "[8,0]"), data), "before its begin");
  fails_with(bytes_of(entry("\"F32\"", "[2]", "[0]"), data), "has 1 data offsets");
  fails_with(bytes_of(entry("\"F32\"", "[2]", "[-8,0]"), data), "has -8 in \"data_offsets\"");
  fails_with(bytes_of(entry("\"F32\"", "[2]", "{}"), data), "\"data_offsets\" that is not a list");
  fails_with(bytes_of(entry("\"F32\"", "[2]", "[0,8]"), data.substr(1)),
             "ends at byte 8 of the data, the file has 7");
  fails_with(bytes_of(entry("\"F32\"", "[2]", "[0,8]"), data + "y"),
             "bytes 8 to 9 of the data belong to no tensor");
  fails_with(bytes_of(entry("\"F32\"", "[1]", "[4,8]"), data),
             "bytes 0 to 4 of the data belong to no tensor");
  fails_with(bytes_of("{}", data), "belong to no tensor");
}

TEST_CASE("overlaps, gaps and duplicates") {
  const std::string a = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  const auto b = [](const std::string& offsets) {
    return R"("b":{"dtype":"U8","shape":[4],"data_offsets":)" + offsets + "}";
  };
  CHECK(error_of(bytes_of("{" + a + "," + b("[4,8]") + "}", std::string(8, 'x'))).empty());
  fails_with(bytes_of("{" + a + "," + b("[3,7]") + "}", std::string(7, 'x')), "overlaps");
  fails_with(bytes_of("{" + a + "," + b("[0,4]") + "}", std::string(4, 'x')), "overlaps");
  fails_with(bytes_of("{" + a + "," + b("[5,9]") + "}", std::string(9, 'x')), "bytes 4 to 5");
  fails_with(bytes_of("{" + a + "," + a + "}", std::string(4, 'x')), "\"a\" occurs twice");
  fails_with(
      bytes_of(R"({"a":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}})", std::string(4, 'x')),
      "\"dtype\" occurs twice");
}

TEST_CASE("every truncation of a file is an error") {
  TempDir dir;
  Context context(1);
  write_safetensors(dir / "x", {{"a", counting(context, {3}, 0)}, {"b", counting(context, {2, 2}, 0)}});
  const std::string whole = read_file(dir / "x");
  CHECK(error_of(whole).empty());
  for (std::size_t length = 0; length < whole.size(); ++length)
    CHECK_FALSE(error_of(whole.substr(0, length)).empty());
}

TEST_CASE("what cannot be written") {
  TempDir dir;
  Context context(1);
  const Tensor x = counting(context, {2, 2}, 0);
  CHECK_THROWS_AS(write_safetensors(dir / "x", {{"a", x}, {"a", x}}), ValueError);
  CHECK_THROWS_AS(write_safetensors(dir / "x", {{"__metadata__", x}}), ValueError);
  CHECK_THROWS_AS(write_safetensors(dir / "x", {{"\xff", x}}), ValueError);
  CHECK_THROWS_AS(write_safetensors(dir / "x", {{"a", x.transpose(0, 1)}}), ShapeError);
  CHECK_THROWS_AS(write_safetensors(dir / "x", {{"a", Tensor()}}), Error);
  CHECK_THROWS_AS(write_safetensors(dir / "missing/x", {{"a", x}}), IoError);
  CHECK(dir.entries() == 0);
}

TEST_CASE("a full disk leaves the old file whole") {
  TempDir dir;
  Context context(1);
  write_safetensors(dir / "x", {{"a", counting(context, {2}, 5)}});
  CHECK(run_in_child([&] {
          Context child(1);
          limit_file_size(10000);
          try {
            write_safetensors(dir / "x", {{"a", child.zeros({100000}, DType::f32)}});
          } catch (const IoError&) {
            return 0;
          }
          return 2;
        }) == 0);
  CHECK(dir.entries() == 1);
  CHECK(SafetensorsFile(dir / "x").at("a").data<float>()[1] == 6.0f);
}

TEST_SUITE_END();
