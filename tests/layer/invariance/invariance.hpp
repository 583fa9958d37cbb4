#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "layer/batch_runner.hpp"
#include "moe/parallel/openmp.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"

/// The promise of batch and thread invariance, over random layers, gates, batches, splits and executors. One
/// translation unit a weight format includes it.
namespace moe_test {

/// Runs `tokens` on an executor drawn by lot: of every kind, with 1..2n workers, some of which may stay unused.
template <class T, class Layer>
bool holds_on_some_executor(Draw& draw, const Expected<T>& expected, const Layer& layer,
                            std::span<const std::size_t> tokens, moe::Workspace& workspace) {
    const std::size_t workers = draw.size(1, twice_the_threads());
    switch (draw.size(0, 4)) {
        case 0: return expected.holds_for(layer, tokens, workspace, moe::SerialExecutor{});
        case 1: return expected.holds_for(layer, tokens, workspace, ThreadExecutor(workers));
        case 2: return expected.holds_for(layer, tokens, workspace, ThreadExecutor(workers, draw.size(1, workers)));
        case 3: return expected.holds_for(layer, tokens, workspace, ReversedExecutor(workers));
        default:
#if defined(_OPENMP)
            return expected.holds_for(layer, tokens, workspace, moe::OpenMpExecutor(static_cast<int>(workers)));
#else
            return expected.holds_for(layer, tokens, workspace, ReversedExecutor(workers));
#endif
    }
}

inline std::vector<std::size_t> shuffled(Draw& draw, std::vector<std::size_t> tokens) {
    for (std::size_t i = tokens.size(); i > 1; --i) {
        std::swap(tokens[i - 1], tokens[draw.size(0, i - 1)]);
    }
    return tokens;
}

/// Consecutive parts of random sizes that make up the batch.
inline std::vector<std::vector<std::size_t>> random_split(Draw& draw, const std::vector<std::size_t>& tokens) {
    std::vector<std::vector<std::size_t>> parts;
    for (std::size_t begin = 0; begin < tokens.size();) {
        const std::size_t size = draw.size(1, tokens.size() - begin);
        const auto at = tokens.begin() + static_cast<std::ptrdiff_t>(begin);
        parts.emplace_back(at, at + static_cast<std::ptrdiff_t>(size));
        begin += size;
    }
    return parts;
}

/// Empty if every way to run the batch gives the bits of the plain one, else which did not.
template <class T, class Layer>
std::string broken_by(Draw& draw, const Expected<T>& expected, const Layer& layer, std::size_t n_tokens,
                      moe::Workspace& workspace) {
    const std::vector<std::size_t> all = first_tokens(n_tokens);
    if (!holds_on_some_executor(draw, expected, layer, all, workspace)) {
        return "another executor";
    }
    if (!holds_on_some_executor(draw, expected, layer, shuffled(draw, all), workspace)) {
        return "another order";
    }
    for (const std::vector<std::size_t>& part : random_split(draw, shuffled(draw, all))) {
        if (!holds_on_some_executor(draw, expected, layer, part, workspace)) {
            return "a split, part of " + std::to_string(part.size());
        }
    }
    for (std::size_t i = 0; i < std::min<std::size_t>(3, n_tokens); ++i) {
        const std::array<std::size_t, 1> alone{draw.size(0, n_tokens - 1)};
        if (!expected.holds_for(layer, alone, workspace, moe::SerialExecutor{})) {
            return "token " + std::to_string(alone[0]) + " alone";
        }
    }
    return {};
}

/// One random layer and batch under every kind of gate, over views and packed, = and +=. Counts what it compared.
template <class W>
std::string broken_case(std::uint64_t seed, std::size_t& n_compared) {
    using T = moe::ComputeType<W>;
    Draw draw(seed);
    LayerShape shape = random_layer_shape(draw, draw.size(0, 19) == 0 ? 300 : 70, 9);
    const LayerCase<W> layer_case(shape, seed + 1);
    const GateCases gates(draw, shape.n_choices());
    const Batch<T> batch(draw, draw.size(1, 40), shape.d_model);
    moe::Workspace workspace;
    for (std::size_t g = 0; g < gates.gates().size(); ++g) {
        const bool accumulate = draw.coin();
        const auto layer = layer_case.layer(gates.gates()[g]);
        const Expected<T> expected(layer, batch, accumulate, workspace);
        const std::string where = "gate " + std::to_string(g) + ", seed " + std::to_string(seed) + ": ";
        if (!expected.finite()) {
            return where + "the output is not finite";
        }
        std::string broken = broken_by(draw, expected, layer, batch.n_tokens(), workspace);
        if (broken.empty()) {
            broken = broken_by(draw, expected, layer_case.packed_layer(gates.gates()[g]), batch.n_tokens(), workspace);
            broken += broken.empty() ? "" : ", packed";
        }
        if (!broken.empty()) {
            return where + broken;
        }
        ++n_compared;
    }
    return {};
}

/// Layers under a gate that one format compares: many times more in Release than where every access is checked.
#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__)
inline constexpr std::size_t enough_compared = 1000;
#else
inline constexpr std::size_t enough_compared = 200;
#endif

template <class W>
void check_random_invariance(std::uint64_t seed) {
    std::size_t n_compared = 0;
    for (std::uint64_t i = 0; n_compared < enough_compared; ++i) {
        REQUIRE(broken_case<W>(seed + 1000 * i, n_compared) == "");
    }
}

/// Numbers of tokens around the limits of tasks and tiles, with all tokens on every expert.
template <class W>
void check_task_limits(std::uint64_t seed) {
    using T = moe::ComputeType<W>;
    using moe::max_task_rows;
    constexpr std::size_t tile = moe::Panel<T>::tile_rows;
    for (const std::size_t n_tokens : {tile - 1, tile, tile + 1, 2 * tile, 5 * tile, max_task_rows - 1, max_task_rows,
                                       max_task_rows + 1, 2 * max_task_rows, 2 * max_task_rows + 1}) {
        Draw draw(seed + n_tokens);
        LayerShape shape;
        shape.n_experts = draw.size(1, 3);
        shape.d_model = 37;
        shape.d_ff = 19;
        shape.biases = true;
        shape.shared_widths = {11, 40};
        shape.shared_mode = moe::SharedMode::gated;
        const LayerCase<W> layer_case(shape, seed);
        const Batch<T> batch(draw, n_tokens, shape.d_model);
        const auto layer = layer_case.layer(moe::AnyGate(moe::Dense<moe::Softmax>{}));
        moe::Workspace workspace;
        const Expected<T> expected(layer, batch, false, workspace);
        INFO(n_tokens << " tokens");
        REQUIRE(expected.finite());
        for (std::size_t workers = 1; workers <= twice_the_threads(); ++workers) {
            REQUIRE(expected.holds_for(layer, first_tokens(n_tokens), workspace, ThreadExecutor(workers)));
            REQUIRE(expected.holds_for(layer, first_tokens(n_tokens), workspace, ReversedExecutor(workers)));
        }
        REQUIRE(broken_by(draw, expected, layer, n_tokens, workspace) == "");
        REQUIRE(broken_by(draw, expected, layer_case.packed_layer(moe::AnyGate(moe::Dense<moe::Softmax>{})), n_tokens,
                          workspace) == "");
    }
}

}  // namespace moe_test
