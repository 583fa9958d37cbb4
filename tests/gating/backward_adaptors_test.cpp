// The backward pass of adaptors that stand around a token gate.

#include <moe/gating/adaptors/capacity.hpp>
#include <moe/gating/adaptors/cosine.hpp>
#include <moe/gating/adaptors/forced.hpp>
#include <moe/gating/adaptors/masked.hpp>
#include <moe/gating/adaptors/with_shared.hpp>
#include <moe/gating/adaptors/without_null.hpp>
#include <moe/gating/any_gate.hpp>
#include <moe/gating/strategies/dense.hpp>
#include <moe/gating/strategies/threshold.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/gating/strategies/top_p.hpp>

#include <string>
#include <vector>

#include "gating/backward_support.hpp"
#include "support/catch.hpp"

namespace moe_test::backward_adaptors_test {

namespace {

constexpr std::size_t n_experts = 6;
const std::vector<std::uint8_t> allowed{1, 0, 1, 1, 0, 1};

void compare_gate(const std::string& name, const moe::AnyGate& gate, std::size_t n_logits = n_experts,
                  double least_learning = 0.3) {
    Dice dice{name.size()};
    Tally tally;
    constexpr int repeats = 200;
    for (int i = 0; i < repeats; ++i) {
        compare_token(tally, name, gate, random_doubles(dice, n_logits, -2, 2), n_experts, dice, {-1, dice.below(4)});
    }
    INFO(name);
    CHECK(tally.error == "");
    CHECK(static_cast<double>(tally.compared) > 0.9 * repeats * static_cast<double>(n_logits));
    CHECK(static_cast<double>(tally.learning) >= least_learning * static_cast<double>(tally.compared));
}

template <class G>
moe::Masked<G> masked(G gate, bool renormalize) {
    return {.gate = std::move(gate), .allowed = allowed, .renormalize = renormalize};
}

}  // namespace

TEST_CASE("Gradients around what an adaptor takes away", "[gate_backward]") {
    for (const bool renormalize : {false, true}) {
        const std::string how = renormalize ? ", renormalised" : "";
        compare_gate("Masked" + how, masked(moe::TokenChoice<>{.top_k = 3, .scale = 2}, renormalize));
        // top_k 5 of 4 allowed: one that is not allowed enters the normalisation inside
        compare_gate(
            "Masked, normalised inside" + how,
            masked(moe::TokenChoice<moe::Sigmoid>{.top_k = 5, .normalize = moe::Normalize::sum(0.5)}, renormalize));
        compare_gate("Masked Dense" + how, masked(moe::Dense<>{}, renormalize));
        compare_gate("WithoutNull" + how, moe::WithoutNull<moe::TokenChoice<>>{{.top_k = 3}, 4, renormalize});
        compare_gate("WithoutNull, normalised inside" + how,
                     moe::WithoutNull<moe::TokenChoice<>>{{.top_k = 3, .normalize = true}, 2, renormalize, 2});
        compare_gate("WithoutNull of any" + how,
                     moe::WithoutNull<moe::AnyGate>{moe::TopP<>{.mass = 0.8, .normalize = true}, 3, renormalize});
    }
}

TEST_CASE("Gradients of experts that the gate did not choose by itself", "[gate_backward]") {
    const std::vector<moe::ExpertId> rows{0, 2, 5, 1, 1, moe::no_expert, 4, 3, 0, 2, moe::no_expert, moe::no_expert};
    const auto experts = moe::view(rows.data(), 4, 3);
    compare_gate("Forced",
                 moe::Forced<moe::TokenChoice<>>{{.top_k = 2, .normalize = moe::Normalize::sum(0.1)}, experts});
    compare_gate(
        "Forced, softmax of selected",
        moe::Forced<moe::TokenChoice<>>{{.top_k = 2, .weight_from = moe::WeightFrom::softmax_of_selected}, experts},
        n_experts, 0.2);
    const std::vector<float> scales{2, 0.5F, 1, 3};
    moe::TokenChoice<moe::Sigmoid> inkling{.top_k = 2, .normalize = true, .scale = 2};
    inkling.per_expert_scale = scales;
    compare_gate("WithShared", moe::WithShared{inkling, 2});
    const moe::TokenChoice<> softmax{.top_k = 1, .normalize = moe::Normalize::lp(2), .logit_softcap = 3};
    compare_gate("WithShared, softcapped", moe::WithShared{softmax, 2});
}

TEST_CASE("Gradients on the sphere", "[gate_backward]") {
    Dice dice{3};
    std::vector<float> centroids(n_experts * 3);
    for (float& value : centroids) {
        value = dice.uniform(-1, 1);
    }
    moe::Cosine<moe::TokenChoice<>> gate{
        .gate = {.top_k = 2, .scale = 2}, .centroids = moe::view(centroids.data(), n_experts, 3), .temperature = 0.5};
    compare_gate("Cosine", gate, 3, 0.9);
    gate.gate.normalize = true;
    gate.min_temperature = 0.75;
    compare_gate("Cosine at the least temperature", gate, 3, 0.9);
    std::fill_n(centroids.begin() + 6, 3, 0.0F);
    compare_gate("Cosine with a centroid of length 0", gate, 3, 0.9);
    compare_gate("DynMoE", moe::Cosine<moe::Threshold<>>{{.threshold = 0.5, .keep_best = true}, gate.centroids}, 3,
                 0.9);

    // the token at the centre has no direction
    const auto at_zero =
        gradient<double>(gate, {0, 0, 0}, n_experts, choose<double>(gate, {0, 0, 0}, n_experts), {1, 2});
    CHECK(at_zero == std::vector<double>(3));
    // moving along z turns nothing: the gradient is orthogonal to it
    const std::vector<double> z{1, -2, 0.5};
    const auto d = gradient<double>(gate, z, n_experts, choose<double>(gate, z, n_experts), {1, -2});
    CHECK(most(d) > 0.01);
    CHECK(d[0] * z[0] + d[1] * z[1] + d[2] * z[2] == Approx(0).margin(1e-14));
}

TEST_CASE("Gradients through four adaptors", "[gate_backward]") {
    using Innermost = moe::Masked<moe::AnyGate>;
    const Innermost one =
        masked(moe::AnyGate(moe::TokenChoice<>{.top_k = 5, .normalize = true, .logit_softcap = 4}), true);
    const moe::WithoutNull<Innermost> two{one, 5, true};
    const auto three = masked(two, true);
    compare_gate("four", masked(three, true));
}

TEST_CASE("A forced choice that is that of the gate has its gradient, bit for bit", "[gate_backward]") {
    Dice dice{4};
    const moe::TokenChoice<> gate{.top_k = 3, .normalize = true, .scale = 2};
    for (int i = 0; i < 100; ++i) {
        const std::vector<double> logits = random_doubles(dice, n_experts, -2, 2);
        const auto chosen = choose<double>(gate, logits);
        const auto d_weights = random_doubles(dice, 3, -1, 1);
        const moe::Forced<moe::TokenChoice<>> forced{gate, moe::view(chosen.experts.data(), 1, 3)};
        CHECK(choose<double>(forced, logits) == chosen);
        CHECK(gradient(forced, logits, d_weights) == gradient(gate, logits, d_weights));
    }
}

TEST_CASE("A gate that chooses otherwise in the backward pass is told so", "[gate_backward]") {
    moe::WithoutNull<moe::TokenChoice<>> gate{{.top_k = 2}, 5};
    CHECK(message_of([&] {
              (void)gradient<double>(gate, {1, 2, 3, 4, 0, 0}, 6, {{3, 0}, {0.7, 0.3}}, {1, 1});
          }) ==
          "gate: its token went to expert 0, which it does not choose in the backward pass; its settings must be those "
          "of the forward pass");
}

TEST_CASE("Too little scratch is said", "[gate_backward]") {
    const auto gate = masked(moe::TokenChoice<>{}, true);
    const std::vector<double> logits(n_experts, 1);
    std::vector<double> d_logits(n_experts);
    std::vector<double> scratch(n_experts);
    const std::vector<moe::ExpertId> experts{0};
    const std::vector<double> one{1};
    CHECK_THAT(message_of([&] {
                   moe::gate_backward<double>(gate, logits, {experts, one, {}, {}, scratch}, one, d_logits);
               }),
               moe_test::contains("values of scratch are left in a backward pass"));
    CHECK_THAT(message_of([&] {
                   moe::gate_backward<double>(gate, logits, {experts, one, {}, {}, scratch}, logits, d_logits);
               }),
               moe_test::contains("gate_backward: 1 experts have 1 weights and 6 gradients"));
}

}  // namespace moe_test::backward_adaptors_test
