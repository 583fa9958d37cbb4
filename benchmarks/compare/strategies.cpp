#include "strategies.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include <moe/core/random.hpp>
#include <moe/instantiate.hpp>

#include "strategy_gates.hpp"

namespace compare {

namespace {

using Choice = std::optional<moe::AnyGate>;
using Numbers = std::vector<float>;

/// `gate`, or nothing where its own validation refuses the number of experts.
template <class G>
Choice if_valid(const Setting& setting, G gate) {
    try {
        moe::validate_gate(gate, setting.n_experts);
    } catch (const moe::Error&) {
        return std::nullopt;
    }
    return Choice(std::move(gate));
}

int k_of(const Setting& setting) { return static_cast<int>(setting.top_k); }

template <int K>
Choice top(const Setting& setting) {
    return if_valid(setting, moe::TokenChoice<moe::Softmax>{.top_k = K, .normalize = true});
}

Choice biased_sigmoid(const Setting& setting) {
    const auto bias = std::make_shared<const Numbers>(setting.bias.begin(), setting.bias.end());
    return if_valid(
        setting,
        Owning<moe::TokenChoice<moe::Sigmoid>, Numbers>{
            {.score = {}, .top_k = k_of(setting), .normalize = true, .scale = 1, .selection_bias = *bias}, bias});
}

/// 8 groups (4 for few experts) of which half take part.
Choice limited_groups(const Setting& setting) {
    const int n_groups = setting.n_experts >= 32 ? 8 : 4;
    return if_valid(setting, moe::TokenChoice<moe::Softmax>{.top_k = k_of(setting),
                                                            .normalize = true,
                                                            .groups = {.n_groups = n_groups, .kept = n_groups / 2}});
}

template <int Percent>
Choice top_p(const Setting& setting) {
    return if_valid(setting, moe::TopP<>{.mass = Percent / 100.0, .normalize = true});
}

double even_share(const Setting& setting) { return 1 / static_cast<double>(setting.n_experts); }

/// Thresholds of 1 / n_experts where none were found.
Choice expert_threshold(const Setting& setting) {
    Numbers thresholds(setting.thresholds.begin(), setting.thresholds.end());
    thresholds.resize(setting.n_experts, static_cast<float>(even_share(setting)));
    const auto data = std::make_shared<const Numbers>(std::move(thresholds));
    return if_valid(setting, Owning<moe::Threshold<moe::Softmax>, Numbers>{
                                 {.score = {}, .threshold = 0, .thresholds = *data, .normalize = true}, data});
}

/// Top-2; an expert takes `factor` times an even share of the choices.
Choice top_2_capacity(const Setting& setting, double factor, moe::CapacityOrder order) {
    return if_valid(setting, moe::Capacity<moe::TokenChoice<>>{.gate = {.top_k = 2, .normalize = true},
                                                               .limit = moe::CapacityLimit::factor(factor),
                                                               .order = order});
}

/// Different experts for each token id, all alike: the beginning of a shuffle.
Choice random_hash(const Setting& setting) {
    using Table = std::vector<std::int32_t>;
    Table table;
    Table experts(setting.n_experts);
    std::iota(experts.begin(), experts.end(), 0);
    std::uint64_t draw = 0;
    for (std::size_t id = 0; id < setting.vocabulary; ++id) {
        for (std::size_t slot = 0; slot < setting.top_k; ++slot) {
            std::swap(experts[slot], experts[slot + moe::random_bits(setting.seed, draw++) % (experts.size() - slot)]);
        }
        table.insert(table.end(), experts.begin(), experts.begin() + static_cast<std::ptrdiff_t>(setting.top_k));
    }
    const auto data = std::make_shared<const Table>(std::move(table));
    moe::Hash<> gate;
    gate.table = moe::view(data->data(), setting.vocabulary, setting.top_k);
    gate.normalize = true;
    return if_valid(setting, Owning<moe::Hash<>, Table>{gate, data});
}

constexpr bool causal = true;
constexpr bool sees_batch = false;

using S = const Setting&;

constexpr std::array all_strategies{
    Strategy{"top-1", "the best expert of each token, weight 1", causal, top<1>},
    Strategy{"top-2", "the two best experts of each token, weights of sum 1 (Mixtral)", causal, top<2>},
    Strategy{"top-4", "the four best experts of each token", causal, top<4>},
    Strategy{"top-8", "the eight best experts of each token", causal, top<8>},
    Strategy{"sigmoid-bias", "top-k of sigmoid scores plus a bias that balances the load (DeepSeek-V3)", causal,
             biased_sigmoid},
    Strategy{"groups", "top-k within the better half of the groups of experts (DeepSeek-V2)", causal, limited_groups},
    Strategy{"per-group", "the best expert of each of k groups (Pangu Pro MoE)", causal,
             [](S s) { return if_valid(s, moe::TopKPerGroup<>{.n_groups = k_of(s), .normalize = true}); }},
    Strategy{"top-p-0.5", "the fewest experts that gather half of the probability", causal, top_p<50>},
    Strategy{"top-p-0.8", "the fewest experts that gather 0.8 of the probability", causal, top_p<80>},
    Strategy{
        "threshold", "every expert with more than an even share of the probability", causal,
        [](S s) { return if_valid(s, moe::Threshold<moe::Softmax>{.threshold = even_share(s), .normalize = true}); }},
    Strategy{"expert-threshold", "every expert whose own threshold, k passed on average, is exceeded", causal,
             expert_threshold},
    Strategy{"relu", "every expert with a positive logit, weighted by it, sum 1 (after ReMoE)", causal,
             [](S s) { return if_valid(s, moe::Threshold<moe::ReluScore>{.normalize = true}); }},
    Strategy{"expert-choice-1", "experts choose tokens, one expert a token on average", sees_batch,
             [](S s) { return if_valid(s, moe::ExpertChoice<>{.capacity_factor = 1}); }},
    Strategy{"expert-choice-2", "experts choose tokens, two experts a token on average", sees_batch,
             [](S s) { return if_valid(s, moe::ExpertChoice<>{.capacity_factor = 2}); }},
    Strategy{"expert-choice-cap", "experts choose tokens, k experts a token on average and at most", sees_batch,
             [](S s) {
                 return if_valid(s, moe::ExpertChoice<>{.capacity_factor = static_cast<double>(s.top_k),
                                                        .max_per_token_cap = k_of(s)});
             }},
    Strategy{"switch-1.0", "the best expert, weighted by its probability; experts take an even share (Switch)",
             sees_batch, [](S s) { return if_valid(s, moe::switch_gate(1.0)); }},
    Strategy{"switch-1.25", "the same, experts take 1.25 of an even share", sees_batch,
             [](S s) { return if_valid(s, moe::switch_gate(1.25)); }},
    Strategy{"top-2-cap-1.0", "top-2, experts take an even share, first choices first", sees_batch,
             [](S s) { return top_2_capacity(s, 1.0, moe::CapacityOrder::slot_major); }},
    Strategy{"top-2-cap-1.25", "top-2, experts take 1.25 of an even share, first choices first", sees_batch,
             [](S s) { return top_2_capacity(s, 1.25, moe::CapacityOrder::slot_major); }},
    Strategy{"top-2-priority", "top-2, experts take an even share, surest tokens first (V-MoE)", sees_batch,
             [](S s) { return top_2_capacity(s, 1.0, moe::CapacityOrder::token_priority); }},
    Strategy{"gshard", "top-2 whose second expert is drawn, experts take an even share (GShard)", sees_batch,
             [](S s) { return if_valid(s, moe::gshard_gate(1, 0, s.seed)); }},
    Strategy{"st-moe", "top-2 whose second expert is drawn where it is weak, capacity 2 (ST-MoE)", sees_batch,
             [](S s) { return if_valid(s, moe::st_moe_gate(2, 0, 2, s.seed)); }},
    Strategy{"noisy-top-k", "top-k of logits with normal noise of deviation 0.7 (Shazeer; noise logits of 0)", causal,
             [](S s) { return if_valid(s, EvenNoise{{.top_k = k_of(s), .seed = s.seed}}); }},
    Strategy{"base", "one expert a token and equal loads, the best such assignment (BASE layers)", sees_batch,
             [](S s) { return if_valid(s, moe::BalancedAssignment{}); }},
    Strategy{"sinkhorn", "top-k of logits that are balanced over the batch first (S-BASE)", sees_batch,
             [](S s) { return if_valid(s, moe::Sinkhorn{.top_k = k_of(s)}); }},
    Strategy{"sparse-mixer", "two experts, each weighted among those near it (Phi-3.5-MoE)", causal,
             [](S s) { return if_valid(s, moe::SparseMixer{}); }},
    Strategy{"hash", "a random table gives each token id its k experts", causal, random_hash},
    Strategy{"random", "k experts drawn for each position", causal,
             [](S s) { return if_valid(s, moe::RandomChoice{.top_k = k_of(s), .seed = s.seed}); }},
    Strategy{"round-robin", "the experts in turn, k a token", causal,
             [](S s) { return if_valid(s, moe::RoundRobin{.top_k = k_of(s)}); }},
    Strategy{"dense", "every expert for every token, weighted by the softmax", causal,
             [](S) { return Choice(moe::Dense<>{}); }},
};

}  // namespace

std::span<const Strategy> strategies() noexcept { return all_strategies; }

std::string_view left_out() noexcept {
    return "not compared, since trained routers have no such logits: null experts, cosine routing, product keys;\n"
           "or since they are layers of their own: Soft MoE, hierarchical mixtures\n";
}

}  // namespace compare
