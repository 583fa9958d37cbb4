#pragma once

#include "options.hpp"
#include "report.hpp"

namespace compare {

/// Measures everything the options ask for, with a progress line on stderr. Throws moe::Error where the model can't be
/// read or a result is wrong.
[[nodiscard]] Report compare_strategies(const Options& options);

}  // namespace compare
