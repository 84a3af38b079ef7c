#include "nn/data/webp.h"

#include <webp/demux.h>

#include <algorithm>
#include <memory>

#include "core/error.h"
#include "nn/data/image_format.h"
#include "nn/data/orientation.h"

namespace llsa::nn {

namespace {

std::uint32_t le24(ByteSource& source, std::uint64_t at) {
  return source.le16(at) | static_cast<std::uint32_t>(source.u8(at + 2)) << 16;
}

// Size and channels from the first chunk, whose data begins at `at`.
void read_head(ByteSource& source, const std::string& kind, std::uint64_t at, ImageInfo& info) {
  std::uint32_t width = 0, height = 0;
  bool alpha = false;
  if (kind == "VP8X") {
    alpha = (source.u8(at) & 0x10) != 0;
    width = le24(source, at + 4) + 1;
    height = le24(source, at + 7) + 1;
  } else if (kind == "VP8 ") {
    width = source.le16(at + 6) & 0x3FFF;
    height = source.le16(at + 8) & 0x3FFF;
  } else if (kind == "VP8L") {
    const std::uint32_t bits = source.le32(at + 1);
    width = (bits & 0x3FFF) + 1;
    height = (bits >> 14 & 0x3FFF) + 1;
    alpha = (bits >> 28 & 1) != 0;
  } else {
    source.fail("damaged WebP: it does not begin with an image");
  }
  info.width = static_cast<int>(width);
  info.height = static_cast<int>(height);
  info.channels = alpha ? 4 : 3;
}

}  // namespace

bool reads_webp() { return true; }

// Chunks [type][length][data], padded to even lengths, in a RIFF block.
ImageInfo probe_webp(ByteSource& source, std::int64_t max_pixels) {
  ImageInfo info;
  info.format = "WebP";
  if (source.size() < 30) source.fail("ends early: WebP stops inside its header");
  const std::uint64_t end = std::uint64_t{8} + source.le32(4);
  if (source.size() < end) source.fail(cat("ends early: WebP needs ", end, " bytes, has ", source.size()));
  read_head(source, source.text(12, 4), 20, info);
  require_pixels(source, info.width, info.height, max_pixels);
  for (std::uint64_t at = 12; at + 8 <= end;) {
    const std::uint64_t length = source.le32(at + 4), data = at + 8;
    if (data + length > end) source.fail("damaged WebP: a chunk leaves the file");
    if (source.text(at, 4) == "EXIF") {
      const std::uint64_t lead = source.starts_with(data, std::string_view("Exif\0\0", 6)) ? 6 : 0;
      info.orientation = exif_orientation(source, data + lead, data + length);
    }
    at = data + length + length % 2;
  }
  return info;
}

// The decoder of animations takes files with a single image, too; of an animation it gives the first one.
std::vector<std::uint8_t> decode_webp(const ByteSource& source, const std::uint8_t* bytes) {
  WebPAnimDecoderOptions options;
  if (!WebPAnimDecoderOptionsInit(&options)) source.fail("libwebp is of another version than its headers");
  options.color_mode = MODE_RGBA;
  const WebPData data = {bytes, static_cast<std::size_t>(source.size())};
  const std::unique_ptr<WebPAnimDecoder, void (*)(WebPAnimDecoder*)> decoder(
      WebPAnimDecoderNew(&data, &options), &WebPAnimDecoderDelete);
  WebPAnimInfo info;
  std::uint8_t* rgba = nullptr;
  int time = 0;
  if (!decoder || !WebPAnimDecoderGetInfo(decoder.get(), &info) ||
      !WebPAnimDecoderGetNext(decoder.get(), &rgba, &time))
    source.fail("damaged WebP");
  return {rgba, rgba + std::size_t{4} * info.canvas_width * info.canvas_height};
}

}  // namespace llsa::nn
