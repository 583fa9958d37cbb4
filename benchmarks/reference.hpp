#pragma once

#include <cstddef>
#include <span>
#include <vector>

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

/// Which SwiGLU network: its weights are those of WeightStream.
struct Network {
    std::size_t d_ff = 0;
    std::size_t group = 0;
    std::size_t expert = 0;  ///< of the group
};

/// Values `columns` of a network's output for one token `x`, by plain loops in double over the weights of layer 0,
/// rounded to `format`. Shares no code with any arm.
[[nodiscard]] std::vector<double> reference_output(const Threads& threads, Format format, const Network& network,
                                                   std::span<const float> x, std::span<const std::size_t> columns);

/// Normalised mean squared error of all of `y`; NaN if a value is.
[[nodiscard]] double relative_error(moe::MatrixView<const float> y, std::span<const float> expected);

/// Width of the dense network that costs as much as what a token activates.
[[nodiscard]] constexpr std::size_t dense_d_ff(const Shape& shape) noexcept {
    return shape.top_k * shape.d_ff + shape.shared_d_ff;
}

}  // namespace bench
