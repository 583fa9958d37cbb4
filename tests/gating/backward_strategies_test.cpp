// The backward pass of the other strategies that choose token by token.

#include <moe/gating/any_gate.hpp>
#include <moe/gating/strategies/dense.hpp>
#include <moe/gating/strategies/gshard.hpp>
#include <moe/gating/strategies/hash.hpp>
#include <moe/gating/strategies/noisy_top_k.hpp>
#include <moe/gating/strategies/random_choice.hpp>
#include <moe/gating/strategies/round_robin.hpp>
#include <moe/gating/strategies/sparse_mixer.hpp>
#include <moe/gating/strategies/threshold.hpp>
#include <moe/gating/strategies/top_k_per_group.hpp>
#include <moe/gating/strategies/top_n_threshold.hpp>
#include <moe/gating/strategies/top_p.hpp>

#include <string>
#include <vector>

#include "gating/backward_support.hpp"
#include "support/catch.hpp"

namespace moe_test::backward_strategies_test {

namespace {

constexpr std::size_t n_experts = 6;
const std::vector<std::int32_t> entries{0, 3, 2, 1, 3, 5};
const std::vector<float> expert_scales{1, -0.5F, 2, 0, 0.25F, 1.5F};

/// The gate on random logits, at random positions, with random token ids.
void compare_gate(const std::string& name, const moe::AnyGate& gate, std::size_t n_logits = n_experts,
                  double least_learning = 0.5, float spread = 2) {
    Dice dice{name.size()};
    Tally tally;
    constexpr int repeats = 200;
    for (int i = 0; i < repeats; ++i) {
        const moe::TokenContext context{static_cast<std::int32_t>(dice.below(3)), dice.below(1000)};
        compare_token(tally, name, gate, random_doubles(dice, n_logits, -spread, spread), n_experts, dice, context);
    }
    INFO(name);
    CHECK(tally.error == "");
    CHECK(static_cast<double>(tally.compared) > 0.9 * repeats * static_cast<double>(n_logits));
    CHECK(static_cast<double>(tally.learning) >= least_learning * static_cast<double>(tally.compared));
    CHECK((least_learning > 0 || tally.learning == 0));
}

}  // namespace

TEST_CASE("Gradients of gates that take a number of experts of their own", "[gate_backward]") {
    compare_gate("Dense", moe::Dense<>{});
    compare_gate("Dense, normalised", moe::Dense<moe::Sigmoid>{.normalize = true, .scale = 3});
    compare_gate("TopP", moe::TopP<>{.mass = 0.6});
    compare_gate("TopP, normalised", moe::TopP<>{.mass = 0.7, .normalize = true, .scale = 2});
    compare_gate("TopP of sigmoids", moe::TopP<moe::Sigmoid>{.mass = 0.5, .limit = 3}, n_experts, 0.3);
    compare_gate("ReMoE", moe::Threshold<moe::ReluScore>{.scale = 0.5}, n_experts, 0.3);
    compare_gate("Threshold",
                 moe::Threshold<>{.threshold = 0.6, .limit = 3, .keep_best = true, .normalize = moe::Normalize::lp(2)},
                 n_experts, 0.2);
}

TEST_CASE("Gradients of gates whose choice is not the greatest scores", "[gate_backward]") {
    moe::TopKPerGroup<> per_group{.n_groups = 3, .top_k = 1, .scale = 2};
    per_group.per_expert_scale = expert_scales;
    compare_gate("TopKPerGroup", per_group);
    per_group.normalize = moe::Normalize::sum(0.1);
    compare_gate("TopKPerGroup, normalised", per_group);
    const auto table = moe::view(entries.data(), 3, 2);
    compare_gate("Hash of DeepSeek-V4", moe::Hash<moe::SqrtSoftplus>{{}, table, true, 1.5}, n_experts, 0.3);
    compare_gate("Hash of Softmax", moe::Hash<moe::Softmax>{{}, table, false, 1});
}

TEST_CASE("Gates of constant weights pass nothing on", "[gate_backward]") {
    const auto table = moe::view(entries.data(), 3, 2);
    for (const std::size_t n_logits : {std::size_t{0}, n_experts}) {
        const std::vector<double> logits(n_logits, 0.5);
        const auto silent = [&](const auto& gate) {
            static_assert(moe::DifferentiableGate<std::decay_t<decltype(gate)>>);
            const auto chosen = choose<double>(gate, logits, n_experts, {1, 5});
            CHECK(!chosen.experts.empty());
            CHECK(gradient(gate, logits, n_experts, chosen, std::vector<double>(chosen.experts.size(), 2.0)) ==
                  std::vector<double>(n_logits));
        };
        silent(moe::RandomChoice{.top_k = 2});
        silent(moe::RoundRobin{.top_k = 2});
        silent(moe::Hash<>{.table = table, .normalize = true});
        silent(moe::Dense<moe::Uniform>{});
    }
}

TEST_CASE("Gradients of gates that draw", "[gate_backward]") {
    for (const auto second : {moe::SecondExpert::all, moe::SecondExpert::sampling, moe::SecondExpert::random,
                              moe::SecondExpert::random_of_two}) {
        for (const bool normalize : {false, true}) {
            compare_gate("GShardTop2 " + std::to_string(static_cast<int>(second)) + (normalize ? ", normalised" : ""),
                         moe::GShardTop2{.second = second, .normalize = normalize, .seed = 3, .step = 4}, n_experts,
                         normalize ? 0.3 : 0.9);
        }
    }
    compare_gate("TopNThreshold", moe::TopNThreshold{.top_n = 3, .seed = 5}, n_experts, 0.4);
    compare_gate("TopNThreshold by threshold", moe::TopNThreshold{.top_n = 3, .threshold = 0.3, .deterministic = true},
                 n_experts, 0.4);
    compare_gate("NoisyTopK", moe::NoisyTopK{.top_k = 2, .seed = 6, .step = 7}, 2 * n_experts, 0.25);
    compare_gate("NoisyTopK in evaluation", moe::NoisyTopK{.top_k = 3, .training = false}, 2 * n_experts, 0.2);
    compare_gate("SparseMixer", moe::SparseMixer{.jitter = 0.3}, n_experts, 0.3);
}

TEST_CASE("A second expert that the draw took away gets its share of the gradient", "[gate_backward]") {
    const moe::GShardTop2 gate{.second = moe::SecondExpert::random_of_two, .seed = 1};
    const std::vector<double> logits{0, 1, 3, -1};
    const double p1 = 1 / (1 + std::exp(-2.0));  // of the two, normalised
    bool lost = false;
    for (std::uint64_t position = 0; position < 100; ++position) {
        const moe::TokenContext context{-1, position};
        const auto chosen = choose<double>(gate, logits, 4, context);
        if (chosen.experts.size() == 1) {
            lost = true;
            const auto d_logits = gradient<double>(gate, logits, 4, chosen, {1}, context);
            CHECK(d_logits[2] == Approx(p1 * (1 - p1)));
            CHECK(d_logits[1] == Approx(-p1 * (1 - p1)));
            CHECK(d_logits[0] == Approx(0).margin(1e-15));
        }
    }
    CHECK(lost);
}

TEST_CASE("The noise of a backward pass is that of the forward pass", "[gate_backward]") {
    // Two experts: w0 = sigmoid(H0 - H1), so the noise logits learn with opposite signs, times what was drawn.
    const moe::NoisyTopK gate{.top_k = 2, .seed = 8, .step = 9};
    const std::vector<double> logits{0.5, 0.25, -0.5, 1};
    const moe::TokenContext context{-1, 77};
    const auto chosen = choose<double>(gate, logits, 2, context);
    std::vector<double> d_weights(2);
    d_weights[chosen.experts[0] == 0 ? 0 : 1] = 1;
    const auto d_logits = gradient<double>(gate, logits, 2, chosen, d_weights, context);
    const double w = chosen.weights[chosen.experts[0] == 0 ? 0 : 1];
    CHECK(d_logits[0] == Approx(w * (1 - w)));
    CHECK(d_logits[1] == Approx(-w * (1 - w)));
    const std::uint64_t stream = moe::random_stream(moe::random_stream(8, 9), 77);
    CHECK(d_logits[2] == Approx(w * (1 - w) * moe::random_normal(stream, 0) / (1 + std::exp(0.5))));
    CHECK(d_logits[3] == Approx(-w * (1 - w) * moe::random_normal(stream, 1) / (1 + std::exp(-1.0))));
}

}  // namespace moe_test::backward_strategies_test
