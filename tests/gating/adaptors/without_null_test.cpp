// WithoutNull against its definition around a TokenChoice, and around other gates.

#include <moe/gating/adaptors/masked.hpp>
#include <moe/gating/adaptors/without_null.hpp>
#include <moe/gating/strategies/round_robin.hpp>
#include <moe/reference/adaptors/without_null.hpp>

#include <cmath>
#include <vector>

#include "gating/adaptors/inner_gates.hpp"
#include "support/catch.hpp"

namespace moe_test::without_null_test {

namespace reference = moe::reference;
using moe_test::choose;
using moe_test::Dice;
using moe_test::NeighboursInFloat;
using moe_test::refusal;
using Ids = std::vector<moe::ExpertId>;

template <class G>
using WithoutNull = moe::WithoutNull<G>;

static_assert(moe_test::is_token_gate<WithoutNull<moe::TokenChoice<>>>);
static_assert(moe_test::is_token_gate<WithoutNull<moe::AnyGate>> &&
              moe_test::is_token_gate<WithoutNull<NeighboursInFloat>>);
static_assert(!WithoutNull<moe::RoundRobin>::needs_logits && WithoutNull<moe::AnyGate>::needs_logits);

namespace {

template <class T>
void compare_many(std::uint64_t seed) {
    Dice dice{seed};
    for (int row = 0; row < 1000; ++row) {
        const moe_test::RuleCase c = moe_test::random_rule(dice);
        const std::size_t n = c.logits.size();
        const std::size_t first_null = 1 + dice.below(n);
        const bool renormalize = dice.one_in(2);
        const WithoutNull<moe::TokenChoice<moe::RuntimeScore>> gate{
            c.gate, static_cast<int>(first_null), renormalize,
            static_cast<int>(dice.one_in(2) ? 0 : dice.below(n - first_null + 1))};
        const std::size_t end_null = gate.n_null == 0 ? n : first_null + static_cast<std::size_t>(gate.n_null);
        const reference::Choice expected = reference::without_null(reference::route(c.rule, moe_test::wide(c.logits)),
                                                                   first_null, end_null, renormalize);
        const std::vector<T> logits = moe_test::in_type<T>(c.logits);
        INFO("row " << row << ", E " << n << ", k " << c.rule.top_k << ", first_null " << first_null);
        REQUIRE(moe_test::disagreement(choose<T>(gate, logits), expected, 2 * n + 64) == "");
        REQUIRE(moe_test::repeats<T>(gate, logits, n));
        REQUIRE(moe_test::same_choice(
            choose<T>(gate, logits),
            choose<T>(WithoutNull<moe::AnyGate>{c.gate, gate.first_null, renormalize, gate.n_null}, logits)));
    }
}

}  // namespace

TEST_CASE("WithoutNull in float is its definition", "[without_null]") { compare_many<float>(1); }

TEST_CASE("WithoutNull in double is its definition", "[without_null]") { compare_many<double>(2); }

TEST_CASE("WithoutNull gives the true experts all of the weight, or their share", "[without_null]") {
    // Softmax: 1/10, 4/10, 2/10, 3/10; the best three are 1, 3 and 2, of which 3 is null.
    const std::vector<double> logits{0, std::log(4.0), std::log(2.0), std::log(3.0)};
    const moe::TokenChoice<> top3{.top_k = 3};
    const auto adamoe = choose(WithoutNull<moe::TokenChoice<>>{top3, 3}, logits);
    CHECK(adamoe.experts == Ids{1, 2});
    CHECK(moe_test::difference(adamoe.weights, std::vector<double>{2.0 / 3, 1.0 / 3}, 1e-15) == "");
    const auto share = choose(WithoutNull<moe::TokenChoice<>>{top3, 3, false}, logits);
    CHECK(share.experts == Ids{1, 2});
    CHECK(moe_test::difference(share.weights, std::vector<double>{0.4, 0.2}, 1e-15) == "");
    CHECK(choose(WithoutNull<moe::TokenChoice<>>{{.top_k = 1}, 1}, logits).experts.empty());
    CHECK(choose(WithoutNull<moe::TokenChoice<>>{top3, 4, false}, logits) == choose(top3, logits));
}

TEST_CASE("WithoutNull keeps what stands behind the null experts, as the constants of MoE++ do", "[without_null]") {
    // Softmax: 1/10, 4/10, 2/10, 3/10. Expert 1 adds nothing; 2 and 3 may copy the token or add a constant.
    const std::vector<double> logits{0, std::log(4.0), std::log(2.0), std::log(3.0)};
    const auto chosen =
        choose(WithoutNull<moe::TokenChoice<>>{.gate = {.top_k = 3}, .first_null = 1, .n_null = 1}, logits);
    CHECK(chosen.experts == Ids{3, 2});
    CHECK(moe_test::difference(chosen.weights, std::vector<double>{3.0 / 5, 2.0 / 5}, 1e-15) == "");
}

TEST_CASE("WithoutNull stands around gates of every kind", "[without_null]") {
    CHECK(choose<float>(WithoutNull<moe::RoundRobin>{{4}, 2}, {}, 6).weights == std::vector<float>{0.5F, 0.5F});
    CHECK(choose<double>(WithoutNull<NeighboursInFloat>{{}, 3, false}, {1, 2, 7, 4}) ==
          moe_test::Chosen<double>{{2}, {7}});
    const std::vector<std::uint8_t> mask{0, 1, 1, 1};
    using Inner = moe::Masked<moe::TokenChoice<moe::Identity>>;
    CHECK(choose<float>(WithoutNull<Inner>{{{.top_k = 3}, mask}, 3, false}, {9, 1, 2, 3}).experts == Ids{2, 1});
    // A sum that is not positive divides nothing.
    CHECK(choose<float>(WithoutNull<moe::TokenChoice<moe::Identity>>{{.top_k = 2}, 1}, {-3, 4}).weights ==
          std::vector<float>{-3});
    CHECK(choose<float>(WithoutNull<moe::TokenChoice<>>{{}, 1}, {5}).weights == std::vector<float>{1});
}

TEST_CASE("WithoutNull names what it refuses", "[without_null][errors]") {
    using Gate = WithoutNull<moe::TokenChoice<>>;
    CHECK(refusal(Gate{{.top_k = 2}, 8}, 8) == "no error");
    CHECK(refusal(Gate{{}, 0}, 8) == "WithoutNull: first_null is 0, it must lie in 1..8, the number of experts");
    CHECK(refusal(Gate{{}, 9}, 8) == "WithoutNull: first_null is 9, it must lie in 1..8, the number of experts");
    CHECK(refusal(Gate{{}, 5, true, 3}, 8) == "no error");
    CHECK(refusal(Gate{{}, 5, true, 4}, 8) ==
          "WithoutNull: n_null is 4, it must be 0 (all from first_null on) or at most 3");
    CHECK(refusal(Gate{{}, 5, true, -1}, 8) ==
          "WithoutNull: n_null is -1, it must be 0 (all from first_null on) or at most 3");
    CHECK(refusal(Gate{{.top_k = 0}, 4}, 8) == "TokenChoice: top_k is 0, it must be at least 1");
    CHECK(refusal(WithoutNull<moe::AnyGate>{moe_test::NobodyInBatch{}, 4}, 8) ==
          "WithoutNull: the gate inside chooses for whole batches, it must choose token by token");
}

}  // namespace moe_test::without_null_test
