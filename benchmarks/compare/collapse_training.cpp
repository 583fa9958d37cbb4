#include "collapse_training.hpp"

#include <cmath>
#include <utility>

#include <moe/stats.hpp>

#include "load_shares.hpp"

namespace compare {

namespace {

constexpr std::size_t d_model = ClusterTask::d_model;
constexpr std::size_t d_ff = d_model;  // as many as one map needs
constexpr float favour = 2;            // of expert 0, a logit
constexpr moe::AdamW adam{.rate = 0.02, .beta2 = 0.99, .decay = 0};

std::vector<moe::ParameterInfo> describe(const Remedy& remedy) {
    const std::size_t n = remedy.n_experts;
    const std::size_t n_logits = n * remedy.logits_per_expert;
    const double scale = 1 / std::sqrt(static_cast<double>(d_model));
    return {{.name = "router", .rows = n_logits, .cols = d_model, .scale = 0.1 * scale},
            {.name = "router_bias", .cols = n_logits},
            {.name = "gate", .n_matrices = n, .rows = d_ff, .cols = d_model, .scale = scale},
            {.name = "up", .n_matrices = n, .rows = d_ff, .cols = d_model, .scale = scale},
            {.name = "down", .n_matrices = n, .rows = d_model, .cols = d_ff, .scale = scale}};
}

moe::MatrixView<const float> tokens(const std::vector<float>& values) {
    return moe::view(values.data(), ClusterTask::n_tokens, d_model);
}

double squares(std::span<const float> values) {
    double sum = 0;
    for (const float value : values) {
        sum += static_cast<double>(value) * static_cast<double>(value);
    }
    return sum;
}

}  // namespace

CollapseTraining::CollapseTraining(Remedy remedy, std::uint64_t seed)
    : remedy_(std::move(remedy)),
      parameters_(describe(remedy_), seed),
      balancer_{.rate = remedy_.sign_rate},
      y_(ClusterTask::n_tokens * d_model),
      d_y_(y_.size()) {
    parameters_["router_bias"].value()[0] = favour;
    balancer_.reset(remedy_.n_experts);
}

CollapseRow CollapseTraining::measure(const ClusterTask::Batch& batch) {
    const Layer now = layer();
    CollapseRow row;
    row.run = remedy_.name;
    row.step = steps_done_;
    row.loss = run_forward(now, batch);
    row.max_violation = moe::max_violation(counts_.counts);
    row.variation = moe::load_variation(counts_.counts);
    row.effective = moe::effective_experts(counts_.counts);
    row.load = load_shares(counts_.counts);
    run_backward(now);
    row.router_norm =
        std::sqrt(squares(parameters_["router"].gradient()) + squares(parameters_["router_bias"].gradient()));
    return row;
}

void CollapseTraining::train(const ClusterTask::Batch& batch) {
    const Layer now = layer();
    (void)run_forward(now, batch);
    if (remedy_.losses) {
        remedy_.losses(tape_, workspace_, steps_done_);
    }
    run_backward(now);
    parameters_.update(adam, ++steps_done_);
    balancer_.update(counts_.counts);
}

CollapseTraining::Layer CollapseTraining::layer() const {
    const std::span<const float> bias = parameters_["router_bias"].value();
    return {moe::Router{parameters_["router"].stack(), bias, remedy_.gate(steps_done_, balancer_.bias)},
            moe::SwiGLU{parameters_["gate"].stack(), parameters_["up"].stack(), parameters_["down"].stack()}};
}

double CollapseTraining::run_forward(const Layer& layer, const ClusterTask::Batch& batch) {
    moe::forward(layer, tokens(batch.x), moe::view(y_.data(), ClusterTask::n_tokens, d_model), tape_, workspace_);
    counts_.reset(remedy_.n_experts);
    counts_.add(tape_);
    return relative_error(y_, batch.target, d_y_);
}

void CollapseTraining::run_backward(const Layer& layer) {
    moe::LayerGradients<float> gradients;
    gradients.router = parameters_["router"].gradient_stack();
    gradients.router_bias = parameters_["router_bias"].gradient();
    gradients.experts = {.gate = parameters_["gate"].gradient_stack(),
                         .up = parameters_["up"].gradient_stack(),
                         .down = parameters_["down"].gradient_stack()};
    moe::zero_gradients(parameters_.gradients());
    moe::backward(layer, tape_, tokens(d_y_), {}, gradients, workspace_);
}

}  // namespace compare
