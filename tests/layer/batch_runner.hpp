#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "moe/layer/moe_layer.hpp"
#include "support/compare.hpp"
#include "support/gate_cases.hpp"

namespace moe_test {

/// Tokens of a test: activations, what y held before, and token ids.
template <class T>
struct Batch {
    std::size_t d_model;
    std::vector<T> x;
    std::vector<T> y;
    std::vector<std::int32_t> ids;

    Batch(Draw& draw, std::size_t n_tokens, std::size_t width)
        : d_model(width),
          x(random_elements<T>(draw, n_tokens * width, 1)),
          y(random_elements<T>(draw, n_tokens * width, 1)),
          ids(GateCases::token_ids(draw, n_tokens)) {}

    [[nodiscard]] std::size_t n_tokens() const { return ids.size(); }
};

/// Position of the first token of a Batch; the others follow.
inline constexpr std::uint64_t batch_position = 1000;

/// The output rows of `tokens` when `layer` is given exactly these, in this order. Each keeps its position.
template <class Layer, class T, class Executor>
std::vector<T> run_tokens(const Layer& layer, const Batch<T>& batch, std::span<const std::size_t> tokens,
                          bool accumulate, moe::Workspace& workspace, const Executor& executor) {
    const std::size_t d = batch.d_model;
    std::vector<T> x;
    std::vector<T> y;
    std::vector<std::int32_t> ids;
    std::vector<std::uint64_t> positions;
    for (const std::size_t t : tokens) {
        x.insert(x.end(), &batch.x[t * d], &batch.x[t * d] + d);
        y.insert(y.end(), &batch.y[t * d], &batch.y[t * d] + d);
        ids.push_back(batch.ids[t]);
        positions.push_back(batch_position + t);
    }
    moe::ForwardOptions<T> options;
    options.accumulate = accumulate;
    options.token_ids = ids;
    options.positions = positions;
    layer.forward(moe::view(static_cast<const T*>(x.data()), tokens.size(), d), moe::view(y.data(), tokens.size(), d),
                  workspace, executor, options);
    return y;
}

inline std::vector<std::size_t> first_tokens(std::size_t n) {
    std::vector<std::size_t> tokens(n);
    std::iota(tokens.begin(), tokens.end(), std::size_t{0});
    return tokens;
}

/// What a token's output must be whatever happens around it: the batch as a whole, in one thread.
template <class T>
class Expected {
public:
    template <class Layer>
    Expected(const Layer& layer, const Batch<T>& batch, bool accumulate, moe::Workspace& workspace)
        : batch_(batch),
          accumulate_(accumulate),
          y_(run_tokens(layer, batch, first_tokens(batch.n_tokens()), accumulate, workspace, moe::SerialExecutor{})) {}

    [[nodiscard]] bool finite() const { return all_finite(y_); }

    /// Whether `layer`, given `tokens` on `executor`, gives each of them the bits it had in the whole batch.
    template <class Layer, class Executor>
    [[nodiscard]] bool holds_for(const Layer& layer, std::span<const std::size_t> tokens, moe::Workspace& workspace,
                                 const Executor& executor) const {
        const std::vector<T> y = run_tokens(layer, batch_, tokens, accumulate_, workspace, executor);
        const std::size_t d = batch_.d_model;
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            if (!same_bits(std::span(y).subspan(i * d, d), std::span(y_).subspan(tokens[i] * d, d))) {
                return false;
            }
        }
        return true;
    }

private:
    const Batch<T>& batch_;
    bool accumulate_;
    std::vector<T> y_;
};

}  // namespace moe_test
