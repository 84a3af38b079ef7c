// llsa report: pieces of HTML, the nearest images, and whole pages of tiny runs.
#include "apps/llsa/report.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <vector>

#include "apps/llsa/report_curves.h"
#include "apps/llsa/report_html.h"
#include "apps/llsa/report_nearest.h"
#include "core/context.h"
#include "core/error.h"
#include "nn/data/shapes.h"
#include "nn/train_options.h"
#include "tests/support/files.h"
#include "tests/support/program.h"
#include "tests/support/text.h"

namespace llsa::apps {
namespace {

using namespace llsa::test;
namespace fs = std::filesystem;

TEST_SUITE_BEGIN("apps/report");

/// What is wrong with the tags of a page: one that is closed and was not opened last, an attribute without its quotes, a
/// reference to another file. Empty for a good page.
std::string fault_of(const std::string& page) {
  const std::set<std::string> empty = {"!DOCTYPE", "meta", "img", "br", "wbr"};
  std::vector<std::string> open;
  for (std::size_t at = page.find('<'); at != std::string::npos; at = page.find('<', at + 1)) {
    const std::size_t end = page.find('>', at);
    if (end == std::string::npos) return "a tag without its end";
    const std::string tag = page.substr(at + 1, end - at - 1);
    if (tag.find('<') != std::string::npos) return "a tag within the tag " + tag;
    const bool closes = tag.starts_with('/');
    const std::string name = tag.substr(closes, tag.find(' ') - closes);
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0) return "a quote is missing in " + tag.substr(0, 80);
    if (contains(tag, "src=\"") && !contains(tag, "src=\"data:")) return "another file is needed by " + tag;
    if (contains(tag, "href=") || name == "script" || name == "link") return "an unwanted tag " + tag;
    if (closes) {
      if (open.empty() || open.back() != name) return "/" + name + " closes nothing";
      open.pop_back();
    } else if (!empty.contains(name)) {
      open.push_back(name);
    }
    at = end;
  }
  return open.empty() ? "" : open.back() + " is not closed";
}

TEST_CASE("text is escaped, and what is no text becomes a replacement character") {
  CHECK(escaped("a <b> & \"c\" é") == "a &lt;b&gt; &amp; &quot;c&quot; é");
  CHECK(escaped("\x01\x7f|\n") == "\uFFFD\uFFFD|\n");
  CHECK(escaped("\xff|\xc3(|\xe2\x82") == "\uFFFD|\uFFFD(|\uFFFD\uFFFD");
  CHECK(escaped("\xc0\xaf|\xed\xa0\x80|\xf5") ==
        "\uFFFD\uFFFD|\uFFFD\uFFFD\uFFFD|\uFFFD");  // overlong, half a pair
  CHECK(escaped("€ 😀") == "€ 😀");
}

TEST_CASE("base64, for every length of the rest") {
  const std::string begin = "data:a/b;base64,";
  CHECK(data_uri("a/b", "") == begin);
  CHECK(data_uri("a/b", "f") == begin + "Zg==");
  CHECK(data_uri("a/b", "fo") == begin + "Zm8=");
  CHECK(data_uri("a/b", "foo") == begin + "Zm9v");
  CHECK(data_uri("a/b", "foobar\xff") == begin + "Zm9vYmFy/w==");
}

TEST_CASE("long curves become means of their points") {
  std::vector<PlotPoint> points;
  for (int i = 0; i < 7; ++i) points.push_back({.x = 1.0 * i, .y = 10.0 * i});
  CHECK(thinned(points, 7).size() == 7);
  const auto means = thinned(points, 3);  // three at a time
  REQUIRE(means.size() == 3);
  CHECK(means[0].x == 1);
  CHECK(means[1].y == 40);
  CHECK(means[2].x == 6);
}

TEST_CASE(
    "a copy of a training image is found by both distances, a mirrored one only where mirror images count") {
  const TempDir dir;
  nn::ShapesOptions shapes;
  shapes.out = dir / "shapes";
  shapes.count = 24;
  shapes.size = 32;
  nn::write_shapes(shapes);
  Context ctx(1);
  std::string damaged = read_file(fs::directory_iterator(shapes.out + "/circle")->path().string());
  damaged[damaged.size() / 2] ^= 1;  // only decoding finds it
  write_file(shapes.out + "/circle/damaged.png", damaged);
  const nn::ImageFolder folder(shapes.out);
  REQUIRE(folder.size() == 25);
  const nn::Image copy = folder.load(20);
  nn::Image turned(copy.width, copy.height);
  for (int y = 0; y < copy.height; ++y)
    for (int x = 0; x < copy.width; ++x) std::copy_n(copy.at(x, y), 3, turned.at(copy.width - 1 - x, y));
  const std::string path = folder.entries()[20].path;

  const NearestImages found =
      find_nearest(ctx, folder, {copy, turned, nn::Image(32, 32, {255, 0, 255})}, false, 1000);
  CHECK(found.searched == 24);
  REQUIRE(found.of_samples.size() == 3);
  for (std::size_t kind = 0; kind < kDistanceNames.size(); ++kind) {
    CAPTURE(kDistanceNames[kind]);
    CHECK(found.of_samples[0][kind].path == path);
    CHECK(found.of_samples[0][kind].distance < 1e-6);
    CHECK(found.of_samples[0][kind].image.pixels == copy.pixels);
    CHECK(found.of_samples[1][kind].distance > 1e-3);
    CHECK(found.of_samples[2][kind].distance > found.usual[kind]);
    CHECK(found.usual[kind] > 0);
  }
  CHECK(found.usual[0] < 1);
  const NearestImages mirrored = find_nearest(ctx, folder, {turned}, true, 1000);
  for (const Neighbour& neighbour : mirrored.of_samples[0]) {
    CHECK(neighbour.path == path);
    CHECK(neighbour.distance < 1e-6);
  }
  CHECK(find_nearest(ctx, folder, {copy}, false, 10).searched == 10);
  CHECK(contains(failure_of<ValueError>([&] { find_nearest(ctx, folder, {copy}, false, 1); }), "at least 2"));
}

/// A folder of images with classes of these names, and a run of a few steps on it.
struct TinyRun {
  TempDir dir;
  std::string run = dir / "run";
  Outcome trained;

