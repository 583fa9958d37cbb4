#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "layer.hpp"

namespace moe::inline MOE_ABI::reference {

/// Soft MoE (Puigcerver et al. 2023, 2308.00951, equations 1 to 3).
struct SoftMoE {
    std::size_t d_model = 0;
    Vector slots{};  // (experts.size() * slots an expert, d_router), those of an expert together
    std::vector<Expert> experts{};
    bool normalize = true;  // token and slot, x / sqrt(sum x^2 + 1e-6), before they are multiplied
    double scale = 1;
};

/// x / sqrt(sum x^2 + 1e-6).
[[nodiscard]] inline Vector to_unit_length(const Vector& x) {
    double sum = 1e-6;
    for (const double value : x) {
        sum += value * value;
    }
    Vector result = x;
    for (double& value : result) {
        value /= std::sqrt(sum);
    }
    return result;
}

/// What the layer makes of the tokens `x` of one sequence, (n_tokens) of (d_model), whose router reads `router_input`.
[[nodiscard]] inline std::vector<Vector> forward(const SoftMoE& layer, const std::vector<Vector>& x,
                                                 const std::vector<Vector>& router_input) {
    if (x.empty()) {
        return {};
    }
    const std::size_t d_router = router_input[0].size();
    const std::size_t n_slots = layer.slots.size() / d_router;
    std::vector<Vector> by_token(x.size(), Vector(n_slots));
    std::vector<Vector> by_slot(n_slots, Vector(x.size()));
    for (std::size_t s = 0; s < n_slots; ++s) {
        const auto first = layer.slots.begin() + static_cast<std::ptrdiff_t>(s * d_router);
        const Vector slot(first, first + static_cast<std::ptrdiff_t>(d_router));
        for (std::size_t t = 0; t < x.size(); ++t) {
            const Vector a = layer.normalize ? to_unit_length(slot) : slot;
            const Vector b = layer.normalize ? to_unit_length(router_input[t]) : router_input[t];
            by_slot[s][t] = by_token[t][s] = layer.scale * linear(a, {}, b, 1)[0];
        }
    }
    std::vector<Vector> y(x.size(), Vector(layer.d_model, 0.0));
    for (std::size_t t = 0; t < x.size(); ++t) {
        by_token[t] = softmax(by_token[t]);  // C: what the slots give a token
    }
    for (std::size_t s = 0; s < n_slots; ++s) {
        const Vector dispatch = softmax(by_slot[s]);  // D: what the tokens give a slot
        Vector input(layer.d_model, 0.0);
        for (std::size_t t = 0; t < x.size(); ++t) {
            add_scaled(input, dispatch[t], x[t]);
        }
        const Vector output = run(layer.experts[s * layer.experts.size() / n_slots], input);
        for (std::size_t t = 0; t < x.size(); ++t) {
            add_scaled(y[t], by_token[t][s], output);
        }
    }
    return y;
}

}  // namespace moe::inline MOE_ABI::reference
