// Reading a small file whole, and whether it is there.
#pragma once

#include <cstddef>
#include <string>

namespace llsa {

/// The longest document of settings that is read, in bytes. Once parsed, it takes up to thirty times as much memory.
inline constexpr std::size_t kLongestDocument = std::size_t{16} << 20;

/// The bytes of a file. Throws IoError with the path and the system's reason, and for a file of more than `most` bytes:
/// a wrong file, or a device without an end.
std::string read_text_file(const std::string& path, std::size_t most = kLongestDocument);

/// Whether there is a file or folder of that name. Links are followed. Throws IoError if the system cannot tell,
/// because the name is too long or a folder on the way may not be entered.
bool path_exists(const std::string& path);

}  // namespace llsa
