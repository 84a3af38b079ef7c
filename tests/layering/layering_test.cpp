// The folders are layers, core < kernels < autograd < nn < apps, and includes point down only. Headers name
// each other relative to themselves, so that they work wherever they are installed; .cpp files name headers
// from the root.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

const std::vector<std::string> kLayers = {"core", "kernels", "autograd", "nn", "apps"};
const fs::path kRoot = LLSA_SOURCE_DIR;

// Heavy headers, which only .cpp files may include, and few of them.
const std::vector<std::string> kHeavy = {"CLI/", "nlohmann/", "stb", "dnnl", "doctest/", "omp.h"};

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

// Appends the #include of a line, if it is one.
void read_line(const fs::path& file, const std::string& line, std::vector<Include>& includes) {
  const auto hash = line.find_first_not_of(" \t");
  if (hash == std::string::npos || line[hash] != '#' || line.find("include", hash) == std::string::npos)
    return;
  const auto open = line.find_first_of("\"<", hash);
  if (open == std::string::npos) return;
  const auto close = line.find_first_of("\">", open + 1);
  if (close == std::string::npos) return;
  includes.push_back({file, line.substr(open + 1, close - open - 1), line[open] == '"'});
}

std::vector<Include> includes_of(const fs::path& file) {
  std::vector<Include> includes;
  std::ifstream in(kRoot / file);
  for (std::string line; std::getline(in, line);) read_line(file, line, includes);
  return includes;
}

std::vector<Include> all_includes() {
  std::vector<Include> includes;
  for (const std::string& layer : kLayers) {
    if (!fs::exists(kRoot / layer)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / layer)) {
      const auto extension = entry.path().extension();
      if (extension != ".h" && extension != ".cpp" && extension != ".cu" && extension != ".cuh") continue;
      const auto of_file = includes_of(fs::relative(entry.path(), kRoot));
      includes.insert(includes.end(), of_file.begin(), of_file.end());
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
    const auto extension = include.file.extension();
    const bool header = (extension == ".h" && *include.file.begin() != "apps") || extension == ".cuh";
    const fs::path target =
        (header ? include.file.parent_path() / include.name : fs::path(include.name)).lexically_normal();
    CHECK(
        fs::exists(kRoot / target));  // headers of the library: relative to themselves; others: from the root
    CHECK(layer_of(target) >= 0);
    CHECK(layer_of(target) <= layer_of(include.file));
  }
}

TEST_CASE("headers do not include heavy packages") {
  for (const Include& include : all_includes()) {
    if (include.quoted || include.file.extension() != ".h") continue;
    INFO(include.file.string(), " includes <", include.name, ">");
    for (const std::string& heavy : kHeavy) CHECK(include.name.compare(0, heavy.size(), heavy) != 0);
  }
}

TEST_CASE("the umbrella header needs the library and a few light headers of the standard library") {
  // What it includes, directly or not.
  std::vector<fs::path> files = {"llsa.h"};
  std::set<std::string> standard;
  for (std::size_t i = 0; i < files.size(); ++i) {
    for (const Include& include : includes_of(files[i])) {
      if (!include.quoted) {
        standard.insert(include.name);
        continue;
      }
      const fs::path target = (files[i].parent_path() / include.name).lexically_normal();
      INFO(files[i].string(), " includes \"", include.name, "\"");
      CHECK(fs::exists(kRoot / target));
      CHECK(layer_of(target) >= 0);
      CHECK(layer_of(target) < layer_of("apps"));
      if (std::find(files.begin(), files.end(), target) == files.end()) files.push_back(target);
    }
  }
  CHECK(files.size() > 20);
  CHECK(standard.count("vector") == 1);
  for (const std::string& name : standard) {
    INFO("<", name, ">");
    CHECK(name.find('.') == std::string::npos);  // no header of C, of a system or of CUDA
    for (const char* const heavy :
         {"algorithm", "chrono", "filesystem", "future", "iostream", "random", "regex", "thread"})
      CHECK(name != heavy);
  }
}

TEST_CASE("examples fit on a screen") {
  int examples = 0;
  for (const auto& entry : fs::directory_iterator(kRoot / "examples")) {
    if (entry.path().extension() != ".cpp") continue;
    std::ifstream in(entry.path());
    int lines = 0;
    for (std::string line; std::getline(in, line);) ++lines;
    const std::string name = entry.path().filename().string();
    INFO(name, " has ", lines, " lines");
    CHECK(lines <= (name == "inspect.cpp" ? 240 : 60));  // a tool of docs/learn, which draws a picture
    ++examples;
  }
  CHECK(examples >= 6);
}

TEST_SUITE_END();
