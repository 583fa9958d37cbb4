#include "cost_models.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

#include <moe/model/presets.hpp>

#include "../layer_sizes.hpp"
#include "../shapes.hpp"
#include "cost_checkpoints.hpp"

namespace compare {

namespace {

moe::ExpertSizes layer_sizes(const bench::Shape& shape) {
    return {.n_layers = 1,
            .n_experts = shape.n_experts,
            .experts_per_token = static_cast<double>(shape.top_k),
            .d_model = shape.d_model,
            .d_ff = shape.d_ff,
            .shared_d_ff = shape.shared_d_ff};
}

void append(std::string& list, std::string_view name) { list.append(list.empty() ? "" : " ").append(name); }

bool same_layer(const moe::ExpertSizes& a, const moe::ExpertSizes& b) {
    const auto members = [](const moe::ExpertSizes& of) {
        return std::tuple(of.n_layers, of.n_experts, of.experts_per_token, of.d_model, of.d_ff, of.gated, of.biases,
                          of.shared_d_ff, of.shared_gates, of.router_bias);
    };
    return members(a) == members(b);
}

/// The checkpoint that `name` means, or the layers that are just like `layer`; where there is neither, a new model of
/// one layer with this name.
CostedModel& model_of(std::string_view name, const moe::ExpertSizes& layer, std::vector<CostedModel>& models) {
    const Checkpoint* const checkpoint = find_checkpoint(name, layer);
    const auto found = std::ranges::find_if(models, [&](const CostedModel& model) {
        return checkpoint != nullptr ? model.whole && model.name == checkpoint->name
                                     : !model.whole && same_layer(model.cost.sizes(), layer);
    });
    if (found != models.end()) {
        return *found;
    }
    return models.emplace_back(
        CostedModel{.name = std::string(name),
                    .cost = moe::CostModel(layer),
                    .whole = false,
                    .note = "one layer; its number of layers and what is beside them is not known here"});
}

/// What has been said of models whose makers say nothing. Where it leaves something open, the note says what was taken.
std::vector<CostedModel> reported_models() {
    const auto model = [](std::string name, const moe::ExpertParameters& experts, double others, std::string note) {
        return CostedModel{.name = std::move(name),
                           .cost = moe::CostModel::of(experts, {others, others}),
                           .reported = true,
                           .note = "reported, not confirmed; " + std::move(note)};
    };
    return {
        model("8 experts, 220 B in all", {.n_experts = 8, .experts_per_token = 2, .expert = 220e9 / 8}, 0,
              "two experts a token and nothing beside the experts are assumed, so at least so much is active"),
        model("8 experts, 220 B each", {.n_experts = 8, .experts_per_token = 2, .expert = 220e9}, 0,
              "the same report read otherwise; two experts a token and nothing beside them are assumed"),
        model("128 experts, 1.8 T", {.n_experts = 128, .experts_per_token = 2, .expert = 1.8e12 / 128}, 0,
              "nothing beside the experts is assumed, so at least so much is active"),
        model("16 experts, 1.8 T", {.n_layers = 120, .n_experts = 16, .experts_per_token = 2, .expert = 111e9 / 120},
              55e9, "16 experts of 111 B over 120 layers, 55 B beside them")};
}

}  // namespace

std::vector<moe::MoEConfig> named_presets() {
    std::vector<moe::MoEConfig> result;
    for (const auto preset : moe::presets::all) {
        if (moe::MoEConfig config = preset(); config.gate != moe::GateKind::hash) {
            result.push_back(std::move(config));
        }
    }
    for (const moe::presets::Checkpoint& checkpoint : moe::presets::checkpoints) {
        result.push_back(checkpoint.config());
    }
    return result;
}

std::vector<CostedModel> costed_models() {
    std::vector<CostedModel> models;
    for (const Checkpoint& checkpoint : checkpoints()) {
        models.push_back({std::string(checkpoint.name), moe::CostModel(checkpoint.sizes, checkpoint.others)});
    }
    for (const moe::MoEConfig& config : named_presets()) {
        append(model_of(config.name, bench::layer_sizes(config), models).presets, config.name);
    }
    for (const bench::Shape& shape : bench::shapes()) {
        if (!shape.tiny) {
            append(model_of(shape.name, layer_sizes(shape), models).shapes, shape.name);
        }
    }
    for (CostedModel& model : reported_models()) {
        models.push_back(std::move(model));
    }
    const auto place = [](const CostedModel& model) {
        return std::tuple(model.reported, !model.whole, model.cost.total_parameters());
    };
    std::ranges::stable_sort(models, {}, place);
    return models;
}

}  // namespace compare
