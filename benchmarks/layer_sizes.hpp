#pragma once

#include <cstddef>

#include <moe/model/moe_config.hpp>
#include <moe/stats/cost.hpp>

namespace bench {

/// Experts with weights that a token takes. Where the gate chooses among null experts too, which cost nothing: the mean
/// of the others under uniform routing. `table_columns`: experts a token has in the table of a hash gate.
[[nodiscard]] inline double experts_per_token(const moe::MoEConfig& config, std::size_t table_columns = 0) {
    switch (config.gate) {
        case moe::GateKind::hash: return static_cast<double>(table_columns);
        case moe::GateKind::sparse_mixer: return 2;
        case moe::GateKind::dense: return static_cast<double>(config.n_experts);
        case moe::GateKind::token_choice: break;
    }
    return static_cast<double>(config.routing.top_k) * static_cast<double>(config.n_experts) /
           static_cast<double>(config.n_routed());
}

/// One layer of `config`, whose tokens take experts_per_token().
[[nodiscard]] inline moe::ExpertSizes layer_sizes(const moe::MoEConfig& config, std::size_t table_columns = 0) {
    return {.n_layers = 1,
            .n_experts = config.n_experts,
            .experts_per_token = experts_per_token(config, table_columns),
            .d_model = config.d_model,
            .d_ff = config.d_ff,
            .gated = config.form.gated(),
            .biases = config.expert_bias,
            .shared_d_ff = config.shared_d_ff,
            .shared_gates = config.shared_mode == moe::SharedMode::gated ? 1U : 0U,
            .router_bias = config.router_bias || config.selection_bias};
}

}  // namespace bench
