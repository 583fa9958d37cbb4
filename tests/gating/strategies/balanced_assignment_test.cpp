// BalancedAssignment against the definition: the sum of what it assigns against the greatest there is.

#include <moe/gating/any_gate.hpp>
#include <moe/gating/strategies/balanced_assignment.hpp>
#include <moe/reference/strategies/balanced_assignment.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gating/gate_support.hpp"
#include "gating/random_logits.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::balanced_assignment_test {

namespace reference = moe::reference;
using moe::BalancedAssignment;
using moe_test::BatchFacts;
using moe_test::choose_batch;
using moe_test::Dice;
using moe_test::message_of;
using Ids = std::vector<moe::ExpertId>;

static_assert(moe::BatchGate<BalancedAssignment> && moe::BatchGate<BalancedAssignment, double>);

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

struct Batch {
    std::size_t n_tokens = 0;
    std::size_t n_experts = 0;
    std::vector<double> logits{};
    BatchFacts facts{};

    [[nodiscard]] bool is_valid(std::size_t t) const { return facts.valid.empty() || facts.valid[t] != 0; }
    [[nodiscard]] std::vector<reference::Vector> valid_rows() const {
        std::vector<reference::Vector> rows;
        for (std::size_t t = 0; t < n_tokens; ++t) {
            const auto first = logits.begin() + static_cast<std::ptrdiff_t>(t * n_experts);
            if (is_valid(t)) {
                rows.emplace_back(first, first + static_cast<std::ptrdiff_t>(n_experts));
            }
        }
        return rows;
    }
};

/// Quarters between -4 and 4, or rows of random_logits, all of them floats.
Batch random_batch(Dice& dice, bool quarters) {
    Batch batch{dice.one_in(20) ? 0 : 1 + dice.below(28), moe_test::expert_counts[dice.below(13)]};
    const std::size_t valid_in = dice.pick(0U, 0U, 2U, 4U, 1000U);
    for (std::size_t t = 0; t < batch.n_tokens; ++t) {
        std::vector<float> row = moe_test::random_logits(dice, batch.n_experts);
        for (float& l : row) {
            l = quarters ? std::round(dice.uniform(-16, 16)) / 4 : l;
        }
        batch.logits.insert(batch.logits.end(), row.begin(), row.end());
        if (valid_in > 0) {
            batch.facts.valid.push_back(valid_in == 1000 ? 0 : (dice.one_in(valid_in) ? 0 : 1));
        }
    }
    return batch;
}

/// The experts of the valid tokens, if every one has one, padding has none, and the weights are the sigmoids.
template <class T>
Ids assign(const BalancedAssignment& gate, const Batch& batch) {
    const std::vector<T> logits(batch.logits.begin(), batch.logits.end());
    const auto rows = choose_batch<T>(gate, logits, batch.n_tokens, batch.n_experts, batch.facts);
    Ids experts;
    for (std::size_t t = 0; t < batch.n_tokens; ++t) {
        const moe::ExpertId e = rows.experts[t];
        REQUIRE((e >= 0) == batch.is_valid(t));
        if (e >= 0) {
            experts.push_back(e);
            const double logit = batch.logits[t * batch.n_experts + static_cast<std::size_t>(e)];
            const double expected = reference::sigmoid(logit);
            const auto weight = static_cast<double>(rows.weights[t]);
            // exp, a sum and a quotient; exp of numbers too small for T is 0
            const double bound = moe_test::rounding_bound<T>(8, expected) + std::numeric_limits<T>::min();
            REQUIRE((std::isnan(logit) ? std::isnan(weight) : std::abs(weight - expected) <= bound));
        }
    }
    return experts;
}

bool is_balanced(const Ids& experts, std::size_t n_experts) {
    std::vector<std::size_t> counts(n_experts, 0);
    for (const moe::ExpertId e : experts) {
        ++counts[static_cast<std::size_t>(e)];
    }
    const auto [least, most] = std::minmax_element(counts.begin(), counts.end());
    return *most - *least <= 1;
}

}  // namespace

