// Gates inside gates, with memory of exactly the promised sizes: every gate may write all that it is given, and what it
// reads must stand elsewhere.

#include <moe/gating/adaptors/capacity.hpp>
#include <moe/gating/adaptors/cosine.hpp>
#include <moe/gating/adaptors/forced.hpp>
#include <moe/gating/adaptors/masked.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gating/adaptors/inner_gates.hpp"
#include "support/catch.hpp"

namespace moe_test::nested_test {

namespace {

using moe_test::choose;
using moe_test::choose_batch;
using moe_test::Dice;
using Mask = std::vector<std::uint8_t>;

/// Writes all its memory, then takes the expert of the greatest logit, weighed with it.
struct Spoiler {
    [[nodiscard]] static int max_per_token() { return 1; }
    static int select(std::span<const float> logits, moe::Selection out) {
        spoil(out);
        moe::detail::top_k<float>(logits, out.experts);
        weigh(logits, out.experts, out);
        return 1;
    }
    static void weigh(std::span<const float> logits, std::span<const moe::ExpertId> experts, moe::Selection out) {
        spoil(out);
        for (std::size_t slot = 0; slot < experts.size(); ++slot) {
            out.weights[slot] = logits[static_cast<std::size_t>(experts[slot])];
        }
    }
    static void spoil(const moe::Selection& out) {
        std::fill(out.scratch.begin(), out.scratch.end(), -5.0F);
        std::fill(out.order.begin(), out.order.end(), -5);
        std::fill(out.weights.begin(), out.weights.end(), -5.0F);
    }
};

/// The same for a batch.
struct BatchSpoiler {
    [[nodiscard]] static int max_per_token(int, int) { return 1; }
    static void select(moe::MatrixView<const float> logits, moe::BatchSelection<float> out) {
        std::fill(out.scratch.begin(), out.scratch.end(), -5.0F);
        std::fill(out.order.begin(), out.order.end(), -5);
        for (std::size_t t = 0; t < out.experts.rows(); ++t) {
            out.weights(t, 0) = -5;
        }
        for (std::size_t t = 0; t < out.experts.rows(); ++t) {
            moe::detail::top_k<float>(logits.row_span(t), out.experts.row_span(t));
            out.weights(t, 0) = logits(t, static_cast<std::size_t>(out.experts(t, 0)));
        }
    }
};

using ThreeMasks = moe::Masked<moe::Masked<moe::Masked<Spoiler>>>;
using FourAdaptors = moe::Cosine<ThreeMasks>;

/// Four adaptors that take scratch around a gate for float, `width` logits for `n_experts` experts.
struct Nest {
    Nest(std::uint64_t seed, std::size_t experts, std::size_t width_of_token, std::size_t tokens)
        : n_experts(experts), width(width_of_token), n_tokens(tokens), mask(experts, 1) {
        Dice dice{seed};
        for (std::size_t i = 0; i < n_experts * width; ++i) {
            centroids.push_back(dice.uniform(-1, 1));
        }
        for (std::size_t i = 0; i < n_tokens * width; ++i) {
            projections.push_back(dice.uniform(-1, 1));
        }
        mask[n_experts / 2] = static_cast<std::uint8_t>(n_experts == 1);
    }

    [[nodiscard]] moe::MatrixView<const float> matrix() const { return moe::view(centroids.data(), n_experts, width); }
    [[nodiscard]] FourAdaptors gate() const { return {{{{{}, mask}, mask}, mask}, matrix()}; }
    template <class T>
    [[nodiscard]] std::vector<T> token(std::size_t t) const {
        const auto first = projections.begin() + static_cast<std::ptrdiff_t>(t * width);
        return {first, first + static_cast<std::ptrdiff_t>(width)};
    }
    /// What the gate inside shall read.
    [[nodiscard]] std::vector<float> logits(std::size_t t) const {
        std::vector<float> values;
        for (std::size_t e = 0; e < n_experts; ++e) {
            const std::vector<moe::ExpertId> row{static_cast<moe::ExpertId>(e)};
            const moe::Forced<moe::Cosine<Spoiler>> only{{{}, matrix()}, moe::view(row.data(), 1, 1)};
            values.push_back(mask[e] != 0 ? choose(only, token<float>(t), n_experts).weights[0]
                                          : -std::numeric_limits<float>::infinity());
        }
        return values;
    }

