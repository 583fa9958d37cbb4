// An architecture known only at run time: a preset by name, with the sizes that differ, and weights as a checkpoint
// stacks them.

#include <cmath>
#include <cstdio>
#include <vector>

#include <moe/moe.hpp>
#include <moe/reference/layer/layer.hpp>

namespace {

std::vector<float> random_values(std::size_t count, std::uint64_t seed) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
        values[i] = 0.25F * (2 * moe::random_uniform(seed, i) - 1);
    }
    return values;
}

/// `count` of the values from `first` on, in double.
moe::reference::Vector part(const std::vector<float>& values, std::size_t first, std::size_t count) {
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(first);
    return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

}  // namespace

int main() {
    const std::size_t n_experts = 6;
    const std::size_t d_model = 64;
    const std::size_t d_ff = 112;
    const std::size_t n_tokens = 40;
    const std::vector<float> router = random_values(n_experts * d_model, 1);
    const std::vector<float> gate_up = random_values(n_experts * 2 * d_ff * d_model, 2);
    const std::vector<float> down = random_values(n_experts * d_model * d_ff, 3);
    const std::vector<float> x = random_values(n_tokens * d_model, 4);
    std::vector<float> y(n_tokens * d_model);
    const char* const format = "float32";

    // [readme]
    moe::MoEConfig config = moe::presets::find("Mixtral-8x7B-v0.1");  // sizes, routing, form and storage order
    config.n_experts = n_experts;                                     // change what differs
    config.d_model = d_model;
    config.d_ff = d_ff;
    moe::LayerWeights<float> weights;  // tensors with the shapes they have in the file: all are checked
    weights.router = moe::view(router.data(), n_experts, d_model);
    weights.experts =
        moe::expert_weights<float>(config, {.gate_up = moe::stacked(gate_up.data(), n_experts, 2 * d_ff, d_model),
                                            .down = moe::stacked(down.data(), n_experts, d_model, d_ff)});
    const auto views = moe::make_layer(config, weights);
    const moe::AnyLayer<float> layer = moe::pack(views, moe::find_format(format));  // "float32", "int8": a value, too
    // [/readme]

    moe::Workspace workspace;
    layer.forward(moe::view(x.data(), n_tokens, d_model), moe::view(y.data(), n_tokens, d_model), workspace);

    moe::reference::Layer definition{.d_model = d_model, .router = {router.begin(), router.end()}};
    definition.rule = {.top_k = 2, .norm = moe::reference::Norm::sum};
    const std::size_t size = d_ff * d_model;
    for (std::size_t e = 0; e < n_experts; ++e) {
        definition.experts.push_back({d_model, d_ff, moe::reference::Form::swiglu, part(gate_up, 2 * e * size, size),
                                      part(gate_up, (2 * e + 1) * size, size), part(down, e * size, size)});
    }
    const moe::reference::Vector input(x.begin(), x.end());
    moe::reference::Vector wanted;
    moe::reference::forward(definition, input, input, wanted);
    double worst = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
        worst = std::fmax(worst, std::isfinite(y[i]) ? std::abs(static_cast<double>(y[i]) - wanted[i]) : INFINITY);
    }
    std::printf("%s of %zu experts, largest difference from the definition in double %.1e: %s\n", config.name.c_str(),
                config.n_experts, worst, worst < 1e-6 ? "ok" : "WRONG");
    return worst < 1e-6 ? 0 : 1;
}
