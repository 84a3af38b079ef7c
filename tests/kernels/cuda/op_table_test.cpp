// Every op of the table on the CUDA backend against the CPU backend, forward and gradients. Arguments and
// seeds are made on the CPU and copied, so that both sides compute with the same numbers.
#include "autograd/table/op_table.h"

#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/copy.h"
#include "kernels/random.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/orders.h"

using namespace llsa;
using namespace llsa::test;

TEST_SUITE_BEGIN("kernels/cuda/op_table");

namespace {

struct Results {
  std::vector<Tensor> outputs;
  std::vector<Tensor> gradients;  // one per input
};

OpSample on_gpu(Contexts& both, const OpSample& sample) {
  OpSample moved = sample;
  moved.context = &both.gpu;
  for (Tensor& input : moved.inputs) input = both.to_gpu(input);
  for (Tensor& constant : moved.constants) constant = both.to_gpu(constant);
  return moved;
}

/// Numbers that bf16 holds, so that all dtypes get the same.
Tensor seed_for(Context& cpu, const Tensor& output, std::uint64_t stream) {
  const Tensor numbers = kernels::random_normal(cpu, output.shape(), DType::f32, 77, stream);
  return kernels::cast(cpu, kernels::cast(cpu, numbers, DType::bf16), output.dtype());
}

/// Forward and backward on the sample's device; results on the CPU.
Results run(Contexts& both, const OpRow& row, const OpSample& sample) {
  const bool gpu = sample.context->device().is_cuda();
  const auto home = [&](const Tensor& x) { return gpu ? both.to_cpu(x) : x; };
  const Vars leaves = leaves_of(sample, true);
  const Vars outputs = row.apply(sample, leaves);
  Results results;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Tensor seed = seed_for(both.cpu, outputs[i].value(), i);
    results.outputs.push_back(home(outputs[i].value()));
    backward(outputs[i], gpu ? both.to_gpu(seed) : seed,
             i + 1 < outputs.size() ? Graph::retain : Graph::free);
  }
  for (const Var& leaf : leaves) results.gradients.push_back(home(leaf.grad()));
  return results;
}

void check_close(Contexts& both, const Results& a, const Results& b, double tolerance) {
  CHECK(difference(both.cpu, a.outputs, b.outputs) <= tolerance);
  CHECK(difference(both.cpu, a.gradients, b.gradients) <= tolerance);
}

std::vector<unsigned char> bytes_of(Contexts& both, const Results& results) {
  std::vector<unsigned char> all;
  for (const auto* list : {&results.outputs, &results.gradients})
    for (const Tensor& x : *list) {
      const Tensor dense = kernels::contiguous(both.cpu, x);
      const auto* first = reinterpret_cast<const unsigned char*>(dense.raw());
      all.insert(all.end(), first, first + dense.nbytes());
    }
  return all;
}

}  // namespace

TEST_CASE("f32 and f64 agree with the CPU at odd sizes") {
  if (!cuda_device()) return;
  Contexts both;
  for (const OpRow& row : op_table()) {
    for (const OpSize size :
         {OpSize{1, 5, 2}, OpSize{31, 8, 2}, OpSize{33, 5, 1}, OpSize{65, 2, 1}, OpSize{3, 1, 2},
          OpSize{3, 33, 2}, OpSize{5, 32, 2}, OpSize{3, 64, 1}, OpSize{2, 130, 1}}) {
      INFO(std::string(row.name) << ", " << size.tokens << " tokens, width " << size.width);
      for (const DType dtype : {DType::f32, DType::f64}) {
        INFO("dtype " << std::string(name_of(dtype)));
        const OpSample sample = row.sample({both.cpu, size, dtype, 4});
        Results found = run(both, row, on_gpu(both, sample)), expected = run(both, row, sample);
        // Over one or two columns the gradient of a norm is what is left of terms a thousand times as large,
        // and in f32 depends on where a compiler fuses a multiplication with an addition.
        const bool outputs_alone = dtype == DType::f32 && size.width <= 2 &&
                                   std::string_view(row.name).find("norm") != std::string_view::npos;
        if (outputs_alone) found.gradients = expected.gradients = {};
        check_close(both, found, expected, dtype == DType::f64 ? 1e-10 : 1e-5);
      }
    }
  }
}

