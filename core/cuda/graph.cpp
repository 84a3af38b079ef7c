#include "core/cuda/graph.h"

#include "core/cuda/check.h"
#include "core/error.h"

namespace llsa::cuda {
namespace {

/// A capture in progress, and the pool that its memory comes from. If an exception ends it, nothing remains.
class Capture {
 public:
  Capture(cudaStream_t stream, Allocator& allocator)
      : stream_(stream), allocator_(allocator), pool_(allocator.open_pool()) {
    try {
      LLSA_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    } catch (...) {
      give_up();
      throw;
    }
    under_way_ = true;
  }
  ~Capture() {
    if (under_way_) {
      static_cast<void>(cudaStreamEndCapture(stream_, &graph_));
      static_cast<void>(cudaGetLastError());  // the error of a capture that is discarded
    }
    if (graph_ != nullptr) static_cast<void>(cudaGraphDestroy(graph_));
    if (!kept_) give_up();
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  cudaGraph_t end() {
    under_way_ = false;
    LLSA_CUDA_CHECK(cudaStreamEndCapture(stream_, &graph_));
    if (const std::size_t bytes = allocator_.close_pool(); bytes != 0)
      throw CudaError(
          cat("[graph] ", bytes, " bytes that were allocated before the capture were freed in it; ",
              "replays would go on using them"),
          "let tensors that captured work reads live as long as the graph");
    return graph_;
  }
  /// The pool. From now on the caller has to drop it.
  std::uint64_t keep_pool() {
    kept_ = true;
    return pool_;
  }

 private:
  void give_up() {
    allocator_.close_pool();
    allocator_.drop_pool(pool_);
  }

  cudaStream_t stream_;
  Allocator& allocator_;
  std::uint64_t pool_;
  cudaGraph_t graph_ = nullptr;
  bool under_way_ = false, kept_ = false;
};

}  // namespace

Graph::Graph(Context& ctx, FunctionRef<void()> work)
    : stream_(ctx.cuda_stream()), allocator_(ctx.allocator()) {
  if (!stream_) throw DeviceError("[graph] there are no graphs on the CPU", "use a CUDA device");
  Capture capture(static_cast<cudaStream_t>(stream_->handle()), *allocator_);
  work();
  cudaGraph_t graph = capture.end();
  LLSA_CUDA_CHECK(cudaGraphGetNodes(graph, nullptr, &size_));
  cudaGraphExec_t executable = nullptr;
  LLSA_CUDA_CHECK(cudaGraphInstantiateWithFlags(&executable, graph, 0));
  executable_ = executable;
  pool_ = capture.keep_pool();
}

Graph::~Graph() {
  static_cast<void>(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_)));
  allocator_->drop_pool(pool_);
}

void Graph::launch() {
  LLSA_CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_),
                                  static_cast<cudaStream_t>(stream_->handle())));
}

}  // namespace llsa::cuda
