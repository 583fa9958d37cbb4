#include "layer_calls.hpp"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include <moe/io.hpp>

#include "../input.hpp"

namespace bench {

std::size_t vocabulary(const moe::Checkpoint& checkpoint, std::size_t layer) {
    std::size_t rows = 1;
    if (checkpoint.config(layer).gate != moe::GateKind::hash) {
        return rows;
    }
    const std::vector<std::string> names = checkpoint.tensors(layer);
    for (const moe::CheckpointTensor& tensor : checkpoint.all_tensors()) {
        if (tensor.shape.size() == 2 && (tensor.type == "I32" || tensor.type == "I64") &&
            std::ranges::find(names, tensor.name) != names.end()) {
            rows = std::max(rows, tensor.shape[0]);
        }
    }
    return rows;
}

LayerCalls::LayerCalls(const moe::AnyLayer<float>& layer, const moe::MoEConfig& config, Tokens tokens,
                       const Threads& threads)
    : layer_(layer),
      threads_(threads),
      tokens_(tokens.count),
      width_(config.d_model),
      router_width_(config.d_router),
      x_(random_input((tokens.count + windows) * config.d_model)),
      router_x_(random_input((tokens.count + windows) * config.d_router)),
      y_(tokens.count * config.d_model) {
    for (std::size_t i = 0; i < tokens.count + windows; ++i) {
        ids_.push_back(static_cast<std::int32_t>(moe::random_bits(7, i) % tokens.vocabulary));
    }
}

moe::ForwardOptions<float> LayerCalls::options(std::size_t turn) const {
    moe::ForwardOptions<float> options;
    options.token_ids = std::span<const std::int32_t>(ids_).subspan(first(turn), tokens_);
    if (router_width_ > 0) {
        options.router_input = moe::view(router_x_.data() + first(turn) * router_width_, tokens_, router_width_);
    }
    return options;
}

moe::MatrixView<const float> LayerCalls::input(std::size_t turn) const {
    return moe::view(x_.data() + first(turn) * width_, tokens_, width_);
}

void LayerCalls::run(std::size_t turn) {
    layer_.forward(input(turn), moe::view(y_.data(), tokens_, width_), workspace_, threads_, options(turn));
}

double LayerCalls::distinct_experts() {
    constexpr std::size_t turns = 8;
    moe::RoutingPlan<float> plan;
    std::size_t distinct = 0;
    for (std::size_t turn = 0; turn < turns; ++turn) {
        layer_.route(input(turn), plan, workspace_, threads_, options(turn));
        for (std::size_t e = 0; e < layer_.n_experts(); ++e) {
            distinct += plan.view().tokens_of(e).empty() ? 0U : 1U;
        }
    }
    return static_cast<double>(distinct) / turns;
}

}  // namespace bench
