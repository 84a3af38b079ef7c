// Lists of numbers as text, "0.999,0.9999": what settings of several numbers are written as.
#pragma once

#include <string>
#include <vector>

namespace llsa::nn {

/// The numbers between commas. Throws ValueError, quoting the text, where one is not a finite number.
std::vector<double> number_list(const std::string& text);

/// The shortest text that reads back as the number.
std::string number_text(double number);

}  // namespace llsa::nn
