#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../../model/presets.hpp"
#include "hugging_face_config.hpp"
#include "sparse_layers.hpp"
#include "stored_tensors.hpp"

namespace moe::inline MOE_ABI::detail {

/// How llama.cpp computes the weights of an architecture, whatever the file says of it; `keys`: as the file says.
enum class GgufRule : unsigned char { preset, normalized, plain, keys_softmax, keys_sigmoid, keys_sigmoid_normalized };

struct GgufArchitecture {
    const char* name;  ///< general.architecture
    MoEConfig (*preset)();
    GgufRule rule = GgufRule::preset;
    bool by_presence = false;  ///< no metadata say which layers have experts
};

inline constexpr GgufArchitecture gguf_architectures[] = {
    {"llama", presets::mixtral},
    {"qwen2moe", presets::qwen2_moe, GgufRule::plain},
    {"qwen3moe", presets::qwen3_moe},
    {"qwen3vlmoe", presets::qwen3_vl},
    {"qwen3next", presets::qwen3_next},
    {"qwen35moe", presets::qwen3_5_moe},
    {"olmoe", presets::olmoe, GgufRule::plain},
    {"dbrx", presets::dbrx},
    {"hunyuan-moe", presets::hunyuan_v1},
    {"ernie4_5-moe", presets::ernie4_5_moe},
    {"arctic", presets::arctic},
    {"phimoe", presets::mixtral, GgufRule::normalized},
    {"granitemoe", presets::granitemoehybrid},
    {"granitehybrid", presets::granitemoehybrid, GgufRule::preset, true},
    {"grok", presets::grok_1, GgufRule::normalized},
    {"gpt-oss", presets::gpt_oss},
    {"llama4", presets::llama4},
    {"deepseek", presets::deepseek_v2_lite, GgufRule::plain},
    {"deepseek2", presets::deepseek_v3, GgufRule::keys_softmax},
    {"deepseek4", presets::deepseek_v4, GgufRule::keys_sigmoid},
    {"glm4moe", presets::glm4_moe, GgufRule::keys_sigmoid},
    {"glm-dsa", presets::glm_moe_dsa, GgufRule::keys_sigmoid},
    {"dots1", presets::dots1, GgufRule::keys_sigmoid},
    {"bailingmoe", presets::bailing_moe, GgufRule::keys_softmax},
    {"bailingmoe2", presets::bailing_moe_v2, GgufRule::keys_sigmoid},
    {"minimax-m2", presets::minimax_m2, GgufRule::keys_sigmoid_normalized},
    {"lfm2moe", presets::lfm2_moe, GgufRule::keys_sigmoid_normalized},
    {"afmoe", presets::afmoe, GgufRule::keys_sigmoid},
    {"exaone-moe", presets::exaone_moe, GgufRule::keys_sigmoid},
    {"mimo2", presets::mimo_v2_flash, GgufRule::keys_sigmoid_normalized, true},
    {"nemotron_h_moe", presets::nemotron_h, GgufRule::keys_sigmoid, true},
    {"jamba", presets::jamba, GgufRule::plain, true},
};

/// The metadata and tensor names of a GGUF file as configurations of layers.
class GgufConfig {
public:
    explicit GgufConfig(const StoredTensors& tensors) : tensors_(tensors), shards_(*tensors.shards()) {
        prefix_ = shards_.metadata_at("general.architecture").as<std::string>();
        presets::detail::NearestNames near(prefix_);
        for (const GgufArchitecture& known : gguf_architectures) {
            (void)near.offer(known.name);
            if (prefix_ == known.name) {
                architecture_ = &known;
            }
        }
        ensure(architecture_ != nullptr, ErrorCode::range, "GGUF file: the architecture ", in_quotes(prefix_),
               " is none that is known; the nearest are ", near.text());
        ensure(number("expert_count", 0).value_or(1) > 0, ErrorCode::missing, "GGUF file: ", prefix_,
               ".expert_count is 0: it has no experts");
    }

