// An inference engine: it owns its weights, its memory and its threads, and knows shapes only at run time. The library
// gets pointers; forward is called on a const layer and allocates nothing.

#include <cmath>
#include <cstdio>
#include <vector>

// [readme]
#include <moe/moe.hpp>
// [/readme]
#include <moe/reference/layer/layer.hpp>

namespace {

std::vector<float> random_values(std::size_t count, std::uint64_t seed) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
        values[i] = 0.25F * (2 * moe::random_uniform(seed, i) - 1);
    }
    return values;
}

/// The part of `weights` that belongs to expert `e` of `n_experts`, in double.
moe::reference::Vector part(const std::vector<float>& weights, std::size_t e, std::size_t n_experts) {
    const auto size = static_cast<std::ptrdiff_t>(weights.size() / n_experts);
    const auto first = weights.begin() + static_cast<std::ptrdiff_t>(e) * size;
    return {first, first + size};
}

}  // namespace

int main() {
    const std::size_t n_experts = 8;
    const std::size_t d_model = 96;
    const std::size_t d_ff = 160;
    const std::size_t n_tokens = 50;
    const std::vector<float> router = random_values(n_experts * d_model, 1);
    const std::vector<float> gate = random_values(n_experts * d_ff * d_model, 2);
    const std::vector<float> up = random_values(n_experts * d_ff * d_model, 3);
    const std::vector<float> down = random_values(n_experts * d_model * d_ff, 4);
    const std::vector<float> x = random_values(n_tokens * d_model, 5);
    std::vector<float> y(n_tokens * d_model);
    std::vector<float> y_packed(n_tokens * d_model);

    // [readme]
    const moe::Router choose{moe::view(router.data(), n_experts, d_model),
                             moe::TokenChoice<moe::Softmax>{.top_k = 2, .normalize = true}};
    const moe::SwiGLU experts{moe::stacked(gate.data(), n_experts, d_ff, d_model),
                              moe::stacked(up.data(), n_experts, d_ff, d_model),
                              moe::stacked(down.data(), n_experts, d_model, d_ff)};
    const moe::MoELayer layer{choose, experts};
    moe::Workspace workspace;  // grows once, then forward allocates nothing
    layer.forward(moe::view(x.data(), n_tokens, d_model), moe::view(y.data(), n_tokens, d_model), workspace);
    // [/readme]

    // The same with experts copied once into panels, which is faster, and in memory of the engine's own.
    const moe::MoELayer packed{choose, moe::PackedExperts{experts}};
    std::vector<std::byte> memory(packed.workspace_bytes(n_tokens, 1) + moe::buffer_alignment);
    moe::Workspace own{memory};
    packed.forward(moe::view(x.data(), n_tokens, d_model), moe::view(y_packed.data(), n_tokens, d_model), own);

    moe::reference::Layer definition{.d_model = d_model, .router = {router.begin(), router.end()}};
    definition.rule = {.top_k = 2, .norm = moe::reference::Norm::sum};
    for (std::size_t e = 0; e < n_experts; ++e) {
        definition.experts.push_back({d_model, d_ff, moe::reference::Form::swiglu, part(gate, e, n_experts),
                                      part(up, e, n_experts), part(down, e, n_experts)});
    }
    const moe::reference::Vector input(x.begin(), x.end());
    moe::reference::Vector wanted;
    moe::reference::forward(definition, input, input, wanted);
    double worst = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
        worst = std::fmax(worst, std::isfinite(y[i]) ? std::abs(static_cast<double>(y[i]) - wanted[i]) : INFINITY);
    }
    const bool right = worst < 1e-6 && y == y_packed;
    std::printf("%zu tokens, largest difference from the definition in double %.1e, packed experts give %s: %s\n",
                n_tokens, worst, y == y_packed ? "the same bits" : "other bits", right ? "ok" : "WRONG");
    return right ? 0 : 1;
}
