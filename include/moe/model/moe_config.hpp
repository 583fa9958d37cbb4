#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include "../experts/any_form.hpp"
#include "../gating/any_gate.hpp"
#include "../gating/strategies/dense.hpp"
#include "../gating/strategies/hash.hpp"
#include "../gating/strategies/sparse_mixer.hpp"
#include "../gating/strategies/token_choice.hpp"
#include "../layer/parts/layer_options.hpp"
#include "../layer/parts/shared_experts.hpp"

namespace moe::inline MOE_ABI {

enum class GateKind : unsigned char { token_choice, sparse_mixer, dense, hash };

/// How a checkpoint joins the gate and up projections of an expert.
enum class JoinedAs : unsigned char { separate, concatenated, interleaved };

/// How a checkpoint stores its experts, when it stacks them in one tensor.
struct StorageOrder {
    JoinedAs gate_up = JoinedAs::separate;
    bool up_input_major = false;    ///< gate and up stored (input, output)
    bool down_input_major = false;  ///< down stored (input, output)
};

/// A layer described by values alone, for engines that learn the architecture from a file. `presets` fills one for each
/// published architecture; change what differs, then make_layer() gives it weights.
struct MoEConfig {
    std::string name;
    std::size_t n_experts = 0;  ///< with parameters; null experts come on top
    std::size_t d_model = 0;
    std::size_t d_ff = 0;
    GateKind gate = GateKind::token_choice;
    TokenChoice<RuntimeScore> routing{};  ///< of token_choice; its spans are filled from the weights. Dense and hash
                                          ///< read its score, normalize and scale
    double sparse_mixer_jitter = 0.01;    ///< of sparse_mixer
    bool router_bias = false;             ///< logits have a bias
    bool selection_bias = false;          ///< the choice has a bias, the weights do not
    AnyForm form{};
    bool expert_bias = false;  ///< projections have biases
    WeightAt weight_at = WeightAt::output;
    double routed_scale = 1.0;
    bool output_bias = false;
    std::size_t n_zero_experts = 0;
    std::size_t n_identity_experts = 0;
    std::size_t n_constant_experts = 0;  ///< their vectors come with the weights
    std::size_t shared_d_ff = 0;         ///< width of the shared expert; 0: none
    SharedMode shared_mode = SharedMode::add;
    StorageOrder storage{};

    /// Experts the router chooses among. Throws Error(overflow).
    [[nodiscard]] std::size_t n_routed() const {
        return checked_add(checked_add(checked_add(n_experts, n_zero_experts), n_identity_experts), n_constant_experts);
    }

    /// The gate this describes. `bias` is the selection bias, (n_routed) or empty; `hash_table` (vocabulary, experts a
    /// token) is read by the hash gate alone. Uniform scores in it need no logits.
    [[nodiscard]] AnyGate make_gate(std::span<const float> bias = {},
                                    MatrixView<const std::int32_t> hash_table = {}) const {
        switch (gate) {
            case GateKind::hash:
                if (routing.score.kind == ScoreKind::uniform) {
                    return Hash<>{.table = hash_table, .normalize = routing.normalize, .scale = routing.scale};
                }
                return Hash<RuntimeScore>{.score = routing.score,
                                          .table = hash_table,
                                          .normalize = routing.normalize,
                                          .scale = routing.scale};
            case GateKind::sparse_mixer: return SparseMixer{.jitter = sparse_mixer_jitter};
            case GateKind::dense:
                return Dense<RuntimeScore>{
                    .score = routing.score, .normalize = routing.normalize, .scale = routing.scale};
            case GateKind::token_choice: break;
        }
        TokenChoice<RuntimeScore> choice = routing;
        choice.selection_bias = bias;
        return choice;
    }