    [[nodiscard]] DescribedModel describe() const {
        const std::size_t count = possible_layers(needed("block_count", 0), "GGUF file");
        const std::size_t without = (std::min)(number("nextn_predict_layers", 0).value_or(0), count);
        const std::size_t dense = number("leading_dense_block_count", 0).value_or(0);
        const std::size_t step = number("interleave_moe_layer_step", 0).value_or(1);
        DescribedModel model{prefix_, {}, 0};
        for (std::size_t i = 0; i < count; ++i) {
            const bool said = i >= dense && step > 0 && (i + 1) % step == 0;
            const bool there = has(i, "ffn_gate_inp.weight") || has(i, "ffn_down_exps.weight");
            const bool sparse = architecture_->by_presence || i >= count - without ? there : said;
            model.layers.push_back(sparse ? std::optional(layer(i)) : std::nullopt);
        }
        return model;
    }

private:
    [[nodiscard]] bool has(std::size_t layer, std::string_view name) const { return find(layer, name) != nullptr; }
    [[nodiscard]] const StoredTensor* find(std::size_t layer, std::string_view name) const {
        return tensors_.find(std::string("blk.").append(std::to_string(layer)).append(".").append(name));
    }

    [[nodiscard]] const GgufValue* value(std::string_view key) const {
        return shards_.find_metadata(std::string(prefix_).append(".").append(key));
    }
    /// The value of a key, of an array that of the layer.
    template <GgufElement T>
    [[nodiscard]] std::optional<T> read(std::string_view key, std::size_t layer) const {
        const GgufValue* const found = value(key);
        if (found == nullptr) {
            return std::nullopt;
        }
        if (!found->is_array) {
            return found->as<T>();
        }
        ensure(layer < found->count, ErrorCode::layout, "metadata ", in_quotes(found->key), " has ", found->count,
               " elements, none for layer ", layer);
        GgufValue one = *found;  // by itself: the others of a long array are not converted for each layer again
        one.is_array = false;
        if (one.type != GgufType::string) {
            const std::size_t size = facts_of(one.type).size;
            one.bytes = found->bytes.subspan(layer * size, size);
        }
        one.count = 1;
        return one.as<T>();
    }
    [[nodiscard]] std::optional<std::size_t> number(std::string_view key, std::size_t layer) const {
        constexpr std::size_t most = std::size_t{1} << 31U;
        const std::optional<std::size_t> result = read<std::size_t>(key, layer);
        ensure(result.value_or(0) <= most, ErrorCode::range, "metadata ", prefix_, ".", key, " is ", result.value_or(0),
               ", more than ", most);
        return result;
    }
    [[nodiscard]] std::size_t needed(std::string_view key, std::size_t layer) const {
        const std::optional<std::size_t> result = number(key, layer);
        ensure(result.has_value(), ErrorCode::missing, "GGUF file: no metadata entry is named ", prefix_, ".", key);
        return *result;
    }

    [[nodiscard]] MoEConfig layer(std::size_t i) const {
        const bool hashed = prefix_ == "deepseek4" && has(i, "ffn_gate_tid2eid.weight");
        MoEConfig config = (hashed ? presets::deepseek_v4_hash() : architecture_->preset()).in_gguf();
        config.n_experts = needed("expert_count", i);
        config.d_model = needed("embedding_length", i);
        const std::size_t chosen = needed("expert_used_count", i);
        config.routing.top_k = hashed ? 1 : static_cast<int>((std::min)(chosen, std::size_t{1} << 30U));
        const std::optional<std::size_t> width = number("expert_feed_forward_length", i);
        config.d_ff = width.value_or(0) > 0 ? *width : needed("feed_forward_length", i);
        if (width.value_or(0) == 0 && prefix_ == "qwen3moe" && chosen > 0) {
            config.d_ff /= chosen;
        }
        config.selection_bias = has(i, "exp_probs_b.bias");
        config.router_bias = has(i, "ffn_gate_inp.bias");
        config.expert_bias = has(i, "ffn_down_exps.bias");
        choice(config, i);
        shared(config, i);
        clamps(config, i);
        config.validate();
        return config;
    }

