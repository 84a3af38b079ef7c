// Work beside the training steps, such as drawing images, divided among the processes of a run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "../core/communicator.h"
#include "../core/error.h"
#include "../core/function_ref.h"

namespace llsa::nn {

/// What one of several processes has thrown in share_work(): all of them throw it, so all can go on.
class SharedWorkError : public Error {
  using Error::Error;
};

/// Rank r of W does the pieces r, r + W, .. and returns each result as a text; the first process takes the results of all,
/// in the order of the pieces. Collective. If work() returns nothing in one process, which was asked to stop, this returns
/// false in all. An Error of work() or take() ends it in all processes with a SharedWorkError; in a process that is alone
/// it is thrown as it is.
bool share_work(Communicator& ranks, std::int64_t pieces,
                FunctionRef<std::optional<std::string>(std::int64_t)> work,
                FunctionRef<void(const std::string&)> take);

}  // namespace llsa::nn
