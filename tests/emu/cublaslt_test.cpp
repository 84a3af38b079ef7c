// What the stand-in for cuBLASLt refuses, as the library does: one mistake after the other in calls that are
// good without it.
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "tests/kernels/cuda/device_buffer.h"

using llsa::test::cuda_check;
using llsa::test::DeviceBuffer;

namespace {

struct Destroy {
  void operator()(cublasLtMatrixLayout_t x) const { cublasLtMatrixLayoutDestroy(x); }
  void operator()(cublasLtMatmulDesc_t x) const { cublasLtMatmulDescDestroy(x); }
  void operator()(cublasLtMatmulPreference_t x) const { cublasLtMatmulPreferenceDestroy(x); }
};
using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Destroy>;
using Operation = std::unique_ptr<cublasLtMatmulDescOpaque_t, Destroy>;
using Preference = std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, Destroy>;

constexpr auto kGood = CUBLAS_STATUS_SUCCESS, kInvalid = CUBLAS_STATUS_INVALID_VALUE,
               kUnsupported = CUBLAS_STATUS_NOT_SUPPORTED;

Layout layout_of(std::uint64_t rows, std::uint64_t cols, std::int64_t ld, cudaDataType_t type = CUDA_R_32F) {
  cublasLtMatrixLayout_t layout{};
  CHECK(cublasLtMatrixLayoutCreate(&layout, type, rows, cols, ld) == kGood);
  return Layout(layout);
}

template <class Value>
cublasStatus_t set(const Layout& x, cublasLtMatrixLayoutAttribute_t option, Value value) {
  return cublasLtMatrixLayoutSetAttribute(x.get(), option, &value, sizeof value);
}
template <class Value>
cublasStatus_t set(const Operation& x, cublasLtMatmulDescAttributes_t option, Value value) {
  return cublasLtMatmulDescSetAttribute(x.get(), option, &value, sizeof value);
}
template <class Value>
cublasStatus_t set(const Preference& x, cublasLtMatmulPreferenceAttributes_t option, Value value) {
  return cublasLtMatmulPreferenceSetAttribute(x.get(), option, &value, sizeof value);
}

/// d [8,5] = a [8,3] b [3,5] in f32, column by column, with all that a test may spoil.
struct Product {
  Product() {
    cublasLtMatmulDesc_t made{};
    CHECK(cublasLtMatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F) == kGood);
    operation.reset(made);
    cublasLtMatmulPreference_t wishes{};
    CHECK(cublasLtMatmulPreferenceCreate(&wishes) == kGood);
    preference.reset(wishes);
    CHECK(set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{1024}) == kGood);
    CHECK(set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
              std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}) == kGood);
    cuda_check(cudaStreamCreate(&stream));
  }
  ~Product() { cudaStreamDestroy(stream); }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  cublasStatus_t ask(int wanted = 4) {
    int count = -1;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(nullptr, operation.get(), a.get(), b.get(), d.get(), d.get(),
                                       preference.get(), wanted, offers.data(), &count);
    CHECK(count == (status == kGood ? wanted : 0));
    return status;
  }

  cublasStatus_t check() {
    cublasLtMatmulHeuristicResult_t result{};
    return cublasLtMatmulAlgoCheck(nullptr, operation.get(), a.get(), b.get(), d.get(), d.get(),
                                   &offers[0].algo, &result);
  }

  cublasStatus_t run() {
    return cublasLtMatmul(nullptr, operation.get(), &alpha, a_at, a.get(), b_at, b.get(), &beta, c_at,
                          d.get(), d_at, d.get(), &offers[chosen].algo, workspace_at, workspace_bytes,
                          stream);
  }

  Layout a = layout_of(8, 3, 8), b = layout_of(3, 5, 3), d = layout_of(8, 5, 8);
  Operation operation;
  Preference preference;
  std::array<cublasLtMatmulHeuristicResult_t, 4> offers{};
  std::size_t chosen = 0;
  DeviceBuffer<float> a_data{std::vector<float>(100, 2)}, b_data{std::vector<float>(100, 3)};
  DeviceBuffer<float> d_data{std::vector<float>(100, 0)}, workspace{256};
  const float *a_at = a_data.data(), *b_at = b_data.data(), *c_at = d_data.data();
  float* d_at = d_data.data();
  void* workspace_at = workspace.data();
  std::size_t workspace_bytes = 1024;
  float alpha = 1, beta = 0;
  cudaStream_t stream{};
};

