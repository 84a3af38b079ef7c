// What a DiT is: sizes, attention, initialisation; read from and written to JSON.
//
// The keys are those of the published config.json where one exists, and ours, named llsa_*, for the rest:
//
//   num_attention_heads, attention_head_dim, num_layers, in_channels, out_channels, patch_size,
//   sample_size (n or [rows, columns], pixels), rope_size (null, n or [rows, columns], tokens),
//   num_embeds_ada_norm (classes or null), qk_norm ("rms_norm" or null), attention_bias, token_permutation,
//   pred_x0 (bool: the network's output is the image, from which the flow is computed; diffusion/flow.h)
//
//   llsa_attention  "full" | "llsa" | "vsa" | "sla" | "auto"
//   llsa_block      B, tokens per block               llsa_vsa_gate   bool: VSA with a gate
//   llsa_topk       K, or [K_1, .., K_L]              llsa_levels     L or "auto"
//   llsa_enriched   L_e or "all"                      llsa_reweight   bool
//   llsa_own        bool: the own block is always picked
//   llsa_init       "adaln_zero" | "published"        llsa_pos_embed  bool: learned position embedding
//   llsa_class_std  deviation of the class table under adaln_zero
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "../core/device.h"
#include "../core/dtype.h"
#include "../kernels/llsa.h"
#include "json.h"

namespace llsa::nn {

enum class ModelKind { dit, pixelflow };
enum class AttentionKind { full, llsa, vsa, sla, automatic };
enum class InitKind { adaln_zero, published };

/// "dit", "pixelflow"; "full", "llsa", "vsa", "sla", "auto"; "adaln_zero", "published".
std::string name_of(ModelKind kind);
std::string name_of(AttentionKind kind);
std::string name_of(InitKind kind);
/// Inverses. Throw ValueError for another word.
ModelKind model_kind(const std::string& name);
AttentionKind attention_kind(const std::string& name);
InitKind init_kind(const std::string& name);

struct DitConfig {
  int heads = 2;
  int head_dim = 32;
  int layers = 4;
  int in_channels = 3;
  int out_channels = 3;
  int patch = 1;
  int height = 16;  ///< pixels: the size the model is made for
  int width = 16;
  std::optional<std::array<int, 2>>
      rope_size;    ///< tokens [rows, columns]; none = height / patch, width / patch
  int classes = 0;  ///< 0 = not class-conditional
  bool qk_norm = true;
  bool attention_bias = true;
  bool reorder = true;   ///< Morton order of the tokens
  bool pred_x0 = false;  ///< the output is the image, not the flow

  AttentionKind attention = AttentionKind::automatic;
  LlsaOptions llsa;      ///< block and topk hold for VSA and SLA, too
  bool vsa_gate = true;  ///< VSA: each attention layer has a gate, zero at start

  InitKind init = InitKind::adaln_zero;
  bool pos_embed = false;
  double class_std = 0.02;

  int channels() const { return heads * head_dim; }
  std::int64_t rows() const { return height / patch; }
  std::int64_t columns() const { return width / patch; }
  std::int64_t tokens() const { return rows() * columns(); }
  /// What a query of LLSA, VSA or SLA attends to, at this size. Throws ValueError if the options do not fit it.
  LlsaPlan plan() const;

  /// Throws ValueError naming the first field that is out of range or does not fit the others; sides that are
  /// not divisible by the patch name the nearest sizes that are.
  void validate() const;

  /// The same with `auto` replaced by what it stands for at this size: full attention when N <= 4 x the keys
  /// an LLSA query attends (or when LLSA has no level there), else LLSA.
  DitConfig resolved() const;

  /// Reads the model's keys from an object and leaves others unread. Then validate().
  static DitConfig read(JsonObject& json);
  /// Reads a document that holds nothing but a model.
  static DitConfig parse(const std::string& text, const std::string& where);
  /// Adds the model's keys; without `with_classes` all but num_embeds_ada_norm.
  void write(JsonWriter& json, bool with_classes = true) const;
  std::string json() const;

  friend bool operator==(const DitConfig&, const DitConfig&);
};

/// Throws ValueError unless both sides are positive multiples of the patch; the message names the nearest
/// sizes.
void check_sides(std::int64_t height, std::int64_t width, int patch);

/// A sentence for the user where a resolved configuration makes attention slower than it has to be: in bf16
/// on a GPU, if LLSA does not run on tensor cores altogether ("LLSA attention runs on the plain kernels,
/// which are slower: head dimension 48 is not one of 32, 64, 128"). Empty otherwise: f32 and f64 have plain
/// kernels only.
std::string slower_attention_text(const DitConfig& config, Device device, DType dtype);

}  // namespace llsa::nn
