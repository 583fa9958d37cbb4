#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "../weights.hpp"
#include "arm.hpp"

namespace bench {

/// Which rows go to one expert, with which weights: the plan of a rival, which treats the shared experts as one more
/// expert that every token goes to with weight 1.
struct ExpertRows {
    std::size_t expert = 0;  ///< n_experts for the shared one
    std::vector<moe::Index> tokens;
    std::vector<float> weights;
    std::vector<moe::Index> assignments;  ///< of the plan; empty for the shared one
    std::size_t first = 0;                ///< of its rows, when those of all experts are counted in this order
};

/// The experts of a plan that have rows.
[[nodiscard]] inline std::vector<ExpertRows> expert_rows(const moe::PlanView<float>& plan, const Shape& shape) {
    std::vector<ExpertRows> result;
    std::size_t first = 0;
    for (std::size_t e = 0; e < plan.n_experts; ++e) {
        ExpertRows rows{e, {}, {}, {}, first};
        for (std::size_t i = plan.expert_offsets[e]; i < plan.expert_offsets[e + 1]; ++i) {
            rows.tokens.push_back(plan.tokens[i]);
            rows.weights.push_back(plan.weights[plan.assignments[i]]);
            rows.assignments.push_back(plan.assignments[i]);
        }
        first += rows.tokens.size();
        if (!rows.tokens.empty()) {
            result.push_back(std::move(rows));
        }
    }
    if (shape.shared_d_ff > 0) {
        ExpertRows rows{plan.n_experts, {}, std::vector<float>(plan.n_tokens, 1.0F), {}, first};
        for (std::size_t t = 0; t < plan.n_tokens; ++t) {
            rows.tokens.push_back(static_cast<moe::Index>(t));
        }
        result.push_back(std::move(rows));
    }
    return result;
}

/// Width of expert `e` in that order.
[[nodiscard]] inline std::size_t expert_width(const Shape& shape, std::size_t e) noexcept {
    return e < shape.n_experts ? shape.d_ff : shape.shared_d_ff;
}
[[nodiscard]] inline std::size_t expert_count(const Shape& shape) noexcept {
    return shape.n_experts + (shape.shared_d_ff > 0 ? 1 : 0);
}

/// Expert `e` of layer `layer` as float32 values of a format: gate (d_ff, d_model), up behind it, then down
/// (d_model, d_ff).
template <class Rounded>
void fill_expert(const Threads& threads, const Shape& shape, std::size_t layer, std::size_t e, float* target) {
    const std::size_t d_ff = expert_width(shape, e);
    const std::size_t size = d_ff * shape.d_model;
    const std::size_t group = e < shape.n_experts ? 0 : 1;
    const std::size_t first = group == 0 ? e * size : 0;
    const auto one = [&](Matrix matrix, std::size_t inputs) {
        fill_rounded<Rounded>(threads, WeightStream(layer, group, matrix, inputs), first, {target, size});
        target += size;
    };
    one(Matrix::gate, shape.d_model);
    one(Matrix::up, shape.d_model);
    one(Matrix::down, d_ff);
}

/// The same, rounded as a format asks.
inline void fill_expert(const Threads& threads, const Shape& shape, Format format, std::size_t layer, std::size_t e,
                        float* target) {
    visit_format(format, [&]<class W>(W) { fill_expert<W>(threads, shape, layer, e, target); });
}

}  // namespace bench
