#pragma once

#include <string>
#include <vector>

#include "../report.hpp"

namespace compare {

/// Where trained strategies ended, for the terminal, or "" where there are none.
std::string trained_text(const std::vector<TrainedRow>& rows);

}  // namespace compare
