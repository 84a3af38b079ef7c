#include "nn/checkpoint/init_from.h"

#include <algorithm>
#include <map>

#include "autograd/var.h"
#include "core/text_file.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/make.h"
#include "nn/checkpoint/attention_layers.h"
#include "nn/checkpoint/model_files.h"
#include "nn/class_names.h"
#include "nn/diffusers_config.h"
#include "nn/dit.h"
#include "nn/json.h"
#include "nn/parameter_file.h"

namespace llsa::nn {
namespace {

constexpr const char* kPosEmbed = "pos_embed";

/// Brings the tensors of a checkpoint into the shape of a model, part by part.
class Fit {
 public:
  Fit(Parameters& store, const ModelFiles& files)
      : store_(store), ctx_(store.context()), files_(files), tensors_(read_model_tensors(files)) {}

  void attention_layers() {
    for (const std::string& layer : add_missing_layers(store_, tensors_))
      note(cat("the checkpoint has no ", layer, ": it starts at zero"));
    for (const char* layer : kAttentionLayers)
      if (std::erase_if(tensors_, [&](const auto& entry) {
            return belongs_to_layer(entry.first, layer) && !store_.contains(entry.first);
          }) > 0)
        note(cat("the checkpoint's ", layer, " is not used: this model's attention has none"));
  }

  void class_tables(const std::vector<std::string>& names) {
    std::vector<std::string> theirs, ours;
    for (const auto& item : tensors_)
      if (is_table(item.first)) theirs.push_back(item.first);
    for (const Parameter& parameter : store_.all())
      if (is_table(parameter.name)) ours.push_back(parameter.name);
    if (ours.empty() && !theirs.empty()) {
      for (const std::string& name : theirs) add_null_class_to_time(name);
      note(
          "the class table is not used: this model has no classes, and starts as the checkpoint without a "
          "class");
    } else if (theirs.empty() && !ours.empty()) {
      for (const std::string& name : ours) tensors_[name] = initial(name);
      note("the checkpoint has no classes: the class table starts fresh");
    } else if (!ours.empty()) {
      const std::int64_t classes = store_.find(ours[0]).shape[0] - 1;
      const std::int64_t earlier = table_rows(theirs[0]) - 1;
      ClassMatch match = match_classes(names, classes, read_class_names(files_, earlier), earlier);
      if (!match.note.empty()) note(match.note);
      match.rows.push_back(earlier);  // "no class", the last row of both
      for (const std::string& name : theirs)
        if (store_.contains(name)) carry_rows(name, match.rows);
    }
  }

  void prediction(bool image) {
    const bool theirs = JsonObject(read_text_file(files_.config), files_.config).boolean("pred_x0", false);
    if (theirs != image)
      note(cat("the checkpoint predicts the ", theirs ? "image" : "flow", ", this model the ",
               image ? "image" : "flow", ": its output has to be learned anew"));
  }

  void position_embedding() {
    const auto source = tensors_.find(kPosEmbed);
    if (!store_.contains(kPosEmbed)) {
      if (tensors_.erase(kPosEmbed) > 0)
        note("the position embedding of the checkpoint is not used: this model has none");
    } else if (const Shape target = store_.find(kPosEmbed).shape; source == tensors_.end()) {
      tensors_[kPosEmbed] = initial(kPosEmbed);
      note("the checkpoint has no position embedding: that of this model keeps its initial values");
    } else if (const Shape shape = source->second.shape(); shape != target) {
      if (shape.rank() != 3 || shape[2] != target[2])
        wrong_shape(kPosEmbed, shape, cat("[rows,columns,", target[2], "]"));
      const NoGrad no_grad;
      const Var grid(ctx_, on_device(kPosEmbed));
      source->second = to_host(ctx_, resize_position_embedding(grid, target[0], target[1]).value());
      note(cat("the position embedding was resized from ", shape, " to ", target));
    }
  }

  std::vector<std::string> finish() {
    store_.load(read_weights(store_, tensors_, files_.weights));
    return std::move(notes_);
  }

 private:
  static bool is_table(const std::string& name) { return name.ends_with(kClassTable); }

  void note(const std::string& text) { notes_.push_back(text); }

  [[noreturn]] void wrong_shape(const std::string& name, const Shape& found,
                                const std::string& expected) const {
    throw IoError(cat(files_.weights, ": ", name, " has shape ", found, ", expected ", expected));
  }

  /// A tensor of the checkpoint in the dtype of the model's values.
  Tensor on_device(const std::string& name) {
    return kernels::cast(ctx_, from_host(ctx_, tensors_.at(name)), store_.flat().dtype());
  }

  Tensor initial(const std::string& name) const {
    return to_host(ctx_, store_.view(store_.flat(), store_.find(name)));
  }

  std::int64_t table_rows(const std::string& name) const {
    const Shape& shape = tensors_.at(name).shape();
    if (shape.rank() != 2 || shape[0] < 1) wrong_shape(name, shape, "[classes + 1,width]");
    return shape[0];
  }

  /// Row i becomes row rows[i] of the checkpoint's table, or stays as it is for -1.
  void carry_rows(const std::string& name, const std::vector<std::int64_t>& rows) {
    const Parameter& target = store_.find(name);
    if (table_rows(name) != rows.back() + 1 || tensors_.at(name).size(1) != target.shape[1])
      wrong_shape(name, tensors_.at(name).shape(), cat(Shape{rows.back() + 1, target.shape[1]}));
    const Tensor theirs = on_device(name);
    const Tensor table = kernels::clone(ctx_, store_.view(store_.flat(), target));
    for (std::size_t i = 0; i < rows.size(); ++i)
      if (const auto to = static_cast<std::int64_t>(i); rows[i] >= 0)
        kernels::copy(ctx_, theirs.slice(0, rows[i], rows[i] + 1), table.slice(0, to, to + 1));
    tensors_[name] = to_host(ctx_, table);
  }

  /// The conditioning is time + table[class]. Without classes the row for "no class" becomes a part of time's bias.
  void add_null_class_to_time(const std::string& table) {
    const std::int64_t null_class = table_rows(table) - 1;
    const std::string bias =
        table.substr(0, table.size() - std::string(kClassTable).size()) + "timestep_embedder.linear_2.bias";
    const auto found = tensors_.find(bias);
    if (found != tensors_.end() && found->second.shape() == Shape{tensors_.at(table).size(1)}) {
      const Tensor row = on_device(table).slice(0, null_class, null_class + 1).reshape(found->second.shape());
      found->second = to_host(ctx_, kernels::add(ctx_, on_device(bias), row));
    }
    tensors_.erase(table);
  }

  Parameters& store_;
  Context& ctx_;
  const ModelFiles& files_;
  std::map<std::string, Tensor> tensors_;
  std::vector<std::string> notes_;
};

}  // namespace

std::vector<std::string> init_from_diffusers_model(ImageModel& model, const std::string& path,
                                                   const std::vector<std::string>& class_names) {
  const ModelFiles files = find_model_files(path);
  if (const ModelKind kind = diffusers_model_kind(read_text_file(files.config), files.config);
      kind != model.kind())
    throw ValueError(
        cat(path, " holds weights of the model ", name_of(kind), ", expected ", name_of(model.kind())),
        cat("start from a checkpoint of the model ", name_of(model.kind())));
  Fit fit(model.parameters(), files);
  fit.attention_layers();
  fit.class_tables(class_names);
  fit.prediction(model.last_stage().pred_x0);
  fit.position_embedding();
  std::vector<std::string> done = files.notes;
  for (std::string& note : fit.finish()) done.push_back(std::move(note));
  return done;
}

}  // namespace llsa::nn
