// The Inception network on the CUDA backend against the CPU: one small picture.
#include "nn/eval/inception.h"

#include <doctest/doctest.h>

#include "kernels/elementwise.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/support/files.h"
#include "tests/support/inception_weights.h"
#include "tests/support/kernels.h"

using namespace llsa;
using namespace llsa::test;

TEST_SUITE_BEGIN("kernels/cuda/inception");

TEST_CASE("features of thousands of channels and logits agree with the CPU") {
  if (!cuda_device()) return;
  Contexts both;
  const TempDir dir;
  write_safetensors(dir / "weights.safetensors", inception_tensors(both.cpu));
  const nn::Inception cpu(both.cpu, dir / "weights.safetensors"), gpu(both.gpu, dir / "weights.safetensors");
  const Tensor levels =
      kernels::affine(both.cpu, random_tensor(both.cpu, {1, 3, 40, 30}, DType::f32, 1), 40, 128);
  const auto expected = cpu(levels, nn::InceptionResize::aa),
             found = gpu(both.to_gpu(levels), nn::InceptionResize::aa);
  CHECK(deviation(values_of(both.cpu, both.to_cpu(found.features)), values_of(both.cpu, expected.features)) <=
        2e-5);
  CHECK(deviation(values_of(both.cpu, both.to_cpu(found.logits)), values_of(both.cpu, expected.logits)) <=
        2e-5);
}

TEST_SUITE_END();
