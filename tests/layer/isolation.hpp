#pragma once

#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "layer/batch_runner.hpp"
#include "support/executors.hpp"

/// What stands in one token stays in that token.
namespace moe_test {

inline constexpr double specials[] = {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
                                      -std::numeric_limits<double>::infinity()};

/// Spoils element `at` of token `bad` and counts the other tokens whose bits change.
template <class Layer, class T>
std::size_t disturbed(const Layer& layer, Batch<T> batch, std::size_t bad, std::size_t at, T value, bool in_y,
                      const std::vector<T>& clean) {
    (in_y ? batch.y : batch.x)[bad * batch.d_model + at] = value;
    moe::Workspace workspace;
    const std::vector<T> y =
        run_tokens(layer, batch, first_tokens(batch.n_tokens()), true, workspace, ReversedExecutor(3));
    std::size_t count = 0;
    for (std::size_t t = 0; t < batch.n_tokens(); ++t) {
        const auto row = [&](const std::vector<T>& m) {
            return std::span(m).subspan(t * batch.d_model, batch.d_model);
        };
        count += t != bad && !same_bits(row(y), row(clean));
    }
    return count;
}

}  // namespace moe_test
