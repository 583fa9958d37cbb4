#include "words.hpp"

#include <cmath>
#include <string_view>

#include "../formatted.hpp"
#include "../layer_sizes.hpp"

namespace inspect {

namespace {

using bench::formatted;

const char* form_name(const moe::AnyForm& form) {
    switch (form.kind) {
        case moe::FormKind::swiglu: return "SwiGLU";
        case moe::FormKind::geglu:
        case moe::FormKind::geglu_tanh: return "GEGLU";
        case moe::FormKind::reglu: return "ReGLU";
        case moe::FormKind::sigmoid_glu: return "GLU";
        case moe::FormKind::relu: return "ReLU";
        case moe::FormKind::relu_squared: return "ReLU squared";
        case moe::FormKind::gelu:
        case moe::FormKind::gelu_tanh: return "GELU";
        case moe::FormKind::silu: return "SiLU";
        case moe::FormKind::identity: return "no activation";
        case moe::FormKind::swiglu_oai: return "SwiGLU of GPT-OSS";
        case moe::FormKind::clamped_before: return "SwiGLU, clamped before its activation";
        case moe::FormKind::clamped_after: return "SwiGLU, clamped after its activation";
    }
    return "";
}

const char* score_name(moe::ScoreKind kind) {
    switch (kind) {
        case moe::ScoreKind::softmax: return "softmax";
        case moe::ScoreKind::sigmoid: return "sigmoid";
        case moe::ScoreKind::sqrt_softplus: return "square root of softplus";
        default: return "score";
    }
}

std::string normalization(const moe::Normalize& normalize) {
    switch (normalize.kind) {
        case moe::Normalize::Kind::none: return "";
        case moe::Normalize::Kind::lp: return formatted(", divided by their %g-norm", normalize.value);
        default: return ", divided by their sum";
    }
}

std::string choice_in_words(const moe::MoEConfig& config) {
    const moe::TokenChoice<moe::RuntimeScore>& routing = config.routing;
    std::string text;
    const bool by_logits =
        routing.select_on == moe::SelectOn::logits || routing.weight_from == moe::WeightFrom::softmax_of_selected;
    const char* const ranked = routing.select_on == moe::SelectOn::sigmoid ? "sigmoid"
                               : by_logits                                 ? "logit"
                                                                           : score_name(routing.score.kind);
    text += routing.top_k == 1 ? "the best expert" : formatted("the %d best", routing.top_k);
    text += formatted(" by %s", ranked);
    if (config.selection_bias) {
        text += " with a bias for the choice alone";
    }
    if (routing.groups.n_groups > 1) {
        text += formatted(", out of the %d best of %d groups", routing.groups.kept, routing.groups.n_groups);
    }
    text += "; weights: ";
    switch (routing.weight_from) {
        case moe::WeightFrom::score: text += formatted("their %s", score_name(routing.score.kind)); break;
        case moe::WeightFrom::softmax_of_selected: text += "a softmax over the chosen"; break;
        case moe::WeightFrom::sigmoid_of_selected: text += "their sigmoid"; break;
    }
    text += normalization(routing.normalize);
    if (routing.logit_softcap != 0) {
        text += formatted("; logits capped at %g", routing.logit_softcap);
    }
    return text;
}

}  // namespace

std::string shape_in_words(const moe::MoEConfig& config, std::size_t table_columns) {
    const double chosen = bench::experts_per_token(config, table_columns);
    const std::size_t null_experts = config.n_routed() - config.n_experts;
    std::string text = formatted("%zu experts, %s%s a token; d_model %zu, d_ff %zu, %s", config.n_experts,
                                 null_experts > 0 ? "on average " : "", number_text(chosen).c_str(), config.d_model,
                                 config.d_ff, form_name(config.form));
    if (null_experts > 0) {
        text += formatted("; %zu experts without weights", null_experts);
    }
    if (config.shared_d_ff > 0) {
        text += formatted("; a shared expert of width %zu", config.shared_d_ff);
        text += config.shared_mode == moe::SharedMode::gated ? " behind a gate" : "";
    }
    return text;
}

std::string routing_in_words(const moe::MoEConfig& config) {
    std::string text;
    switch (config.gate) {
        case moe::GateKind::hash: text = "experts of a token are looked up by its id, logits weigh them"; break;
        case moe::GateKind::sparse_mixer: text = "the best expert twice, the second time without the first"; break;
        case moe::GateKind::dense: text = "all experts"; break;
        case moe::GateKind::token_choice: text = choice_in_words(config); break;
    }
    const double scale = config.routing.scale * config.routed_scale;
    if (scale != 1) {
        text += formatted(", times %g", scale);
    }
    if (config.per_expert_scale) {
        text += ", times a number of each expert";
    }
    if (config.router_bias) {
        text += "; logits have a bias";
    }
    if (config.weight_at == moe::WeightAt::input) {
        text += "; the weight multiplies what goes into the expert";
    }
    return text;
}

std::string ranges(const std::vector<std::size_t>& numbers) {
    std::string text;
    for (std::size_t i = 0; i < numbers.size();) {
        std::size_t end = i + 1;
        while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) {
            ++end;
        }
        text += text.empty() ? "" : ", ";
        text += std::to_string(numbers[i]);
        if (end > i + 1) {
            text += "-" + std::to_string(numbers[end - 1]);
        }
        i = end;
    }
    return text;
}

std::string number_text(double number) {
    if (number <= 0) {
        return "0";
    }
    if (number < 99.95 && number != std::floor(number)) {
        return formatted(number < 1 ? "%.2g" : "%.3g", number);
    }
    return formatted("%.0f", number);
}

std::string bytes_text(double bytes) {
    for (const auto& [unit, size] : {std::pair("TB", 1e12), {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}}) {
        if (bytes >= 0.9995 * size) {
            return formatted("%s %s", number_text(bytes / size).c_str(), unit);
        }
    }
    return formatted("%.0f B", bytes);
}

std::string count_text(double count) {
    for (const auto& [unit, size] : {std::pair("trillion", 1e12), {"billion", 1e9}, {"million", 1e6}}) {
        if (count >= 0.9995 * size) {
            return formatted("%s %s", number_text(count / size).c_str(), unit);
        }
    }
    return formatted("%.0f", count);
}

}  // namespace inspect
