// Capacity around every kind of gate: against its definition, its invariants, and each order by hand.

#include "moe/gating/adaptors/capacity.hpp"

#include <cmath>
#include <limits>
#include <moe/gating/strategies/hash.hpp>
#include <sstream>
#include <vector>

#include "gating/adaptors/capacity_cases.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::capacity_test {

using moe::Capacity;
using moe::CapacityLimit;
using moe::CapacityOrder;
using moe::dropped;
using moe::no_expert;
using moe_test::choose_batch;
using moe_test::message_of;
using moe_test::same_bits;
using Ids = std::vector<moe::ExpertId>;
using Top = moe::TokenChoice<moe::Softmax>;
using Limited = Capacity<Top>;

static_assert(moe::BatchGate<Limited, float> && moe::BatchGate<Limited, double>);
static_assert(moe::BatchGate<Capacity<moe_test::Diagonal>, float> &&
              moe::BatchGate<Capacity<moe_test::Diagonal>, double>);
static_assert(moe::BatchGate<Capacity<moe::AnyGate>, float> && moe::BatchGate<Capacity<moe::AnyGate>, double>);
static_assert(moe::BatchGate<Capacity<Limited>>);

namespace {

/// Equal experts, kept or dropped, and weights of the same bits; a weight that is NaN on both sides is equal.
bool same_choices(const std::vector<moe::reference::Choice>& a, const std::vector<moe::reference::Choice>& b) {
    bool same = a.size() == b.size();
    for (std::size_t t = 0; same && t < a.size(); ++t) {
        same = a[t].experts == b[t].experts && a[t].weights.size() == b[t].weights.size();
        for (std::size_t slot = 0; same && slot < a[t].weights.size(); ++slot) {
            const double x = a[t].weights[slot];
            const double y = b[t].weights[slot];
            same = x == y || (std::isnan(x) && std::isnan(y));
        }
    }
    return same;
}

/// No expert beyond its places, and no drop where one was left.
bool keeps_to_places(const moe_test::CapacityCase& c, const std::vector<moe::reference::Choice>& inner,
                     const std::vector<moe::reference::Choice>& choices) {
    for (const moe_test::TokenGroup group : moe_test::groups_of(c)) {
        const double places = moe_test::places_of(c, group);
        for (std::size_t e = 0; e < moe_test::limited_experts(c); ++e) {
            const auto expert = static_cast<moe::ExpertId>(e);
            double kept = 0;
            bool lost_one = false;
            for (std::size_t t = group.first; t < group.last; ++t) {
                for (std::size_t slot = 0; slot < choices[t].experts.size(); ++slot) {
                    const bool wanted = inner[t].experts[slot] == expert;
                    kept += choices[t].experts[slot] == expert ? 1 : 0;
                    lost_one = lost_one || (wanted && choices[t].experts[slot] == dropped(expert));
                }
            }
            if (kept > places || (lost_one && kept != places)) {
                return false;
            }
        }
    }
    return true;
}

template <class T>
void compare_many(std::uint64_t seed, std::size_t n_cases) {
    moe_test::Dice dice{seed};
    std::size_t wrong = 0;
    std::size_t drops = 0;
    std::ostringstream text;
    for (std::size_t i = 0; i < n_cases; ++i) {
        const moe_test::CapacityCase c = moe_test::random_capacity_case(dice);
        const std::vector<T> logits(c.logits.begin(), c.logits.end());
        const auto rows = choose_batch<T>(c.gate, logits, c.n_tokens, c.n_experts, c.facts);
        const auto choices = moe_test::as_choices(rows);
        const auto inner = moe_test::inner_choices<T>(c, logits);
        const auto expected = moe_test::expected_choices<T>(c, logits);
        const auto again = choose_batch<T>(c.gate, logits, c.n_tokens, c.n_experts, c.facts);
        const auto erased = choose_batch<T>(moe::AnyGate(c.gate), logits, c.n_tokens, c.n_experts, c.facts);
        drops += same_choices(expected, inner) ? 0U : 1U;
        if (!same_choices(choices, expected) || !keeps_to_places(c, inner, choices) || again.experts != rows.experts ||
            erased.experts != rows.experts || !same_bits(again.weights, rows.weights, moe_test::NonFinite::allow)) {
            ++wrong;
            text << "case " << i << ": T " << c.n_tokens << ", E " << c.n_experts << ", order "
                 << static_cast<int>(c.gate.order) << ", group " << c.gate.group << ", limit "
                 << static_cast<int>(c.gate.limit.kind) << ' ' << c.gate.limit.value << ", unlimited from "
                 << c.gate.unlimited_from << "\n";
        }
    }
    INFO(text.str());
    CHECK(wrong == 0);
    CHECK(drops > n_cases / 3);
}

/// Rows of (3) logits that choose expert 0 first and expert 1 second, the first with these probabilities.
std::vector<double> two_of_three(const std::vector<double>& firsts) {
    std::vector<double> logits;
    for (const double p : firsts) {
        logits.insert(logits.end(), {std::log(p), std::log((1 - p) * 0.75), std::log((1 - p) * 0.25)});
    }
    return logits;
}

Ids experts_of(const Limited& gate, const std::vector<double>& logits, const moe_test::BatchFacts& facts = {}) {
    return choose_batch<double>(gate, logits, logits.size() / 3, 3, facts).experts;
}

}  // namespace

