#include <CLI/CLI.hpp>

#include <functional>
#include <iostream>
#include <map>
#include <type_traits>

#include "apps/llsa/commands.h"
#include "apps/llsa/model_flags.h"
#include "apps/llsa/presets.h"
#include "apps/llsa/processes.h"
#include "core/closest.h"
#include "nn/data/image_io.h"
#include "nn/diffusion/sampler.h"
#include "nn/train_options.h"

#ifndef LLSA_VERSION
#error "the build has to define LLSA_VERSION"
#endif

namespace llsa::apps {
namespace {

// Collects the texts of flags. The tables say which key or field each flag belongs to.
using Texts = std::map<std::string, std::string>;

CLI::Option* add_text(CLI::App* command, Texts& texts, const std::string& flag, const std::string& help,
                      const std::string& group) {
  return command->add_option("--" + flag, texts[flag], help)->group(group);
}

FlagTexts given(const CLI::App& command, const Texts& texts) {
  FlagTexts out;
  for (const auto& [flag, text] : texts) {
    if (command.count("--" + flag) > 0) out.emplace_back(flag, text);
  }
  return out;
}

// The kind of value that a flag takes, and its default.
void describe(CLI::Option& option, const nn::Setting& setting) {
  static const nn::TrainOptions defaults;
  std::visit(
      [&](auto member) {
        const auto& value = defaults.*member;
        using Value = std::remove_cvref_t<decltype(value)>;
        if constexpr (std::is_same_v<Value, bool>) {
          // No default_str(): CLI11 would use it as the value of a flag that is given without one.
          option.type_name(value ? "BOOL=true" : "BOOL=false")->expected(0, 1);
        } else if constexpr (std::is_same_v<Value, std::string>) {
          option.type_name(setting.choices.empty() ? "TEXT" : "WORD")->default_str(value);
        } else {
          option.type_name(std::is_same_v<Value, double> ? "NUMBER" : "INT")->default_str(cat(value));
        }
      },
      setting.member);
}

void describe(CLI::Option& option, const ModelFlag& flag) {
  static const nn::TrainOptions defaults;
  option.type_name(cat(flag.takes, "=", flag.value(defaults.model)));
  if (std::string(flag.takes) == "BOOL") option.expected(0, 1);
}

std::string help_of(const nn::Setting& setting) {
  std::string help = setting.help;
  std::string words;
  for (const std::string& word : setting.choices) words += (words.empty() ? "" : " | ") + word;
  return words.empty() ? help : help + " (" + words + ")";
}

// Adds the commands `data shapes` and `data check`; returns the latter.
CLI::App* add_data(CLI::App& app, DataShapesArgs& shapes_args, DataCheckArgs& args, Texts& settings) {
  CLI::App* data = app.add_subcommand("data", "Make image data, or look at it before a run");
  data->require_subcommand(1);
  CLI::App* shapes = data->add_subcommand(
      "shapes", "Coloured circles, rings, squares and triangles: a small set to learn from");
  shapes->add_option("--out", shapes_args.out, "folder to make, one sub-folder per class")->required();
  shapes->add_option("--count", shapes_args.count, "number of images")->capture_default_str();
  shapes->add_option("--size", shapes_args.size, "side in pixels")->capture_default_str();
  shapes->add_option("--seed", shapes_args.seed, "another seed gives another set")->capture_default_str();
  shapes->add_flag("--replace", shapes_args.replace, "replace an earlier set in the folder");

  CLI::App* check =
      data->add_subcommand("check", "Report which images of a folder training would use, which not, and why");
  check->footer(
      "Every image is decoded. The exit code is 0 if training with the same flags would find its images.");
  check->add_option("data", args.data, "folder of images")->required();
  check->add_option("--contact-sheet", args.contact_sheet,
                    "PNG file for up to 64 images as the model will see them");
  check->add_option("--size", args.size, "HxW or N: what images are resized to; default: as in training");
  for (const nn::Setting& setting : nn::train_settings())
    if (const std::string& flag = setting.flag;
        flag == "classes" || flag == "background" || flag == "max-pixels" || flag == "exif")
      describe(*add_text(check, settings, flag, help_of(setting), "Training"), setting);
  check->add_option("--threads", args.threads, "0 = LLSA_THREADS or all processors")
      ->check(CLI::Range(0, 4096));
  check->add_flag("--json", args.json, "print one JSON object");
  return check;
}

CLI::App* add_train(CLI::App& app, TrainArgs& args, Texts& settings, Texts& model) {
  CLI::App* train = app.add_subcommand("train", "Train a DiT or a PixelFlow on a folder of images");
  train->footer(
      "Flags override the file given by --config. What a run was started with is kept in RUN/config.json, "
      "which is itself such a "
      "file.\nCtrl-C saves a checkpoint and ends, and so do SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU; "
      "--resume "
      "goes on from the last one as if nothing had happened.\nExit status: 0 done, 1 failed, 2 wrong command "
      "line, "
      "3 stopped by a signal before the last step, with everything saved.");
  train->add_option("--out", args.out, "folder of the run: configuration, log, sample grids, checkpoints");
  CLI::Option* config = train->add_option("--config", args.config, "JSON file with settings and model");
  std::string names;
  for (const Preset& preset : presets()) names += cat("; ", preset.name, ": ", preset.help);
  train->add_option("--preset", args.preset, "a configuration by its name" + names)->excludes(config);
  train->add_flag("--print-config", args.print_config,
                  "train nothing: print the configuration, as --config takes it");
  train
      ->add_option_function<std::string>(
          "--resume",
          [&args](const std::string& text) {
            if (!text.empty() && text != "auto")
              throw UsageError("--resume stands alone or takes auto, got '" + text + "'");
            args.resume = text.empty() ? Resume::yes : Resume::automatic;
          },
          "go on with the run in --out; auto: or begin one where there is none")
      ->type_name("[auto]")
      ->expected(0, 1);
  train->add_flag("--allow-changes", args.allow_changes,
                  "resume also on other images, or with another batch, seed, crop, ..");
  train
      ->add_option("--report-every", args.report_every,
                   "steps between versions of RUN/report.html, written with an entry of the log; 0 = none")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40));
  train
      ->add_option("--profile", args.profile,
                   "time every op and kernel of N steps, then print a table and go on; 0 = none")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{10000}));
  train->add_flag("--nvtx", args.nvtx, "with --profile: mark the ops as NVTX ranges (builds with CUDA)");
  train->add_flag("--quiet", args.quiet, "no progress; messages and warnings are still printed");
  for (const ModelFlag& flag : model_flags())
    describe(*add_text(train, model, flag.flag, flag.help, "Model"), flag);
  for (const nn::Setting& setting : nn::train_settings()) {
    describe(*add_text(train, settings, setting.flag, help_of(setting), "Training"), setting);
  }
  return train;
}

