// A build without libwebp: file_format.cpp says so before anything here is called.
#include "core/error.h"
#include "nn/data/webp.h"

namespace llsa::nn {

bool reads_webp() { return false; }

ImageInfo probe_webp(ByteSource& source, std::int64_t) { source.fail("this build has no libwebp"); }

std::vector<std::uint8_t> decode_webp(const ByteSource& source, const std::uint8_t*) {
  source.fail("this build has no libwebp");
}

}  // namespace llsa::nn