TEST_CASE("the two definitions agree where all assignments can be tried", "[balanced_assignment]") {
    Dice dice{201};
    for (int i = 0; i < 300; ++i) {
        const std::size_t n_experts = 1 + dice.below(5);
        const std::size_t n_tokens = dice.below(n_experts > 3 ? 7 : 9);
        std::vector<reference::Vector> benefits(n_tokens, reference::Vector(n_experts));
        for (auto& row : benefits) {
            std::generate(row.begin(), row.end(), [&] { return std::round(dice.uniform(-5, 5)); });
        }
        const Ids experts = reference::balanced_assignment(benefits, n_experts);
        REQUIRE(is_balanced(experts, n_experts));
        REQUIRE(reference::balanced_sum(benefits, experts) ==
                reference::best_balanced_sum(benefits, std::vector<std::size_t>(n_experts, 0)));
    }
}

TEST_CASE("a small epsilon makes the sum of quarters the greatest there is", "[balanced_assignment]") {
    Dice dice{202};
    for (int i = 0; i < 1000; ++i) {
        const Batch batch = random_batch(dice, true);
        const auto rows = batch.valid_rows();
        const double bidders = static_cast<double>(rows.size() + batch.n_experts);
        const Ids experts = assign<float>({.epsilon = 0.24 / bidders}, batch);
        REQUIRE(is_balanced(experts, batch.n_experts));
        REQUIRE(reference::balanced_sum(rows, experts) ==
                reference::balanced_sum(rows, reference::balanced_assignment(rows, batch.n_experts)));
    }
}

TEST_CASE("the sum is as near to the greatest as epsilon says, whatever the logits", "[balanced_assignment]") {
    Dice dice{203};
    for (int i = 0; i < 1000; ++i) {
        const Batch batch = random_batch(dice, false);
        const auto rows = reference::finite_benefits(batch.valid_rows());
        const double epsilon = dice.pick(1e-4, 1e-4, 1e-2, 1.0, 1e-300);
        const Ids experts = assign<float>({.epsilon = epsilon}, batch);
        REQUIRE(is_balanced(experts, batch.n_experts));
        REQUIRE(experts == assign<double>({.epsilon = epsilon}, batch));
        double size = 0;
        for (const auto& row : rows) {
            for (const double b : row) {
                size = std::max(size, std::abs(b));
            }
        }
        const double bidders = static_cast<double>(rows.size() + batch.n_experts);
        // 2 size is at least the range; the definition adds T bonuses of 4 T size
        const double eps = std::max(epsilon, 2 * size * 0x1p-40);
        const double rounding = moe_test::rounding_bound<double>(64, bidders * bidders * (size + 1));
        const double best = reference::balanced_sum(rows, reference::balanced_assignment(rows, batch.n_experts));
        REQUIRE(reference::balanced_sum(rows, experts) >= best - bidders * eps - rounding);
    }
}

TEST_CASE("experts that everyone wants go to those who gain most", "[balanced_assignment]") {
    const Batch batch{4, 2, {9, 8, 9, 1, 9, 7, 9, 2}};
    CHECK(assign<double>({}, batch) == Ids{1, 0, 1, 0});
    // Three tokens: expert 1 needs one at least, and two are allowed.
    CHECK(assign<double>({}, {3, 2, {9, 8, 9, 1, 9, 7}}) == Ids{1, 0, 0});
    CHECK(assign<double>({}, {3, 2, {5, 8, 9, 1, 5, 7}}) == Ids{1, 0, 1});
    // Fewer tokens than experts: one each.
    CHECK(assign<double>({}, {2, 3, {9, 8, 0, 9, 1, 0}}) == Ids{1, 0});
    CHECK(assign<double>({}, {3, 1, {1, 2, 3}}) == Ids{0, 0, 0});
    CHECK(assign<double>({}, {0, 3}).empty());
}