TEST_CASE("Capacity drops as the definition, in float", "[capacity]") { compare_many<float>(1, 2000); }
TEST_CASE("Capacity drops as the definition, in double", "[capacity]") { compare_many<double>(2, 2000); }

TEST_CASE("a capacity of all tokens leaves the choice of the gate", "[capacity]") {
    moe_test::Dice dice{3};
    for (int i = 0; i < 300; ++i) {
        moe_test::CapacityCase c = moe_test::random_capacity_case(dice);
        c.gate.limit = CapacityLimit::fixed(c.n_tokens);
        const auto rows = choose_batch<float>(c.gate, c.logits, c.n_tokens, c.n_experts, c.facts);
        REQUIRE(same_choices(moe_test::as_choices(rows), moe_test::inner_choices<float>(c, c.logits)));
    }
}

TEST_CASE("padding takes no place and changes nothing", "[capacity]") {
    moe_test::Dice dice{4};
    for (int i = 0; i < 300; ++i) {
        moe_test::CapacityCase c = moe_test::random_capacity_case(dice);
        c.gate.group = 0;
        c.gate.count_padding = false;
        c.gate.order = dice.pick(CapacityOrder::position, CapacityOrder::slot_major, CapacityOrder::weight,
                                 CapacityOrder::token_priority);
        c.gate.gate = moe_test::AboveZero{};
        if (c.facts.valid.empty()) {
            continue;
        }
        std::vector<float> dense;
        std::size_t n_dense = 0;
        for (std::size_t t = 0; t < c.n_tokens; ++t) {
            if (c.facts.valid[t] != 0) {
                const auto row = c.logits.begin() + static_cast<std::ptrdiff_t>(t * c.n_experts);
                dense.insert(dense.end(), row, row + static_cast<std::ptrdiff_t>(c.n_experts));
                ++n_dense;
            }
        }
        auto padded = moe_test::as_choices(choose_batch<float>(c.gate, c.logits, c.n_tokens, c.n_experts, c.facts));
        const auto packed = moe_test::as_choices(choose_batch<float>(c.gate, dense, n_dense, c.n_experts));
        std::size_t t = 0;
        std::erase_if(padded, [&](const moe::reference::Choice&) { return c.facts.valid[t++] == 0; });
        REQUIRE(same_choices(padded, packed));
    }
}

TEST_CASE("each order lets another choice go first", "[capacity]") {
    Limited gate{.gate = {.top_k = 2}, .limit = CapacityLimit::fixed(1)};
    const std::vector<double> logits = two_of_three({0.5, 0.9, 0.6});
    const Ids by_position{0, 1, dropped(0), dropped(1), dropped(0), dropped(1)};
    gate.order = CapacityOrder::position;
    CHECK(experts_of(gate, logits) == by_position);
    gate.order = CapacityOrder::slot_major;
    CHECK(experts_of(gate, logits) == by_position);
    // the second choices have the weights 0.375, 0.075 and 0.3
    gate.order = CapacityOrder::weight;
    CHECK(experts_of(gate, logits) == Ids{dropped(0), 1, 0, dropped(1), dropped(0), dropped(1)});
    gate.order = CapacityOrder::token_priority;
    CHECK(experts_of(gate, logits) == Ids{dropped(0), dropped(1), 0, 1, dropped(0), dropped(1)});
}

TEST_CASE("in slot major order a second choice waits for all first ones", "[capacity]") {
    // token 0 takes 0 then 1, token 1 takes 1 then 0
    const std::vector<double> logits{2, 1, 0, 1, 2, 0};
    Limited gate{.gate = {.top_k = 2}, .limit = CapacityLimit::fixed(1), .order = CapacityOrder::position};
    CHECK(experts_of(gate, logits) == Ids{0, 1, dropped(1), dropped(0)});
    gate.order = CapacityOrder::slot_major;
    CHECK(experts_of(gate, logits) == Ids{0, dropped(1), 1, dropped(0)});
}

