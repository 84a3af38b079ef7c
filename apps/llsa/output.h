// Files that commands write their results to, and what they say beside their results.
#pragma once

#include <string>

namespace llsa::apps {

/// Throws IoError unless a file can be made at `path`; called before the work whose result it shall hold.
/// Whatever is there stays. An empty path is none.
void check_output(const std::string& path);

/// Prints "note: TEXT" to standard error; nothing for an empty text.
void print_note(const std::string& text);

}  // namespace llsa::apps