TEST_CASE("bf16 errs at most twice as much as the CPU does") {
  if (!cuda_device()) return;
  Contexts both;
  for (const OpRow& row : op_table()) {
    if (!row.narrow) continue;
    for (const OpSize size : {OpSize{33, 8, 2}, OpSize{5, 31, 1}, OpSize{9, 32, 2}, OpSize{9, 64, 1}}) {
      INFO(std::string(row.name) << ", " << size.tokens << " tokens, width " << size.width);
      const OpSample sample = row.sample({both.cpu, size, DType::bf16, 5});
      const Results exact = run(both, row, cast_sample(sample, DType::f64));
      const Results cpu = run(both, row, sample);
      const Results gpu = run(both, row, on_gpu(both, sample));
      const auto check = [&](const std::vector<Tensor>& a, const std::vector<Tensor>& b,
                             const std::vector<Tensor>& truth) {
        const double plain = difference(both.cpu, b, truth);
        CHECK(difference(both.cpu, a, truth) <= 2 * plain + 1e-6);
      };
      check(gpu.outputs, cpu.outputs, exact.outputs);
      check(gpu.gradients, cpu.gradients, exact.gradients);
    }
  }
}

TEST_CASE("strided inputs give what contiguous ones give") {
  if (!cuda_device()) return;
  Contexts both;
  const auto transposed = [&](const Tensor& x) {  // the same elements, the first two axes swapped in memory
    if (x.rank() >= 2) return kernels::contiguous(both.gpu, x.transpose(0, 1)).transpose(0, 1);
    const Tensor twice = both.gpu.zeros({x.numel(), 2}, x.dtype());
    kernels::copy(both.gpu, x, twice.select(1, 1));
    return twice.select(1, 1);
  };
  const auto sliced = [&](const Tensor& x) {  // a part of something with a longer last axis
    std::vector<std::int64_t> shape = x.shape().extents();
    shape.back() += 3;
    const Tensor larger = both.gpu.empty(Shape(shape), x.dtype());
    kernels::fill(both.gpu, larger, std::numeric_limits<double>::quiet_NaN());
    Tensor part = larger.slice(-1, 1, shape.back() - 2);
    kernels::copy(both.gpu, x, part);
    return part;
  };
  for (const OpRow& row : op_table()) {
    INFO(std::string(row.name));
    const OpSample plain = row.sample({both.cpu, {33, 8, 3}, DType::f32, 6});
    const Results expected = run(both, row, plain);
    OpSample turned = on_gpu(both, plain);
    OpSample cut = turned;
    for (Tensor& input : turned.inputs) input = transposed(input);
    for (Tensor& input : cut.inputs) input = sliced(input);
    check_close(both, run(both, row, turned), expected, 1e-5);
    check_close(both, run(both, row, cut), expected, 1e-5);
  }
}

TEST_CASE("same bits in every run and every order") {
  if (!cuda_device()) return;
  Contexts both;
  struct Case {
    OpSize size;
    DType dtype;
  };
  // Rows of 6 elements are moved one by one. Those of 32 and 128 are whole packs of 16 bytes, which norms,
  // gathers and gates move instead; such heads have 64, 256 (bf16), 128 and 512 bytes (f32), held by 4, 16, 8
  // and 32 lanes in device/head_packs.cuh. In bf16 full attention takes the tensor cores there.
  const Case cases[] = {{{67, 6, 2}, DType::f32},   {{35, 6, 1}, DType::bf16}, {{17, 32, 2}, DType::f32},
                        {{17, 32, 2}, DType::bf16}, {{3, 128, 1}, DType::f32}, {{3, 128, 1}, DType::bf16},
                        {{17, 6, 2}, DType::f64}};
  for (const OpRow& row : op_table()) {
    // cuDNN takes convolutions in f32 and bf16: the way over im2col is walked by those in f64.
    const bool convolution = std::string_view(row.name).starts_with("conv2d");
    for (const Case& c : cases) {
      if (c.dtype == DType::f64 && !convolution) continue;
      INFO(std::string(row.name) << ", " << c.size.tokens << " tokens, width " << c.size.width << ", "
                                 << std::string(name_of(c.dtype)));
      const OpSample sample = on_gpu(both, row.sample({both.cpu, c.size, c.dtype, 8}));
      for_all_orders([&] { return bytes_of(both, run(both, row, sample)); });
    }
  }
}

TEST_CASE("a step that is not logged does not wait for the device") {
  if (!cuda_device()) return;
  Contexts both;
  for (const OpRow& row : op_table()) {
    INFO(std::string(row.name));
    const OpSample sample = on_gpu(both, row.sample({both.cpu, {17, 4, 2}, DType::f32, 9}));
    const Vars leaves = leaves_of(sample, true);
    const std::uint64_t before = both.gpu.synchronizations();
    const Vars outputs = row.apply(sample, leaves);
    for (const Var& output : outputs)
      backward(output, both.gpu.zeros(output.shape(), output.value().dtype()), Graph::retain);
    CHECK(both.gpu.synchronizations() == before);
  }
}

TEST_SUITE_END();
