#pragma once

#include <span>

#include "arms/arm.hpp"
#include "formats.hpp"
#include "threads.hpp"

namespace bench {

/// Normalised mean squared error of the last token of `y` against plain loops in double over the weights of layer 0,
/// rounded to `format`, with the experts and weights of the plan. Shares no code with any arm.
[[nodiscard]] double reference_error(const Threads& threads, const Shape& shape, Format format, const Batch& batch,
                                     std::size_t variant, moe::MatrixView<const float> y);

/// The same for the dense network of equal active cost.
[[nodiscard]] double dense_error(const Threads& threads, const Shape& shape, Format format, const Batch& batch,
                                 moe::MatrixView<const float> y);

/// Normalised mean squared error of all of `y`; NaN if a value is.
[[nodiscard]] double relative_error(moe::MatrixView<const float> y, std::span<const float> expected);

/// Width of the dense network that costs as much as what a token activates.
[[nodiscard]] constexpr std::size_t dense_d_ff(const Shape& shape) noexcept {
    return shape.top_k * shape.d_ff + shape.shared_d_ff;
}

}  // namespace bench
