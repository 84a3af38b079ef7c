// What a file is, by its first bytes. Names are no help: many pictures are named .jpg whatever they are, and .jfif, .jpe
// and .apng are JPEG and PNG.
#pragma once

#include <string>

#include "byte_source.h"

namespace llsa::nn {

/// "PNG", "JPEG", "BMP", "TGA", "GIF", "PNM", "WebP"; another format of pictures, or of archives and tables that
/// pictures come in, such as "TIFF" or "ZIP archive"; nothing for all else. Old TGA files have no signature and are
/// known by their extension.
std::string file_format(ByteSource& source);

/// Whether decode_image() reads a format of this name.
bool is_read(const std::string& format);

/// The formats that decode_image() reads: "PNG, JPEG, ...".
std::string formats_read();

/// What to do about a file whose format is not read.
std::string unread_format_hint(const std::string& format);

/// Whether a file name ends as those of pictures do, in any case of letters: a file of such a name that is none is
/// worth a word.
bool has_image_extension(const std::string& name);

}  // namespace llsa::nn
