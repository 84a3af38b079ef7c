// Full attention by cuDNN's fused kernels (scaled dot-product attention), described through cudnn-frontend:
//
//     forward    o, lse = ln sum_j exp(q . k_j / sqrt(D))         the library's "stats", f32, natural
//     backward   dq, dk, dv from q, k, v, o, lse, d_o             its deterministic algorithm
//
// bf16 with f32 accumulation, D a multiple of 8 up to 128, rows that begin at multiples of 16 bytes. Tensors
// stay where they are, with the strides that they have. A plan is made once for a combination of shapes and
// strides: the first one that the heuristic offers and that can be built. Nothing is timed, so it is the same
// plan every time.
//
// Causal attention is declined. full_attention promises that masked keys are left out, even where they hold a
// NaN, and the library's documentation does not promise that of its causal mask.
//
// Memory. Forward takes nothing that grows with N M. On Hopper (sm_90) the deterministic backward pass keeps
// all of dP in the workspace, 2 b H N M bytes: 3.2 GB for 6 heads of 16,384 tokens, 52 GB for 65,536. So it
// is given a bound, and it declines beyond that.
//
// The emulated tests have nothing that stands in for such graphs: there, as in a build without cuDNN, our own
// kernels run.
#include "kernels/backend/attention.h"

#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include <cmath>
#include <limits>
#include <map>
#include <unordered_map>
#include <vector>

#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/libraries.h"

namespace llsa::kernels::cuda {
namespace {

namespace fe = cudnn_frontend;
using fe::graph::Tensor_attributes;

constexpr std::int64_t kMostHeadDim = 128;
constexpr std::int64_t kRowElements = 8;            // bf16 in the 16 bytes that are loaded at once
constexpr std::int64_t kMostElements = 0x7fffffff;  // of a tensor

/// One tensor of a graph: its dims and strides, four of each.
struct Operand {
  std::int64_t uid;
  const char* name;
  const Tensor& x;
  fe::DataType_t type = fe::DataType_t::BFLOAT16;

  std::vector<std::int64_t> dims() const {
    std::vector<std::int64_t> all = x.shape().extents();
    all.resize(4, 1);  // lse [b,H,N] is [b,H,N,1] to the library
    return all;
  }
  /// The stride of an axis with one element is free; it becomes that of a contiguous tensor.
  std::vector<std::int64_t> strides() const {
    const std::vector<std::int64_t> extents = dims();
    std::vector<std::int64_t> all(4);
    std::int64_t packed = 1;
    for (std::size_t axis = 4; axis-- > 0; packed *= extents[axis])
      all[axis] = extents[axis] == 1 ? packed : x.stride(static_cast<int>(axis));
    return all;
  }
};

struct Forward {
  Operand q, k, v, o, lse;

  Forward(const Tensor& q_, const Tensor& k_, const Tensor& v_, const Tensor& o_, const Tensor& lse_)
      : q{1, "q", q_},
        k{2, "k", k_},
        v{3, "v", v_},
        o{4, "o", o_},
        lse{5, "lse", lse_, fe::DataType_t::FLOAT} {}
};

struct Backward : Forward {
  Operand d_o, dq, dk, dv;