    /// Throws Error naming the first value that cannot be, or that is set but would be ignored.
    void validate() const {
        validate_enumerators();
        const auto positive = [this](std::size_t value, const char* what) {
            ensure(value > 0, ErrorCode::range, "MoEConfig ", name.c_str(), ": ", what, " is 0, it must be at least 1");
        };
        positive(n_experts, "n_experts");
        positive(d_model, "d_model");
        positive(d_ff, "d_ff");
        ensure(n_routed() <= static_cast<std::size_t>((std::numeric_limits<ExpertId>::max)()), ErrorCode::overflow,
               "MoEConfig ", name.c_str(), ": ", n_routed(), " experts are more than an expert id can name");
        (void)checked_multiply(checked_multiply(checked_multiply(n_experts, d_model), d_ff), sizeof(double));
        (void)checked_multiply(checked_multiply(shared_d_ff, d_model), sizeof(double));
        ensure(shared_mode == SharedMode::add || shared_d_ff > 0, ErrorCode::missing, "MoEConfig ", name.c_str(),
               ": a shared mode is set but shared_d_ff is 0");
        ensure(std::isfinite(routed_scale), ErrorCode::range, "MoEConfig ", name.c_str(), ": routed_scale is ",
               routed_scale, ", it must be finite");
        ensure(!selection_bias || gate == GateKind::token_choice, ErrorCode::missing, "MoEConfig ", name.c_str(),
               ": a selection bias is set, but only token choice has one");
        ensure(routing.selection_bias.empty(), ErrorCode::missing, "MoEConfig ", name.c_str(),
               ": routing.selection_bias must stay empty; the bias is given with the weights");
        ensure(form.gated() || storage.gate_up == JoinedAs::separate, ErrorCode::layout, "MoEConfig ", name.c_str(),
               ": a plain form has no gate to be joined with up");
        validate_form(form);
        refuse_ignored();
        ensure(!router_bias || make_gate().needs_logits(), ErrorCode::missing, "MoEConfig ", name.c_str(),
               ": a router bias is set, but the gate reads no logits");
        if (gate != GateKind::hash) {  // whose table comes with the weights
            validate_gate(make_gate(), n_routed());
        }
    }

private:
    void validate_enumerators() const {
        const auto confirm = [this](auto value, auto last, const char* what) {
            ensure(value <= last, ErrorCode::range, "MoEConfig ", name.c_str(), ": ", what, " has no value ",
                   static_cast<int>(value));
        };
        confirm(gate, GateKind::hash, "gate");
        confirm(weight_at, WeightAt::input, "weight_at");
        confirm(shared_mode, SharedMode::average, "shared_mode");
        confirm(storage.gate_up, JoinedAs::interleaved, "storage.gate_up");
    }

    /// Settings that another setting makes meaningless: a layer that ignored them would not be the one described.
    void refuse_ignored() const {
        const auto ignored = [this](bool is_set, const char* what, const char* by) {
            ensure(!is_set, ErrorCode::missing, "MoEConfig ", name.c_str(), ": ", what, " is set, but ", by,
                   " has none");
        };
        ignored(form.limit != 0 && !form.clamped(), "form.limit", "a form without a clamp");
        ignored(form.alpha != AnyForm{}.alpha && form.kind != FormKind::swiglu_oai, "form.alpha",
                "a form other than swiglu_oai");
        ignored(sparse_mixer_jitter != MoEConfig{}.sparse_mixer_jitter && gate != GateKind::sparse_mixer,
                "sparse_mixer_jitter", "another gate");
        if (gate == GateKind::token_choice) {
            return;
        }
        const char* const by = gate == GateKind::dense  ? "the dense gate"
                               : gate == GateKind::hash ? "the hash gate"
                                                        : "the sparse mixer";
        const TokenChoice<RuntimeScore> unset{};
        ignored(!routing.per_expert_scale.empty(), "routing.per_expert_scale", by);
        ignored(routing.logit_softcap != unset.logit_softcap, "routing.logit_softcap", by);
        ignored(routing.groups.n_groups > 1, "routing.groups", by);
        ignored(routing.select_on != unset.select_on, "routing.select_on", by);
        ignored(routing.weight_from != unset.weight_from, "routing.weight_from", by);
        if (gate == GateKind::sparse_mixer) {
            ignored(routing.score.kind != unset.score.kind, "routing.score", by);
            ignored(routing.normalize.kind != unset.normalize.kind, "routing.normalize", by);
            ignored(routing.scale != unset.scale, "routing.scale", by);
        }
        if (gate == GateKind::hash) {
            return ignored(routing.top_k != unset.top_k, "routing.top_k", by);
        }
        const std::size_t taken = gate == GateKind::dense ? n_routed() : 2;
        ensure(routing.top_k == unset.top_k || std::cmp_equal(routing.top_k, taken), ErrorCode::range, "MoEConfig ",
               name.c_str(), ": routing.top_k is ", routing.top_k, ", but ", by, " takes ", taken, " experts a token");
    }
};

}  // namespace moe::inline MOE_ABI
