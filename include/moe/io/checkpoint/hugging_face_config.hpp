#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../../model/moe_config.hpp"
#include "architectures.hpp"
#include "config_keys.hpp"
#include "sparse_layers.hpp"

namespace moe::inline MOE_ABI::detail {

/// What a checkpoint says of its layers.
struct DescribedModel {
    std::string architecture;
    std::vector<std::optional<MoEConfig>> layers;  ///< nothing for those without experts
    std::size_t n_encoder_layers = 0;              ///< of Switch Transformers: those before are the encoder's
};

/// A config.json as configurations of layers: the preset, with the sizes and settings that the file has.
class HuggingFaceConfig {
public:
    HuggingFaceConfig(const ConfigKeys& keys, const HuggingFaceArchitecture& architecture)
        : keys_(keys), architecture_(architecture) {}

    [[nodiscard]] DescribedModel describe() const {
        DescribedModel model{architecture_.name, {}, 0};
        const SparseLayers sparse(keys_);
        for (std::size_t i = 0; i < sparse.layers().size(); ++i) {
            model.layers.push_back(sparse.layers()[i] ? std::optional(layer(i)) : std::nullopt);
        }
        if (keys_.has({"num_sparse_encoder_layers", "encoder_sparse_step"})) {
            model.n_encoder_layers = *keys_.natural({"num_hidden_layers", "num_layers", "n_layers"});
        }
        return model;
    }

private:
    [[nodiscard]] MoEConfig layer(std::size_t i) const {
        MoEConfig config = architecture_.preset();
        if (config.name == "deepseek_v4" && i < keys_.natural({"num_hash_layers", "hash_layer_count"}).value_or(0)) {
            config = presets::deepseek_v4_hash();
        }
        sizes(config, i);
        ensure(keys_.natural({"moe_latent_size"}).value_or(0) == 0, ErrorCode::range, keys_.context(),
               ": moe_latent_size is ", keys_.natural({"moe_latent_size"}).value_or(0),
               ": experts in a smaller space are no layer of one MoEConfig, see LatentLayer");
        groups(config);
        weights_of_choice(config);
        form(config, i);
        config.validate();
        return config;
    }

    void sizes(MoEConfig& config, std::size_t i) const {
        config.d_model = keys_.needed("the width of the model", {"hidden_size", "d_model"});
        config.n_experts = keys_.needed("the number of experts", experts_names, i);
        if (config.gate != GateKind::hash && config.name != "switch_transformer") {
            config.routing.top_k = static_cast<int>((std::min)(keys_.needed("the experts of a token", chosen_names, i),
                                                               std::size_t{(std::numeric_limits<int>::max)()}));
        }
        const bool own = keys_.has(width_names);
        config.d_ff = own || !architecture_.plain_width
                          ? keys_.needed("the width of an expert", width_names, i)
                          : keys_.needed("the width of an expert", {"intermediate_size", "ffn_hidden_size", "d_ff"}, i);
        if (config.n_identity_experts > 0) {
            config.n_identity_experts = keys_.natural({"zero_expert_num"}).value_or(0);
        }
        if (config.shared_d_ff > 0) {
            shared_width(config, i);
        }
    }

    void shared_width(MoEConfig& config, std::size_t i) const {
        const auto width = keys_.natural({"shared_expert_intermediate_size", "moe_shared_expert_intermediate_size",
                                          "shared_intermediate_size", "share_expert_dim"},
                                         i);
        const auto count =
            keys_.natural({"n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts"}, i);
        if (config.name == "llama4") {
            config.shared_d_ff = config.d_ff;
        } else {
            ensure(width || count, ErrorCode::missing, keys_.context(),
                   ": it does not say the width of the shared expert: no key shared_expert_intermediate_size, "
                   "n_shared_experts or the like");
            config.shared_d_ff = width ? *width : checked_multiply(*count, config.d_ff);
        }
        if (config.shared_d_ff == 0) {  // as ERNIE's largest
            config.shared_mode = SharedMode::add;
            config.shared_form = {};
        }
    }

    void groups(MoEConfig& config) const {
        if (config.gate != GateKind::token_choice) {
            return;
        }
        const auto method = keys_.text({"topk_method"});
        ensure(!method || *method == "greedy" || *method == "group_limited_greedy" || *method == "noaux_tc",
               ErrorCode::range, keys_.context(), ": topk_method is ", in_quotes(method.value_or("")),
               ", not one of greedy, group_limited_greedy and noaux_tc");
        const auto count = keys_.natural({"n_group", "num_expert_group", "n_groups_of_experts"});
        const auto kept = keys_.natural({"topk_group"});
        Groups& groups = config.routing.groups;
        if (method && *method == "greedy") {
            groups.n_groups = groups.kept = 1;
        } else if (count && *count > 1) {
            groups.n_groups = static_cast<int>(std::min<std::size_t>(*count, 1U << 20U));
            groups.kept = static_cast<int>(std::min<std::size_t>(kept.value_or(1), 1U << 20U));
        } else if (count) {
            groups.n_groups = groups.kept = 1;
        }
        if (config.selection_bias) {
            config.selection_bias =
                keys_.boolean({"use_expert_bias", "use_routing_bias", "moe_use_aux_free"}).value_or(true);
        }
    }