TEST_CASE("auctions end on ties, extremes and matrices that are hard for them", "[balanced_assignment]") {
    const double huge = std::numeric_limits<float>::max();
    Dice dice{204};
    for (const std::size_t n_experts : {1U, 7U, 16U, 61U}) {
        Batch equal{200, n_experts, std::vector<double>(200 * n_experts, 1.5)};
        Batch products = equal;
        Batch same_rows = equal;
        Batch extreme = equal;
        Batch nothing_finite = equal;
        for (std::size_t i = 0; i < equal.logits.size(); ++i) {
            const std::size_t t = i / n_experts;
            const std::size_t e = i % n_experts;
            products.logits[i] = static_cast<double>(t * e);
            same_rows.logits[i] = -30 * static_cast<double>(e);
            extreme.logits[i] = dice.pick(huge, -huge, 0.0, 1.0, inf, -inf);
            nothing_finite.logits[i] = dice.pick(inf, -inf, not_a_number);
        }
        for (const Batch& batch : {equal, products, same_rows, extreme, nothing_finite}) {
            CHECK(is_balanced(assign<float>({.epsilon = 1e-300}, batch), n_experts));
            CHECK(is_balanced(assign<double>({.epsilon = 1e-3}, batch), n_experts));
            CHECK(is_balanced(assign<double>({.epsilon = huge}, batch), n_experts));
        }
        const auto rows = products.valid_rows();
        CHECK(reference::balanced_sum(rows, assign<float>({.epsilon = 1e-3}, products)) ==
              reference::balanced_sum(rows, reference::balanced_assignment(rows, n_experts)));
    }
}

TEST_CASE("doubles beyond the range of float count as its ends", "[balanced_assignment]") {
    CHECK(assign<double>({}, {2, 2, {1e300, 0, 1e39, -1e300}}) == Ids{1, 0});
    CHECK(assign<double>({}, {2, 2, {1e39, -1e300, 1e300, 0}}) == Ids{0, 1});
}

TEST_CASE("NaN counts as the lowest logit and stays in the weight of its token", "[balanced_assignment]") {
    const Batch with_nan{3, 3, {not_a_number, 1, 2, 0, -4, 3, -inf, 1, inf}};
    const Batch replaced{3, 3, {-4, 1, 2, 0, -4, 3, -4, 1, 3}};
    CHECK(assign<double>({}, with_nan) == assign<double>({}, replaced));
    const auto all_nan = choose_batch<double>(BalancedAssignment{}, {not_a_number, not_a_number, 3, 1}, 2, 2);
    CHECK(all_nan.experts == Ids{1, 0});
    CHECK(std::isnan(all_nan.weights[0]));
    CHECK(all_nan.weights[1] == 1 / (1 + std::exp(-3.0)));
}

TEST_CASE("BalancedAssignment refuses an epsilon that cannot be", "[balanced_assignment]") {
    CHECK(message_of([] { moe::validate_gate(BalancedAssignment{.epsilon = 0}, 4); }) ==
          "BalancedAssignment: epsilon is 0, it must be positive and finite in float");
    CHECK(message_of([] { moe::validate_gate(BalancedAssignment{.epsilon = inf}, 4); }) ==
          "BalancedAssignment: epsilon is inf, it must be positive and finite in float");
    CHECK(message_of([] { moe::validate_gate(BalancedAssignment{.epsilon = not_a_number}, 4); }) ==
          "BalancedAssignment: epsilon is nan, it must be positive and finite in float");
}

TEST_CASE("BalancedAssignment works inside AnyGate, and the same way twice", "[balanced_assignment]") {
    Dice dice{205};
    std::vector<float> logits(300 * 17);
    std::generate(logits.begin(), logits.end(), [&] { return dice.uniform(-3, 3); });
    const auto first = choose_batch<float>(BalancedAssignment{}, logits, 300, 17);
    const auto second = choose_batch<float>(moe::AnyGate(BalancedAssignment{}), logits, 300, 17);
    CHECK(first.experts == second.experts);
    CHECK(moe_test::same_bits(first.weights, second.weights));
}

}  // namespace moe_test::balanced_assignment_test
