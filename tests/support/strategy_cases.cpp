#include "support/strategy_cases.hpp"

#include <algorithm>
#include <utility>

#include "moe/gating/adaptors/annealed.hpp"
#include "moe/gating/adaptors/capacity.hpp"
#include "moe/gating/adaptors/capacity_presets.hpp"
#include "moe/gating/adaptors/cosine.hpp"
#include "moe/gating/adaptors/forced.hpp"
#include "moe/gating/adaptors/sampled.hpp"
#include "moe/gating/adaptors/straight_through.hpp"
#include "moe/gating/archetype.hpp"
#include "moe/gating/strategies/balanced_assignment.hpp"
#include "moe/gating/strategies/expert_choice.hpp"
#include "moe/gating/strategies/gshard.hpp"
#include "moe/gating/strategies/noisy_top_k.hpp"
#include "moe/gating/strategies/product_keys.hpp"
#include "moe/gating/strategies/random_choice.hpp"
#include "moe/gating/strategies/reinmax.hpp"
#include "moe/gating/strategies/replay.hpp"
#include "moe/gating/strategies/round_robin.hpp"
#include "moe/gating/strategies/sinkhorn.hpp"
#include "moe/gating/strategies/top_n_threshold.hpp"
#include "support/gate_cases.hpp"

namespace moe_test {

namespace {

constexpr std::size_t projection_width = 5;

}  // namespace

struct StrategyCases::Memory {
    Memory(Draw& draw, std::size_t n_experts)
        : tokens(draw, n_experts),
          centroids(random_elements<float>(draw, n_experts * projection_width, 1)),
          allowed(n_experts, 1) {
        allowed[draw.size(0, n_experts - 1)] = 0;
    }