    void weights_of_choice(MoEConfig& config) const {
        TokenChoice<RuntimeScore>& routing = config.routing;
        const bool of_scores = routing.weight_from != WeightFrom::softmax_of_selected;
        if (const auto name = keys_.text({"scoring_func", "score_func", "moe_router_activation_func"});
            name && of_scores && config.gate == GateKind::token_choice && routing.select_on == SelectOn::score) {
            ensure(*name == "softmax" || *name == "sigmoid" || *name == "sqrtsoftplus", ErrorCode::range,
                   keys_.context(), ": scoring_func is ", in_quotes(*name),
                   ", not one of softmax, sigmoid and sqrtsoftplus");
            routing.score.kind = *name == "softmax"   ? ScoreKind::softmax
                                 : *name == "sigmoid" ? ScoreKind::sigmoid
                                                      : ScoreKind::sqrt_softplus;
        }
        const auto norm = keys_.boolean({"norm_topk_prob", "route_norm", "moe_renormalize"});
        if (norm && of_scores && !architecture_.fixed_norm && config.gate != GateKind::sparse_mixer) {
            if (!*norm) {
                routing.normalize = Normalize::none();
            } else if (routing.normalize.kind == Normalize::Kind::none) {
                routing.normalize = Normalize::sum();
            }
        }
        if (config.name == "dbrx" && keys_.has({"moe_normalize_expert_weights"})) {
            routing.normalize = Normalize::lp(*keys_.number({"moe_normalize_expert_weights"}));
        }
        if (config.name == "cohere2_moe" && keys_.text({"expert_selection_fn"}).value_or("sigmoid") == "softmax") {
            routing.weight_from = WeightFrom::softmax_of_selected;
            routing.normalize = Normalize::none();
        }
        if (const auto scale = keys_.number({"routed_scaling_factor", "route_scale", "moe_router_scaling_factor",
                                             "moe_routed_scaling_factor", "router_scaling_factor"})) {
            (architecture_.scale_of_sum ? config.routed_scale : routing.scale) = *scale;
        }
        if (const auto cap = keys_.number({"moe_router_logit_softcapping"})) {
            routing.logit_softcap = *cap;
        }
    }

    void form(MoEConfig& config, std::size_t i) const {
        if (config.form.kind == FormKind::clamped_before || config.form.kind == FormKind::swiglu_oai) {
            const double limit = keys_.number({"swiglu_limit"}).value_or(config.form.limit);
            config.form.limit = limit;
        } else if (config.name == "step3p7") {
            const double limit = keys_.number({"swiglu_limits"}, i).value_or(0);
            const double shared = keys_.number({"swiglu_limits_shared"}, i).value_or(0);
            const auto clamped = [](double at) {
                return at > 0 ? AnyForm{.kind = FormKind::clamped_after, .limit = at} : AnyForm{};
            };
            config.form = clamped(limit);
            if (shared != limit) {
                config.shared_form = clamped(shared);
            }
        }
        const auto named =
            keys_.text({"hidden_act", "hidden_activation", "mlp_hidden_act", "dense_act_fn", "activation_function"});
        if (named && !config.form.clamped()) {
            activation(config, *named);
        }
    }

    void activation(MoEConfig& config, std::string_view name) const {
        FormKind& kind = config.form.kind;
        const bool gated = config.form.gated();
        if (name == "silu" || name == "swish") {
            kind = gated ? FormKind::swiglu : FormKind::silu;
        } else if (name == "relu") {
            kind = gated ? FormKind::reglu : FormKind::relu;
        } else if (name == "relu2" && !gated) {
            kind = FormKind::relu_squared;
        } else if (name == "gelu" && kind != FormKind::geglu_tanh) {  // of Grok-1, JAX's, which is the approximation
            kind = gated ? FormKind::geglu : FormKind::gelu;
        } else if (name == "gelu_pytorch_tanh" || name == "gelu_new") {
            kind = gated ? FormKind::geglu_tanh : FormKind::gelu_tanh;
        } else {
            ensure(name == "gelu", ErrorCode::range, keys_.context(), ": the activation is ", in_quotes(name),
                   ", none that is known for ", gated ? "gated experts" : "experts without a gate");
        }
    }

    static constexpr std::array<std::string_view, 4> experts_names{"num_local_experts", "num_experts",
                                                                   "n_routed_experts", "moe_num_experts"};
    static constexpr std::array<std::string_view, 8> chosen_names{
        "num_experts_per_tok", "num_experts_per_token", "experts_per_token",   "moe_k", "moe_topk",
        "moe_top_k",           "top_k_experts",         "num_selected_experts"};
    static constexpr std::array<std::string_view, 3> width_names{"moe_intermediate_size", "expert_ffn_hidden_size",
                                                                 "moe_ffn_hidden_size"};

    const ConfigKeys& keys_;
    const HuggingFaceArchitecture& architecture_;
};

}  // namespace moe::inline MOE_ABI::detail