/// A check of CLI11 from a function that throws ValueError for a wrong text.
std::function<std::string(const std::string&)> accepted_by(void (*parse)(const std::string&)) {
  return [parse](const std::string& text) {
    try {
      parse(text);
      return std::string();
    } catch (const ValueError& error) {
      return std::string(error.what());
    }
  };
}

template <class Args>
void add_machine(CLI::App& command, Args& args) {
  command.add_option("--device", args.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  command.add_option("--dtype", args.dtype, "what the model computes in")
      ->capture_default_str()
      ->check(CLI::IsMember({"f32", "bf16"}));
  command.add_option("--threads", args.threads, "0 = LLSA_THREADS or all processors")
      ->check(CLI::Range(0, 4096));
  command.add_flag("--tf32", args.tf32, "CUDA: products of f32 matrices may round their operands to TF32");
}

template <class Args>
void add_sampler(CLI::App& command, Args& args) {
  command.add_option("--ema", args.average,
                     "which of several averages (--ema-also of train); default: the first one");
  command.add_option("--guidance", args.guidance, "of a PixelFlow that of the last stage; 1 = none")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1000.0));
  command
      .add_option("--guidance-interval", args.guidance_interval,
                  "a,b: guide only where a <= 1 - sigma <= b; 0 is noise, 1 the image")
      ->capture_default_str()
      ->check(accepted_by([](const std::string& text) { nn::guidance_interval(text); }));
  command
      .add_option("--sampler", args.sampler, "euler, or heun: two model passes a step, and a smaller error")
      ->capture_default_str()
      ->check(CLI::IsMember({"euler", "heun"}));
  command.add_option("--steps", args.steps, "of the sampler, of a PixelFlow in each stage")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000));
}

CLI::App* add_sample(CLI::App& app, SampleArgs& args) {
  CLI::App* sample = app.add_subcommand("sample", "Draw images from a trained model");
  sample->add_option("model", args.model, "folder of a run, or of a checkpoint in the diffusers layout")
      ->required();
  sample->add_option("--out", args.out, "PNG file for a grid of all images");
  CLI::Option* each = sample->add_option("--each", args.each,
                                         "folder for one PNG per image, and a table of them, labels.csv");
  CLI::Option* resume =
      sample->add_flag("--resume", args.resume, "go on with the images of an interrupted call in --each")
          ->needs(each);
  sample->add_flag("--replace", args.replace, "remove the images of an earlier call in --each first")
      ->needs(each)
      ->excludes(resume);
  sample->add_option("--count", args.count, "number of images")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  sample->add_option("--class", args.class_name,
                     "name of a class, or its position as #0, #1, ..; default: all in turn");
  add_sampler(*sample, args);
  sample->add_option("--seed", args.seed, "of the noise")->capture_default_str();
  sample->add_option("--size", args.size, "HxW or N; default: the model's own");
  sample->add_option("--batch", args.batch, "images at a time")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  add_machine(*sample, args);
  return sample;
}

