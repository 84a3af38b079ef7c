// The folders are layers, core < kernels < autograd < nn < apps, and includes point down only. Headers name
// each other relative to themselves, so that they work wherever they are installed; .cpp files name headers
// from the root.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

const std::vector<std::string> kLayers = {"core", "kernels", "autograd", "nn", "apps"};
const fs::path kRoot = LLSA_SOURCE_DIR;

// Heavy headers, which only .cpp files may include, and few of them.
const std::regex kHeavy(R"((CLI/|nlohmann/|stb_|stb/|dnnl|doctest/|omp\.h).*)");

struct Include {
  fs::path file;     // relative to the root
  std::string name;  // between the quotes or angle brackets
  bool quoted;
};

// The layer's number, or -1 for a path outside of all.
int layer_of(const fs::path& path) {
  const auto found = std::find(kLayers.begin(), kLayers.end(), path.begin()->string());
  return found == kLayers.end() ? -1 : static_cast<int>(found - kLayers.begin());
}

std::vector<Include> all_includes() {
  static const std::regex line_pattern(R"re(^\s*#\s*include\s*(["<])([^">]+)[">].*)re");
  std::vector<Include> includes;
  for (const std::string& layer : kLayers) {
    if (!fs::exists(kRoot / layer)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / layer)) {
      const auto extension = entry.path().extension();
      if (extension != ".h" && extension != ".cpp" && extension != ".cu" && extension != ".cuh") continue;
      std::ifstream in(entry.path());
      std::smatch match;
      for (std::string line; std::getline(in, line);) {
        if (!std::regex_match(line, match, line_pattern)) continue;
        includes.push_back({fs::relative(entry.path(), kRoot), match[2].str(), match[1].str() == "\""});
      }
    }
  }
  return includes;
}

}  // namespace

TEST_SUITE_BEGIN("layering");

TEST_CASE("includes point down only") {
  const auto includes = all_includes();
  CHECK(includes.size() > 10);
  for (const Include& include : includes) {
    if (!include.quoted) continue;
    INFO(include.file.string(), " includes \"", include.name, "\"");
    const bool header = include.file.extension() == ".h" || include.file.extension() == ".cuh";
    const fs::path target =
        (header ? include.file.parent_path() / include.name : fs::path(include.name)).lexically_normal();
    CHECK(fs::exists(kRoot / target));  // headers: relative to themselves; others: from the root
    CHECK(layer_of(target) >= 0);
    CHECK(layer_of(target) <= layer_of(include.file));
  }
}

TEST_CASE("headers do not include heavy packages") {
  for (const Include& include : all_includes()) {
    if (include.quoted || include.file.extension() != ".h") continue;
    INFO(include.file.string(), " includes <", include.name, ">");
    CHECK_FALSE(std::regex_match(include.name, kHeavy));
  }
}

TEST_SUITE_END();
