// Output of the commands: checks of the files they will write, and notes.
#pragma once

#include <string>

namespace llsa::apps {

/// Throws IoError unless a file can be made at `path`. Commands call it before the work whose result the file
/// will hold. An existing file stays as it is; an empty path is ignored.
void check_output(const std::string& path);

/// Text from outside for a terminal or one line of a file: control characters become question marks.
std::string printable(std::string text);

/// Prints "note: TEXT" to standard error; nothing for an empty text.
void print_note(const std::string& text);

}  // namespace llsa::apps
