#include "apps/llsa/report_html.h"

#include <cstdint>

#include "core/error.h"

namespace llsa::apps {
namespace {

/// Bytes of the character of UTF-8 at the beginning of a text that is not empty; 0 when there is none.
std::size_t character_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::size_t length = byte(0) < 0x80   ? 1
                             : byte(0) < 0xc2 ? 0
                             : byte(0) < 0xe0 ? 2
                             : byte(0) < 0xf0 ? 3
                             : byte(0) < 0xf5 ? 4
                                              : 0;
  if (length < 2) return length;
  if (text.size() < length) return 0;
  std::uint32_t code = byte(0) & (0xffu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3fu);
  }
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  const bool too_long = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  return surrogate || too_long || code > 0x10ffff ? 0 : length;
}

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --line: #d0d7de; --soft: #f3f5f7; --quiet: #57606a; --mark: #b35900; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a424c; --soft: #1d2229; --quiet: #9aa4af; --mark: #f0a050; }
  body { background: #12161b; color: #e6e9ec; }
  .plot { filter: invert(0.93) hue-rotate(180deg); }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 0 auto; padding: 1rem 1.5rem 3rem; }
h1 { font-size: 1.6rem; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 0.6rem; padding-bottom: 0.2rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 0.4rem; overflow-wrap: anywhere; }
p { max-width: 80ch; }
.quiet, figcaption { color: var(--quiet); font-size: 0.87em; }
.mark { color: var(--mark); font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0.5rem 0; }
th, td { padding: 0.25rem 0.9rem 0.25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; white-space: nowrap; }
pre { background: var(--soft); padding: 0.6rem 0.8rem; border-radius: 6px; overflow-x: auto; }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(34rem, 100%), 1fr)); gap: 1rem; }
.strip { display: flex; flex-wrap: wrap; gap: 1rem; align-items: end; }
figure { margin: 0; }
.plot { width: 100%; height: auto; border-radius: 6px; }
.pixels { image-rendering: pixelated; max-width: 100%; height: auto; }
.strip > figure { max-width: min(22rem, 100%); }
.triple { display: flex; gap: 0.6rem; align-self: start; margin-right: 1rem; }
.triple figure { width: 7rem; }
.triple .pixels { width: 6rem; }
.triple figcaption { line-height: 1.3; overflow-wrap: anywhere; }
)";

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    const char c = text[0];
    if (length == 0 || (length == 1 && ((c < ' ' && c != '\n' && c != '\t') || c == 0x7f)))
      out += "\uFFFD";
    else if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += text.substr(0, length);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

std::string data_uri(std::string_view type, std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out = cat("data:", type, ";base64,");
  out.reserve(out.size() + (bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t three = 0;
    for (std::size_t j = 0; j < 3; ++j)
      three = three << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    for (std::size_t j = 0; j < 4; ++j)
      out += i + j <= bytes.size() ? kDigits[three >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

std::string html_table(const std::vector<std::string>& head,
                       const std::vector<std::vector<std::string>>& rows) {
  std::string out = "<div class=\"scroll\"><table>\n<tr>";
  for (const std::string& cell : head) out += cat("<th>", cell, "</th>");
  out += "</tr>\n";
  for (const auto& row : rows) {
    out += "<tr>";
    for (const std::string& cell : row) out += cat("<td>", cell, "</td>");
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string png_element(std::string_view png, const std::string& title) {
  return cat("<img class=\"pixels\" alt=\"", escaped(title), "\" title=\"", escaped(title), "\" src=\"",
             data_uri("image/png", png), "\">");
}

std::string html_page(const std::string& title, const std::string& body) {
  return cat(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
      escaped(title), "</title>\n<style>", kStyle, "</style>\n</head>\n<body>\n", body, "</body>\n</html>\n");
}

}  // namespace llsa::apps
