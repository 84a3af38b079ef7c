// Lists of numbers as text, "0.999,0.9999", for settings with several numbers.
#pragma once

#include <string>
#include <vector>

namespace llsa::nn {

/// The numbers between the commas. Throws ValueError, quoting the text, if one is not a finite number.
std::vector<double> number_list(const std::string& text);

/// The shortest text that reads back as the number.
std::string number_text(double number);

}  // namespace llsa::nn
