#pragma once

#include <cstdint>

#include "checkpoint.hpp"

namespace generate {

/// The token of the greatest logit, the lower one of equals. `logits` has at least one value.
[[nodiscard]] std::int32_t most_likely(const RowVector& logits);

/// Token drawn from softmax(logits / temperature) by a number `uniform` in [0, 1); most_likely for a temperature of 0.
[[nodiscard]] std::int32_t sample(const RowVector& logits, double temperature, double uniform);

}  // namespace generate
