// Reading a small file whole, and whether it is there.
#pragma once

#include <string>

namespace llsa {

/// The bytes of a file. Throws IoError with the path and the system's reason.
std::string read_text_file(const std::string& path);

/// Whether there is a file or folder of that name. Links are followed. Throws IoError if the system cannot tell,
/// because the name is too long or a folder on the way may not be entered.
bool path_exists(const std::string& path);

}  // namespace llsa
