// The pieces of which the HTML of a report is made. Cells of tables are HTML; everything that comes from data goes
// through escaped() first.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace llsa::apps {

/// Text for an element or an attribute in double quotes. Invalid UTF-8 and control characters become U+FFFD.
std::string escaped(std::string_view text);

/// "data:TYPE;base64,..", by which a file is embedded in a page.
std::string data_uri(std::string_view type, std::string_view bytes);

/// A table, which scrolls if it is too wide. A row may have fewer cells than the head.
std::string html_table(const std::vector<std::string>& head,
                       const std::vector<std::vector<std::string>>& rows);

/// A picture whose pixels stay sharp when it is enlarged.
std::string png_element(std::string_view png, const std::string& title);

/// A whole document. The style makes it readable in light and dark; there is no script.
std::string html_page(const std::string& title, const std::string& body);

}  // namespace llsa::apps
