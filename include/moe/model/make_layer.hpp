#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "../experts/expert_bank.hpp"
#include "../experts/packed_experts.hpp"
#include "../layer/moe_layer.hpp"
#include "moe_config.hpp"

namespace moe::inline MOE_ABI {

/// Experts stacked in one tensor each, as the architecture stores them (MoEConfig::storage). Null where there is none.
template <WeightElement W>
struct StackedExperts {
    const W* gate = nullptr;          ///< (n_experts, d_ff, d_model), when stored apart from up
    const W* up = nullptr;            ///< the same
    const W* gate_up = nullptr;       ///< (n_experts, 2 d_ff, d_model), or (n_experts, d_model, 2 d_ff) if input-major
    const W* down = nullptr;          ///< (n_experts, d_model, d_ff), or (n_experts, d_ff, d_model) if input-major
    const W* gate_up_bias = nullptr;  ///< (n_experts, 2 d_ff), ordered as gate_up is
    const W* down_bias = nullptr;     ///< (n_experts, d_model)
};

namespace detail {

/// Exactly the tensors that `config` says there are: one more would be ignored.
template <WeightElement W>
void check_tensors(const MoEConfig& config, const StackedExperts<W>& tensors) {
    const auto confirm = [&](const char* what, const W* data, bool wanted) {
        ensure(data != nullptr || !wanted, ErrorCode::null_pointer, "expert_weights: ", config.name.c_str(), " needs ",
               what, ", which is null");
        ensure(data == nullptr || wanted, ErrorCode::missing, "expert_weights: ", config.name.c_str(), " has no ", what,
               " as storage and form say, but one was given");
    };
    const bool joined = config.storage.gate_up != JoinedAs::separate;
    confirm("gate_up", tensors.gate_up, joined);
    confirm("gate", tensors.gate, !joined && config.form.gated());
    confirm("up", tensors.up, !joined);
    confirm("down", tensors.down, true);
    ensure(joined || tensors.gate_up_bias == nullptr, ErrorCode::missing, "expert_weights: ", config.name.c_str(),
           " stores gate and up apart, but a gate_up_bias was given; set the biases of ExpertWeights by hand");
}

}  // namespace detail

/// The matrices of `n_experts` experts of width `d_ff` out of stacked tensors. Throws what MoEConfig::validate and
/// stacked() throw, Error(null_pointer) naming a tensor that is needed, Error(missing) one that would be ignored.
template <WeightElement W>
[[nodiscard]] ExpertWeights<W> expert_weights(const MoEConfig& config, const StackedExperts<W>& tensors,
                                              std::size_t n_experts, std::size_t d_ff) {
    config.validate();
    detail::check_tensors(config, tensors);
    const std::size_t joined = checked_multiply(2, d_ff);
    const auto matrix = [&](const W* data, std::size_t outputs, std::size_t inputs, bool input_major) {
        return input_major ? transpose(stacked(data, n_experts, inputs, outputs))
                           : stacked(data, n_experts, outputs, inputs);
    };
    const auto split = [&](const WeightStack<W>& stack) {
        return config.storage.gate_up == JoinedAs::interleaved ? interleaved(stack) : concatenated(stack);
    };
    const bool up_input_major = config.storage.up_input_major;
    ExpertWeights<W> weights;
    weights.down = matrix(tensors.down, config.d_model, d_ff, config.storage.down_input_major);
    if (config.storage.gate_up == JoinedAs::separate) {
        weights.up = matrix(tensors.up, d_ff, config.d_model, up_input_major);
        if (config.form.gated()) {
            weights.gate = matrix(tensors.gate, d_ff, config.d_model, up_input_major);
        }
    } else {
        GateUp<W> both = split(matrix(tensors.gate_up, joined, config.d_model, up_input_major));
        weights.gate = std::move(both.gate);
        weights.up = std::move(both.up);
        if (tensors.gate_up_bias != nullptr) {
            GateUp<W> bias = split(stacked(tensors.gate_up_bias, n_experts, joined, 1));
            weights.gate_bias = std::move(bias.gate);
            weights.up_bias = std::move(bias.up);
        }
    }
    if (tensors.down_bias != nullptr) {
        weights.down_bias = stacked(tensors.down_bias, n_experts, config.d_model, 1);
    }
    return weights;
}

/// Everything a layer reads, in the user's memory. RouterElement may be wider than W: many models keep it in float.
template <WeightElement W, WeightElement RouterElement = W>
struct LayerWeights {
    const RouterElement* router = nullptr;        ///< (n_routed, d_model), unless the gate reads no logits
    std::span<const RouterElement> router_bias;   ///< (n_routed) if MoEConfig::router_bias
    std::span<const float> selection_bias;        ///< (n_routed) if MoEConfig::selection_bias
    ExpertWeights<W> experts;                     ///< from expert_weights(), or made by hand of any stacks
    ExpertWeights<W> shared;                      ///< one expert, if MoEConfig::shared_d_ff
    WeightStack<W> shared_gate;                   ///< (1, 1, d_model) if SharedMode::gated
    std::span<const ComputeType<W>> output_bias;  ///< (d_model) if MoEConfig::output_bias
    MatrixView<const ComputeType<W>> constants;   ///< (n_constant_experts, d_model) if there are any
    MatrixView<const ComputeType<W>> mixes;       ///< (2 n_constant_experts, d_model), see NullExperts, or none
    MatrixView<const std::int32_t> hash_table;    ///< (vocabulary, experts a token) if GateKind::hash
};

/// A layer put together at run time. Its gate and form are chosen once a token and once a panel, which costs nothing
/// beside the products.
template <WeightElement W, WeightElement RouterElement = W>
using ConfiguredLayer = MoELayer<Router<RouterElement, AnyGate>, ExpertBank<W, AnyForm>>;

/// The same with its experts packed.
template <WeightElement W, WeightElement RouterElement = W>
using PackedConfiguredLayer = MoELayer<Router<RouterElement, AnyGate>, PackedExperts<W, AnyForm>>;

namespace detail {

inline void check_given(const MoEConfig& config, const char* what, bool wanted, bool given) {
    ensure(wanted == given, ErrorCode::missing, "make_layer: ", config.name.c_str(), wanted ? " needs " : " has no ",
           what, wanted ? ", which is missing" : ", but one was given");
}

template <WeightElement W, WeightElement RouterElement>
[[nodiscard]] Router<RouterElement, AnyGate> make_router(const MoEConfig& config,
                                                         const LayerWeights<W, RouterElement>& weights) {
    AnyGate gate = config.make_gate(weights.selection_bias, weights.hash_table);
    check_given(config, "router", gate.needs_logits(), weights.router != nullptr);
    if (!gate.needs_logits()) {
        return {config.n_routed(), std::move(gate)};
    }
    return {stacked(weights.router, 1, config.n_routed(), config.d_model), weights.router_bias, std::move(gate)};
}

template <WeightElement W>
[[nodiscard]] bool all_empty(const ExpertWeights<W>& weights) {
    return weights.gate.empty() && weights.up.empty() && weights.down.empty() && weights.gate_bias.empty() &&
           weights.up_bias.empty() && weights.down_bias.empty();
}

}  // namespace detail

/// Validates `config`, holds the weights against it and composes the layer. Throws Error naming what does not fit.
template <WeightElement W, WeightElement RouterElement>
[[nodiscard]] ConfiguredLayer<W, RouterElement> make_layer(const MoEConfig& config,
                                                           const LayerWeights<W, RouterElement>& weights) {
    config.validate();
    const auto given = [&](const char* what, bool wanted, bool is_given) {
        detail::check_given(config, what, wanted, is_given);
    };
    given("router bias", config.router_bias, !weights.router_bias.empty());
    given("selection bias", config.selection_bias, !weights.selection_bias.empty());
    given("output bias", config.output_bias, !weights.output_bias.empty());
    given("bias of the down projections", config.expert_bias, !weights.experts.down_bias.empty());
    given("bias of the up projections", config.expert_bias, !weights.experts.up_bias.empty());
    given("bias of the gate projections", config.expert_bias && config.form.gated(),
          !weights.experts.gate_bias.empty());
    given("hash table", config.gate == GateKind::hash, !weights.hash_table.empty());
    given("constant expert", config.n_constant_experts > 0, !weights.constants.empty());
    given("shared expert", config.shared_d_ff > 0, !detail::all_empty(weights.shared));
    given("gate of the shared expert", config.shared_mode == SharedMode::gated, !weights.shared_gate.empty());

    ExpertBank<W, AnyForm> bank(config.form, weights.experts);
    ensure(bank.n_experts() == config.n_experts && bank.d_model() == config.d_model && bank.d_ff() == config.d_ff,
           ErrorCode::shape, "make_layer: the experts are ", bank.n_experts(), " of d_model ", bank.d_model(),
           " and d_ff ", bank.d_ff(), " but the configuration says ", config.n_experts, ", ", config.d_model, " and ",
           config.d_ff);
    SharedExperts<ExpertBank<W, AnyForm>> shared;
    if (config.shared_d_ff > 0) {
        std::vector<ExpertBank<W, AnyForm>> one{{config.form, weights.shared}};
        ensure(one.front().d_ff() == config.shared_d_ff, ErrorCode::shape, "make_layer: the shared expert has d_ff ",
               one.front().d_ff(), " but the configuration says ", config.shared_d_ff);
        shared = config.shared_mode == SharedMode::gated
                     ? SharedExperts<ExpertBank<W, AnyForm>>(std::move(one), weights.shared_gate)
                     : SharedExperts<ExpertBank<W, AnyForm>>(std::move(one), config.shared_mode);
    }
    LayerOptions<ComputeType<W>> options;
    options.weight_at = config.weight_at;
    options.routed_scale = config.routed_scale;
    options.output_bias = weights.output_bias;
    options.null_experts.n_zero = config.n_zero_experts;
    options.null_experts.n_identity = config.n_identity_experts;
    options.null_experts.constants = weights.constants;
    options.null_experts.mixes = weights.mixes;
    return {detail::make_router(config, weights), std::move(bank), std::move(shared), options};
}

}  // namespace moe::inline MOE_ABI
