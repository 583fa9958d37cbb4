#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "report.hpp"

namespace compare {

/// Steps of a router that starts with favourites and strengthens what it uses, once as it is and once balanced by the
/// sign rule. 16 experts, 2 a token, 512 tokens a step with fresh normal inputs x; logits = W x + p. After each step an
/// expert that got more tokens than the mean becomes more attractive, as one that is trained more often does:
/// p_e += 0.1 (count_e / mean - 1), within [-4, 4]. Balancing moves the choice by a bias and never p.
[[nodiscard]] std::vector<CollapseRow> collapse(std::uint64_t seed, std::size_t steps);

}  // namespace compare
