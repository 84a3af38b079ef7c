// docs/results/README.md says of every CUDA kernel where it has been seen, in the row of its file.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/files.h"
#include "tests/support/text.h"

namespace fs = std::filesystem;
using llsa::test::contains;

namespace {

const fs::path kKernels = fs::path(LLSA_SOURCE_DIR) / "kernels/cuda";

/// The rows of the table of kernels, whose first cells name files.
std::vector<std::string> rows() {
  std::istringstream text(llsa::test::read_file(LLSA_SOURCE_DIR "/docs/results/README.md"));
  std::vector<std::string> rows;
  bool inside = false;
  for (std::string line; std::getline(text, line);) {
    if (contains(line, "| Kernels (`kernels/cuda/`)")) inside = true;
    if (inside && !line.starts_with('|')) break;
    if (inside && line.starts_with("| `")) rows.push_back(line);
  }
  return rows;
}

/// What stands where the expression's group is, at all places.
std::vector<std::string> all_of(const std::regex& expression, const std::string& text) {
  std::vector<std::string> found;
  for (std::sregex_iterator at(text.begin(), text.end(), expression), end; at != end; ++at)
    found.push_back((*at)[1]);
  return found;
}

std::vector<std::string> kernels_in(const fs::path& file) {
  static const std::regex kernel(
      R"(__global__\s+void\s+(?:__launch_bounds__\([^()]*(?:\([^()]*\)[^()]*)*\)\s*)?(\w+)\s*\()");
  static const std::regex any(R"((__global__))");
  const std::string text = llsa::test::read_file(file.string());
  std::vector<std::string> names = all_of(kernel, text);
  CHECK(names.size() == all_of(any, text).size());  // in another spelling they would pass unseen
  return names;
}

/// Cell `index` of a row.
std::string cell_of(const std::string& row, int index) {
  std::istringstream cells(row);
  std::string cell;
  for (int i = 0; i < index + 2; ++i) std::getline(cells, cell, '|');
  return cell;
}

/// The row that names this file, or "".
std::string row_of(const std::string& file) {
  for (const std::string& row : rows())
    if (contains(cell_of(row, 0), "`" + file + "`")) return row;
  return "";
}

}  // namespace

TEST_SUITE_BEGIN("docs/results");

TEST_CASE("the table names every kernel and every .cu file") {
  for (const auto& entry : fs::recursive_directory_iterator(kKernels)) {
    const auto extension = entry.path().extension();
    if (extension != ".cu" && extension != ".cuh") continue;
    const std::string file = fs::relative(entry.path(), kKernels).string();
    CAPTURE(file);
    const std::vector<std::string> names = kernels_in(entry.path());
    if (extension == ".cuh" && names.empty()) continue;
    const std::string row = row_of(file);
    CHECK(!row.empty());
    for (const std::string& name : names) {
      CAPTURE(name);
      CHECK(contains(cell_of(row, 1), "`" + name + "`"));
    }
  }
}

TEST_CASE("the files that the table names exist, and hold the kernels that it names") {
  static const std::regex file(R"(`([\w/]+\.\w+)`)"), kernel(R"(`(\w+)`)");
  REQUIRE(!rows().empty());
  for (const std::string& row : rows()) {
    CAPTURE(row);
    std::vector<std::string> there;
    for (const std::string& name : all_of(file, cell_of(row, 0))) {
      CAPTURE(name);
      REQUIRE(fs::exists(kKernels / name));
      for (const std::string& found : kernels_in(kKernels / name)) there.push_back(found);
    }
    for (const std::string& name : all_of(kernel, cell_of(row, 1))) {
      CAPTURE(name);
      CHECK(std::find(there.begin(), there.end(), name) != there.end());
    }
  }
}

TEST_SUITE_END();
