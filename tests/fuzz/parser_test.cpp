// Every reader of files, on damaged files: a case changes bits, numbers and parts of a well-formed file, the seed. A reader
// returns or throws llsa::Error; it never crashes, hangs, or requests unbounded memory.
#include <filesystem>
#include <functional>
#include <set>

#include "apps/llsa/sweep_file.h"
#include "core/safetensors.h"
#include "kernels/copy.h"
#include "kernels/make.h"
#include "nn/checkpoint/checksums.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/checkpoint/training_state.h"
#include "nn/checkpoint/tuning_file.h"
#include "nn/data/image_io.h"
#include "nn/data/image_list.h"
#include "nn/data/label_file.h"
#include "nn/diffusers_config.h"
#include "nn/image_model.h"
#include "nn/json.h"
#include "nn/modules.h"
#include "nn/train_log.h"
#include "nn/train_memory.h"
#include "nn/train_options.h"
#include "tests/fuzz/cases.h"
#include "tests/nn/data/image_bytes.h"
#include "tests/support/files.h"

using namespace llsa;
using namespace llsa::nn;
using namespace llsa::test;

TEST_SUITE_BEGIN("fuzz/parsers");

namespace {

/// Parts of typical files, and numbers that readers often treat wrongly.
const std::vector<std::string> kTokens = {"{",
                                          "}",
                                          "[",
                                          "]",
                                          "\"",
                                          ":",
                                          ",",
                                          "\\u0000",
                                          "null",
                                          "true",
                                          "-1",
                                          "0",
                                          "1e999",
                                          "-0.0",
                                          "2147483647",
                                          "2147483648",
                                          "65535",
                                          "65536",
                                          "16777217",
                                          "9223372036854775807",
                                          "18446744073709551616",
                                          "NaN",
                                          "[[[[[[[[[[[[",
                                          "{\"a\":{\"a\":{\"a\":",
                                          std::string(4, '\0'),
                                          std::string(4, '\xff'),
                                          std::string("\x7f\xff\xff\xff", 4),
                                          std::string("\0\0\0\x80", 4)};

std::string damaged(Draw& draw, std::string text, const std::vector<std::string>& seeds) {
  for (std::size_t n = draw.below(6) + 1; n > 0; --n) {
    const std::size_t at = draw.below(text.size() + 1),
                      length = draw.below(std::min<std::size_t>(text.size() - at, 64) + 1);
    switch (draw.below(8)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << draw.below(8)));
        break;
      case 1:
        if (at < text.size())
          text[at] = draw.from<char>({0, 1, ' ', '0', '9', '-', '.', '\x7f', '\x80', '\xff'});
        break;
      case 2:
        text.erase(at, length);
        break;
      case 3:
        text.insert(draw.below(text.size() + 1), text.substr(at, length));
        break;
      case 4:
        text.insert(at, draw.from(kTokens));
        break;
      case 5:
        text.replace(at, length, draw.from(kTokens));
        break;
      case 6: {  // a number becomes another one
        const std::size_t digit = text.find_first_of("0123456789", at);
        if (digit == std::string::npos) break;
        text.replace(digit, text.find_first_not_of("0123456789.e", digit) - digit, draw.from(kTokens));
        break;
      }
      default: {
        const std::string other = draw.from(seeds);
        text.replace(at, std::string::npos, other.substr(draw.below(other.size() + 1)));
      }
    }
  }
  return text;
}

struct Reader {
  const char* name;
  std::vector<std::string> seeds;
  std::function<void(const std::string&)> read;
};

