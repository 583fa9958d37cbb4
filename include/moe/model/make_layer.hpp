#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "../core/borrowed.hpp"
#include "../experts/encoded_bank.hpp"
#include "../experts/expert_bank.hpp"
#include "../experts/packed_experts.hpp"
#include "../layer/moe_layer.hpp"
#include "expert_weights.hpp"
#include "moe_config.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// The bank over weights of that kind.
template <class Experts>
using BankOf = std::conditional_t<std::is_same_v<Experts, EncodedWeights>, EncodedBank<AnyForm>,
                                  ExpertBank<typename Experts::element_type, AnyForm>>;

}  // namespace detail

/// Everything a layer reads, in the user's memory, each with its shape, which make_layer() holds against the
/// configuration. RouterElement may be wider than W: many models keep it in float. Experts are ExpertWeights<W>, or
/// EncodedWeights where W is float.
template <WeightElement W, WeightElement RouterElement = W, class Experts = ExpertWeights<W>>
struct LayerWeights {
    static_assert(std::is_same_v<W, typename Experts::element_type>,
                  "LayerWeights: encoded experts are decoded to float, so W is float");

    MatrixView<const RouterElement> router;      ///< (n_routed, router_inputs()), unless the gate reads no logits
    Borrowed<const RouterElement> router_bias;   ///< (n_routed) if MoEConfig::router_bias
    Borrowed<const float> selection_bias;        ///< (n_routed) if MoEConfig::selection_bias
    Borrowed<const float> per_expert_scale;      ///< (n_routed) if MoEConfig::per_expert_scale
    Experts experts;                             ///< from expert_weights(), or made by hand of any stacks
    Experts shared;                              ///< from shared_weights() or by hand, if MoEConfig::shared_d_ff
    WeightStack<W> shared_gate;                  ///< (1, 1, d_model) if SharedMode::gated
    Borrowed<const ComputeType<W>> output_bias;  ///< (d_model) if MoEConfig::output_bias
    MatrixView<const ComputeType<W>> constants;  ///< (n_constant_experts, d_model) if there are any
    MatrixView<const ComputeType<W>> mixes;      ///< (2 n_constant_experts, d_model), see NullExperts, or none
    MatrixView<const std::int32_t> hash_table;   ///< (vocabulary, experts a token) if GateKind::hash
};

/// A layer put together at run time. Its gate and form are chosen once a token and once a panel, which costs nothing
/// beside the products.
template <WeightElement W, WeightElement RouterElement = W, class Experts = ExpertWeights<W>>
using ConfiguredLayer = MoELayer<Router<RouterElement, AnyGate>, detail::BankOf<Experts>>;

/// The same with its experts packed.
template <WeightElement W, WeightElement RouterElement = W>
using PackedConfiguredLayer = MoELayer<Router<RouterElement, AnyGate>, PackedExperts<W, AnyForm>>;

namespace detail {

inline void check_given(const MoEConfig& config, const char* what, bool wanted, bool given) {
    ensure(wanted == given, ErrorCode::missing, "make_layer: ", config.name.c_str(), wanted ? " needs " : " has no ",
           what, wanted ? ", which is missing" : ", but one was given");
}

template <WeightElement W, WeightElement RouterElement, class Experts>
[[nodiscard]] Router<RouterElement, AnyGate> make_router(const MoEConfig& config,
                                                         const LayerWeights<W, RouterElement, Experts>& weights) {
    AnyGate gate = config.make_gate(weights.selection_bias, weights.hash_table, weights.per_expert_scale);
    const MatrixView<const RouterElement>& router = weights.router;
    check_given(config, "router", gate.needs_logits(), !router.empty());
    if (!gate.needs_logits()) {
        return {config.n_routed(), std::move(gate)};
    }
    ensure(router.rows() == config.n_routed() && router.cols() == config.router_inputs(), ErrorCode::shape,
           "make_layer: the router is ", router.rows(), " x ", router.cols(), ", but the configuration ",
           config.name.c_str(), " says ", config.n_routed(), " x ", config.router_inputs(),
           router.rows() == config.n_routed() && config.d_router == 0
               ? "; a router that reads something else than the experts needs d_router, and router_input at each call"
               : "");
    return {router, weights.router_bias, std::move(gate)};
}

/// A bank whose sizes are those of the configuration.
template <class Experts>
[[nodiscard]] BankOf<Experts> make_bank(const char* what, const AnyForm& form, const Experts& weights,
                                        std::size_t n_experts, std::size_t d_model, std::size_t d_ff) {
    BankOf<Experts> bank(form, weights);
    ensure(bank.n_experts() == n_experts && bank.d_model() == d_model && bank.d_ff() == d_ff, ErrorCode::shape,
           "make_layer: the ", what, " are ", bank.n_experts(), " of d_model ", bank.d_model(), " and d_ff ",
           bank.d_ff(), " but the configuration says ", n_experts, ", ", d_model, " and ", d_ff);
    return bank;
}

template <class Experts>
[[nodiscard]] bool all_empty(const Experts& weights) {
    return weights.gate.empty() && weights.up.empty() && weights.down.empty() && weights.gate_bias.empty() &&
           weights.up_bias.empty() && weights.down_bias.empty();
}

}  // namespace detail

/// Validates `config`, holds the weights against it and composes the layer. Throws Error naming what does not fit.
template <WeightElement W, WeightElement RouterElement, class Experts>
[[nodiscard]] ConfiguredLayer<W, RouterElement, Experts> make_layer(
    const MoEConfig& config, const LayerWeights<W, RouterElement, Experts>& weights) {
    using Bank = detail::BankOf<Experts>;
    config.validate();
    const auto given = [&](const char* what, bool wanted, bool is_given) {
        detail::check_given(config, what, wanted, is_given);
    };
    given("router bias", config.router_bias, !weights.router_bias.empty());
    given("selection bias", config.selection_bias, !weights.selection_bias.empty());
    given("output bias", config.output_bias, !weights.output_bias.empty());
    given("per_expert_scale", config.per_expert_scale, !weights.per_expert_scale.empty());
    given("bias of the down projections", config.expert_bias, !weights.experts.down_bias.empty());
    given("bias of the up projections", config.expert_bias, !weights.experts.up_bias.empty());
    given("bias of the gate projections", config.expert_bias && config.form.gated(),
          !weights.experts.gate_bias.empty());
    given("shared expert", config.shared_d_ff > 0, !detail::all_empty(weights.shared));
    given("bias of the shared down projection", config.shared_bias, !weights.shared.down_bias.empty());
    given("bias of the shared up projection", config.shared_bias, !weights.shared.up_bias.empty());
    given("bias of the shared gate projection", config.shared_bias && config.form_of_shared().gated(),
          !weights.shared.gate_bias.empty());
    given("hash table", config.gate == GateKind::hash, !weights.hash_table.empty());
    given("constant expert", config.n_constant_experts > 0, !weights.constants.empty());
    given("gate of the shared expert", config.shared_mode == SharedMode::gated, !weights.shared_gate.empty());

    Bank bank =
        detail::make_bank("experts", config.form, weights.experts, config.n_experts, config.d_model, config.d_ff);
    SharedExperts<Bank> shared;
    if (config.shared_d_ff > 0) {
        std::vector<Bank> one{detail::make_bank("shared experts", config.form_of_shared(), weights.shared, 1,
                                                config.d_model, config.shared_d_ff)};
        shared = config.shared_mode == SharedMode::gated ? SharedExperts<Bank>(std::move(one), weights.shared_gate)
                                                         : SharedExperts<Bank>(std::move(one), config.shared_mode);
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
