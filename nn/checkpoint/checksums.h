// The checksums of a checkpoint's files, so that one flipped bit on the disk is found.
//
// checksums.xxh64 in a checkpoint has a line "16 hexadecimal digits, two blanks, path" for every other file in
// it, as `xxhsum -c` reads it. Checkpoints of others, and of earlier versions, have no such file.
#pragma once

#include <string>

namespace llsa::nn {

/// Writes the checksums of all files in the folder. Throws IoError.
void write_checksums(const std::string& checkpoint);

/// The path of a file in a checkpoint, whose bytes are those that were saved, as far as the checkpoint has
/// checksums. Throws IoError that names the file, with the checkpoint before it as a hint, when they are not.
std::string checked_file(const std::string& checkpoint, const std::string& name);

}  // namespace llsa::nn