TEST_CASE("negative weights rank among themselves", "[capacity]") {
    // DeepSpeed ranked masked logits before its change 7986, so that a negative one lost to the zeros of experts that
    // were not chosen: here nobody would keep expert 0.
    const std::vector<float> logits{-3, -9, -1, -9, -2, -9};
    const Capacity<moe::TokenChoice<moe::Identity>> gate{
        .gate = {.top_k = 1}, .limit = CapacityLimit::fixed(2), .order = CapacityOrder::weight};
    CHECK(choose_batch<float>(gate, logits, 3, 2).experts == Ids{dropped(0), 0, 0});
    const std::vector<float> mixed{-3, -9, 1, -9, std::nanf(""), std::nanf("")};
    CHECK(choose_batch<float>(gate, mixed, 3, 2).experts == Ids{0, 0, dropped(0)});
}

TEST_CASE("a random queue belongs to seed and position", "[capacity]") {
    const std::size_t n_tokens = 64;
    const std::vector<double> logits = two_of_three(std::vector<double>(n_tokens, 0.6));
    Limited gate{.gate = {.top_k = 1}, .limit = CapacityLimit::fixed(16), .order = CapacityOrder::random, .seed = 5};
    const Ids one = experts_of(gate, logits);
    CHECK(std::count(one.begin(), one.end(), 0) == 16);
    CHECK(experts_of(gate, logits, {.first_position = 7}) != one);
    gate.seed = 6;
    CHECK(experts_of(gate, logits) != one);
    // each token gets a place with probability 1/4: within five standard deviations over 1000 seeds
    std::vector<double> places(n_tokens, 0);
    for (gate.seed = 0; gate.seed < 1000; ++gate.seed) {
        const Ids chosen = experts_of(gate, logits);
        for (std::size_t t = 0; t < n_tokens; ++t) {
            places[t] += chosen[t] == 0 ? 1 : 0;
        }
    }
    const double bound = 5 * std::sqrt(1000 * 0.25 * 0.75);
    CHECK(moe_test::difference(places, std::vector<double>(n_tokens, 250), bound) == "");
}

TEST_CASE("groups of tokens have places of their own", "[capacity]") {
    const std::vector<double> logits = two_of_three({0.5, 0.9, 0.6, 0.7, 0.8});
    Limited gate{.gate = {.top_k = 1}, .limit = CapacityLimit::fixed(1), .group = 2};
    CHECK(experts_of(gate, logits) == Ids{0, dropped(0), 0, dropped(0), 0});
    gate.group = 1000;
    CHECK(experts_of(gate, logits) == Ids{0, dropped(0), dropped(0), dropped(0), dropped(0)});
}

TEST_CASE("experts without a limit take all that come", "[capacity]") {
    const std::vector<double> logits = two_of_three({0.5, 0.9, 0.6});
    const Limited gate{.gate = {.top_k = 2}, .limit = CapacityLimit::fixed(0), .unlimited_from = 1};
    CHECK(experts_of(gate, logits) == Ids{dropped(0), 1, dropped(0), 1, dropped(0), 1});
    CHECK(gate.max_assignments(3, 3) == 6);
    CHECK(Limited{.gate = {.top_k = 2}, .limit = CapacityLimit::fixed(0)}.max_assignments(3, 3) == 0);
    CHECK(Limited{.gate = {.top_k = 2}, .limit = CapacityLimit::fixed(2), .group = 5}.max_assignments(6, 2) == 8);
}

TEST_CASE("weights are normalised over what is kept, or over what was chosen", "[capacity]") {
    const std::vector<double> logits{2, 1, 0, 1, 2, 0};
    Limited gate{.gate = {.top_k = 2}, .limit = CapacityLimit::fixed(1)};
    const double total = std::exp(2) + std::exp(1) + 1;
    const double first = std::exp(2) / total;
    const double second = std::exp(1) / total;
    const auto weights = [&] { return choose_batch<double>(gate, logits, 2, 3).weights; };
    CHECK(moe_test::difference(weights(), std::vector<double>{first, second, first, second}, 1e-15) == "");
    gate.renormalize = true;
    CHECK(moe_test::difference(weights(), std::vector<double>{1, second, 1, second}, 1e-15) == "");
    gate.renormalize_over = moe::RenormalizeOver::chosen;
    const double share = 1 / (1 + std::exp(-1));
    CHECK(moe_test::difference(weights(), std::vector<double>{share, 1 - share, share, 1 - share}, 1e-15) == "");
    gate.limit = CapacityLimit::fixed(0);
    gate.renormalize_over = moe::RenormalizeOver::kept;
    CHECK(moe_test::difference(weights(), std::vector<double>{first, second, first, second}, 1e-15) == "");
}

