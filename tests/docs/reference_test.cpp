// The tables of docs/ against the tables of the code.
#include <doctest/doctest.h>

#include <cctype>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "autograd/table/op_table.h"
#include "nn/dit_config.h"
#include "nn/json.h"
#include "nn/train_options.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

namespace fs = std::filesystem;
using llsa::test::contains;
using llsa::test::read_file;

namespace {

const fs::path kRoot = LLSA_SOURCE_DIR;

std::string document(const std::string& name) { return read_file((kRoot / "docs" / name).string()); }

/// The name as code, between backticks.
std::string code(const std::string& name) { return "`" + name + "`"; }

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// Words in lower case with one blank between them; what begins the lines of comments counts as blanks.
std::string words_of(const std::string& text) {
  std::string words = " ";
  for (const char c : text) {
    if (!std::isspace(static_cast<unsigned char>(c)) && c != '/')
      words += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    else if (words.back() != ' ')
      words += ' ';
  }
  return words;
}

}  // namespace

TEST_SUITE_BEGIN("docs/reference");

TEST_CASE("the tour lists every op of the op table") {
  const std::string tour = document("tour.md");
  for (const llsa::OpRow& row : llsa::op_table()) {
    CAPTURE(std::string(row.op()));
    CHECK(contains(tour, code(std::string(row.op()))));
  }
}

TEST_CASE("the configuration reference explains every setting and every key of the model") {
  const std::string reference = document("configuration.md");
  for (const llsa::nn::Setting& setting : llsa::nn::train_settings()) {
    CAPTURE(setting.key);
    CHECK(contains(reference, code(setting.key)));
    CHECK(contains(reference, code(std::string("--") + setting.flag)));
  }
  const llsa::nn::JsonObject model(llsa::nn::DitConfig().json(), "defaults");
  for (const auto& entry : model.entries()) {
    CAPTURE(entry.first);
    CHECK(contains(reference, code(entry.first)));
  }
}

TEST_CASE("every word of the glossary is in use") {
  std::string sources = read_file((kRoot / "README.md").string());
  for (const char* layer : {"core", "kernels", "autograd", "nn", "apps"})
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / layer))
      if (entry.is_regular_file()) sources += read_file(entry.path().string());
  const std::string words = words_of(sources);
  int terms = 0;
  for (const std::string& line : lines_of(document("glossary.md"))) {
    if (!line.starts_with("**")) continue;
    const std::string term = line.substr(2, line.find("**", 2) - 2);
    CAPTURE(term);
    CHECK(contains(words, words_of(term)));
    ++terms;
  }
  CHECK(terms > 30);
}

TEST_CASE("what docs quote from a file stands there") {
  for (const auto& entry : fs::recursive_directory_iterator(kRoot / "docs")) {
    if (entry.path().extension() != ".md") continue;
    CAPTURE(entry.path().string());
    bool inside = false;
    std::string file;  // the words of the file that the current block quotes
    for (const std::string& line : lines_of(read_file(entry.path().string()))) {
      if (line.starts_with("```")) {
        inside = !inside;
        file.clear();
        const auto blank = line.find(' ');
        if (!inside || blank == std::string::npos || !contains(line, "/")) continue;
        const fs::path path = kRoot / line.substr(blank + 1);
        CAPTURE(path.string());
        REQUIRE(fs::exists(path));
        file = words_of(read_file(path.string()));
      } else if (!file.empty() && !line.empty() && line != "..") {
        CAPTURE(line);
        CHECK(contains(file, words_of(line)));
      }
    }
  }
}

TEST_SUITE_END();
