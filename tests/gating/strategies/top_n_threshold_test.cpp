// Top-n with a threshold against its definition, and the draws against their probabilities.

#include "moe/gating/strategies/top_n_threshold.hpp"

#include <cmath>
#include <limits>
#include <moe/gating/any_gate.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/reference/strategies/top_n_threshold.hpp>
#include <sstream>
#include <vector>

#include "gating/gate_support.hpp"
#include "gating/random_logits.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::top_n_threshold_test {

namespace reference = moe::reference;
using moe::TopNThreshold;
using moe_test::choose;
using moe_test::message_of;
using Ids = std::vector<moe::ExpertId>;

static_assert(moe::TokenGate<TopNThreshold, float> && moe::TokenGate<TopNThreshold, double>);

namespace {

std::uint64_t stream_of(const TopNThreshold& gate, std::uint64_t position) {
    return moe::random_stream(moe::random_stream(gate.seed, gate.step), position);
}

/// Roundings of a share: an exponential, whose argument has up to 60 of its own, and two sums.
template <class T>
double share_bound(std::size_t n_experts) {
    return moe_test::rounding_bound<T>(2 * n_experts + 80, 1);
}

/// Whether a share is too close to its threshold or draw to be decided the same way in T.
template <class T>
bool is_close(const TopNThreshold& gate, const reference::Vector& logits, std::uint64_t stream) {
    const auto n = static_cast<std::size_t>(gate.top_n);
    const reference::Choice best = reference::shares_of_best(logits, n);
    for (std::size_t slot = 1; slot < n; ++slot) {
        const double limit = gate.deterministic
                                 ? gate.threshold
                                 : moe::random_open_uniform(stream, slot) * std::max(gate.threshold, 1e-9);
        if (std::abs(best.weights[slot] - limit) <= share_bound<T>(logits.size())) {
            return true;
        }
    }
    return false;
}

template <class T>
bool same_weights(const std::vector<T>& weights, const reference::Choice& expected, std::size_t n_experts) {
    bool same = weights.size() == expected.weights.size();
    for (std::size_t slot = 0; same && slot < weights.size(); ++slot) {
        const auto w = static_cast<double>(weights[slot]);
        same = std::abs(w - expected.weights[slot]) <= share_bound<T>(n_experts) ||
               (std::isnan(w) && std::isnan(expected.weights[slot]));
    }
    return same;
}

template <class T>
void compare_many(std::uint64_t seed) {
    moe_test::Dice dice{seed};
    std::size_t compared = 0;
    std::size_t drawn = 0;
    std::size_t wrong = 0;
    std::ostringstream text;
    while (compared < 1000 && drawn++ < 4000) {
        const std::size_t n_experts = moe_test::expert_counts[1 + dice.below(moe_test::expert_counts.size() - 1)];
        const std::vector<float> row = moe_test::random_logits(dice, n_experts);
        const std::vector<T> logits(row.begin(), row.end());
        const reference::Vector exact(row.begin(), row.end());
        TopNThreshold gate{.threshold = dice.pick(0.0, 0.05, 0.2, 0.5, 1.5),
                           .deterministic = dice.one_in(2),
                           .seed = dice.below(100),
                           .step = dice.below(100)};
        gate.top_n = static_cast<int>(2 + dice.below(std::min<std::size_t>(n_experts, 6) - 1));
        const moe::TokenContext context{.position = dice.below(1000)};
        const std::uint64_t stream = stream_of(gate, context.position);
        if (is_close<T>(gate, exact, stream)) {
            continue;
        }
        ++compared;
        const reference::Choice expected = reference::top_n_threshold(exact, static_cast<std::size_t>(gate.top_n),
                                                                      gate.threshold, gate.deterministic, stream);
        const auto chosen = choose<T>(gate, logits, n_experts, context);
        const auto again = choose<T>(moe::AnyGate(gate), logits, n_experts, context);
        if (chosen.experts != expected.experts || !same_weights(chosen.weights, expected, n_experts) ||
            again.experts != chosen.experts ||
            !moe_test::same_bits(again.weights, chosen.weights, moe_test::NonFinite::allow)) {
            ++wrong;
            text << "draw " << drawn << ": E " << n_experts << ", n " << gate.top_n << ", threshold " << gate.threshold
                 << ", deterministic " << gate.deterministic << "\n";
        }
    }
    INFO(text.str());
    CHECK(wrong == 0);
    CHECK(compared == 1000);
}

const std::vector<double> logits_of_four{std::log(0.5), std::log(0.05), std::log(0.15), std::log(0.3)};

}  // namespace

