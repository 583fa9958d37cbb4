// Forced against its definition around a TokenChoice, and around other gates.

#include <moe/gating/adaptors/forced.hpp>
#include <moe/gating/strategies/hash.hpp>
#include <moe/reference/adaptors/forced.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gating/adaptors/inner_gates.hpp"
#include "support/catch.hpp"
#include "support/unaligned.hpp"

namespace moe_test::forced_test {

namespace reference = moe::reference;
using moe_test::choose;
using moe_test::Dice;
using moe_test::message_of;
using moe_test::NeighboursInFloat;
using moe_test::refusal;
using Ids = std::vector<moe::ExpertId>;

template <class G>
using Forced = moe::Forced<G>;

static_assert(moe_test::is_token_gate<Forced<moe::TokenChoice<>>>);
static_assert(moe_test::is_token_gate<Forced<NeighboursInFloat>>);
static_assert(moe::WeighingGate<NeighboursInFloat> && moe::WeighingGate<NeighboursInFloat, double>);
static_assert(moe::WeighingGate<moe::TokenChoice<>, double> && !moe::WeighingGate<moe::Hash<>>);

namespace {

moe::MatrixView<const moe::ExpertId> rows_of(const Ids& ids, std::size_t n_tokens) {
    return moe::view(ids.data(), n_tokens, ids.size() / n_tokens);
}

template <class T>
void compare_many(std::uint64_t seed) {
    Dice dice{seed};
    for (int row = 0; row < 1000; ++row) {
        const moe_test::RuleCase c = moe_test::random_rule(dice);
        const std::size_t n = c.logits.size();
        const std::size_t n_tokens = 1 + dice.below(4);
        const std::size_t k = 1 + dice.below(std::min<std::size_t>(n, 12));
        Ids ids;
        for (std::size_t i = 0; i < n_tokens * k; ++i) {
            ids.push_back(dice.one_in(8) ? moe::no_expert : static_cast<moe::ExpertId>(dice.below(n)));
        }
        const std::uint64_t first = dice.pick(0U, 5U, 1000U);
        const Forced<moe::TokenChoice<moe::RuntimeScore>> gate{c.gate, rows_of(ids, n_tokens), first};
        const std::size_t t = dice.below(n_tokens);
        const reference::Choice expected = reference::forced(c.rule, moe_test::wide(c.logits), ids, k, t);
        const std::vector<T> logits = moe_test::in_type<T>(c.logits);
        INFO("row " << row << ", E " << n << ", k " << k << ", token " << t << " of " << n_tokens);
        REQUIRE(moe_test::disagreement(choose<T>(gate, logits, n, {.position = first + t}), expected, 2 * n + 64) ==
                "");
        REQUIRE(moe_test::repeats<T>(gate, logits, n, {.position = first + t}));
    }
}

}  // namespace

TEST_CASE("Forced in float is its definition", "[forced]") { compare_many<float>(1); }

TEST_CASE("Forced in double is its definition", "[forced]") { compare_many<double>(2); }

TEST_CASE("Forced with the experts a TokenChoice chose has the bits of that choice", "[forced]") {
    Dice dice{3};
    for (int row = 0; row < 500; ++row) {
        moe_test::RuleCase c = moe_test::random_rule(dice);
        c.gate.select_on = moe::SelectOn::score;
        c.gate.logit_softcap = dice.pick(0.0, 15.0);
        const auto chosen = choose(c.gate, c.logits);
        const Forced<moe::TokenChoice<moe::RuntimeScore>> gate{c.gate, rows_of(chosen.experts, 1)};
        REQUIRE(moe_test::same_choice(choose(gate, c.logits, c.logits.size(), {.position = 77}), chosen));
    }
}

TEST_CASE("Forced ends a row at no_expert and weighs those before it", "[forced]") {
    const Ids ids{2, 0, -1, -1, 5, 1, 3, 3, 1};
    const std::vector<double> logits{0, std::log(4.0), std::log(2.0), std::log(3.0)};
    const Forced<moe::TokenChoice<>> gate{{.top_k = 4, .normalize = true}, rows_of(ids, 3), 10};
    const auto at = [&](std::uint64_t position) { return choose(gate, logits, 4, {.position = position}); };
    CHECK(at(10).experts == Ids{2, 0});
    CHECK(moe_test::difference(at(10).weights, std::vector<double>{2.0 / 3, 1.0 / 3}, 1e-15) == "");
    CHECK(at(11).experts.empty());
    CHECK(moe_test::difference(at(12).weights, std::vector<double>{0.3, 0.3, 0.4}, 1e-15) == "");
    CHECK(message_of([&] { (void)at(9); }) ==
          "Forced: the token at position 9 has no row, there are 3 from position 10 on");
    CHECK(message_of([&] { (void)at(13); }) ==
          "Forced: the token at position 13 has no row, there are 3 from position 10 on");
}

TEST_CASE("Forced gives a single row to every token, wherever it stands", "[forced]") {
    const Ids ids{1, 0};
    const Forced<NeighboursInFloat> gate{{}, rows_of(ids, 1), 10};
    CHECK(choose<double>(gate, {3, 4, 5}, 3, {.position = 0}) == moe_test::Chosen<double>{{1, 0}, {4, 3}});
    CHECK(choose<float>(gate, {3, 4, 5}, 3, {.position = 99}) == moe_test::Chosen<float>{{1, 0}, {4, 3}});
    constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
    CHECK(std::isnan(choose<double>(gate, {not_a_number, 4, 5}, 3).weights[1]));
}

TEST_CASE("Forced names what it refuses", "[forced][errors]") {
    using Gate = Forced<moe::TokenChoice<>>;
    const Ids good{7, 0, -1, 99};
    const Ids high{0, 8};
    const Ids lost{0, moe::dropped(3)};
    CHECK(refusal(Gate{{}, rows_of(good, 2)}, 8) == "no error");
    CHECK(refusal(Gate{}, 8) == "Forced: experts is empty, 0 x 0");
    CHECK(refusal(Gate{{}, rows_of(high, 2)}, 8) == "Forced: row 1 gives the expert 8 in slot 0, the experts are 0..7");
    CHECK(refusal(Gate{{}, rows_of(lost, 1)}, 8) ==
          "Forced: row 0 gives the expert -5 in slot 1, the experts are 0..7");
    CHECK(refusal(Gate{{}, rows_of(good, 1)}, 3) == "Forced: experts gives 4 experts a token, there are 3");
    CHECK(refusal(Gate{{.top_k = 9}, rows_of(good, 2)}, 8) == "TokenChoice: top_k 9 exceeds the 8 experts");
    const moe_test::Unaligned<moe::ExpertId> odd(good);
    CHECK_THAT(refusal(Gate{{}, moe::view(odd.data(), 2, 2)}, 8),
               moe_test::contains("Forced: experts must be aligned to the 4 bytes"));
}

}  // namespace moe_test::forced_test
