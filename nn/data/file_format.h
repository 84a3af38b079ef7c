// Tells the format of a file from its first bytes. Names are no help: many pictures are named .jpg whatever their format,
// and .jfif, .jpe and .apng are JPEG and PNG.
#pragma once

#include <string>

#include "byte_source.h"

namespace llsa::nn {

/// "PNG", "JPEG", "BMP", "TGA", "GIF", "PNM", "WebP"; or the name of a format that is not read, of
/// pictures or of files that contain pictures ("TIFF", "ZIP archive"); empty for everything else. Old TGA files have no
/// signature and are recognised by their extension.
std::string file_format(ByteSource& source);

/// Whether decode_image() reads a format of this name.
bool is_read(const std::string& format);

/// The formats that decode_image() reads: "PNG, JPEG, ...".
std::string formats_read();

/// What to do about a file whose format is not read.
std::string unread_format_hint(const std::string& format);

/// Whether a file name has an extension of pictures, in upper or lower case. If such a file is not a picture, it is worth
/// a warning.
bool has_image_extension(const std::string& name);

}  // namespace llsa::nn
