// The checksums of a checkpoint's files, so that one flipped bit on the disk is found.
//
// checksums.xxh64 in a checkpoint has a line "16 hexadecimal digits, two blanks, path" for every other file in
// it, in the format of `xxhsum -c`. Checkpoints of other programs and of earlier versions have no such file.
#pragma once

#include <string>

namespace llsa::nn {

/// Writes the checksums of all files in the folder. Throws IoError.
void write_checksums(const std::string& checkpoint);

/// The path of a file in a checkpoint, after its checksum was compared, if the checkpoint has one. Throws IoError if it
/// differs; the message names the file, the hint names the checkpoint before this one.
std::string checked_file(const std::string& checkpoint, const std::string& name);

}  // namespace llsa::nn