  TinyRun(const std::vector<std::string>& classes, const std::string& more) {
    nn::ShapesOptions shapes;
    shapes.out = dir / "shapes";
    shapes.count = 24;
    shapes.size = 8;
    nn::write_shapes(shapes);
    int next = 0;
    for (const char* shape : {"circle", "ring", "square", "triangle"})
      if (static_cast<std::size_t>(next) < classes.size())
        fs::rename(shapes.out + "/" + shape, shapes.out + "/" + classes[static_cast<std::size_t>(next++)]);
    trained = train(
        "--data " + shapes.out +
        " --size 8 --dim 16 --heads 2 --depth 1 --block 4 --topk 2 --sample-count 4 --sample-steps 1 --flip"
        " --threads 1 --batch 2 --log-every 1 --sample-every 2 --held-out 20% --eval-every 2 " +
        more);
  }
  Outcome train(const std::string& flags) { return llsa_program("train --out " + run + " " + flags); }
};

TEST_CASE("the page of a run is well-formed, holds what it should, and escapes names") {
  TinyRun tiny({"<script>alert(1)<", "a&b\"c"}, "--steps 4 --report-every 3");
  CAPTURE(tiny.trained.text);
  REQUIRE(tiny.trained.code == 0);
  const std::string live = read_file(tiny.run + "/report.html");  // by --report-every
  CHECK(fault_of(live) == "");
  CHECK(contains(live, "finished"));
  CHECK(contains(live, "They were not looked for"));
  CHECK(contains(live, "<pre>llsa report " + tiny.run + "</pre>"));

  const Outcome outcome = llsa_program("report " + tiny.run + " --threads 1");
  CAPTURE(outcome.text);
  REQUIRE(outcome.code == 0);
  CHECK(contains(outcome.text, "wrote " + tiny.run + "/report.html"));
  const std::string page = read_file(tiny.run + "/report.html");
  CHECK(fault_of(page) == "");
  CHECK_FALSE(contains(page, "Not shown"));
  CHECK_FALSE(contains(page, "<script"));
  CHECK(contains(page, "&lt;script&gt;alert(1)&lt;"));
  CHECK(contains(page, "a&amp;b&quot;c"));
  for (const char* text : {"<title>run</title>", "<td>4 of 4</td>", "step 2</figcaption>",
                           "step 4</figcaption>", "data:image/png;base64,iVBOR",
                           "4 of the 4 samples of step 4", " training images and their mirror images",
                           "<figcaption>random features: ", "<code>num_layers</code></td><td><code>1</code>",
                           "keys at their defaults", "lowest held-out loss", "--resume --steps 8",
                           "prefers-color-scheme", "<td>0</td><td>llsa ", "computing on cpu, oneDNN "}) {
    CAPTURE(text);
    CHECK(contains(page, text));
  }
  const bool plotted = contains(page, "data:image/svg+xml;base64,");
  CHECK(plotted != contains(page, "gnuplot is not installed"));
  for (const char* curve :
       {"training loss", "held-out loss", "gradient norm", "learning rate", "tokens per second"}) {
    CAPTURE(curve);
    CHECK(contains(page,
                   plotted ? "alt=\"" + std::string(curve) + "\"" : "<h3>" + std::string(curve) + "</h3>"));
  }
  for (const auto& entry : fs::directory_iterator(tiny.run))
    CHECK_FALSE(contains(entry.path().filename().string(), ".plots"));
}

TEST_CASE("without gnuplot the page says so and has tables") {
  TinyRun tiny({}, "--steps 4");
  REQUIRE(tiny.trained.code == 0);
  const std::string path = std::getenv("PATH");
  setenv("PATH", tiny.dir.path().c_str(), 1);
  write_report({tiny.run + "/."}, tiny.dir / "page.html", {.nearest = 0});
  setenv("PATH", path.c_str(), 1);
  const std::string page = read_file(tiny.dir / "page.html");
  CHECK(fault_of(page) == "");
  CHECK(contains(page, "<title>run</title>"));
  CHECK(contains(page, "gnuplot is not installed"));
  CHECK(contains(page, "<h3>held-out loss</h3>"));
  CHECK_FALSE(contains(page, "svg+xml"));
}

TEST_CASE("several runs stand side by side; what is damaged or missing is named and the rest is shown") {
  TinyRun tiny({}, "--steps 4");
  REQUIRE(tiny.trained.code == 0);
  const std::string other = tiny.dir / "it's";
  fs::copy(tiny.run, other, fs::copy_options::recursive);
  nn::TrainOptions options = nn::TrainOptions::parse(read_file(other + "/config.json"), "config");
  options.lr = 0.25;
  options.data = tiny.dir / "nowhere";
  write_file(other + "/config.json", options.json());
  write_file(other + "/samples/step_000000004.png", "no picture");
  const std::string other_machine = "{\"step\": 3, \"machine\": \"llsa 9 on <another>\"}\n";
  write_file(other + "/log.jsonl", read_file(other + "/log.jsonl") + other_machine + other_machine +
                                       "{\"step\": 4, \"notes\": [\"lr: <was> 1\"]}\n{\n");

  write_report({tiny.run, other}, tiny.dir / "both.html", {.nearest = 50, .threads = 1});
  const std::string page = read_file(tiny.dir / "both.html");
  CHECK(fault_of(page) == "");
  CHECK(contains(page, "<title>2 training runs</title>"));
  CHECK(contains(page, "<code>lr</code></td><td><code>0.0001</code></td><td><code>0.25</code>"));
  CHECK(contains(page, "1 damaged line"));
  CHECK(contains(page, "<td>4</td><td>lr: &lt;was&gt; 1</td>"));
  const std::string moved = "<td>3</td><td>llsa 9 on &lt;another&gt;</td>";
  CHECK(contains(page, moved));
  CHECK(page.find(moved) == page.rfind(moved));  // an equal machine is named once
  CHECK(contains(page, "Not shown: "));
  CHECK(contains(page, "llsa train --out '" + tiny.dir.path() + "/it'\\''s' --resume"));
  CHECK(contains(page, "4 of the 4 samples of step 4"));  // of the other run

  CHECK(contains(failure_of<IoError>([&] { write_report({tiny.dir.path()}, tiny.dir / "x.html"); }),
                 "not the folder of a run"));
  CHECK(llsa_program("report " + tiny.run + " --out " + (tiny.dir / "no/x.html")).code == 1);
}

TEST_CASE("a report that cannot be written is a warning, and the training goes on") {
  TinyRun tiny({}, "--steps 4");
  REQUIRE(tiny.trained.code == 0);
  fs::create_directory(tiny.run + "/report.html");
  const Outcome outcome = tiny.train("--resume --steps 6 --report-every 1");
  CAPTURE(outcome.text);
  CHECK(outcome.code == 0);
  CHECK(contains(outcome.text, "warning: no report: cannot write "));
  CHECK(contains(outcome.text, "done at step 6"));
}

TEST_CASE("a run that diverges has a report, too") {
  TinyRun tiny({}, "--lr 1000 --clip 0 --steps 400 --report-every 1000");
  CAPTURE(tiny.trained.text);
  CHECK(tiny.trained.code == 1);
  CHECK(contains(tiny.trained.text, "diverged at step"));
  const std::string page = read_file(tiny.run + "/report.html");
  CHECK(fault_of(page) == "");
  CHECK(contains(page, "<td>stopped</td>"));
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::apps
