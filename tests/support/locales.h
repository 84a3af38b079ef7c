// Locales in which a number looks different: a decimal comma, and digits in groups. While one of these lives, it is the global
// one.
#pragma once

#include <stdlib.h>

#include <array>
#include <clocale>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <locale>
#include <string>

#include "tests/support/files.h"

namespace llsa::test {

/// The global C++ locale: 1234567.5 is written 1.234.567,5.
class CommaCppLocale {
 public:
  CommaCppLocale() : before_(std::locale::global(std::locale(std::locale(), new Punctuation))) {}
  ~CommaCppLocale() { std::locale::global(before_); }
  CommaCppLocale(const CommaCppLocale&) = delete;
  CommaCppLocale& operator=(const CommaCppLocale&) = delete;

 private:
  struct Punctuation : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  std::locale before_;
};

/// The numbers of the C locale: printf("%g", 1.5) writes 1,5. No system has to have such a locale installed: it is written to a
/// file, in the format of glibc (magic number, number of fields, their offsets, fields).
class CommaCLocale {
 public:
  CommaCLocale() {
    const auto bytes = [](std::uint32_t word) {
      return std::string(reinterpret_cast<const char*>(&word), sizeof word);
    };
    const std::array<std::string, 6> fields = {
        std::string(",", 2), std::string(".", 2), std::string("\3\3", 3),
        bytes(','),          bytes('.'),          std::string("UTF-8", 6)};
    std::string header = bytes(0x20031115u ^ LC_NUMERIC) + bytes(fields.size());
    const std::size_t header_size = header.size() + sizeof(std::uint32_t) * fields.size();
    std::string data;
    for (const std::string& field : fields) {
      data.resize((data.size() + 3) / 4 * 4);
      header += bytes(static_cast<std::uint32_t>(header_size + data.size()));
      data += field;
    }
    std::filesystem::create_directory(dir_ / "comma");
    write_file(dir_ / "comma/LC_NUMERIC", header + data);
    setenv("LOCPATH", dir_.path().c_str(), 1);
    std::setlocale(LC_NUMERIC, "comma");
    unsetenv("LOCPATH");
  }
  ~CommaCLocale() { std::setlocale(LC_NUMERIC, "C"); }
  CommaCLocale(const CommaCLocale&) = delete;
  CommaCLocale& operator=(const CommaCLocale&) = delete;

  /// False where the C library has other locale files.
  bool in_force() const { return std::strcmp(std::localeconv()->decimal_point, ",") == 0; }

 private:
  TempDir dir_;
};

}  // namespace llsa::test
