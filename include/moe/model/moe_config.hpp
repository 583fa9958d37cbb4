#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include "../core/borrowed.hpp"
#include "../experts/any_form.hpp"
#include "../gating/any_gate.hpp"
#include "../gating/strategies/dense.hpp"
#include "../gating/strategies/hash.hpp"
#include "../gating/strategies/sparse_mixer.hpp"
#include "../gating/strategies/token_choice.hpp"
#include "../layer/parts/layer_options.hpp"
#include "../layer/parts/shared_experts.hpp"
#include "storage_order.hpp"

namespace moe::inline MOE_ABI {

enum class GateKind : unsigned char { token_choice, sparse_mixer, dense, hash };

/// The form of a shared expert: that of the routed ones, unless one of its own is assigned.
struct SharedForm {
    bool own = false;
    AnyForm form{};

    constexpr SharedForm() = default;
    constexpr SharedForm(AnyForm a_form) noexcept : own(true), form(a_form) {}  // NOLINT: implicit, to be assigned
};

/// A layer described by values alone, for engines that learn the architecture from a file. `presets` fills one for each
/// published architecture; change what differs, then make_layer() gives it weights. What knows all gates is a template,
/// so that a file which makes no layer of one does not compile them: a fifth of what including moe.hpp would cost.
struct MoEConfig {
    std::string name;
    std::size_t n_experts = 0;  ///< with parameters; null experts come on top
    std::size_t d_model = 0;
    std::size_t d_ff = 0;
    std::size_t d_router = 0;  ///< what the router reads, where that is not d_model wide; 0: d_model. Each call then
                               ///< gives it as ForwardOptions::router_input
    GateKind gate = GateKind::token_choice;
    TokenChoice<RuntimeScore> routing{};  ///< of token_choice; its spans are given with the weights. Dense and hash
                                          ///< read its score, normalize and scale
    double sparse_mixer_jitter = 0.01;    ///< of sparse_mixer
    bool router_bias = false;             ///< logits have a bias
    bool selection_bias = false;          ///< the choice has a bias, the weights do not
    bool per_expert_scale = false;        ///< the weight of an expert is multiplied with a number of its own
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
    SharedForm shared_form{};       ///< of the shared expert, with its clamp; unset: `form`
    bool shared_bias = false;       ///< its projections have biases
    StorageOrder storage{};         ///< of the routed experts
    StorageOrder shared_storage{};  ///< of the shared expert, whose projections most models store apart
    PublishedStorage published{};   ///< both, in the file that was published: see in_published_file()

    /// Experts the router chooses among. Throws Error(overflow).
    [[nodiscard]] std::size_t n_routed() const {
        return checked_add(checked_add(checked_add(n_experts, n_zero_experts), n_identity_experts), n_constant_experts);
    }

    /// The width of what the router reads.
    [[nodiscard]] std::size_t router_inputs() const noexcept { return d_router > 0 ? d_router : d_model; }

    /// The form of the shared expert.
    [[nodiscard]] const AnyForm& form_of_shared() const noexcept { return shared_form.own ? shared_form.form : form; }

    /// The same layer with its experts stored as in the file that was published, where the presets describe the memory
    /// of Hugging Face transformers. Throws Error(missing) where nothing is known of that file.
    [[nodiscard]] MoEConfig in_published_file() const {
        ensure(published.known, ErrorCode::missing, "MoEConfig ", name.c_str(),
               ": how its published file stores experts is not known here; set storage and shared_storage by hand");
        return stored_as(published.experts, published.shared);
    }

    /// The same layer with its experts stored as llama.cpp's converter writes them: ffn_gate_exps, ffn_up_exps and
    /// ffn_down_exps, (output, input) each. A file with a joined ffn_gate_up_exps has JoinedAs::concatenated instead.
    [[nodiscard]] MoEConfig in_gguf() const { return stored_as({}, {}); }

    /// The gate this describes. `bias` is the selection bias and `expert_scale` the scale of each expert, (n_routed) or
    /// empty; `hash_table` (vocabulary, experts a token) is read by the hash gate alone. Uniform scores in it need no
    /// logits.
    template <class = void>
    [[nodiscard]] AnyGate make_gate(Borrowed<const float> bias = {}, MatrixView<const std::int32_t> hash_table = {},
                                    Borrowed<const float> expert_scale = {}) const {
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
        choice.per_expert_scale = expert_scale;
        return choice;
    }

