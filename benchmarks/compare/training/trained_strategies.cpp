#include "trained_strategies.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <moe/instantiate.hpp>

#include "../strategies.hpp"
#include "balanced_routings.hpp"
#include "special_routings.hpp"

namespace compare {

namespace {

using Made = std::unique_ptr<TrainedRouting>;
using trainer::Run;

int k_of(const Run& run) { return static_cast<int>(run.config.top_k); }

/// The same gate in all layers at all times.
Made gated(moe::AnyGate gate) {
    return std::make_unique<GateRouting>([gate = std::move(gate)](const GateState&) { return gate; });
}
/// `gate(state)` for each layer and step.
template <class MakeGate>
Made gated(const Run& run, MakeGate gate) {
    return std::make_unique<GateRouting>([gate](const GateState& state) { return moe::AnyGate(gate(state)); },
                                         run.settings.seed, run.settings.schedule.n_steps);
}

/// One expert that every token goes through, as wide as `n` of the model's.
Made dense(Run& run, std::ptrdiff_t n) {
    run.config.d_ff *= n;
    run.config.n_experts = 1;
    run.config.top_k = 1;
    run.settings.aux = 0;
    return gated(moe::Dense<>{});
}

/// For one expert a token: half as many, of twice the width, so that both sizes stay.
void choose_one(Run& run) {
    run.config.n_experts = std::max<std::ptrdiff_t>(run.config.n_experts / run.config.top_k, 1);
    run.config.d_ff *= run.config.top_k;
    run.config.top_k = 1;
}

Made top_1(Run& run, double aux, bool normalize) {
    choose_one(run);
    run.settings.aux = aux;
    return gated(moe::TokenChoice<>{.top_k = 1, .normalize = normalize});
}

Made top_k(Run& run, double aux) {
    run.settings.aux = aux;
    return gated(moe::TokenChoice<>{.top_k = k_of(run), .normalize = true});
}

Made sign_bias(Run& run) {
    constexpr double rate = 1e-2;  // a thousand steps are short: the tenfold of DeepSeek-V3's
    run.settings.aux = 0;
    return std::make_unique<BiasRouting>(k_of(run), rate, trainer::unsigned_size(run.config.n_layers),
                                         trainer::unsigned_size(run.config.n_experts));
}

Made top_1_bias(Run& run) {
    choose_one(run);
    return sign_bias(run);
}

/// Limits places while it learns; a reader has room for all.
Made switch_routing(Run& run) {
    choose_one(run);
    return gated(run, [](const GateState& state) {
        return state.learning ? moe::AnyGate(moe::switch_gate(1.25)) : moe::AnyGate(moe::TokenChoice<>{.top_k = 1});
    });
}

Made gshard(Run& run) {
    return gated(run, [](const GateState& state) {
        return state.learning ? moe::AnyGate(moe::gshard_gate(1, 0, state.seed, state.step))
                              : moe::AnyGate(moe::GShardTop2{});
    });
}

Made expert_choice(Run& run) {
    run.settings.aux = 0;
    return gated(moe::ExpertChoice<>{.capacity_factor = static_cast<double>(run.config.top_k)});
}

Made sinkhorn(Run& run) {
    run.settings.aux = 0;
    const int k = k_of(run);
    return gated(run, [k](const GateState& state) {
        return state.learning ? moe::AnyGate(moe::Sinkhorn{.top_k = k}) : moe::AnyGate(moe::TokenChoice<>{.top_k = k});
    });
}

Made relu(Run& run) { return std::make_unique<ReluRouting>(k_of(run)); }

Made expert_threshold(Run& run) {
    return std::make_unique<ThresholdRouting>(k_of(run), trainer::unsigned_size(run.config.n_layers),
                                              trainer::unsigned_size(run.config.n_experts));
}

Made sampled(Run& run) {
    const int k = k_of(run);
    return gated(run, [k](const GateState& state) {
        return moe::Sampled<moe::TokenChoice<>>{.gate = {.top_k = k, .normalize = true},
                                                .training = state.learning,
                                                .seed = state.seed,
                                                .step = state.step};
    });
}

Made sparse_mixer(Run& run) {
    return gated(run, [](const GateState& state) {
        return moe::SparseMixer{.training = state.learning, .seed = state.seed, .step = state.step};
    });
}

Made reinmax(Run& run) {
    choose_one(run);
    run.settings.aux = 0;  // every expert is among the choices
    return gated(run, [](const GateState& state) {
        return moe::ReinMax{.training = state.learning, .seed = state.seed, .step = state.step};
    });
}

Made straight_through(Run& run) {
    return gated(moe::StraightThrough<moe::TokenChoice<>>{.gate = {.top_k = k_of(run)},
                                                          .weight = 1 / static_cast<double>(run.config.top_k)});
}

/// EvoMoE: nearly all experts at first, then those above the threshold as the temperature falls.
Made annealed(Run& run) {
    return gated(run, [](const GateState& state) {
        constexpr double first = 2;
        constexpr double last = 0.3;
        auto gate = moe::dense_to_sparse(first + (last - first) * state.progress, 0.1);
        gate.training = state.learning;
        gate.seed = state.seed;
        gate.step = state.step;
        return gate;
    });
}

/// As in the comparison of readers: random experts for each token id.
Made hash(Run& run) {
    run.settings.aux = 0;
    const auto strategy = std::ranges::find(strategies(), std::string_view("hash"), &Strategy::name);
    const Setting setting{.n_experts = trainer::unsigned_size(run.config.n_experts),
                          .top_k = trainer::unsigned_size(run.config.top_k),
                          .seed = run.settings.seed};
    return gated(strategy->make(setting).value());
}

Made random_choice(Run& run) {
    run.settings.aux = 0;
    const int k = k_of(run);
    return gated(run, [k](const GateState& state) { return moe::RandomChoice{.top_k = k, .seed = state.seed}; });
}

constexpr bool causal = true;
constexpr bool sees_later = false;
constexpr double usual = 1e-2;  // coefficient of the balance loss

using R = Run&;

constexpr std::array all_strategies{
    TrainedStrategy{"dense-active", "one FFN as wide as the experts of a token", causal,
                    [](R run) { return dense(run, run.config.top_k); }},
    TrainedStrategy{"dense-total", "one FFN as wide as all experts: as many parameters, computed for every token",
                    causal, [](R run) { return dense(run, run.config.n_experts); }},
    TrainedStrategy{"top-2", "the two best experts, weights of sum 1, balance loss (Mixtral)", causal,
                    [](R run) { return top_k(run, usual); }},
    TrainedStrategy{"top-2-free", "the same without any balancing", causal, [](R run) { return top_k(run, 0); }},
    TrainedStrategy{"top-2-bias", "sigmoid scores, balanced by a bias of the choice (DeepSeek-V3)", causal, sign_bias},
    TrainedStrategy{"top-1", "the best of half as many experts of twice the width, balance loss", causal,
                    [](R run) { return top_1(run, usual, false); }},
    TrainedStrategy{"top-1-free", "the same without any balancing", causal, [](R run) { return top_1(run, 0, false); }},
    TrainedStrategy{"top-1-bias", "one expert by its sigmoid score, balanced by a bias", causal, top_1_bias},
    TrainedStrategy{"top-1-weight-1", "one expert of weight 1, balance loss: its router learns balance alone", causal,
                    [](R run) { return top_1(run, usual, true); }},
    TrainedStrategy{"switch", "top-1 with 1.25 times the even share of places while it learns", causal, switch_routing},
    TrainedStrategy{"gshard", "top-2 with places, the second by chance while it learns", causal, gshard},
    TrainedStrategy{"noisy-top-2", "learnt noise, losses of importance and load (Shazeer)", causal,
                    [](R run) { return make_noisy_routing(run.config, run.settings.seed); }},
    TrainedStrategy{"sinkhorn", "choices balanced over the batch while it learns (S-BASE)", causal, sinkhorn},
    TrainedStrategy{"relu", "every expert with a positive logit, two on average by an adaptive penalty (ReMoE)", causal,
                    relu},
    TrainedStrategy{"expert-threshold", "every expert whose running threshold is exceeded, two on average", causal,
                    expert_threshold},
    TrainedStrategy{"default-vectors", "top-2; the other experts give what they give on average (Default MoE)", causal,
                    [](R run) { return make_default_routing(run.config); }},
    TrainedStrategy{"sampled", "two experts drawn from the softmax while it learns", causal, sampled},
    TrainedStrategy{"straight-through", "top-2 of equal weight, the router learns as if they were weighted", causal,
                    straight_through},
    TrainedStrategy{"sparse-mixer", "SparseMixer-v2: two drawn experts (Phi-3.5-MoE)", causal, sparse_mixer},
    TrainedStrategy{"reinmax", "one drawn expert; all are computed while it learns", causal, reinmax},
    TrainedStrategy{"dense-to-sparse", "all experts at first, fewer as the temperature falls (EvoMoE)", causal,
                    annealed},
    TrainedStrategy{"soft-moe", "slots mix the tokens at one place of all texts of the batch", causal,
                    [](R run) { return make_soft_routing(run.config, run.settings.batch); }},
    TrainedStrategy{"hash", "two experts for each byte, by a random table", causal, hash},
    TrainedStrategy{"random", "two experts drawn for each position", causal, random_choice},
    TrainedStrategy{"expert-choice", "experts choose among the tokens of the batch, later ones too", sees_later,
                    expert_choice},
};

}  // namespace

std::span<const TrainedStrategy> trained_strategies() noexcept { return all_strategies; }

}  // namespace compare
