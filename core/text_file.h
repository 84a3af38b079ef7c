// Reading a small file whole.
#pragma once

#include <string>

namespace llsa {

/// The bytes of a file. Throws IoError with the path and the system's reason.
std::string read_text_file(const std::string& path);

}  // namespace llsa
