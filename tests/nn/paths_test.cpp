// Paths that the system refuses, for every function that takes one: an llsa::Error leaves it and nothing else.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <exception>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/file_lock.h"
#include "core/safetensors.h"
#include "core/text_file.h"
#include "kernels/make.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/checkpoint/training_state.h"
#include "nn/checkpoint/tuning_file.h"
#include "nn/data/held_out.h"
#include "nn/data/image_folder.h"
#include "nn/data/image_io.h"
#include "nn/data/shapes.h"
#include "nn/train.h"
#include "nn/train_folder.h"
#include "nn/train_log.h"
#include "tests/support/child_process.h"
#include "tests/support/files.h"

using namespace llsa;

namespace {

enum class Answer { refuses, may_return };  // some questions have an answer for any path: no

struct Door {
  const char* name;
  std::function<void(const std::string& path)> open;
  Answer answer = Answer::refuses;
};

const std::vector<Door>& doors() {
  static Context ctx(1);
  static const Tensor one = ones(ctx, {1});
  static const test::TempDir images;
  static const bool drawn = [] {
    nn::ShapesOptions options;
    options.out = images / "shapes";
    options.count = 4;
    options.size = 8;
    nn::write_shapes(options);
    return true;
  }();
  REQUIRE(drawn);
  static const std::vector<Door> all = {
      {"read_text_file", [](const std::string& p) { read_text_file(p); }},
      {"path_exists", [](const std::string& p) { path_exists(p); }},
      {"AtomicFile", [](const std::string& p) { AtomicFile file(p); }},
      {"write_file_atomically", [](const std::string& p) { write_file_atomically(p, "x"); }},
      {"AtomicDirectory", [](const std::string& p) { AtomicDirectory directory(p); }},
      {"remove_stale_temporaries", [](const std::string& p) { remove_stale_temporaries(p); }},
      {"FileLock", [](const std::string& p) { FileLock lock(p); }},
      {"SafetensorsFile", [](const std::string& p) { SafetensorsFile file(p); }},
      {"write_safetensors",
       [](const std::string& p) {
         write_safetensors(p, {{"one", one}});
       }},
      {"probe_image", [](const std::string& p) { nn::probe_image(p); }},
      {"decode_image", [](const std::string& p) { nn::decode_image(p); }},
      {"write_png", [](const std::string& p) { nn::write_png(p, nn::Image(2, 2)); }},
      {"write_bytes",
       [](const std::string& p) {
         nn::write_bytes(p, {1, 2, 3});
       }},
      {"ImageFolder", [](const std::string& p) { nn::ImageFolder folder(p); }},
      {"hold_out",
       [](const std::string& p) {
         nn::hold_out(std::make_shared<const nn::ImageFolder>(images / "shapes"), p + "/", {}, true);
       }},
      {"write_shapes",
       [](const std::string& p) {
         nn::ShapesOptions options;
         options.out = p;
         options.count = 1;
         nn::write_shapes(options);
       }},
      {"is_diffusers_model", [](const std::string& p) { nn::is_diffusers_model(p); }, Answer::may_return},
      {"read_diffusers_model", [](const std::string& p) { nn::read_diffusers_model(p); }},
      {"RunFolder::prepare", [](const std::string& p) { nn::RunFolder(p).prepare(); }},
      {"RunFolder::checkpoints", [](const std::string& p) { nn::RunFolder(p).checkpoints(); },
       Answer::may_return},
      {"RunFolder::save", [](const std::string& p) { nn::RunFolder(p).save(1, [](const std::string&) {}); }},
      {"RunFolder::prune", [](const std::string& p) { nn::RunFolder(p).prune(0); }, Answer::may_return},
      {"RunFolder::mark_best", [](const std::string& p) { nn::RunFolder(p).mark_best({}); }},
      {"RunFolder::best", [](const std::string& p) { nn::RunFolder(p).best(); }, Answer::may_return},
      {"checkpoint_to_resume", [](const std::string& p) { nn::checkpoint_to_resume(nn::RunFolder(p)); }},
      {"resolve_checkpoint", [](const std::string& p) { nn::resolve_checkpoint(p); }},
      {"has_training_state", [](const std::string& p) { nn::has_training_state(p); }},
      {"read_training_step", [](const std::string& p) { nn::read_training_step(p); }},
      {"load_diffusers_model", [](const std::string& p) { nn::load_diffusers_model(ctx, p); }},
      {"resume_latest",
       [](const std::string& p) {
         static nn::Parameters params(ctx);
         static const Var w = params.declare("w", Shape{1}, nn::Init::ones());
         static nn::AdamW adam(params);
         nn::RunFolder run(p);
         nn::resume_latest(run, {params, adam});
       }},
      {"read_training_options", [](const std::string& p) { nn::read_training_options(p); }},
      {"TuningFile::restore", [](const std::string& p) { nn::TuningFile(p).restore(ctx); }},
      {"TuningFile::remove", [](const std::string& p) { nn::TuningFile(p).remove(); }},
      {"TrainLog", [](const std::string& p) { nn::TrainLog log(p, 1, {}); }},
      {"train, data",
       [](const std::string& p) {
         const test::TempDir out;
         nn::TrainOptions options;
         options.data = p;
         nn::train(options, out / "run", false, {});
       }},
      {"train, out",
       [](const std::string& p) {
         nn::TrainOptions options;
         options.data = images / "shapes";
         options.model.height = options.model.width = 8;
         nn::train(options, p, false, {});
       }},
  };
  return all;
}

/// "" where the door has done what it should, else what it did.
std::string knock(const Door& door, const std::string& path) {
  try {
    door.open(path);
    return door.answer == Answer::refuses ? "it returned" : "";
  } catch (const Error& error) {
    // The path, or a part of it, is named.
    return std::string(error.what()).find(path.substr(0, 20)) == std::string::npos ? error.what() : "";
  } catch (const std::exception& error) {
    return cat(typeid(error).name(), " left it: ", error.what());
  }
}

}  // namespace

TEST_SUITE_BEGIN("nn/paths");

TEST_CASE("a path of 5,000 characters") {
  std::string path = "/tmp";
  while (path.size() < 5000) path += "/and-so-on";
  for (const Door& door : doors()) {
    INFO(door.name);
    CHECK(knock(door, path) == "");
  }
}

TEST_CASE("a name of 300 characters") {
  const test::TempDir dir;
  for (const Door& door : doors()) {
    INFO(door.name);
    CHECK(knock(door, dir / std::string(300, 'n')) == "");
  }
}

TEST_CASE("a folder that may not be entered") {
  const test::TempDir dir;
  const std::string closed = dir / "closed";
  REQUIRE(::mkdir(closed.c_str(), 0) == 0);
  doors();
  const int failures = test::run_as_ordinary_user([&] {
    int count = 0;
    for (const Door& door : doors()) {
      const std::string did = knock(door, closed + "/inside");
      if (did.empty()) continue;
      std::cerr << door.name << ": " << did << "\n";
      ++count;
    }
    return count;
  });
  ::chmod(closed.c_str(), 0700);
  CHECK(failures == 0);
}

TEST_SUITE_END();