    GateCases tokens;
    std::vector<float> centroids;
    std::vector<std::uint8_t> allowed;  // all but one
    std::vector<moe::ExpertId> forced;
    std::vector<moe::Index> token_offsets;
    std::vector<moe::ExpertId> experts;
    std::vector<float> weights;
};

StrategyCases::StrategyCases(Draw& draw, std::size_t n_experts, std::size_t n_tokens, std::uint64_t first_position)
    : memory_(std::make_unique<Memory>(draw, n_experts)),
      n_experts_(n_experts),
      k_(static_cast<int>(draw.size(1, std::min<std::size_t>(n_experts, 4)))) {
    for (std::size_t g = 0; g < memory_->tokens.gates().size(); ++g) {
        // a table of Hash may name an expert twice
        add({.name = "GateCases " + std::to_string(g), .gate = memory_->tokens.gates()[g], .distinct = false});
    }
    add({.name = "GateArchetype", .gate = moe::GateArchetype{}});
    add_other_logits();
    add_positioned();
    add_trained();
    add_given(draw, std::max<std::size_t>(n_tokens, 1), first_position);
    add_expert_choices();
    add_capacity_orders();
    add_capacity_around();
    add_capacity_presets();
}

StrategyCases::~StrategyCases() = default;

std::vector<Strategy> StrategyCases::those_that_hang(Hangs hangs) const {
    std::vector<Strategy> some;
    std::copy_if(all_.begin(), all_.end(), std::back_inserter(some),
                 [&](const Strategy& s) { return s.hangs == hangs; });
    return some;
}

std::size_t StrategyCases::most_logits() const {
    return std::max_element(all_.begin(), all_.end(),
                            [](const Strategy& a, const Strategy& b) { return a.n_logits < b.n_logits; })
        ->n_logits;
}

void StrategyCases::add(Strategy strategy) {
    strategy.other_logits = strategy.n_logits != 0;
    strategy.n_logits = strategy.other_logits ? strategy.n_logits : n_experts_;
    all_.push_back(std::move(strategy));
}

/// Token gates for routers of more, or fewer, outputs than there are experts.
void StrategyCases::add_other_logits() {
    std::size_t n = 1;
    while (n * n < n_experts_) {
        ++n;
    }
    if (n * n == n_experts_) {
        add({.name = "ProductKeys", .gate = moe::ProductKeys{.top_k = k_}, .n_logits = 2 * n});
        add({.name = "ProductKeys relu",
             .gate = moe::ProductKeys{.top_k = k_, .weights = moe::KeyWeights::relu},
             .n_logits = 2 * n});
    }
    const auto centroids =
        moe::view(static_cast<const float*>(memory_->centroids.data()), n_experts_, projection_width);
    add({.name = "Cosine of TokenChoice",
         .gate =
             moe::Cosine<moe::TokenChoice<>>{
                 .gate = {.top_k = k_, .normalize = true}, .centroids = centroids, .temperature = 0.3},
         .n_logits = projection_width});
    add({.name = "Cosine of Threshold",
         .gate = moe::Cosine<moe::Threshold<>>{.gate = {.threshold = 0.5, .keep_best = true}, .centroids = centroids},
         .n_logits = projection_width});
}

void StrategyCases::add_positioned() {
    const auto add_one = [this](const char* name, moe::AnyGate gate, std::size_t n_logits = 0) {
        add({.name = name, .gate = std::move(gate), .n_logits = n_logits, .hangs = Hangs::on_position});
    };
    add_one("RandomChoice", moe::RandomChoice{.top_k = k_, .seed = 7});
    add_one("RoundRobin", moe::RoundRobin{.top_k = k_});
    add_one("NoisyTopK", moe::NoisyTopK{.top_k = k_, .seed = 8}, 2 * n_experts_);
    add_one("NoisyTopK without noise", moe::NoisyTopK{.top_k = k_, .training = false}, 2 * n_experts_);
    add_one(
        "WithoutNull of RandomChoice",
        moe::WithoutNull<moe::RandomChoice>{.gate = {.top_k = k_}, .first_null = static_cast<int>(n_experts_ + 1) / 2});
    if (n_experts_ >= 2) {
        add_one("GShardTop2 random of two", moe::GShardTop2{.second = moe::SecondExpert::random_of_two, .seed = 3});
        add_one("GShardTop2 random", moe::GShardTop2{.second = moe::SecondExpert::random, .seed = 4, .step = 2});
        add_one("GShardTop2 sampling", moe::GShardTop2{.second = moe::SecondExpert::sampling, .normalize = false});
        add_one("TopNThreshold", moe::TopNThreshold{.top_n = 2, .seed = 5});
        add_one("Masked of GShardTop2",
                moe::Masked<moe::GShardTop2>{
                    .gate = {.second = moe::SecondExpert::sampling}, .allowed = memory_->allowed, .renormalize = true});
    }
}

/// Gates that draw while they are trained, and what they are afterwards.
void StrategyCases::add_trained() {
    using Best = moe::TokenChoice<>;
    const Best best{.top_k = k_, .normalize = true};
    const auto add_both = [this](const char* name, auto gate) {
        add({.name = std::string(name), .gate = gate, .hangs = Hangs::on_position});
        gate.training = false;
        add({.name = std::string(name).append(" in evaluation"), .gate = gate});
    };
    add_both("Sampled", moe::Sampled<Best>{.gate = best, .seed = 9, .step = 3});
    add_both("Annealed", moe::Annealed<moe::Threshold<>>{
                             .gate = {.threshold = 0.2, .keep_best = true}, .temperature = 1.5, .seed = 10});
    add_both("ReinMax", moe::ReinMax{.seed = 11, .step = 1});
    add({.name = "StraightThrough", .gate = moe::StraightThrough<Best>{.gate = best, .weight = 0.5}});
    add({.name = "StraightThrough of Sampled",
         .gate = moe::StraightThrough<moe::Sampled<Best>>{.gate = {.gate = best, .seed = 12}},
         .hangs = Hangs::on_position});
}

/// Forced and Replay: up to k experts for each position, no two of them equal.
void StrategyCases::add_given(Draw& draw, std::size_t n_tokens, std::uint64_t first_position) {
    Memory& m = *memory_;
    const auto k = static_cast<std::size_t>(k_);
    m.token_offsets.push_back(0);
    m.forced.assign(n_tokens * k, moe::no_expert);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        const std::size_t count = draw.size(0, k);
        const std::size_t first = draw.size(0, n_experts_ - 1);
        for (std::size_t slot = 0; slot < count; ++slot) {
            const auto expert = static_cast<moe::ExpertId>((first + slot) % n_experts_);
            m.forced[t * k + slot] = expert;
            m.experts.push_back(expert);
            m.weights.push_back(draw.value());
        }
        m.token_offsets.push_back(static_cast<moe::Index>(m.experts.size()));
    }
    const auto table = moe::view(static_cast<const moe::ExpertId*>(m.forced.data()), n_tokens, k);
    add({.name = "Forced",
         .gate =
             moe::Forced<moe::TokenChoice<>>{
                 .gate = {.normalize = true}, .experts = table, .first_position = first_position},
         .hangs = Hangs::on_position});
    add({.name = "Replay",
         .gate = moe::Replay<>{m.token_offsets, m.experts, m.weights, first_position},
         .hangs = Hangs::on_position});
}

