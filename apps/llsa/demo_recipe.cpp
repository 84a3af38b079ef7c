#include "apps/llsa/demo_recipe.h"

namespace llsa::apps {

nn::TrainOptions demo_recipe() {
  nn::TrainOptions recipe;
  recipe.model.height = recipe.model.width = 16;
  recipe.model.heads = 2;
  recipe.model.head_dim = 32;
  recipe.model.layers = 4;
  recipe.model.attention = nn::AttentionKind::llsa;
  recipe.model.llsa.levels = 1;
  recipe.model.pos_embed = true;
  recipe.model.class_std = 0.5;
  recipe.steps = 3000;
  recipe.batch = 8;
  recipe.lr = 4e-3;
  recipe.schedule = "cosine";
  recipe.warmup = 80;
  recipe.lr_final = 0.05;
  recipe.ema_power = 0.75;
  recipe.class_drop = 0.1;
  recipe.guidance = 1.5;
  recipe.seed = 1;
  return recipe;
}

}  // namespace llsa::apps
