#pragma once

#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <ranges>
#include <string>
#include <string_view>
#include <utility>

#include "../core/matrix_view.hpp"
#include "co_activation.hpp"
#include "cost.hpp"
#include "latency_histogram.hpp"
#include "load.hpp"
#include "phase_timer.hpp"
#include "router_stats.hpp"
#include "specialisation.hpp"

/// Statistics as JSON: one object each, its members named as the functions and fields they come from. Numbers keep all
/// their digits; NaN and infinity, which JSON does not have, become null. O(size of the text).
namespace moe::inline MOE_ABI {

namespace detail {

/// Text that is JSON already.
struct JsonText {
    std::string text;
};

[[nodiscard]] inline std::string json_value(double value) {
    if (!std::isfinite(value)) {
        return "null";
    }
    std::array<char, 32> digits{};  // the shortest that reads back as the same double
    char* const end = digits.data() + digits.size();
    return {digits.data(), std::to_chars(digits.data(), end, value).ptr};
}
template <std::unsigned_integral Number>
    requires(!std::same_as<Number, bool>)
[[nodiscard]] std::string json_value(Number value) { return std::to_string(value); }
template <std::same_as<bool> Bool>
[[nodiscard]] std::string json_value(Bool value) {
    return value ? "true" : "false";
}
[[nodiscard]] inline std::string json_value(JsonText value) { return std::move(value.text); }

/// [a, b, ...]
template <std::ranges::input_range Range>
[[nodiscard]] std::string json_value(const Range& values) {
    std::string text = "[";
    for (const auto& value : values) {
        text += (text.size() > 1 ? "," : "") + detail::json_value(value);
    }
    return text + "]";
}

/// One array a row.
template <class T>
[[nodiscard]] std::string json_value(const MatrixView<T>& values) {
    std::string text = "[";
    for (std::size_t r = 0; r < values.rows(); ++r) {
        text += (r > 0 ? "," : "") + detail::json_value(values.row_span(r));
    }
    return text + "]";
}

/// {"name":value,...}; names need no escapes.
class JsonObject {
public:
    template <class Value>
    JsonObject& add(std::string_view name, Value&& value) {
        text_ += text_.size() > 1 ? ",\"" : "\"";
        text_ += name;
        text_ += "\":";
        text_ += detail::json_value(std::forward<Value>(value));
        return *this;
    }
    [[nodiscard]] std::string text() const { return text_ + "}"; }

private:
    std::string text_ = "{";
};

}  // namespace detail

[[nodiscard]] inline std::string to_json(const LoadSummary& load) {
    return detail::JsonObject()
        .add("n_experts", load.n_experts)
        .add("total", load.total)
        .add("min", load.min)
        .add("median", load.median)
        .add("max", load.max)
        .add("mean", load.mean)
        .add("variation", load.variation)
        .add("max_violation", load.max_violation)
        .add("avg_violation", load.avg_violation)
        .add("min_violation", load.min_violation)
        .add("entropy", load.entropy)
        .add("effective_experts", load.effective_experts)
        .add("gini", load.gini)
        .add("dead_experts", load.dead_experts)
        .add("top_share", load.top_share)
        .add("bottom_share", load.bottom_share)
        .text();
}

/// `load_summary` is that of `load`, the assignments of each expert.
template <class T>
[[nodiscard]] std::string to_json(const RouterStats<T>& stats) {
    return detail::JsonObject()
        .add("n_experts", stats.n_experts())
        .add("n_passes", stats.n_passes())
        .add("n_tokens", stats.n_tokens())
        .add("n_padding", stats.n_padding())
        .add("n_assignments", stats.n_assignments())
        .add("n_drops", stats.n_drops())
        .add("drop_rate", stats.drop_rate())
        .add("mean_experts_per_token", stats.mean_experts_per_token())
        .add("routed_share", stats.routed_share())
        .add("mean_largest_weight", stats.mean_largest_weight())
        .add("mean_pass_violation", stats.mean_pass_violation())
        .add("worst_pass_violation", stats.worst_pass_violation())
        .add("padding_efficiency", stats.padding_efficiency())
        .add("mean_gate_entropy", stats.mean_gate_entropy())
        .add("mean_top_probability", stats.mean_top_probability())
        .add("mean_selected_mass", stats.mean_selected_mass())
        .add("mean_selection_margin", stats.mean_selection_margin())
        .add("drift", stats.drift())
        .add("load_summary", detail::JsonText{to_json(moe::load_summary(stats.load()))})
        .add("load", stats.load())
        .add("experts_per_token", stats.experts_per_token())
        .add("drops_by_slot", stats.drops_by_slot())
        .add("drops_by_expert", stats.drops_by_expert())
        .text();
}

template <class T>
[[nodiscard]] std::string to_json(const CoActivation<T>& pairs) {
    return detail::JsonObject().add("n_experts", pairs.n_experts()).add("counts", pairs.counts()).text();
}

template <class T>
[[nodiscard]] std::string to_json(const Specialisation<T>& by_class) {
    return detail::JsonObject()
        .add("n_classes", by_class.n_classes())
        .add("n_experts", by_class.n_experts())
        .add("information", by_class.information())
        .add("tokens", by_class.tokens())
        .add("counts", by_class.counts())
        .text();
}

/// In seconds; p50, p95 and p99 are quantiles.
[[nodiscard]] inline std::string to_json(const LatencyHistogram& times) {
    return detail::JsonObject()
        .add("count", times.count())
        .add("total", times.total())
        .add("mean", times.mean())
        .add("min", times.shortest())
        .add("p50", times.quantile(0.50))
        .add("p95", times.quantile(0.95))
        .add("p99", times.quantile(0.99))
        .add("max", times.longest())
        .text();
}

/// A LatencyHistogram for each phase, named as phase_name says, and one for `pass`.
template <class T, class Clock>
[[nodiscard]] std::string to_json(const PhaseTimer<T, Clock>& timer) {
    detail::JsonObject object;
    for (int p = 0; p < n_phases; ++p) {
        const auto phase = static_cast<Phase>(p);
        object.add(phase_name(phase), detail::JsonText{to_json(timer.phase(phase))});
    }
    return object.add("pass", detail::JsonText{to_json(timer.pass())}).text();
}

[[nodiscard]] inline std::string to_json(const CostModel& model) {
    const ExpertSizes& sizes = model.sizes();
    return detail::JsonObject()
        .add("n_layers", sizes.n_layers)
        .add("n_experts", sizes.n_experts)
        .add("experts_per_token", sizes.experts_per_token)
        .add("d_model", sizes.d_model)
        .add("d_ff", sizes.d_ff)
        .add("gated", sizes.gated)
        .add("shared_d_ff", sizes.shared_d_ff)
        .add("expert_parameters", model.expert_parameters())
        .add("shared_parameters", model.shared_parameters())
        .add("router_parameters", model.router_parameters())
        .add("total_parameters", model.total_parameters())
        .add("active_parameters", model.active_parameters())
        .add("flops_per_token", model.flops_per_token())
        .text();
}

[[nodiscard]] inline std::string to_json(const BatchCost& cost, const MachineLimits& machine) {
    return detail::JsonObject()
        .add("tokens", cost.tokens)
        .add("distinct_experts", cost.distinct_experts)
        .add("flops", cost.flops)
        .add("bytes", cost.bytes)
        .add("compute_seconds", cost.compute_seconds(machine))
        .add("memory_seconds", cost.memory_seconds(machine))
        .add("seconds", cost.seconds(machine))
        .add("tokens_per_second", cost.tokens_per_second(machine))
        .text();
}

}  // namespace moe::inline MOE_ABI