void StrategyCases::add_expert_choices() {
    const auto add_one = [this](const char* name, moe::AnyGate gate) {
        add({.name = name, .gate = std::move(gate), .hangs = Hangs::on_batch});
    };
    add_one("ExpertChoice", moe::ExpertChoice<>{});
    add_one("ExpertChoice sigmoid", moe::ExpertChoice<moe::Sigmoid>{.capacity_factor = 1.7});
    add_one("ExpertChoice with cap", moe::ExpertChoice<>{.capacity_factor = 2, .max_per_token_cap = 2});
    add_one("BalancedAssignment", moe::BalancedAssignment{.epsilon = 1e-9});
    add_one("Sinkhorn", moe::Sinkhorn{});
    add_one("Sinkhorn of k", moe::Sinkhorn{.top_k = k_});
}

void StrategyCases::add_capacity_orders() {
    const char* const names[] = {"position", "slot_major", "weight", "token_priority", "random"};
    for (unsigned i = 0; i < std::size(names); ++i) {
        const auto order = static_cast<moe::CapacityOrder>(i);
        // in the other two the row decides
        const bool permutes = order != moe::CapacityOrder::position && order != moe::CapacityOrder::slot_major;
        add({.name = std::string("Capacity by ") + names[i],
             .gate = moe::Capacity<moe::TokenChoice<>>{.gate = {.top_k = k_}, .order = order, .seed = 9},
             .hangs = Hangs::on_batch,
             .permutes = permutes});
        add({.name = std::string("Capacity in groups by ") + names[i],
             .gate = moe::Capacity<moe::TokenChoice<>>{.gate = {.top_k = k_},
                                                       .limit = moe::CapacityLimit::fixed(1),
                                                       .group = 3,
                                                       .order = order,
                                                       .unlimited_from = static_cast<int>(n_experts_ / 2),
                                                       .renormalize = true},
             .hangs = Hangs::on_batch,
             .permutes = false,
             .ignores_padding = false});
    }
}

void StrategyCases::add_capacity_around() {
    using moe::CapacityOrder;
    const auto add_one = [this](const char* name, moe::AnyGate gate, std::size_t n_logits, bool permutes) {
        add({.name = name,
             .gate = std::move(gate),
             .n_logits = n_logits,
             .hangs = Hangs::on_batch,
             .permutes = permutes});
    };
    add_one("Capacity of NoisyTopK",
            moe::Capacity<moe::NoisyTopK>{.gate = {.top_k = k_}, .order = CapacityOrder::random}, 2 * n_experts_, true);
    add_one("Capacity of RandomChoice",
            moe::Capacity<moe::RandomChoice>{.gate = {.top_k = k_}, .order = CapacityOrder::position}, 0, false);
    add_one("Capacity of ExpertChoice",
            moe::Capacity<moe::ExpertChoice<>>{.gate = {.capacity_factor = 2}, .order = CapacityOrder::weight}, 0,
            true);
    add_one("Capacity of BalancedAssignment",
            moe::Capacity<moe::AnyGate>{.gate = moe::BalancedAssignment{}, .limit = moe::CapacityLimit::fixed(1)}, 0,
            false);
    add_one("Capacity 0",
            moe::Capacity<moe::TokenChoice<>>{.gate = {.top_k = k_}, .limit = moe::CapacityLimit::fixed(0)}, 0, true);
}

void StrategyCases::add_capacity_presets() {
    const auto add_one = [this](const char* name, moe::AnyGate gate, bool ignores_padding = true) {
        add({.name = name,
             .gate = std::move(gate),
             .hangs = Hangs::on_batch,
             .permutes = false,
             .ignores_padding = ignores_padding});
    };
    add_one("switch_gate", moe::switch_gate());
    add_one("switch_gate_fixed", moe::switch_gate_fixed(2));
    add_one("megatron_gate", moe::megatron_gate(k_));
    add_one("deepspeed_gate", moe::deepspeed_gate(k_, 1, 2));
    add_one("batch_priority_gate", moe::batch_priority_gate(k_));
    if (n_experts_ >= 2) {
        add_one("gshard_gate", moe::gshard_gate());
        add_one("nllb_gate", moe::nllb_gate(moe::SecondExpert::random), false);
        add_one("nllb_evaluation_gate", moe::nllb_evaluation_gate(0.5), false);
        add_one("st_moe_gate", moe::st_moe_gate());
    }
}

}  // namespace moe_test