/// A sweep, an image, a run: all readers, with seeds that they accept.
class Readers {
 public:
  Readers() {
    const TrainOptions options;
    const DitConfig model = options.model;
    const std::string diffusers = diffusers_config_json(model.resolved());
    write_training_state(dir_.path(), {params_, adam_}, 7);
    const std::string state_json = read_file(state_ + "state.json"),
                      state_tensors = read_file(state_ + "state.safetensors");
    all_ = {
        {"JSON",
         {R"({"a": 1, "b": [1, 2], "c": {"d": "text", "e": null}, "f": 1.5, "g": true})"},
         [](const std::string& text) {
           JsonObject json(text, "j");
           json.entries();
           json.integers("b", {}, 0, 10);
           json.number("f", 0, 0, 10);
           json.object("c").string("d", "");
           json.unread();
         }},
        {"training options",
         {options.json(), model.json()},
         [](const std::string& text) {
           TrainOptions read = TrainOptions::parse(text, "config.json");
           read.validate();
           validate_model(read.model_kind(), read.model);
           read.model = read.model.resolved();
           train_memory(read, 1000, 1000, Device::cpu());
           CHECK(TrainOptions::parse(read.json(), "again").json() == read.json());
         }},
        {"diffusers configuration",
         {diffusers},
         [](const std::string& text) {
           const DiffusersConfig read = parse_diffusers_config(text, "config.json");
           validate_model(read.kind, read.config);
           diffusers_config_json(read.config.resolved(), read.kind);
         }},
        {"scheduler configuration",
         {scheduler_config_json(2.0), cascade_scheduler_config_json()},
         [](const std::string& text) { parse_scheduler_config(text, "scheduler_config.json"); }},
        {"sweep",
         {R"({"base": {"data": "images", "steps": 10}, "seeds": [0, 1], "variants": {"full": {"llsa_attention": "full"}, "llsa": {"from": "full"}}, "plots": {"speed": {"x": "steps", "y": "loss"}}})"},
         [](const std::string& text) { apps::parse_sweep(text, "sweep.json"); }},
        {"image",
         {as_text(rgb_png(5, 3)), as_text(make_png(4, 2, 1, 0, {0, 0xa0, 0, 0x50})),
          as_text(make_bmp(3, 2, test_pixels(3, 2))), as_text(make_tga(3, 2, test_pixels(3, 2))),
          as_text(make_tga(3, 2, test_pixels(3, 2), true)), as_text(make_pnm(3, 2, test_pixels(3, 2))),
          as_text(make_gif(3, 2, {0, 1, 2, 0, 1, 2})), as_text(make_jpeg(6))},
         [](const std::string& text) {
           decode_image({text.begin(), text.end()}, text.size() % 2 == 0 ? "a.tga" : "a.png",
                        {.max_pixels = 1 << 16});
         }},
        {"colour", {"#a0b1c2", "1,22,255", "grey"}, [](const std::string& text) { parse_colour(text); }},
        {"safetensors",
         {safetensors()},
         [this](const std::string& bytes) {
           write_file(dir_ / "file.safetensors", bytes);
           const SafetensorsFile file(dir_ / "file.safetensors");
           for (const auto& [name, tensor] : file.tensors()) kernels::to_vector<double>(ctx_, tensor);
         }},
        {"training state",
         {state_json},
         [=, this](const std::string& text) { restore(text, state_tensors); }},
        {"tensors of the training state",
         {state_tensors},
         [=, this](const std::string& bytes) { restore(state_json, bytes); }},
        {"log",
         {R"({"step": 1, "loss": 2.5})"
          "\n"
          R"({"step": 2, "held_out_loss": 0.5})"
          "\n"},
         [this](const std::string& text) {
           write_file(dir_ / "log.jsonl", text);
           const TrainLog log(dir_ / "log.jsonl", 2, [](const std::string&) {});
         }},
        {"tuning",
         {R"({"machine": "cpu", "products": {"a": "b"}, "check": "6ae020a7e11395ac"})"},
         [this](const std::string& text) {
           write_file(dir_ / "tuning.json", text);
           TuningFile(dir_ / "tuning.json").restore(ctx_);
         }},
        {"table of labels, JSON lines",
         {"{\"file_name\": \"a.png\", \"label\": \"cat\"}\n{\"file_name\": \"b.png\", \"label\": 7}\n"},
         [this](const std::string& text) { labels("metadata.jsonl", text); }},
        {"table of labels, CSV",
         {"file_name,label\na.png,cat\nb.png,\"two, words\"\n", "label,x,file_name\r\n1,2,a.png\r\n"},
         [this](const std::string& text) { labels("metadata.csv", text); }},
        {"checksums",
         {"2d83aaba506794c4  file\n0123456789abcdef  other\n"},
         [this](const std::string& text) {
           std::filesystem::create_directory(dir_ / "sums");  // of its own: other readers check theirs
           write_file(dir_ / "sums/file", "bytes");
           write_file(dir_ / "sums/checksums.xxh64", text);
           checked_file(dir_ / "sums", "file");
         }},
        {"list of images",
         {image_list({{"a.png", 0, 12}, {"cat/b 1.png", 1, 345}})},
         [](const std::string& text) {
           const auto read = parse_image_list(text);
           if (!read) return;
           CHECK(parse_image_list(image_list(*read))->size() == read->size());
           image_changes(*read, {{"b.png", 0, 12}});
         }},
        {"mark of the best checkpoint",
         {R"({"step": 1, "held_out_loss": 0.5, "images": "0123"})"},
         [this](const std::string& text) {
           const RunFolder run(dir_.path());
           write_file(run.best_path(), text);
           run.best();
         }},
    };
  }

  const std::vector<Reader>& all() const { return all_; }

 private:
  void restore(const std::string& json, const std::string& tensors) {
    write_file(state_ + "state.json", json);
    write_file(state_ + "state.safetensors", tensors);
    restore_training_state(dir_.path(), {params_, adam_});
  }

  void labels(const std::string& table, const std::string& text) {
    write_file(dir_ / table, text);
    const auto read = read_labels(dir_.path(), {"a.png", "b.png", table});
    if (!read) return;
    std::set<std::string> names;
    for (const auto& [path, label] : read->of) names.insert(label);
    class_order(names);
  }

  std::string safetensors() {
    write_safetensors(dir_ / "seed.safetensors",
                      {{"a", arange(ctx_, 0, 6).reshape({2, 3})},
                       {"b", zeros(ctx_, {0, 4}, DType::u8)},
                       {"c", arange(ctx_, 0, 3, 1, DType::i64)}},
                      {{"format", "pt"}});
    return read_file(dir_ / "seed.safetensors");
  }

  const TempDir dir_;
  const std::string state_ = training_state_folder(dir_.path()) + "/";
  Context ctx_{1, std::size_t{64} << 20};
  Parameters params_{ctx_};
  Linear linear_{params_, "linear", 3, 2};
  AdamW adam_{params_};
  std::vector<Reader> all_;
};

}  // namespace

TEST_CASE("readers accept their seeds") {
  const Readers readers;
  for (const Reader& reader : readers.all()) {
    INFO(std::string(reader.name));
    CHECK_NOTHROW(reader.read(reader.seeds[0]));
  }
}

TEST_CASE("readers return or throw llsa::Error, whatever the bytes") {
  const Readers readers;
  const std::size_t accepted = run_cases(4000, [&](Draw& draw) {
    const Reader& reader = readers.all()[draw.below(readers.all().size())];
    reader.read(damaged(draw, draw.from(reader.seeds), reader.seeds));
  });
  CHECK(accepted > 50);
}

TEST_SUITE_END();
