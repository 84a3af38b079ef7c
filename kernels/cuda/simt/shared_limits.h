// Limits of shared memory that simt::launch and the emulator agree on.
#pragma once

#include <cstddef>

namespace llsa::simt {

/// Static and dynamic shared memory together that a launch gets without asking.
inline constexpr std::size_t kUsualShared = 48 * 1024;
/// With more than this simt::launch looks whether it has to ask. The host does not know how much of the usual
/// limit static arrays take; this leaves them the rest.
inline constexpr std::size_t kUsualDynamicShared = 32 * 1024;

}  // namespace llsa::simt
