#include "nn/data/file_format.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "nn/data/webp.h"

namespace llsa::nn {

namespace {

using namespace std::literals;

constexpr std::uint64_t kSvgLead = 1024;  // bytes in which <svg has to stand

struct Signature {
  const char* format;
  std::uint64_t at;
  std::string_view bytes;
};

constexpr Signature kSignatures[] = {
    {"PNG", 0, "\x89PNG\r\n\x1a\n"sv},
    {"JPEG", 0, "\xFF\xD8"sv},
    {"GIF", 0, "GIF87a"sv},
    {"GIF", 0, "GIF89a"sv},
    {"WebP", 8, "WEBP"sv},
    {"AVIF", 4, "ftypavi"sv},  // avif, avis
    {"HEIC", 4, "ftyphei"sv},  // heic, heix, heim, heis
    {"HEIC", 4, "ftyphev"sv},  // hevc, hevx
    {"HEIC", 4, "ftypmif1"sv},
    {"HEIC", 4, "ftypmsf1"sv},
    {"camera raw", 4, "ftypcrx"sv},
    {"TIFF", 0, "II*\0"sv},  // and the raw files of many cameras
    {"TIFF", 0, "MM\0*"sv},
    {"TIFF", 0, "II+\0"sv},  // above 4 GiB
    {"TIFF", 0, "MM\0+"sv},
    {"JPEG XL", 0, "\xFF\x0A"sv},
    {"JPEG XL", 4, "JXL \r\n\x87\n"sv},
    {"JPEG 2000", 4, "jP  \r\n\x87\n"sv},
    {"JPEG 2000", 0, "\xFF\x4F\xFF\x51"sv},
    {"PSD", 0, "8BPS"sv},
    {"OpenEXR", 0, "\x76\x2F\x31\x01"sv},
    {"Radiance HDR", 0, "#?RADIANCE"sv},
    {"Radiance HDR", 0, "#?RGBE"sv},
    {"DDS", 0, "DDS "sv},
    {"QOI", 0, "qoif"sv},
    {"XCF", 0, "gimp xcf"sv},
    {"ICO", 0, "\0\0\1\0"sv},
    {"MP4 video", 4, "ftyp"sv},  // after the kinds above
    {"Matroska video", 0, "\x1A\x45\xDF\xA3"sv},
    {"AVI video", 8, "AVI "sv},
    {"ZIP archive", 0, "PK\3\4"sv},
    {"tar archive", 257, "ustar"sv},
    {"gzip archive", 0, "\x1F\x8B\x08"sv},
    {"RAR archive", 0, "Rar!\x1A\x07"sv},
    {"7z archive", 0, "7z\xBC\xAF\x27\x1C"sv},
    {"Parquet table", 0, "PAR1"sv},
    {"HDF5 file", 0, "\x89HDF\r\n\x1a\n"sv},
    {"NumPy array", 0, "\x93NUMPY"sv},
};

constexpr std::array kRead = {"PNG"sv, "JPEG"sv, "BMP"sv, "TGA"sv, "GIF"sv, "PNM"sv, "WebP"sv};

// Many texts begin with "BM", too. A BMP has the size of its second header at byte 14.
bool is_bmp(ByteSource& source) {
  if (!source.starts_with(0, "BM") || source.size() < 18) return false;
  const std::uint32_t header = source.le32(14);
  return header == 12 || (header >= 40 && header <= 124);
}

// P1 .. P7 and white space or a comment.
bool is_pnm(ByteSource& source) {
  if (source.size() < 3 || source.u8(0) != 'P' || source.u8(1) < '1' || source.u8(1) > '7') return false;
  return " \t\r\n#"sv.find(static_cast<char>(source.u8(2))) != std::string_view::npos;
}

bool is_svg(ByteSource& source) {
  if (!source.starts_with(0, "<") && !source.starts_with(0, "\xEF\xBB\xBF<")) return false;
  return source.text(0, std::min(source.size(), kSvgLead)).find("<svg") != std::string::npos;
}

// The extension of a file name in lower case with its dot, or nothing.
std::string lower_extension(const std::string& name) {
  const std::size_t dot = name.find_last_of("./");
  if (dot == std::string::npos || name[dot] == '/') return {};
  std::string extension = name.substr(dot);
  for (char& c : extension)  // not by tolower(): in some locales that changes other letters, or leaves out I
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return extension;
}

bool is_tga(ByteSource& source) {
  constexpr std::string_view kFooter = "TRUEVISION-XFILE.\0"sv;  // of newer files
  return lower_extension(source.name()) == ".tga" ||
         (source.size() > kFooter.size() && source.starts_with(source.size() - kFooter.size(), kFooter));
}

}  // namespace

std::string file_format(ByteSource& source) {
  for (const Signature& signature : kSignatures)
    if (source.starts_with(signature.at, signature.bytes)) return signature.format;
  if (is_bmp(source)) return "BMP";
  if (is_pnm(source)) return "PNM";
  if (is_svg(source)) return "SVG";
  if (is_tga(source)) return "TGA";
  return {};
}

bool is_read(const std::string& format) {
  return std::find(kRead.begin(), kRead.end(), format) != kRead.end() && (format != "WebP" || reads_webp());
}

std::string formats_read() {
  std::string text;
  for (const std::string_view format : kRead)
    if (is_read(std::string(format))) text += (text.empty() ? "" : ", ") + std::string(format);
  return text;
}

std::string unread_format_hint(const std::string& format) {
  if (format == "WebP")
    return "this build has no libwebp: install libwebp-dev and build again, or convert to PNG or JPEG";
  if (format.ends_with("archive")) return "unpack it";
  return "convert to PNG or JPEG";
}

bool has_image_extension(const std::string& name) {
  constexpr std::array kExtensions = {".png"sv, ".jpg"sv,  ".jpeg"sv, ".jpe"sv,  ".jfif"sv, ".apng"sv,
                                      ".bmp"sv, ".tga"sv,  ".gif"sv,  ".pnm"sv,  ".ppm"sv,  ".pgm"sv,
                                      ".pbm"sv, ".pam"sv,  ".webp"sv, ".avif"sv, ".heic"sv, ".heif"sv,
                                      ".tif"sv, ".tiff"sv, ".jxl"sv};
  return std::find(kExtensions.begin(), kExtensions.end(), lower_extension(name)) != kExtensions.end();
}

}  // namespace llsa::nn
