// Flags of `llsa train`.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "apps/llsa/commands.h"
#include "nn/dit_config.h"
#include "nn/train_options.h"

namespace llsa::apps {

struct ModelFlag {
  const char* flag;
  const char* takes;  ///< "INT", "BOOL", ..; BOOL given alone is true
  const char* help;
  std::string (*value)(const nn::DitConfig&);  ///< as it would be given
};
const std::vector<ModelFlag>& model_flags();

/// Applies flags of nn::train_settings(). Throws UsageError naming the flag, what it takes and what came.
void apply_settings(nn::TrainOptions& options, const FlagTexts& flags);

/// Applies the flags to a configuration. Throws UsageError naming the flag, what it takes and what came.
void apply_model_flags(nn::DitConfig& config, const FlagTexts& flags);

/// true, on, 1 or nothing; false, off, 0. Throws UsageError naming the flag.
bool parse_bool(const std::string& flag, const std::string& text);

/// "HxW" or "N" (both sides) to {height, width}. Throws UsageError.
std::pair<int, int> parse_size(const std::string& text);

}  // namespace llsa::apps
