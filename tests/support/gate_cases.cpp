#include "support/gate_cases.hpp"

#include "moe/gating/adaptors/masked.hpp"
#include "moe/gating/adaptors/without_null.hpp"
#include "moe/gating/strategies/dense.hpp"
#include "moe/gating/strategies/hash.hpp"
#include "moe/gating/strategies/sparse_mixer.hpp"
#include "moe/gating/strategies/threshold.hpp"
#include "moe/gating/strategies/token_choice.hpp"
#include "moe/gating/strategies/top_k_per_group.hpp"
#include "moe/gating/strategies/top_p.hpp"

namespace moe_test {

GateCases::GateCases(Draw& draw, std::size_t n_experts)
    : bias_(random_elements<float>(draw, n_experts, 0.2)), scale_(random_elements<float>(draw, n_experts, 1)) {
    const auto k = static_cast<int>(draw.size(1, n_experts < 6 ? n_experts : 6));
    const auto columns = draw.size(1, n_experts < 3 ? n_experts : 3);
    for (std::size_t i = 0; i < vocabulary * columns; ++i) {
        table_.push_back(static_cast<std::int32_t>(draw.size(0, n_experts - 1)));
    }
    for (std::size_t e = 0; e < n_experts; ++e) {
        allowed_.push_back(draw.coin() ? 1 : 0);
    }
    add_token_choices(k, n_experts);
    add_variable_counts(k, n_experts);
    if (n_experts >= 2) {
        gates_.emplace_back(moe::SparseMixer{});
    }
    gates_.emplace_back(moe::Dense<moe::Softmax>{});
    const auto table = moe::view(static_cast<const std::int32_t*>(table_.data()), vocabulary, columns);
    gates_.emplace_back(moe::Hash<moe::Uniform>{.table = table});
    gates_.emplace_back(moe::Hash<moe::SqrtSoftplus>{.table = table, .normalize = true});
    gates_.emplace_back(PositiveLogits{k});
}

void GateCases::add_token_choices(int k, std::size_t n_experts) {
    using moe::Normalize;
    gates_.emplace_back(moe::TokenChoice<moe::Softmax>{.top_k = k, .normalize = true});
    gates_.emplace_back(moe::TokenChoice<moe::Sigmoid>{
        .top_k = k, .normalize = Normalize::sum(1e-20), .scale = 2.5, .selection_bias = bias_});
    gates_.emplace_back(moe::TokenChoice<moe::SqrtSoftplus>{
        .top_k = k, .normalize = Normalize::clamped_sum(1e-12), .per_expert_scale = scale_});
    gates_.emplace_back(moe::TokenChoice<moe::Identity>{
        .top_k = k, .logit_softcap = 5, .weight_from = moe::WeightFrom::softmax_of_selected});
    gates_.emplace_back(moe::TokenChoice<moe::Softmax>{.top_k = k,
                                                       .normalize = Normalize::lp(1),
                                                       .select_on = moe::SelectOn::logits,
                                                       .weight_from = moe::WeightFrom::sigmoid_of_selected});
    if (n_experts % 2 == 0) {
        const int half = static_cast<int>(n_experts / 2);
        gates_.emplace_back(moe::TokenChoice<moe::Sigmoid>{
            .top_k = k < half ? k : half, .groups = {.n_groups = 2, .kept = 1, .score_members = half < 2 ? 1 : 2}});
    }
}

void GateCases::add_variable_counts(int k, std::size_t n_experts) {
    gates_.emplace_back(moe::TopP<moe::Softmax>{.mass = 0.7, .limit = k});
    gates_.emplace_back(moe::Threshold<moe::ReluScore>{.limit = k});
    gates_.emplace_back(moe::Threshold<moe::Sigmoid>{.thresholds = bias_, .keep_best = true, .normalize = true});
    gates_.emplace_back(moe::TopKPerGroup<moe::Softmax>{
        .n_groups = n_experts % 3 == 0 ? 3 : 1, .top_k = 1, .per_expert_scale = scale_});
    const moe::TokenChoice<moe::Softmax> top_k{.top_k = k};
    gates_.emplace_back(moe::Masked<moe::TokenChoice<moe::Softmax>>{.gate = top_k, .allowed = allowed_});
    gates_.emplace_back(moe::WithoutNull<moe::TokenChoice<moe::Softmax>>{
        .gate = top_k, .first_null = static_cast<int>(n_experts + 1) / 2, .renormalize = true});
}

}  // namespace moe_test