/// What a product returns that was spoilt after the library had been asked for algorithms.
template <class Spoil>
cublasStatus_t run_spoilt(Spoil spoil) {
  Product p;
  CHECK(p.ask() == kGood);
  spoil(p);
  return p.run();
}

/// What the library answers when it is asked about such a product.
template <class Spoil>
cublasStatus_t ask_spoilt(Spoil spoil) {
  Product p;
  spoil(p);
  return p.ask();
}

}  // namespace

TEST_SUITE_BEGIN("emu/cublaslt");

TEST_CASE("options of a wrong size, none, or unknown") {
  Product p;
  CHECK(set(p.a, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, std::int32_t{1}) == kGood);
  CHECK(set(p.a, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, std::int64_t{1}) == kInvalid);
  CHECK(set(p.a, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, std::int64_t{24}) == kGood);
  CHECK(set(p.a, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, std::int32_t{24}) == kInvalid);
  CHECK(set(p.a, CUBLASLT_MATRIX_LAYOUT_ORDER, std::int32_t{0}) == kInvalid);
  CHECK(cublasLtMatrixLayoutSetAttribute(p.a.get(), CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, nullptr, 4) ==
        kInvalid);
  CHECK(set(p.operation, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_N) == kGood);
  CHECK(set(p.operation, CUBLASLT_MATMUL_DESC_TRANSA, std::int64_t{0}) == kInvalid);
  CHECK(set(p.operation, CUBLASLT_MATMUL_DESC_TRANSB, std::int8_t{0}) == kInvalid);
  CHECK(set(p.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, std::int64_t{1}) == kInvalid);
  CHECK(set(p.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, std::int32_t{0}) == kInvalid);
  CHECK(set(p.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, std::int32_t{0}) == kInvalid);
  CHECK(set(p.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, std::int32_t{8}) == kInvalid);
  CHECK(set(p.operation, CUBLASLT_MATMUL_DESC_TRANSC, CUBLAS_OP_N) == kInvalid);
  CHECK(set(p.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint32_t{4}) == kInvalid);
  CHECK(set(p.preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint64_t{0}) == kInvalid);
  for (const auto option :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    CHECK(set(p.preference, option, std::uint32_t{16}) == kGood);
    CHECK(set(p.preference, option, std::uint64_t{16}) == kInvalid);
  }
  CHECK(set(p.preference, CUBLASLT_MATMUL_PREF_SEARCH_MODE, std::uint32_t{0}) == kInvalid);

  CHECK(p.ask() == kGood);
  std::uint32_t scheme = 99;
  std::size_t written = 0;
  const auto read = [&](cublasLtMatmulAlgoConfigAttributes_t option, void* to, std::size_t bytes) {
    return cublasLtMatmulAlgoConfigGetAttribute(&p.offers[1].algo, option, to, bytes, &written);
  };
  CHECK(read(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, 8) == kInvalid);
  CHECK(read(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, nullptr, 4) == kInvalid);
  CHECK(read(CUBLASLT_ALGO_CONFIG_ID, &scheme, 4) == kInvalid);
  CHECK(scheme == 99);
  CHECK(read(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, 4) == kGood);
  CHECK(scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
  CHECK(written == 4);
  CHECK(read(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &scheme, 4) == kGood);
  CHECK(scheme == 2);  // parts, of the second algorithm
}

TEST_CASE("products that do not fit together, or that there is no algorithm for") {
  CHECK(ask_spoilt([](Product&) {}) == kGood);
  CHECK(ask_spoilt([](Product& p) { p.a = layout_of(8, 3, 7); }) == kInvalid);  // leading dimension
  CHECK(ask_spoilt([](Product& p) { p.b = layout_of(3, 5, 2); }) == kInvalid);
  CHECK(ask_spoilt([](Product& p) { p.d = layout_of(8, 5, 7); }) == kInvalid);
  CHECK(ask_spoilt([](Product& p) { p.a = layout_of(7, 3, 8); }) == kInvalid);  // sizes
  CHECK(ask_spoilt([](Product& p) { p.b = layout_of(4, 5, 4); }) == kInvalid);
  CHECK(ask_spoilt([](Product& p) { p.d = layout_of(8, 6, 8); }) == kInvalid);
  CHECK(ask_spoilt([](Product& p) { set(p.operation, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T); }) ==
        kInvalid);
  CHECK(ask_spoilt([](Product& p) { p.a = layout_of(8, 3, 8, CUDA_R_16BF); }) == kInvalid);
  CHECK(ask_spoilt([](Product& p) { set(p.b, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, std::int32_t{2}); }) ==
        kInvalid);
  const auto add_in_output = [](Product& p) {
    set(p.preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        std::uint32_t{CUBLASLT_REDUCTION_SCHEME_MASK});
  };
  CHECK(ask_spoilt(add_in_output) == kInvalid);
  const auto wide = [](Product& p) {  // f64, whose factors would be f64, too
    p.a = layout_of(8, 3, 8, CUDA_R_64F);
    p.b = layout_of(3, 5, 3, CUDA_R_64F);
    p.d = layout_of(8, 5, 8, CUDA_R_64F);
  };
  CHECK(ask_spoilt(wide) == kInvalid);
  const auto thin = [](Product& p) {
    p.a = layout_of(8, 3, 8, CUDA_R_16BF);
    p.b = layout_of(3, 5, 3, CUDA_R_16BF);
    p.d = layout_of(8, 5, 8, CUDA_R_16BF);
  };
  CHECK(ask_spoilt(thin) == kUnsupported);
  const auto to_f32 = [](Product& p, std::uint64_t k, cudaDataType_t type_of_b) {
    const auto ld = static_cast<std::int64_t>(k);
    p.a = layout_of(8, k, 8, CUDA_R_16BF);
    p.b = layout_of(k, 5, ld, type_of_b);
  };
  CHECK(ask_spoilt([&](Product& p) { to_f32(p, 4, CUDA_R_16BF); }) == kGood);
  CHECK(ask_spoilt([&](Product& p) { to_f32(p, 3, CUDA_R_16BF); }) == kUnsupported);
  CHECK(ask_spoilt([&](Product& p) { to_f32(p, 4, CUDA_R_32F); }) == kInvalid);
  Product p;
  CHECK(p.ask(0) == kInvalid);

  const auto with_epilogue = [](Product& p, cublasLtEpilogue_t epilogue) {
    set(p.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    set(p.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<void*>(p.workspace.data()));
    set(p.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, static_cast<void*>(p.workspace.data()));
    set(p.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, std::int64_t{8});
  };
  const auto gelu = [&](Product& p) { with_epilogue(p, CUBLASLT_EPILOGUE_GELU_AUX_BIAS); };
  CHECK(ask_spoilt(gelu) == kGood);
  const auto spoilt_gelu = [&](auto spoil) {
    return ask_spoilt([&](Product& p) {
      gelu(p);
      spoil(p);
    });
  };
  CHECK(spoilt_gelu([](Product& p) {
          set(p.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, std::int64_t{12});
        }) == kInvalid);
  CHECK(spoilt_gelu([](Product& p) {
          set(p.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, std::int64_t{0});
        }) == kInvalid);
  CHECK(spoilt_gelu([](Product& p) {
          set(p.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, static_cast<void*>(nullptr));
        }) == kInvalid);
  CHECK(spoilt_gelu([](Product& p) {
          set(p.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<void*>(nullptr));
        }) == kInvalid);
  CHECK(spoilt_gelu([](Product& p) {
          p.a = layout_of(3, 3, 3);
          p.d = layout_of(3, 5, 3);
        }) == kUnsupported);

  const auto gelu_gradient = [](Product& p, void* pre) {
    set(p.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DGELU);
    set(p.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, pre);
    set(p.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, std::int64_t{8});
  };
  CHECK(ask_spoilt([&](Product& p) { gelu_gradient(p, p.workspace.data()); }) == kGood);
  CHECK(ask_spoilt([&](Product& p) { gelu_gradient(p, nullptr); }) == kInvalid);
}

TEST_CASE("calls of a product that break what was promised to the heuristic") {
  Product good;
  CHECK(good.ask() == kGood);
  CHECK(good.check() == kGood);
  CHECK(good.run() == kGood);
  const auto numbers = good.d_data.get();
  for (std::size_t i = 0; i < numbers.size(); ++i) CHECK(numbers[i] == (i < 40 ? 18 : 0));

  CHECK(run_spoilt([](Product&) {}) == kGood);
  CHECK(run_spoilt([](Product& p) { ++p.a_at; }) == kInvalid);
  CHECK(run_spoilt([](Product& p) { ++p.b_at; }) == kInvalid);
  CHECK(run_spoilt([](Product& p) { p.c_at = ++p.d_at; }) == kInvalid);
  CHECK(run_spoilt([](Product& p) { p.c_at = p.b_at; }) == kInvalid);
  CHECK(run_spoilt([](Product& p) { p.workspace_bytes = 1023; }) == kInvalid);
  CHECK(run_spoilt([](Product& p) { p.workspace_at = nullptr; }) == kInvalid);
  CHECK(run_spoilt([](Product& p) { p.alpha = 2; }) == kInvalid);
  CHECK(run_spoilt([](Product& p) { p.beta = 1; }) == kInvalid);
  CHECK(run_spoilt([](Product& p) { p.a = layout_of(8, 3, 7); }) == kInvalid);
  CHECK(run_spoilt([](Product& p) { p.chosen = 3; }) == kUnsupported);  // proposed, but cannot run
  CHECK(run_spoilt([](Product& p) {
          p.b = layout_of(3, 4, 3);  // another product than the algorithm was made for
          p.d = layout_of(8, 4, 8);
        }) == kInvalid);
  CHECK(run_spoilt([](Product& p) {
          set(p.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<void*>(p.workspace.data() + 1));
        }) == kInvalid);
  CHECK(run_spoilt([](Product& p) {
          set(p.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
          set(p.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<void*>(p.workspace.data()));
        }) == kInvalid);

  // c and d share an address: one promise is taken back, so that the other is asked alone.
  const auto c = CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, d = CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES;
  for (const auto& [for_c, for_d] : {std::pair{4u, 256u}, std::pair{256u, 4u}, std::pair{4u, 4u}}) {
    Product p;
    CHECK(set(p.preference, c, std::uint32_t{for_c}) == kGood);
    CHECK(set(p.preference, d, std::uint32_t{for_d}) == kGood);
    CHECK(p.ask() == kGood);
    p.c_at = ++p.d_at;
    CHECK(p.run() == (for_c == for_d ? kGood : kInvalid));
  }

  Product other;
  CHECK(other.ask() == kGood);
  other.b = layout_of(3, 4, 3);
  other.d = layout_of(8, 4, 8);
  CHECK(other.check() == kInvalid);
  const cudaStream_t stream = std::exchange(good.stream, nullptr);
  CHECK(good.run() == kInvalid);
  good.stream = stream;
}

TEST_SUITE_END();