    void choice(MoEConfig& config, std::size_t i) const {
        TokenChoice<RuntimeScore>& routing = config.routing;
        const GgufRule rule = architecture_->rule;
        if (rule == GgufRule::normalized) {
            routing.normalize = Normalize::sum();
        } else if (rule == GgufRule::plain) {
            routing.normalize = Normalize::none();
        }
        if (rule < GgufRule::keys_softmax) {
            return;
        }
        const double eps = routing.normalize.kind == Normalize::Kind::sum ? routing.normalize.value : 0;
        const std::optional<bool> norm = read<bool>("expert_weights_norm", i);
        const bool normalized = rule == GgufRule::keys_sigmoid_normalized || norm.value_or(false);
        routing.normalize = normalized ? Normalize::sum(eps) : Normalize::none();
        const double scale = read<double>("expert_weights_scale", i).value_or(1);
        routing.scale = scale == 0 ? 1 : scale;
        // of the files without the key, those of 47 or 48 layers are GLM-4.7-Flash
        const std::size_t n_layers = needed("block_count", 0);
        const bool glm = prefix_ == "deepseek2" && (n_layers == 47 || n_layers == 48);
        const std::size_t usual = prefix_ == "deepseek4" ? 4 : rule == GgufRule::keys_softmax && !glm ? 1 : 2;
        std::size_t function = number("expert_gating_func", i).value_or(usual);
        function = function == 0 ? usual : function;
        ensure(function <= 4, ErrorCode::range, "metadata ", prefix_, ".expert_gating_func is ", function,
               ", it must be 1..4");
        static constexpr ScoreKind scores[] = {ScoreKind::softmax, ScoreKind::sigmoid, ScoreKind::softmax,
                                               ScoreKind::sqrt_softplus};
        routing.score.kind = scores[function - 1];
        if (function == 3) {
            routing.select_on = SelectOn::logits;
            routing.weight_from = WeightFrom::softmax_of_selected;
        }
        const std::size_t groups = number("expert_group_count", i).value_or(1);
        routing.groups.n_groups = groups > 1 ? static_cast<int>((std::min)(groups, std::size_t{1} << 20U)) : 1;
        routing.groups.kept =
            groups > 1 ? static_cast<int>((std::min)(needed("expert_group_used_count", i), std::size_t{1} << 20U)) : 1;
    }

    void shared(MoEConfig& config, std::size_t i) const {
        const StoredTensor* const up = find(i, "ffn_up_shexp.weight");
        const std::size_t count = number("expert_shared_count", i).value_or(0);
        if (up == nullptr) {
            ensure(count == 0, ErrorCode::not_found, "GGUF file: ", prefix_, ".expert_shared_count is ", count,
                   ", but there is no tensor 'blk.", i, ".ffn_up_shexp.weight'");
            config.shared_d_ff = 0;
            config.shared_mode = SharedMode::add;
            config.shared_form = {};
            return;
        }
        const std::optional<std::size_t> width = number("expert_shared_feed_forward_length", i);
        config.shared_d_ff = width.value_or(0) > 0 ? *width
                             : count > 0           ? checked_multiply(count, config.d_ff)
                                                   : up->from_end(1);
        config.shared_mode = has(i, "ffn_gate_inp_shexp.weight") ? SharedMode::gated : SharedMode::add;
    }

    void clamps(MoEConfig& config, std::size_t i) const {
        if (config.form.kind == FormKind::swiglu_oai) {
            return;  // fixed: alpha 1.702, limit 7
        }
        const auto clamped = [&](const char* key, AnyForm form) {
            const double limit = read<double>(key, i).value_or(form.limit);
            ensure(limit >= 0 && std::isfinite(limit), ErrorCode::range, "metadata ", prefix_, ".", key, " is ", limit,
                   ", it must be finite and not negative");
            if (limit == 0) {
                return AnyForm{.kind = form.clamped() ? FormKind::swiglu : form.kind};
            }
            // elsewhere than in DeepSeek-V4 it is the activation that is clamped
            return AnyForm{.kind = form.clamped() ? form.kind : FormKind::clamped_after, .limit = limit};
        };
        const AnyForm usual = config.form;
        config.form = clamped("swiglu_clamp_exp", usual);
        if (config.shared_d_ff > 0 && (config.shared_form.own || value("swiglu_clamp_shexp") != nullptr)) {
            config.shared_form =
                clamped("swiglu_clamp_shexp", config.shared_form.own ? config.shared_form.form : usual);
        }
    }

    const StoredTensors& tensors_;
    const GgufShards& shards_;
    std::string prefix_;
    const GgufArchitecture* architecture_ = nullptr;
};

}  // namespace moe::inline MOE_ABI::detail