    /// Throws Error naming the first value that cannot be, or that is set but would be ignored.
    template <class = void>
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
        const auto of_shared = [this](bool is_set, const char* what) {
            ensure(!is_set || shared_d_ff > 0, ErrorCode::missing, "MoEConfig ", name.c_str(), ": a shared ", what,
                   " is set but shared_d_ff is 0");
        };
        of_shared(shared_mode != SharedMode::add, "mode");
        of_shared(shared_form.own, "form");
        of_shared(shared_bias, "bias");
        ensure(std::isfinite(routed_scale), ErrorCode::range, "MoEConfig ", name.c_str(), ": routed_scale is ",
               routed_scale, ", it must be finite");
        ensure(!selection_bias || gate == GateKind::token_choice, ErrorCode::missing, "MoEConfig ", name.c_str(),
               ": a selection bias is set, but only token choice has one");
        ensure(!per_expert_scale || gate == GateKind::token_choice, ErrorCode::missing, "MoEConfig ", name.c_str(),
               ": a per_expert_scale is set, but only token choice has one");
        ensure(routing.selection_bias.empty(), ErrorCode::missing, "MoEConfig ", name.c_str(),
               ": routing.selection_bias must stay empty; the bias is given with the weights");
        validate_form_of("form", form, storage);
        if (shared_d_ff > 0) {
            validate_form_of("shared_form", form_of_shared(), shared_storage);
        }
        refuse_ignored();
        ensure(routing.per_expert_scale.empty(), ErrorCode::missing, "MoEConfig ", name.c_str(),
               ": routing.per_expert_scale must stay empty; the scale is given with the weights");
        ensure(!router_bias || make_gate().needs_logits(), ErrorCode::missing, "MoEConfig ", name.c_str(),
               ": a router bias is set, but the gate reads no logits");
        if (gate != GateKind::hash) {  // whose table comes with the weights
            moe::validate_gate(make_gate(), n_routed());
        }
    }

private:
    template <class = void>
    void validate_enumerators() const {
        const auto confirm = [this](auto value, auto last, const char* what) {
            ensure(value <= last, ErrorCode::range, "MoEConfig ", name.c_str(), ": ", what, " has no value ",
                   static_cast<int>(value));
        };
        confirm(gate, GateKind::hash, "gate");
        confirm(weight_at, WeightAt::input, "weight_at");
        confirm(shared_mode, SharedMode::average, "shared_mode");
        confirm(storage.gate_up, JoinedAs::interleaved, "storage.gate_up");
        confirm(shared_storage.gate_up, JoinedAs::interleaved, "shared_storage.gate_up");
    }

    [[nodiscard]] MoEConfig stored_as(StorageOrder experts, StorageOrder shared) const {
        MoEConfig result = *this;
        result.storage = experts;
        result.shared_storage = shared;
        return result;
    }

    template <class = void>
    void validate_form_of(const char* what, const AnyForm& a_form, const StorageOrder& stored) const {
        moe::validate_form(a_form);
        ensure(a_form.gated() || stored.gate_up == JoinedAs::separate, ErrorCode::layout, "MoEConfig ", name.c_str(),
               ": ", what, " is plain, and a plain form has no gate to be joined with up");
        ensure(a_form.limit == 0 || a_form.clamped(), ErrorCode::missing, "MoEConfig ", name.c_str(), ": ", what,
               ".limit is set, but a form without a clamp has none");
        ensure(a_form.alpha == AnyForm{}.alpha || a_form.kind == FormKind::swiglu_oai, ErrorCode::missing, "MoEConfig ",
               name.c_str(), ": ", what, ".alpha is set, but a form other than swiglu_oai has none");
    }

    /// Settings that another setting makes meaningless: a layer that ignored them would not be the one described.
    template <class = void>
    void refuse_ignored() const {
        const auto ignored = [this](bool is_set, const char* what, const char* by) {
            ensure(!is_set, ErrorCode::missing, "MoEConfig ", name.c_str(), ": ", what, " is set, but ", by,
                   " has none");
        };
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
