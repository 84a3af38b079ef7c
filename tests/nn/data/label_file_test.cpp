// Labels from tables: both formats, the order of classes, and every way in which a table can be wrong.
#include "nn/data/label_file.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "core/error.h"
#include "core/text_file.h"
#include "nn/data/image_folder.h"
#include "tests/nn/data/image_bytes.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

namespace llsa::nn {
namespace {

namespace fs = std::filesystem;
using namespace llsa::test;

void put(const TempDir& dir, const std::string& path) {
  fs::create_directories(fs::path(dir / path).parent_path());
  write_file(dir / path, as_text(rgb_png(2, 2)));
}

/// "a.png cat; b.png dog; "
std::string labels_of(const ImageFolder& folder) {
  std::string text;
  for (const ImageEntry& entry : folder.entries())
    text += entry.path + " " + folder.class_names()[static_cast<std::size_t>(entry.label)] + "; ";
  return text;
}

TEST_SUITE_BEGIN("nn/data/label_file");

TEST_CASE("a table may be longer than a document of settings") {
  const TempDir dir;
  put(dir, "a.png");
  write_file(dir / "metadata.csv",
             "file_name,label,text\na.png,cat," + std::string(kLongestDocument, 'x') + "\n");
  CHECK(labels_of(ImageFolder(dir.path())) == "a.png cat; ");
}

TEST_CASE("metadata.jsonl and metadata.csv label the images, wherever these lie") {
  const TempDir dir;
  for (const char* name : {"a.png", "b.png", "x/c, d.png"}) put(dir, name);
  write_file(dir / "metadata.jsonl",
             "{\"file_name\": \"./b.png\", \"label\": \"dog\", \"text\": \"a dog\"}\n\n"
             "{\"label\": \"cat\", \"file_name\": \"a.png\"}\r\n{\"file_name\": \"x/c, d.png\", \"label\": "
             "\"cat\"}");
  const ImageFolder by_json(dir.path());
  CHECK(by_json.class_names() == std::vector<std::string>{"cat", "dog"});
  CHECK(labels_of(by_json) == "a.png cat; b.png dog; x/c, d.png cat; ");

  fs::remove(dir / "metadata.jsonl");
  write_file(dir / "metadata.csv",
             "\xEF\xBB\xBFtext,file_name,label\r\n\"a \"\"big\"\"\ndog\",b.png,dog\r\n,a.png,cat\r\n"
             ",\"x/c, d.png\",\"cat\"\r\n");
  const ImageFolder by_csv(dir.path());
  CHECK(by_csv.label_tables() == std::vector<std::string>{"metadata.csv"});
  CHECK(labels_of(by_csv) == labels_of(by_json));
  CHECK(by_csv.fingerprint() == by_json.fingerprint());

  write_file(dir / "metadata.csv", "file_name,label\na.png,1\nb.png,2\n");
  write_file(dir / "x/metadata.jsonl",
             "{\"file_name\": \"c, d.png\", \"label\": 1}");  // relative to its folder
  CHECK(labels_of(ImageFolder(dir.path())) == "a.png 1; b.png 2; x/c, d.png 1; ");

  CHECK(ImageFolder(dir.path(), {}, Classes::none).class_names().empty());
  CHECK(ImageFolder(dir.path(), {}, Classes::folders).class_names() == std::vector<std::string>{"x"});
  write_file(dir / "metadata.csv", "file_name,text\na.png,a cat\n");  // captions are no labels
  fs::remove(dir / "x/metadata.jsonl");
  CHECK(ImageFolder(dir / "x").class_names().empty());
}

TEST_CASE("classes are in the order of their numbers, or in byte order; one without usable images is none") {
  CHECK(class_order({"10", "9", "-1"}) == std::vector<std::string>{"-1", "9", "10"});
  CHECK(class_order({"10", "9", "a"}) == std::vector<std::string>{"10", "9", "a"});
  const TempDir dir;
  for (const char* name : {"a.png", "b.png"}) put(dir, name);
  write_file(dir / "c.png", "no image");
  write_file(dir / "metadata.jsonl",
             "{\"file_name\": \"a.png\", \"label\": 11}\n{\"file_name\": \"b.png\", \"label\": 2}\n"
             "{\"file_name\": \"c.png\", \"label\": 3}\n");
  CHECK(ImageFolder(dir.path()).class_names() == std::vector<std::string>{"2", "11"});
}

TEST_CASE("what is wrong in a table is named with its line") {
  const TempDir dir;
  for (const char* name : {"a.png", "b.png"}) put(dir, name);
  const auto failure = [&](const std::string& name, const std::string& text) {
    write_file(dir / name, text);
    const std::string message = failure_of<ValueError>([&] { const ImageFolder folder(dir.path()); });
    fs::remove(dir / name);
    return message;
  };
  const std::string a = "{\"file_name\": \"a.png\", \"label\": 1}\n",
                    b = "{\"file_name\": \"b.png\", \"label\": 2}\n";
  CHECK(failure("metadata.jsonl", a + b).empty());
  const struct {
    std::string text, says;
  } json[] = {{a, "1 image of 2 in " + dir.path() + " has no row in metadata.jsonl: b.png"},
              {a + "{\"file_name\": \"c.png\", \"label\": 1}\n", "line 2 names c.png, which is not there"},
              {a + b + a, "line 3 names a.png again, after " + (dir / "metadata.jsonl: line 1")},
              {a + "{\"file_name\": \"b.png\", \"label\": \n", "line 2"},
              {a + "[1]\n", "line 2"},
              {a + "{\"file_name\": \"b.png\"}\n", "line 2 has no label, others have one"},
              {a + "{\"file_name\": \"b.png\", \"label\": null}\n", "line 2 has no label"},
              {a + "{\"label\": 1}\n", "line 2 has no file_name"},
              {a + "{\"file_name\": \"b.png\", \"label\": 1.5}\n", "line 2"},
              {a + "{\"file_name\": \"../b.png\", \"label\": 1}\n", "names ../b.png, which is not there"}};
  for (const auto& [text, says] : json) CHECK_MESSAGE(contains(failure("metadata.jsonl", text), says), says);
  const struct {
    std::string text, says;
  } csv[] = {{"file,label\na.png,1\n", "line 1: the head has no column file_name"},
             {"file_name,label\na.png,1\nb.png\n", "line 3 has 1 fields, the head has 2"},
             {"file_name,label\na.png,\"1\nb.png,2\n", "line 2: a quote is not closed"},
             {"file_name,label\na.png,1\nb.png,\n", "line 3 has no label"},
             {"file_name,label\n,1\n", "line 2 has no file_name"}};
  for (const auto& [text, says] : csv) CHECK_MESSAGE(contains(failure("metadata.csv", text), says), says);
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