TEST_CASE("TopNThreshold chooses and weighs as the definition, in float", "[top_n]") { compare_many<float>(1); }
TEST_CASE("TopNThreshold chooses and weighs as the definition, in double", "[top_n]") { compare_many<double>(2); }

TEST_CASE("a choice is kept with its share by the threshold", "[top_n]") {
    // shares of the best three: 0.5, 0.3 and 0.15 by 0.95
    const TopNThreshold gate{.top_n = 3, .threshold = 0.4, .seed = 1};
    constexpr std::size_t n = 20000;
    double second = 0;
    double third = 0;
    double both = 0;
    for (std::size_t position = 0; position < n; ++position) {
        const Ids experts = choose(gate, logits_of_four, 4, {.position = position}).experts;
        const bool has_second = std::count(experts.begin(), experts.end(), 3) == 1;
        const bool has_third = std::count(experts.begin(), experts.end(), 2) == 1;
        second += has_second ? 1 : 0;
        third += has_third ? 1 : 0;
        both += has_second && has_third ? 1 : 0;
    }
    const double bound = 5 * 0.5 / std::sqrt(n);
    const double chance = 0.3 / 0.95 / 0.4;
    CHECK(second / n == Approx(chance).margin(bound));
    CHECK(third / n == Approx(chance / 2).margin(bound));
    CHECK(both / n == Approx(chance * chance / 2).margin(bound));
}

TEST_CASE("without draws a share must exceed the threshold", "[top_n]") {
    TopNThreshold gate{.top_n = 3, .threshold = 0.2, .deterministic = true};
    CHECK(choose(gate, logits_of_four).experts == Ids{0, 3});
    CHECK(moe_test::difference(choose(gate, logits_of_four).weights, std::vector<double>{0.5 / 0.95, 0.3 / 0.95},
                               1e-15) == "");
    gate.threshold = 0;
    CHECK(choose(gate, logits_of_four) == choose(moe::TokenChoice<>{.top_k = 3, .normalize = true}, logits_of_four));
    gate.threshold = 1;
    CHECK(choose(gate, logits_of_four).experts == Ids{0});
    // a share equal to the threshold is not above it
    CHECK(choose<double>(TopNThreshold{.threshold = 0.5, .deterministic = true}, {1, 1}).experts == Ids{0});
}

TEST_CASE("draws belong to seed, step and position", "[top_n]") {
    const auto kept = [](TopNThreshold gate, std::uint64_t first) {
        std::vector<std::size_t> counts;
        for (std::uint64_t position = first; position < first + 50; ++position) {
            counts.push_back(choose(gate, logits_of_four, 4, {.position = position}).experts.size());
        }
        return counts;
    };
    const auto one = kept({.threshold = 0.6, .seed = 1}, 0);
    CHECK(kept({.threshold = 0.6, .seed = 1}, 0) == one);
    CHECK(kept({.threshold = 0.6, .seed = 2}, 0) != one);
    CHECK(kept({.threshold = 0.6, .seed = 1, .step = 1}, 0) != one);
    CHECK(kept({.threshold = 0.6, .seed = 1}, 50) != one);
}

TEST_CASE("NaN comes last in TopNThreshold, and never takes the first place away", "[top_n]") {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    CHECK(choose<double>(TopNThreshold{}, {nan, 1, nan, 2}).experts == Ids{3});
    CHECK(choose<double>(TopNThreshold{.deterministic = true}, {nan, nan}).experts == Ids{0});
}

TEST_CASE("TopNThreshold names what it refuses", "[top_n][errors]") {
    const auto refuses = [](TopNThreshold gate) { return message_of([&] { moe::validate_gate(gate, 4); }); };
    CHECK(refuses({}) == "no error");
    CHECK(refuses({.top_n = 1}) == "TopNThreshold: top_n is 1, it must be at least 2");
    CHECK(refuses({.top_n = 5}) == "TopNThreshold: top_n 5 exceeds the 4 experts");
    CHECK(refuses({.threshold = -0.5}) == "TopNThreshold: threshold is -0.5, it must be finite and not negative");
    CHECK(refuses({.threshold = std::nan("")}) ==
          "TopNThreshold: threshold is nan, it must be finite and not negative");
}

}  // namespace moe_test::top_n_threshold_test