CLI::App* add_eval(CLI::App& app, EvalArgs& args) {
  CLI::App* eval = app.add_subcommand("eval", "Score a model, or a folder of images, against real images");
  eval->add_option("model", args.model, "folder of a run, or of a checkpoint");
  eval->add_option("--images,--A", args.images, "score the images of this folder instead of a model's");
  eval->add_option("--data,--B", args.data, "folder of real images")->required();
  eval->add_option(
      "--inception", args.inception,
      "weights of the Inception network of 2015 (docs/evaluation.md): FID, Inception Score and KID; "
      "default: the Frechet distance of random features");
  eval->add_option("--resize", args.resize,
                   "how images reach the network: aa (torchmetrics) or tf (TensorFlow)")
      ->capture_default_str()
      ->check(CLI::IsMember({"aa", "tf"}));
  eval->add_option("--statistics", args.statistics,
                   "with --inception: file that keeps the statistics of --data; made if it does not exist");
  eval->add_option("--batch", args.batch, "images drawn at a time")
      ->capture_default_str()
      ->check(CLI::Range(1, 65536));
  eval->add_option("--count", args.count, "images to generate")
      ->capture_default_str()
      ->check(CLI::Range(2, 1000000));
  eval->add_option("--reference", args.reference, "real images to score against")
      ->capture_default_str()
      ->check(CLI::Range(2, 1000000));
  add_sampler(*eval, args);
  eval->add_option("--seed", args.seed, "of the noise")->capture_default_str();
  eval->add_option("--background", args.background,
                   "colour under transparent pixels; default: as in training, if the checkpoint says")
      ->check(accepted_by([](const std::string& text) { nn::parse_colour(text); }));
  eval->add_option("--max-pixels", args.max_pixels,
                   "larger images are left out; default: as in training, if the checkpoint says")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
  eval->add_option("--exif", args.exif,
                   "the EXIF orientation that a camera has recorded; default: as in training, else apply")
      ->check(CLI::IsMember({"apply", "ignore"}));
  eval->add_option(
          "--classes", args.classes,
          "none: all images of --data; folders: not those beside its sub-folders; default: as in training")
      ->check(CLI::IsMember({"none", "folders"}));
  add_machine(*eval, args);
  eval->add_flag("--json", args.json, "print one JSON object");
  return eval;
}

CLI::App* add_sweep(CLI::App& app, SweepArgs& args) {
  CLI::App* sweep =
      app.add_subcommand("sweep", "Train the variants of a file one after the other, and compare them");
  sweep->add_option("file", args.file, "JSON: base, variants, seeds, plots (docs/sweeps.md)")->required();
  sweep->add_option("--out", args.out, "folder of the runs and tables; runs that are there go on");
  sweep->add_option("--data", args.data, "folder of images, in place of the one that the file names");
  sweep->add_option("--jobs", args.jobs, "runs at a time, which share the processors")
      ->capture_default_str()
      ->check(CLI::Range(1, 256));
  sweep->add_flag("--check", args.check, "check the file, print what each variant takes, and run nothing");
  return sweep;
}

CLI::App* add_runs(CLI::App& app, RunsArgs& args) {
  CLI::App* runs = app.add_subcommand("runs", "List the runs below a folder: how far they are, their losses");
  runs->add_option("folder", args.folder, "where to look")->required();
  runs->add_flag("--json", args.json, "print one JSON object, with a key for each run");
  return runs;
}

CLI::App* add_report(CLI::App& app, ReportArgs& args) {
  CLI::App* report =
      app.add_subcommand("report", "Write one HTML file about one or several runs (docs/report.md)");
  report->add_option("runs", args.runs, "folders of runs")->required();
  report->add_option("--out", args.out, "HTML file; default: report.html in the folder of the first run");
  report
      ->add_option("--nearest", args.nearest,
                   "training images to search for the nearest to each sample, at most; 0 = none")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40));
  report->add_option("--threads", args.threads, "0 = LLSA_THREADS or all processors")
      ->check(CLI::Range(0, 4096));
  return report;
}

