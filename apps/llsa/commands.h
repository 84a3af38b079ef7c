// The sub-commands of `llsa`: the arguments of each, and the function that runs it.
//
// cli.cpp fills these structs; no other file knows the command-line library. Commands print to standard
// output, throw on failure and return the exit code.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace llsa::apps {

/// The command line itself is wrong: exit code 2.
class UsageError : public Error {
  using Error::Error;
};

/// Texts of flags as given, in order: {"lr", "1e-3"}.
using FlagTexts = std::vector<std::pair<std::string, std::string>>;

struct DataShapesArgs {
  std::string out;
  std::int64_t count = 8000;
  int size = 16;
  std::uint64_t seed = 1;
  bool replace = false;
};
int run_data_shapes(const DataShapesArgs& args);

struct DataCheckArgs {
  std::string data;
  std::string contact_sheet;  ///< PNG file; may be empty
  std::string size;           ///< "HxW" or "N"; empty = the default of training
  FlagTexts settings;  ///< those of nn::train_settings() that choose the images and how they are decoded
  int threads = 0;
  bool json = false;
};
int run_data_check(const DataCheckArgs& args);

/// The value of --resume: not given, given alone, or `auto`.
enum class Resume { no, yes, automatic };

struct TrainArgs {
  std::string out;
  std::string config;  ///< JSON file; flags override it
  std::string preset;  ///< a name of presets.h, instead of the file
  FlagTexts settings;  ///< of nn::train_settings()
  FlagTexts model;     ///< of model_flags()
  Resume resume = Resume::no;
  bool allow_changes = false;
  bool print_config = false;  ///< print the configuration and train nothing
  bool quiet = false;
  std::int64_t report_every = 0;  ///< steps; 0 = never
  std::int64_t profile = 0;       ///< steps that are timed op by op; 0 = none
  bool nvtx = false;              ///< these as NVTX ranges, too
};
int run_train(const TrainArgs& args);

struct SampleArgs {
  std::string model;     ///< run or checkpoint
  std::string out;       ///< grid; may be empty when `each` is given
  std::string each;      ///< folder for single images
  bool resume = false;   ///< continue the images of an interrupted call in `each`
  bool replace = false;  ///< first remove the images of an earlier call in `each`
  std::int64_t count = 64;
  std::string class_name;  ///< name or position; empty = all in turn
  std::string average;     ///< one of those beside the first average; empty = the first
  double guidance = 1.5;
  std::string guidance_interval = "0,1";  ///< of 1 - sigma
  std::string sampler = "euler";
  int steps = 20;
  std::uint64_t seed = 0;
  std::string size;  ///< "HxW" or "N"; empty = the model's own
  std::int64_t batch = 64;
  std::string device = "auto";
  std::string dtype = "f32";
  int threads = 0;
  bool tf32 = false;
};
int run_sample(const SampleArgs& args);

struct EvalArgs {
  std::string model;  ///< or, in its place, the folder of images
  std::string images;
  std::string data;
  std::string inception;  ///< weights: FID, Inception Score and KID instead of random features
  std::string resize = "aa";
  std::string statistics;   ///< file that keeps the statistics of data
  std::int64_t batch = 64;  ///< images drawn at a time
  std::string background;   ///< empty = as in training
  std::string exif;         ///< empty = as in training
  std::string classes;      ///< empty = none, or as in training if images beside the folders were left out
  std::int64_t max_pixels = 0;  ///< 0 = as in training
  std::int64_t count = 256;
  std::int64_t reference = 1024;
  std::string average;  ///< one of those beside the first average; empty = the first
  double guidance = 1.5;
  std::string guidance_interval = "0,1";  ///< of 1 - sigma
  std::string sampler = "euler";
  int steps = 20;
  std::uint64_t seed = 0;
  std::string device = "auto";
  std::string dtype = "f32";
  int threads = 0;
  bool tf32 = false;
  bool json = false;
};
int run_eval(const EvalArgs& args);

struct SweepArgs {
  std::string file;
  std::string out;
  std::string data;  ///< folder of images in place of the file's; empty = the file's
  int jobs = 1;
  bool check = false;
};
int run_sweep(const SweepArgs& args);

struct RunsArgs {
  std::string folder;
  bool json = false;
};
int run_runs(const RunsArgs& args);

struct ReportArgs {
  std::vector<std::string> runs;
  std::string out;                ///< empty = report.html in the folder of the first run
  std::int64_t nearest = 10'000;  ///< training images that are searched at most; 0 = none
  int threads = 0;
};
int run_report(const ReportArgs& args);

struct InfoArgs {
  std::string model;
};
int run_info(const InfoArgs& args);

struct BenchArgs {
  std::string what;   ///< "attention", "step", "ops", "paper", "weights"
  std::string json;   ///< file for the figures
  std::string plots;  ///< paper: folder for plots
  std::string device = "auto";
  std::string dtype = "f32";
  int threads = 0;
  bool tf32 = false;
  std::int64_t max_tokens =
      0;                      ///< attention, paper: longest sequence; 0 = 65,536 on the CPU, 262,144 on a GPU
  bool tune = false;          ///< time the algorithms of matrix products and take the fastest (CUDA)
  std::optional<bool> graph;  ///< step: replay it from CUDA graphs, too; without a value, on a GPU
  double seconds = 0;         ///< budget, beyond which what is left is not measured; 0 = none
  bool by_kernel = false;     ///< attention, step: time every op and kernel
  bool nvtx = false;          ///< with that: NVTX ranges
};
int run_bench(const BenchArgs& args);

/// Parses the command line and runs what it asks for. Throws UsageError and whatever the command throws.
int run_command_line(int argc, const char* const* argv);

}  // namespace llsa::apps