  Backward(const Forward& forward, const Tensor& d_o_, const Tensor& dq_, const Tensor& dk_,
           const Tensor& dv_)
      : Forward(forward), d_o{6, "d_o", d_o_}, dq{7, "dq", dq_}, dk{8, "dk", dk_}, dv{9, "dv", dv_} {}
};

std::vector<const Operand*> operands_of(const Forward& x) { return {&x.q, &x.k, &x.v, &x.o, &x.lse}; }
std::vector<const Operand*> operands_of(const Backward& x) {
  return {&x.q, &x.k, &x.v, &x.o, &x.lse, &x.d_o, &x.dq, &x.dk, &x.dv};
}

/// Why the library is not even asked; empty if it is asked.
std::string unfit(const std::vector<const Operand*>& operands) {
  const Tensor& q = operands.front()->x;
  if (q.dtype() != DType::bf16) return cat("cuDNN attention takes bf16, got ", name_of(q.dtype()));
  if (q.size(3) % kRowElements != 0 || q.size(3) > kMostHeadDim)
    return cat("cuDNN attention takes D as a multiple of ", kRowElements, " up to ", kMostHeadDim, ", got ",
               q.size(3));
  for (const Operand* const operand : operands) {
    const Tensor& x = operand->x;
    if (x.numel() > kMostElements)
      return cat("cuDNN attention takes tensors of less than 2^31 elements, got ", operand->name, " ",
                 x.shape());
    if (x.dtype() != DType::bf16) continue;  // lse
    bool aligned = reinterpret_cast<std::uintptr_t>(x.raw()) % (2 * kRowElements) == 0;
    for (int axis = 0; axis < 3; ++axis)
      aligned = aligned && (x.size(axis) == 1 || (x.stride(axis) > 0 && x.stride(axis) % kRowElements == 0));
    if (!aligned)
      return cat("cuDNN attention takes rows that begin at multiples of 16 bytes, and ", operand->name,
                 "'s do not");
  }
  return {};
}

void place(Tensor_attributes& attributes, const Operand& operand) {
  attributes.set_uid(operand.uid)
      .set_name(operand.name)
      .set_dim(operand.dims())
      .set_stride(operand.strides())
      .set_data_type(operand.type);
}

std::shared_ptr<Tensor_attributes> input(fe::graph::Graph& graph, const Operand& operand) {
  Tensor_attributes attributes;
  place(attributes, operand);
  return graph.tensor(attributes);
}

void output(const std::shared_ptr<Tensor_attributes>& attributes, const Operand& operand) {
  attributes->set_output(true);
  place(*attributes, operand);
}

float scale_of(const Operand& q) { return 1.0f / std::sqrt(static_cast<float>(q.x.size(3))); }

void describe(fe::graph::Graph& graph, const Forward& in) {
  const auto results = graph.sdpa(
      input(graph, in.q), input(graph, in.k), input(graph, in.v),
      fe::graph::SDPA_attributes().set_name("sdpa").set_generate_stats(true).set_attn_scale(scale_of(in.q)));
  output(results[0], in.o);
  output(results[1], in.lse);
}

void describe(fe::graph::Graph& graph, const Backward& in) {
  const auto results = graph.sdpa_backward(input(graph, in.q), input(graph, in.k), input(graph, in.v),
                                           input(graph, in.o), input(graph, in.d_o), input(graph, in.lse),
                                           fe::graph::SDPA_backward_attributes()
                                               .set_name("sdpa_backward")
                                               .set_attn_scale(scale_of(in.q))
                                               .set_deterministic_algorithm(true));
  output(results[0], in.dq);
  output(results[1], in.dk);
  output(results[2], in.dv);
}

/// Whether the library has no plan for the problem, as opposed to something having gone wrong.
bool refused(const fe::error_t& error) {
  const auto names = [&](const char* status) { return error.err_msg.find(status) != std::string::npos; };
  switch (error.code) {
    case fe::error_code_t::GRAPH_NOT_SUPPORTED:
      return true;
    case fe::error_code_t::HEURISTIC_QUERY_FAILED:
    case fe::error_code_t::GRAPH_EXECUTION_PLAN_CREATION_FAILED:
      return !names("CUDNN_STATUS_EXECUTION_FAILED");  // of the driver
    case fe::error_code_t::CUDNN_BACKEND_API_FAILED:
      return names("CUDNN_STATUS_NOT_SUPPORTED");
    default:
      return false;
  }
}

/// For the status of the library that an error of cudnn-frontend names in its text.
std::string hint_in(const std::string& message) {
  for (const cudnnStatus_t status :
       {CUDNN_STATUS_NOT_INITIALIZED, CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH,
        CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED, CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED,
        CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED, CUDNN_STATUS_EXECUTION_FAILED})
    if (message.find(cudnnGetErrorString(status)) != std::string::npos) return hint_for(status);
  return hint_for(CUDNN_STATUS_INTERNAL_ERROR);
}

/// Throws CudaError (core/cuda/check.h) where something went wrong.
void check(const fe::error_t& error, const llsa::cuda::Command& command, const char* where,
           const Forward& in) {
  if (error.code == fe::error_code_t::OK) return;
  llsa::cuda::library_failed(where, command, cat("q ", in.q.x.shape(), ", k ", in.k.x.shape()), error.err_msg,
                             hint_in(error.err_msg));
}

struct Plan {
  fe::graph::Graph graph;
  std::int64_t workspace = 0;  // bytes
  std::string declined;
};

}  // namespace

struct AttentionPlans {
  std::map<std::vector<std::int64_t>, Plan> of_layout;
};

namespace {

/// Everything that the choice of a plan depends on.
std::vector<std::int64_t> layout_of(const std::vector<const Operand*>& operands) {
  std::vector<std::int64_t> layout;  // begins to differ in length between forward and backward
  for (const Operand* const operand : operands)
    for (const auto& numbers : {operand->dims(), operand->strides()})
      layout.insert(layout.end(), numbers.begin(), numbers.end());
  return layout;
}

template <class Pass>
void make(Plan& plan, const char* where, const Pass& in, cudnnHandle_t handle) {
  plan.graph.set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  describe(plan.graph, in);
  fe::error_t status = plan.graph.build(handle, {fe::HeurMode_t::A});
  if (status.code == fe::error_code_t::OK) status = plan.graph.get_workspace_size(plan.workspace);
  if (refused(status))
    plan.declined =
        cat("cuDNN has no plan for q ", in.q.x.shape(), ", k ", in.k.x.shape(), ": ", status.err_msg);
  else
    check(status, "graph.build", where, in);
}

template <class Pass>
std::string run(Context& ctx, const char* where, const Pass& in, std::int64_t most_memory) {
  const std::vector<const Operand*> operands = operands_of(in);
  std::string declined = unfit(operands);
  if (!declined.empty()) return declined;

  cudnnHandle_t handle = CudnnHandle::of(ctx);
  std::shared_ptr<AttentionPlans>& plans = Libraries::of(ctx).attention;
  if (!plans) plans = std::make_shared<AttentionPlans>();
  const auto [place, fresh] = plans->of_layout.try_emplace(layout_of(operands));
  Plan& plan = place->second;
  if (fresh) {
    try {
      make(plan, where, in, handle);
    } catch (...) {
      plans->of_layout.erase(place);
      throw;
    }
  }
  if (!plan.declined.empty()) return plan.declined;
  if (plan.workspace > most_memory)
    return cat("cuDNN attention would take ", plan.workspace, " bytes of memory, more than the ", most_memory,
               " that it is given");

  const Tensor workspace = ctx.empty(Shape{plan.workspace}, DType::u8);
  std::unordered_map<std::int64_t, void*> addresses;
  for (const Operand* const operand : operands) addresses[operand->uid] = operand->x.raw();
  const Profiler::Span span(ctx.stream(), &plan, [&] { return KernelText{cat("cuDNN ", where)}; });
  const Tensor& q = in.q.x;
  const AttentionFlops flops =
      full_attention_flops(q.size(0) * q.size(1), q.size(2), in.k.x.size(2), q.size(3));
  Profiler::add_work(std::is_same_v<Pass, Forward> ? flops.forward : flops.backward);
  check(LLSA_CALL(plan.graph.execute(handle, addresses, workspace.raw())), where, in);
  return {};
}

const char* const kCausal = "cuDNN's causal mask does not promise to leave out a NaN that it masks";

std::string full_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, bool causal,
                           const Tensor& o, const Tensor& lse) {
  if (causal) return kCausal;
  return run(ctx, "full_attention", Forward(q, k, v, o, lse), std::numeric_limits<std::int64_t>::max());
}

std::string full_attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                                    const Tensor& v, const Tensor& o, const Tensor& lse, bool causal,
                                    std::int64_t most_memory, const Tensor& dq, const Tensor& dk,
                                    const Tensor& dv) {
  if (causal) return kCausal;
  return run(ctx, "full_attention_backward", Backward(Forward(q, k, v, o, lse), d_o, dq, dk, dv),
             most_memory);
}

}  // namespace

constinit const AttentionLibrary kAttentionLibrary = {.full_attention = full_attention,
                                                      .full_attention_backward = full_attention_backward};

}  // namespace llsa::kernels::cuda