TEST_CASE("a limit counts places as its source does", "[capacity]") {
    using Kind = CapacityLimit::Kind;
    CHECK(CapacityLimit::fixed(64).places(29, 1, 8) == 64);
    CHECK(CapacityLimit::factor(1.25).places(29, 2, 8) == 10);  // 9.0625
    CapacityLimit limit{.value = 1.25, .rounding = CapacityLimit::Rounding::floor, .k = 1, .minimum = 4};
    CHECK(limit.places(29, 2, 8) == 4);                                    // 4.53
    CHECK(limit.places(8, 2, 8) == 4);                                     // 1.25
    CHECK(limit.places(290, 2, 8) == 45);                                  // 45.3
    CHECK(CapacityLimit{.kind = Kind::per_choice}.places(29, 2, 8) == 8);  // 2 * ceil(3.625)
    CHECK(CapacityLimit::factor(1).places(29, 2, 8) == 8);                 // ceil(7.25)
    CHECK(CapacityLimit{.kind = Kind::fraction, .value = 0.3}.places(29, 2, 8) == 9);
    CHECK(CapacityLimit::factor(1).places(0, 2, 8) == 0);
    CHECK(CapacityLimit::factor(1e300).places(29, 2, 8) == std::numeric_limits<std::size_t>::max());
}

TEST_CASE("Capacity stays out of the way of its gate", "[capacity]") {
    const std::vector<std::int32_t> entries{0, 2, 1};
    const Capacity<moe::Hash<>> gate{.gate = {.table = moe::view(entries.data(), 3, 1)},
                                     .limit = CapacityLimit::fixed(1)};
    CHECK_FALSE(moe::needs_logits(gate));
    CHECK(moe::needs_logits(Limited{}));
    moe_test::ChosenRows<float> rows{1, Ids(4, no_expert), std::vector<float>(4)};
    std::vector<float> scratch(moe::batch_scratch_size(4, 3));
    Ids order(moe::batch_order_size(4, 3, 1));
    const std::vector<std::int32_t> ids{1, 0, 1, 2};
    moe::select_batch<float>(
        gate, {},
        {3, moe::view(rows.experts.data(), 4, 1), moe::view(rows.weights.data(), 4, 1), scratch, order, ids, {}, 0});
    CHECK(rows.experts == Ids{2, 0, dropped(2), 1});
}

TEST_CASE("Capacity names what it refuses", "[capacity][errors]") {
    const auto refuses = [](Limited gate) { return message_of([&] { moe::validate_gate(gate, 4); }); };
    CHECK(refuses({}) == "no error");
    CHECK(refuses({.gate = {.top_k = 5}}) == "TokenChoice: top_k 5 exceeds the 4 experts");
    CHECK(refuses({.limit = CapacityLimit::factor(-1)}) ==
          "CapacityLimit: the value is -1, it must be finite and not negative");
    CHECK(refuses({.limit = CapacityLimit::factor(std::nan(""))}) ==
          "CapacityLimit: the value is nan, it must be finite and not negative");
    CHECK(refuses({.limit = {.kind = CapacityLimit::Kind::fixed, .value = 1.5}}) ==
          "CapacityLimit: 1.5 places, a fixed number must be whole");
    CHECK(refuses({.limit = {.kind = static_cast<CapacityLimit::Kind>(9)}}) ==
          "CapacityLimit: no kind has the number 9");
    CHECK(refuses({.limit = {.rounding = static_cast<CapacityLimit::Rounding>(9)}}) ==
          "CapacityLimit: no rounding has the number 9");
    CHECK(refuses({.limit = {.k = -1}}) == "CapacityLimit: k is -1, it must not be negative");
    CHECK(refuses({.order = static_cast<CapacityOrder>(7)}) == "Capacity: order has no value 7");
    CHECK(refuses({.unlimited_from = 5}) ==
          "Capacity: unlimited_from is 5, it must be -1 (all experts are limited) or 0..4");
    CHECK(refuses({.renormalize = moe::Normalize::sum(-1)}) ==
          "Normalize: the eps or minimum of a sum is -1, it must be finite and not negative");
    CHECK(refuses({.renormalize_over = static_cast<moe::RenormalizeOver>(2)}) ==
          "Capacity: renormalize_over has no value 2");
}

}  // namespace moe_test::capacity_test
