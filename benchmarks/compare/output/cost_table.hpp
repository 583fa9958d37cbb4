#pragma once

#include <string>

#include "../report.hpp"

namespace compare {

/// The costs of a report for the terminal, or "" where it has none.
std::string cost_text(const Report& report);

}  // namespace compare
