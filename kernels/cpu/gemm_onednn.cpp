// f32 and bf16 products by oneDNN, one thread each.
//
// Which of oneDNN's doors is the faster one was measured on one core of a Zen 5 (2.6.3, AVX-512, panels of
// 256 rows, products of 64 to 384, share of the FMA peak): matmul primitive 88-95 % with a row-major a
// (dnnl_sgemm 76-88 %), 78-91 % with a transposed a (dnnl_sgemm 86-92 %). So: the primitive, but dnnl_sgemm
// for a transposed f32 a. Own code could gain little and is not worth having.
//
// oneDNN 2.6 and 3 are both supported. They differ in two places here: `describe` and `primitive_is_wrong`.
//
// Creating a primitive takes far longer than a panel, so every thread keeps those it has used. oneDNN's own
// scratch memory is passed in, which keeps primitives independent of each other. libgomp is the runtime of
// libdnnl: its thread count is set to one around every call and put back afterwards, so that a program that
// uses OpenMP itself is not disturbed.
//
// A signal that is handled while its thread is inside of oneDNN 2.6.3 can destroy the heap: seen with
// dnnl_sgemm on AVX-512 and with the matmul primitive held to AVX2, within some hundred signals. So signals
// are held back around every call (tests/kernels/matmul_test.cpp).
#include <dnnl.hpp>

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <unordered_map>

#include "core/error.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/scratch.h"

extern "C" {
int omp_get_max_threads();
void omp_set_num_threads(int);
}

namespace llsa::kernels::cpu {
namespace {

using dnnl::memory;

class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~OneThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

/// Holds back this thread's signals, except those that its own instructions raise. They are delivered when
/// this goes, or at once to another thread of the program.
class SignalsHeld {
 public:
  SignalsHeld() {
    static const sigset_t held = [] {
      sigset_t set;
      sigfillset(&set);
      for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) sigdelset(&set, own);
      return set;
    }();
    pthread_sigmask(SIG_BLOCK, &held, &before_);
  }
  ~SignalsHeld() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

 private:
  sigset_t before_;
};

/// Row-major with rows ld apart, or that of the transposed matrix.
struct Layout {
  bool transposed;
  std::int64_t ld;

  template <class T>
  Layout(const MatrixRef<T>& x, std::int64_t rows, std::int64_t cols) {
    transposed = !(x.col == 1 || cols == 1);
    if (transposed)
      ld = cols == 1 ? rows : x.col;
    else
      ld = rows == 1 ? cols : x.row;
  }

  memory::dims strides() const { return transposed ? memory::dims{1, ld} : memory::dims{ld, 1}; }
};

struct Key {
  std::int64_t m, n, k, lda, ldb, ldc;
  bool a_transposed, b_transposed, bias, accumulate, is_bf16;