    std::size_t n_experts;
    std::size_t width;
    std::size_t n_tokens;
    Mask mask;
    std::vector<float> centroids{};
    std::vector<float> projections{};
};

template <class T>
void check_nest(const Nest& nest) {
    const moe::Capacity<FourAdaptors> limited{.gate = nest.gate(), .limit = moe::CapacityLimit::fixed(nest.n_tokens)};
    const moe::Capacity<moe::AnyGate> any{.gate = nest.gate(), .limit = moe::CapacityLimit::fixed(nest.n_tokens)};
    const std::vector<T> all(nest.projections.begin(), nest.projections.end());
    const auto rows = choose_batch<T>(limited, all, nest.n_tokens, nest.width);
    const auto rows_of_any = choose_batch<T>(any, all, nest.n_tokens, nest.width);
    for (std::size_t t = 0; t < nest.n_tokens; ++t) {
        INFO("E " << nest.n_experts << ", width " << nest.width << ", token " << t);
        const std::vector<float> logits = nest.logits(t);
        const auto best = std::max_element(logits.begin(), logits.end());
        const moe_test::Chosen<T> expected{{static_cast<moe::ExpertId>(best - logits.begin())},
                                           {static_cast<T>(*best)}};
        REQUIRE(choose(nest.gate(), nest.token<T>(t), nest.n_experts) == expected);
        REQUIRE(rows.kept(t) == expected);
        REQUIRE(rows_of_any.kept(t) == expected);
    }
}

}  // namespace

TEST_CASE("four adaptors around a gate that uses all its memory, in float and in double", "[nested]") {
    for (const std::size_t n_experts : {1U, 2U, 7U, 64U}) {
        for (const std::size_t width : {1U, 7U, 100U}) {
            const Nest nest(n_experts + width, n_experts, width, 5);
            check_nest<float>(nest);
            check_nest<double>(nest);
        }
    }
}

TEST_CASE("Forced and Cosine weigh with a gate that uses all its memory", "[nested]") {
    const Nest nest(3, 6, 9, 1);
    const std::vector<moe::ExpertId> row{4, 0, 5};
    const moe::Forced<moe::Cosine<Spoiler>> gate{{{}, nest.matrix()}, moe::view(row.data(), 1, 3)};
    const auto in_float = choose(gate, nest.token<float>(0), 6);
    const auto in_double = choose(gate, nest.token<double>(0), 6);
    CHECK(in_float.experts == row);
    CHECK(in_double.experts == row);
    CHECK(in_double.weights == std::vector<double>(in_float.weights.begin(), in_float.weights.end()));
    const std::vector<float> logits = nest.logits(0);
    CHECK(in_float.weights == std::vector<float>{logits[4], logits[0], logits[5]});
}

TEST_CASE("a batch gate for float that uses all its memory serves double, under a capacity too", "[nested]") {
    Dice dice{4};
    const std::vector<float> drawn = moe_test::random_logits(dice, 60);
    std::vector<double> logits;
    for (const float l : drawn) {
        logits.push_back(std::isfinite(l) ? static_cast<double>(l) : 0.0);
    }
    const std::vector<float> narrow(logits.begin(), logits.end());
    using Limited = moe::Capacity<BatchSpoiler>;
    for (const std::size_t n_tokens : {1U, 4U, 12U}) {
        const std::size_t n_experts = logits.size() / n_tokens;
        for (const moe::CapacityOrder order : {moe::CapacityOrder::weight, moe::CapacityOrder::token_priority}) {
            const Limited gate{.limit = moe::CapacityLimit::fixed(2), .order = order};
            const auto wide = choose_batch<double>(gate, logits, n_tokens, n_experts);
            const auto same = choose_batch<float>(gate, narrow, n_tokens, n_experts);
            CHECK(wide.experts == same.experts);
            CHECK(wide.weights == std::vector<double>(same.weights.begin(), same.weights.end()));
        }
    }
}

}  // namespace moe_test::nested_test
