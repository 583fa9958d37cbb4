// Masked against its definition around a TokenChoice, and around other gates.

#include <moe/gating/adaptors/masked.hpp>
#include <moe/gating/strategies/round_robin.hpp>
#include <moe/gating/strategies/sparse_mixer.hpp>
#include <moe/reference/adaptors/masked.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "gating/adaptors/inner_gates.hpp"
#include "support/catch.hpp"

namespace moe_test::masked_test {

namespace reference = moe::reference;
using moe_test::choose;
using moe_test::Dice;
using moe_test::message_of;
using moe_test::NeighboursInFloat;
using moe_test::refusal;
using Ids = std::vector<moe::ExpertId>;
using Mask = std::vector<std::uint8_t>;

template <class G>
using Masked = moe::Masked<G>;

static_assert(moe_test::is_token_gate<Masked<moe::TokenChoice<>>> && moe_test::is_token_gate<Masked<moe::AnyGate>>);
static_assert(moe_test::is_token_gate<Masked<NeighboursInFloat>> && moe_test::is_token_gate<Masked<moe::RoundRobin>>);
static_assert(!Masked<moe::RoundRobin>::needs_logits && Masked<moe::AnyGate>::needs_logits);

namespace {

Mask random_mask(Dice& dice, std::size_t n_experts) {
    const std::size_t one_in = dice.pick(1U, 2U, 8U, 1000U);
    Mask mask(n_experts);
    for (std::uint8_t& allowed : mask) {
        allowed = static_cast<std::uint8_t>(dice.one_in(one_in) ? 1 + dice.below(255) : 0);
    }
    return mask;
}

template <class T>
void compare_many(std::uint64_t seed) {
    Dice dice{seed};
    for (int row = 0; row < 1000; ++row) {
        const moe_test::RuleCase c = moe_test::random_rule(dice);
        const std::size_t n = c.logits.size();
        const Mask mask = random_mask(dice, n);
        const Masked<moe::TokenChoice<moe::RuntimeScore>> gate{c.gate, mask, dice.one_in(2)};
        const reference::Choice expected = reference::masked(
            c.rule, moe_test::wide(c.logits), std::vector<bool>(mask.begin(), mask.end()), gate.renormalize);
        const std::vector<T> logits = moe_test::in_type<T>(c.logits);
        INFO("row " << row << ", E " << n << ", k " << c.rule.top_k << ", score " << static_cast<int>(c.rule.score)
                    << ", source " << static_cast<int>(c.rule.weight_from) << ", renormalize " << gate.renormalize);
        REQUIRE(moe_test::disagreement(choose<T>(gate, logits), expected, 2 * n + 64) == "");
        REQUIRE(moe_test::repeats<T>(gate, logits, n));
        REQUIRE(moe_test::same_choice(choose<T>(gate, logits),
                                      choose<T>(Masked<moe::AnyGate>{c.gate, mask, gate.renormalize}, logits)));
    }
}

}  // namespace

TEST_CASE("Masked in float is its definition", "[masked]") { compare_many<float>(1); }

TEST_CASE("Masked in double is its definition", "[masked]") { compare_many<double>(2); }

TEST_CASE("Masked is the gate over the experts allowed", "[masked]") {
    Dice dice{3};
    for (int row = 0; row < 300; ++row) {
        const std::size_t n = 4 + dice.below(60);
        std::vector<float> logits(n);
        Mask mask(n);
        std::vector<float> left;
        Ids ids;
        for (std::size_t e = 0; e < n; ++e) {
            logits[e] = dice.uniform(-4, 4);
            mask[e] = e < 4 || dice.one_in(2);
            if (mask[e] != 0) {
                left.push_back(logits[e]);
                ids.push_back(static_cast<moe::ExpertId>(e));
            }
        }
        const moe::TokenChoice<> gate{.top_k = 4, .normalize = true};
        auto expected = choose(gate, left);
        for (moe::ExpertId& e : expected.experts) {
            e = ids[static_cast<std::size_t>(e)];
        }
        REQUIRE(choose(Masked<moe::TokenChoice<>>{gate, mask}, logits) == expected);
        const Mask all(n, 1);
        REQUIRE(choose(Masked<moe::TokenChoice<>>{gate, all}, logits) == choose(gate, logits));
    }
}

TEST_CASE("Masked removes what the gate inside takes all the same", "[masked]") {
    const Mask mask{1, 0, 1, 0, 1, 0};
    CHECK(choose<float>(Masked<moe::RoundRobin>{{4}, mask}, {}, 6).experts == Ids{0, 2});
    CHECK(choose<float>(Masked<moe::RoundRobin>{{4}, mask}, {}, 6).weights == std::vector<float>{0.25F, 0.25F});
    CHECK(choose<float>(Masked<moe::RoundRobin>{{4}, mask, true}, {}, 6).weights == std::vector<float>{0.5F, 0.5F});
    const std::vector<double> logits{1, 9, 3, 9, 2, 9};
    CHECK(choose(Masked<NeighboursInFloat>{{}, mask}, logits) == moe_test::Chosen<double>{{2}, {3}});
    CHECK(choose(Masked<moe::AnyGate>{NeighboursInFloat{}, mask}, logits).experts == Ids{2});
    CHECK(choose(Masked<moe::SparseMixer>{{}, mask}, logits).experts == Ids{2, 4});
    const Mask one{0, 0, 0, 1, 0, 0};
    CHECK(choose(Masked<moe::SparseMixer>{{}, one}, logits).experts == Ids{3});
}

TEST_CASE("a token of which all experts are masked has none", "[masked]") {
    const Mask none(6);
    const std::vector<float> logits{1, 9, 3, 9, 2, 9};
    CHECK(choose(Masked<moe::TokenChoice<>>{{.top_k = 3, .normalize = true}, none, true}, logits).experts.empty());
    CHECK(choose(Masked<moe::RoundRobin>{{3}, none, true}, logits).experts.empty());
    const Mask nobody(1);
    CHECK(choose<float>(Masked<moe::TokenChoice<>>{{}, nobody}, {7}).experts.empty());
}

TEST_CASE("Masked stands around adaptors, and they around it, as long as there is scratch", "[masked]") {
    const Mask a{1, 1, 0};
    const Mask b{0, 1, 1};
    using Twice = Masked<Masked<moe::TokenChoice<>>>;
    using Four = Masked<Masked<Twice>>;
    const std::vector<float> logits{3, 1, 2};
    const Four four{{{{{.top_k = 3}, a}, b}, a}, a};
    CHECK(choose(four, logits).experts == Ids{1});
    CHECK(message_of([&] {
              (void)choose(Masked<Four>{four, a}, logits);
          }) ==
          "gate: 12 values of scratch are left, one more adaptor and the gate inside need 15; at most 4 adaptors that "
          "need scratch may stand around a gate");
}

TEST_CASE("Masked names what it refuses", "[masked][errors]") {
    const Mask seven(7);
    const Mask eight(8);
    CHECK(refusal(Masked<moe::TokenChoice<>>{{.top_k = 8}, eight}, 8) == "no error");
    CHECK(refusal(Masked<moe::TokenChoice<>>{{}, seven}, 8) == "Masked: allowed has 7 entries for 8 experts");
    CHECK(refusal(Masked<moe::TokenChoice<>>{{.top_k = 9}, eight}, 8) == "TokenChoice: top_k 9 exceeds the 8 experts");
    CHECK(refusal(Masked<moe::AnyGate>{moe_test::NobodyInBatch{}, eight}, 8) ==
          "Masked: the gate inside chooses for whole batches, it must choose token by token");
    CHECK(moe::gate_n_experts(Masked<moe::TokenChoice<>>{{}, eight}, 8) == 8);
}

}  // namespace moe_test::masked_test