  friend bool operator==(const Key&, const Key&) = default;
};

struct KeyHash {
  std::size_t operator()(const Key& key) const {
    std::uint64_t hash = static_cast<std::uint64_t>(key.a_transposed) | key.b_transposed << 1 |
                         key.bias << 2 | key.accumulate << 3 | key.is_bf16 << 4;
    for (const std::int64_t value : {key.m, key.n, key.k, key.lda, key.ldb, key.ldc})
      hash = (hash ^ static_cast<std::uint64_t>(value)) * 0x9E3779B97F4A7C15u + (hash >> 29);
    return static_cast<std::size_t>(hash ^ (hash >> 32));
  }
};

/// An operation with its arguments, whose addresses are exchanged from call to call. Without a primitive: oneDNN
/// has no such product on this processor, as none in bf16 below AVX-512.
struct Product {
  dnnl::matmul primitive;
  std::unordered_map<int, memory> arguments;
  std::int64_t scratch_bytes = 0;
};

dnnl::engine& engine() {
  static dnnl::engine instance(dnnl::engine::kind::cpu, 0);
  return instance;
}

/// oneDNN 3 has no operation descriptors any more: their arguments go to the primitive descriptor.
dnnl::matmul::primitive_desc describe(const memory::desc& a, const memory::desc& b, const memory::desc* bias,
                                      const memory::desc& c, const dnnl::primitive_attr& attributes) {
#if DNNL_VERSION_MAJOR >= 3
  if (bias == nullptr) return {engine(), a, b, c, attributes};
  return {engine(), a, b, *bias, c, attributes};
#else
  using Operation = dnnl::matmul::desc;
  return {bias == nullptr ? Operation(a, b, c) : Operation(a, b, *bias, c), attributes, engine()};
#endif
}

Product make_product(const Key& key) try {
  const auto type = key.is_bf16 ? memory::data_type::bf16 : memory::data_type::f32;
  const auto f32 = memory::data_type::f32;
  const memory::desc a({key.m, key.k}, type,
                       key.a_transposed ? memory::dims{1, key.lda} : memory::dims{key.lda, 1});
  const memory::desc b({key.k, key.n}, type,
                       key.b_transposed ? memory::dims{1, key.ldb} : memory::dims{key.ldb, 1});
  const memory::desc c({key.m, key.n}, f32, memory::dims{key.ldc, 1});
  const memory::desc bias({1, key.n}, f32, memory::dims{key.n, 1});
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (key.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  const dnnl::matmul::primitive_desc description = describe(a, b, key.bias ? &bias : nullptr, c, attributes);
  const memory::desc scratch = description.scratchpad_desc();
  Product product{dnnl::matmul(description), {}, static_cast<std::int64_t>(scratch.get_size())};
  const auto add = [&](int name, const memory::desc& desc) {
    product.arguments.emplace(name, memory(desc, engine(), nullptr));
  };
  add(DNNL_ARG_SRC, a);
  add(DNNL_ARG_WEIGHTS, b);
  add(DNNL_ARG_DST, c);
  add(DNNL_ARG_SCRATCHPAD, scratch);
  if (key.bias) add(DNNL_ARG_BIAS, bias);
  return product;
} catch (const dnnl::error& error) {
  if (error.status != dnnl_unimplemented) throw;
  return {};
}

/// This thread's product; oneDNN's own process-wide cache makes a second creation cheaper.
Product& find_product(const Key& key) {
  constexpr std::size_t kKept = 512;
  thread_local std::unordered_map<Key, Product, KeyHash> products;
  const auto found = products.find(key);
  if (found != products.end()) return found->second;
  if (products.size() >= kKept) products.clear();
  // One at a time: threads that need the same product wait for the one that makes it, in a way that TSan can
  // see.
  static std::mutex making;
  const std::lock_guard lock(making);
  return products.emplace(key, make_product(key)).first->second;
}

/// False, with c as it was, where oneDNN has no such product.
bool execute(const Key& key, const void* a, const void* b, const float* bias, float* c) {
  thread_local dnnl::stream stream(engine());
  Product& product = find_product(key);
  if (!product.primitive) return false;
  const auto set = [&](int name, const void* data) {
    product.arguments.at(name).set_data_handle(const_cast<void*>(data));
  };
  set(DNNL_ARG_SRC, a);
  set(DNNL_ARG_WEIGHTS, b);
  set(DNNL_ARG_DST, c);
  if (product.scratch_bytes > 0) set(DNNL_ARG_SCRATCHPAD, scratch<0, std::byte>(product.scratch_bytes));
  if (key.bias) set(DNNL_ARG_BIAS, bias);
  product.primitive.execute(stream, product.arguments);
  return true;
}

[[noreturn]] void fail(const Key& key, const char* reason) {
  throw Error(cat("[matmul] oneDNN failed for m=", key.m, " n=", key.n, " k=", key.k, ": ", reason));
}

void set_rows(std::int64_t m, std::int64_t n, const float* row, float* c, std::int64_t ldc) {
  for (std::int64_t i = 0; i < m; ++i) {
    if (row != nullptr)
      std::copy_n(row, n, c + i * ldc);
    else
      std::fill_n(c + i * ldc, n, 0.0f);
  }
}

/// Without rows, columns or terms: true, and c is done.
bool is_empty(std::int64_t m, std::int64_t n, std::int64_t k, const float* bias, float* c, std::int64_t ldc,
              bool accumulate) {
  if (m == 0 || n == 0) return true;
  if (k != 0) return false;
  if (!accumulate) set_rows(m, n, bias, c, ldc);
  return true;
}

template <class T>
Key make_key(std::int64_t m, std::int64_t n, std::int64_t k, const MatrixRef<T>& a, const MatrixRef<T>& b,
             bool bias, std::int64_t ldc, bool accumulate) {
  const Layout la(a, m, k), lb(b, k, n);
  return {m,
          n,
          k,
          la.ld,
          lb.ld,
          m == 1 ? n : ldc,
          la.transposed,
          lb.transposed,
          bias,
          accumulate,
          std::is_same_v<T, bf16>};
}

/// On AVX-512 the matmul primitive of oneDNN 3.7.2 gives wrong sums, in f32 and bf16, where c has one column and
/// its rows lie apart, and where the elements of a single row of a lie apart.
bool primitive_is_wrong(const Key& key) {
  if (DNNL_VERSION_MAJOR < 3) return false;
  return (key.n == 1 && key.ldc > 1) || (key.m == 1 && key.a_transposed && key.lda > 1);
}

/// x as f32, contiguous in the same direction.
template <int Slot>
MatrixRef<float> widen(const MatrixRef<bf16>& x, std::int64_t rows, std::int64_t cols) {
  const Layout layout(x, rows, cols);
  const std::int64_t lines = layout.transposed ? cols : rows, length = layout.transposed ? rows : cols;
  float* const out = scratch<Slot, float>(rows * cols);
  for (std::int64_t i = 0; i < lines; ++i) {
    const bf16* const from = x.data + i * layout.ld;
#pragma omp simd
    for (std::int64_t j = 0; j < length; ++j) out[i * length + j] = from[j];
  }
  return layout.transposed ? MatrixRef<float>{out, 1, length} : MatrixRef<float>{out, length, 1};
}

}  // namespace

void gemm(std::int64_t m, std::int64_t n, std::int64_t k, MatrixRef<float> a, MatrixRef<float> b,
          const float* bias, float* c, std::int64_t ldc, bool accumulate) {
  if (is_empty(m, n, k, bias, c, ldc, accumulate)) return;
  const OneThread one_thread;
  const SignalsHeld held;
  const Key key = make_key(m, n, k, a, b, bias != nullptr, ldc, accumulate);
  if (key.a_transposed || primitive_is_wrong(key)) {
    if (bias != nullptr) set_rows(m, n, bias, c, ldc);
    const float beta = accumulate || bias != nullptr ? 1.0f : 0.0f;
    const dnnl_status_t status = dnnl_sgemm(key.a_transposed ? 'T' : 'N', key.b_transposed ? 'T' : 'N', m, n,
                                            k, 1.0f, a.data, key.lda, b.data, key.ldb, beta, c, key.ldc);
    if (status != dnnl_success) fail(key, "sgemm");
    return;
  }
  try {
    if (!execute(key, a.data, b.data, bias, c)) fail(key, "it has no such product");
  } catch (const dnnl::error& error) {
    fail(key, error.what());
  }
}

void gemm(std::int64_t m, std::int64_t n, std::int64_t k, MatrixRef<bf16> a, MatrixRef<bf16> b,
          const float* bias, float* c, std::int64_t ldc, bool accumulate) {
  if (is_empty(m, n, k, bias, c, ldc, accumulate)) return;
  const OneThread one_thread;
  const SignalsHeld held;
  const Key key = make_key(m, n, k, a, b, bias != nullptr, ldc, accumulate);
  try {
    if (!primitive_is_wrong(key) && execute(key, a.data, b.data, bias, c)) return;
  } catch (const dnnl::error& error) {
    fail(key, error.what());
  }
  gemm(m, n, k, widen<1>(a, m, k), widen<2>(b, k, n), bias, c, ldc, accumulate);
}

std::string gemm_library() {
  const dnnl_version_t& version = *dnnl_version();
  return cat("oneDNN ", version.major, '.', version.minor, '.', version.patch);
}

}  // namespace llsa::kernels::cpu
