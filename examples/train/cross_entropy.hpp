#pragma once

#include <cstdint>
#include <span>

#include "matrix.hpp"

namespace trainer {

/// Of a row that nothing is to be predicted for.
inline constexpr std::int32_t no_target = -1;

/// The sum over rows of -log softmax(logits)[target], nats. `logits` become `scale` times its gradient; those of rows
/// without a target 0. Targets lie in [0, logits.cols()) or are no_target.
template <class T>
[[nodiscard]] double cross_entropy(Rows<T> logits, std::span<const std::int32_t> targets, double scale);

}  // namespace trainer
