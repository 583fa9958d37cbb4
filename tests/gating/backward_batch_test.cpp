// The backward pass of gates that choose for whole batches, and of Capacity, which makes any gate one.

#include <moe/gating/adaptors/capacity_presets.hpp>
#include <moe/gating/any_gate.hpp>
#include <moe/gating/strategies/balanced_assignment.hpp>
#include <moe/gating/strategies/expert_choice.hpp>
#include <moe/gating/strategies/noisy_top_k.hpp>
#include <moe/gating/strategies/replay.hpp>
#include <moe/gating/strategies/sinkhorn.hpp>
#include <moe/gating/strategies/sparse_mixer.hpp>
#include <moe/gating/strategies/top_p.hpp>

#include <string>
#include <vector>

#include "gating/backward_support.hpp"
#include "support/catch.hpp"

namespace moe_test::backward_batch_test {

namespace {

constexpr std::size_t n_tokens = 9;
constexpr std::size_t n_experts = 4;

void compare_gate(const std::string& name, const moe::AnyGate& gate, std::size_t n_logits = n_experts,
                  std::size_t least_learning = 100) {
    Dice dice{name.size()};
    Tally tally;
    for (int i = 0; i < 12; ++i) {
        BatchFacts facts;
        facts.first_position = dice.below(100);
        if (dice.one_in(2)) {
            facts.valid.assign(n_tokens, 1);
            facts.valid[dice.below(n_tokens)] = 0;
        }
        compare_batch(tally, name, gate, random_doubles(dice, n_tokens * n_logits, -2, 2), n_tokens, dice, facts);
    }
    INFO(name);
    CHECK(tally.error == "");
    CHECK(tally.compared > 300);
    CHECK(tally.learning >= least_learning);
    CHECK(tally.skipped < tally.compared / 20);
}

/// How many choices of a gate lost their place: a test of Capacity is none where there are no drops.
template <class G>
std::size_t n_dropped(const G& gate) {
    Dice dice{5};
    const auto rows =
        choose_batch<double>(gate, random_doubles(dice, n_tokens * n_experts, -2, 2), n_tokens, n_experts);
    return static_cast<std::size_t>(
        std::count_if(rows.experts.begin(), rows.experts.end(), [](moe::ExpertId e) { return e < moe::no_expert; }));
}

template <class G>
void compare_capacity(const std::string& name, G gate) {
    gate.limit = moe::CapacityLimit::fixed(3);
    CHECK(n_dropped(gate) > 2);
    for (const auto& normalize : {moe::Normalize::none(), moe::Normalize::sum(0.25), moe::Normalize::clamped_sum(1e-9),
                                  moe::Normalize::lp(2)}) {
        for (const auto over : {moe::RenormalizeOver::kept, moe::RenormalizeOver::chosen}) {
            gate.renormalize = normalize;
            gate.renormalize_over = over;
            compare_gate(name + ", normalize " + std::to_string(static_cast<int>(normalize.kind)) + " over " +
                             std::to_string(static_cast<int>(over)),
                         gate, n_experts, 50);
        }
    }
}

}  // namespace

TEST_CASE("Gradients of batch gates", "[gate_backward]") {
    compare_gate("ExpertChoice", moe::ExpertChoice<>{.capacity_factor = 2});
    compare_gate("ExpertChoice of sigmoids, capped",
                 moe::ExpertChoice<moe::Sigmoid>{.capacity_factor = 2, .max_per_token_cap = 2});
    compare_gate("Sinkhorn", moe::Sinkhorn{.top_k = 1, .tolerance = 0, .max_iterations = 20}, n_experts, 50);
    compare_gate("Sinkhorn of two", moe::Sinkhorn{.top_k = 2, .tolerance = 0, .max_iterations = 20});
    compare_gate("BalancedAssignment", moe::BalancedAssignment{}, n_experts, 50);
}

TEST_CASE("Gradients of Capacity around any gate", "[gate_backward]") {
    compare_capacity("TokenChoice", moe::Capacity<moe::TokenChoice<>>{.gate = {.top_k = 2}});
    compare_capacity("TokenChoice, normalised",
                     moe::Capacity<moe::TokenChoice<moe::Sigmoid>>{.gate = {.top_k = 3, .normalize = true}});
    compare_capacity("GShardTop2", moe::Capacity<moe::GShardTop2>{.gate = {.second = moe::SecondExpert::random}});
    compare_capacity("SparseMixer", moe::Capacity<moe::SparseMixer>{.gate = {.jitter = 0.2}});
    compare_capacity("TopP inside an AnyGate", moe::Capacity<moe::AnyGate>{.gate = moe::TopP<>{.mass = 0.8}});
    compare_capacity("ExpertChoice", moe::Capacity<moe::ExpertChoice<>>{.gate = {.capacity_factor = 3}});
    compare_capacity("Sinkhorn",
                     moe::Capacity<moe::Sinkhorn>{.gate = {.top_k = 2, .tolerance = 0, .max_iterations = 20}});
    compare_gate("NoisyTopK", moe::Capacity<moe::NoisyTopK>{.gate = {.top_k = 2}, .renormalize = true}, 2 * n_experts);
}

TEST_CASE("Gradients of the published capacities", "[gate_backward]") {
    moe::AnyGate gates[] = {moe::switch_gate(0.5), moe::gshard_gate(0.5, 0, 1), moe::nllb_gate(),
                            moe::st_moe_gate(1),   moe::megatron_gate(2, 0.7),  moe::deepspeed_gate(2, 0.7, 0)};
    for (const moe::AnyGate& gate : gates) {
        compare_gate("preset " + std::to_string(&gate - gates), gate, n_experts, 50);
    }
}

TEST_CASE("A dropped choice enters the normaliser where Capacity says so", "[gate_backward]") {
    moe::Capacity<moe::TokenChoice<moe::Sigmoid>> gate{.gate = {.top_k = 2}, .renormalize = true};
    const std::vector<double> logits{0.5, -1, 2};
    const auto sigmoid = [](double l) { return 1 / (1 + std::exp(-l)); };
    const double kept = sigmoid(2);
    const double lost = sigmoid(0.5);
    gate.renormalize_over = moe::RenormalizeOver::kept;
    const Chosen<double> alone{{2}, {1}};
    CHECK(gradient<double>(gate, logits, 3, alone, {3}, {}, {0}) == std::vector<double>{0, 0, 0});
    gate.renormalize_over = moe::RenormalizeOver::chosen;
    const Chosen<double> both{{2}, {kept / (kept + lost)}};
    const auto d_logits = gradient<double>(gate, logits, 3, both, {3}, {}, {0});
    const double n = (kept + lost) * (kept + lost);
    CHECK(d_logits[0] == Approx(-3 * kept / n * lost * (1 - lost)));
    CHECK(d_logits[1] == 0);
    CHECK(d_logits[2] == Approx(3 * lost / n * kept * (1 - kept)));
}

TEST_CASE("A replayed weight is a constant", "[gate_backward]") {
    const std::vector<moe::Index> offsets{0, 2};
    const std::vector<moe::ExpertId> experts{1, 3};
    const std::vector<float> weights{0.5F, 0.25F};
    const moe::Replay<> gate{offsets, experts, weights};
    static_assert(moe::DifferentiableGate<moe::Replay<>>);
    CHECK(gradient<double>(gate, {1, 2, 3, 4}, 4, {{1, 3}, {0.5, 0.25}}, {1, 1}) == std::vector<double>(4));
    CHECK(gradient<double>(gate, {}, 4, {{1, 3}, {0.5, 0.25}}, {1, 1}).empty());
}

}  // namespace moe_test::backward_batch_test