CLI::App* add_bench(CLI::App& app, BenchArgs& args) {
  CLI::App* bench =
      app.add_subcommand("bench", "Measure speed; every figure is checked for correctness first");
  bench
      ->add_option(
          "what", args.what,
          "attention: LLSA beside full attention; step: training steps; ops: every op; paper: the speed "
          "figures of the LLSA paper; weights: gradients of weights, with those of biases and before them")
      ->required()
      ->check(CLI::IsMember({"attention", "step", "ops", "paper", "weights"}));
  bench->add_option("--json", args.json, "file for the figures");
  bench->add_option("--plots", args.plots, "paper: folder for plots; pictures need gnuplot");
  add_machine(*bench, args);
  bench->add_flag("--tune", args.tune, "CUDA: time the algorithms of matrix products, take the fastest");
  bench
      ->add_option_function<std::string>(
          "--graph", [&args](const std::string& text) { args.graph = parse_bool("graph", text); },
          "step: measure it replayed from CUDA graphs, too; default: on a GPU")
      ->type_name("BOOL")
      ->expected(0, 1);
  bench
      ->add_option("--max-tokens", args.max_tokens,
                   "attention, paper: longest sequence; default: 65536 on the CPU, 262144 on a GPU")
      ->check(CLI::Range(64, 1 << 24));
  bench
      ->add_option("--seconds", args.seconds,
                   "what has not begun by then is left out, and named; default: everything is measured")
      ->check(CLI::Range(0.0, 86400.0));
  bench->add_flag("--by-kernel", args.by_kernel,
                  "step, attention: time every op, on a GPU every kernel, and print a table");
  bench->add_flag("--nvtx", args.nvtx, "with --by-kernel: mark the ops as NVTX ranges (builds with CUDA)");
  return bench;
}

/// Throws the error of a command line that could not be parsed. An unknown word is reported first, because it often
/// explains what else is missing.
[[noreturn]] void refuse(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App* command = &app;
  std::string path = app.get_name();
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    path += " " + command->get_name();
  }
  const std::string see = "see " + path + " --help";
  const std::vector<std::string> unknown = command->remaining();
  if (unknown.empty()) throw UsageError(error.what(), see);

  const bool is_flag = unknown[0].front() == '-';
  const std::string word = unknown[0].substr(0, is_flag ? unknown[0].find('=') : std::string::npos);
  std::vector<std::string> known;
  if (is_flag) {
    for (const CLI::Option* option : command->get_options())
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  } else {
    for (const CLI::App* sub : command->get_subcommands({})) known.push_back(sub->get_name());
    if (known.empty()) throw UsageError(cat(path, " does not expect '", word, "'"), see);
  }
  const std::string near = did_you_mean(word, known);
  throw UsageError(cat(path, " has no ", is_flag ? "flag " : "command ", word), near.empty() ? see : near);
}

}  // namespace

int run_command_line(int argc, const char* const* argv) {
  CLI::App app("Trains and runs pixel-space Diffusion Transformers with log-linear sparse attention (LLSA).",
               "llsa");
  app.set_version_flag("--version", "llsa " LLSA_VERSION);
  app.require_subcommand(1);
  // If a flag is given twice, the last one holds, so that flags appended to a script's command line override its own.
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.get_formatter()->column_width(34);

  DataShapesArgs shapes_args;
  DataCheckArgs check_args;
  TrainArgs train_args;
  Texts settings, model, check_settings;
  SampleArgs sample_args;
  EvalArgs eval_args;
  SweepArgs sweep_args;
  RunsArgs runs_args;
  ReportArgs report_args;
  InfoArgs info_args;
  BenchArgs bench_args;
  CLI::App* check = add_data(app, shapes_args, check_args, check_settings);
  CLI::App* train = add_train(app, train_args, settings, model);
  CLI::App* sample = add_sample(app, sample_args);
  CLI::App* eval = add_eval(app, eval_args);
  CLI::App* sweep = add_sweep(app, sweep_args);
  CLI::App* runs = add_runs(app, runs_args);
  CLI::App* report = add_report(app, report_args);
  CLI::App* info = app.add_subcommand("info", "Say what a checkpoint holds");
  info->add_option("model", info_args.model, "folder of a run, or of a checkpoint")->required();
  CLI::App* bench = add_bench(app, bench_args);

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --version
    return app.exit(request, std::cout, std::cout);
  } catch (const CLI::ParseError& error) {
    refuse(app, error);
  }
  if (train->parsed()) {
    train_args.settings = given(*train, settings);
    train_args.model = given(*train, model);
    return run_train(train_args);
  }
  if (const Launch launch = launch_of_environment(); launch.size > 1)
    throw UsageError(cat("this command works in one process, and this is one of ", launch.size),
                     "start it without mpirun; llsa train takes several");
  if (sample->parsed()) return run_sample(sample_args);
  if (eval->parsed()) return run_eval(eval_args);
  if (sweep->parsed()) return run_sweep(sweep_args);
  if (runs->parsed()) return run_runs(runs_args);
  if (report->parsed()) return run_report(report_args);
  if (info->parsed()) return run_info(info_args);
  if (bench->parsed()) return run_bench(bench_args);
  if (check->parsed()) {
    check_args.settings = given(*check, check_settings);
    return run_data_check(check_args);
  }
  return run_data_shapes(shapes_args);
}

}  // namespace llsa::apps
