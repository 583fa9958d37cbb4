#include "collapse.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include <moe/core/random.hpp>
#include <moe/instantiate.hpp>
#include <moe/stats.hpp>

#include "../input.hpp"
#include "load_shares.hpp"

namespace compare {

namespace {

constexpr std::size_t n_experts = 16;
constexpr std::size_t n_tokens = 512;
constexpr std::size_t d_model = 32;
constexpr int top_k = 2;
constexpr double gain = 0.1;
constexpr float most = 4;
constexpr double rate = 0.15;  // of the bias, which is added to logits

/// Rows of a router and the tokens of all steps, the same for both runs.
class Inputs {
public:
    explicit Inputs(std::uint64_t seed) : seed_(seed), weights_(bench::random_normal(seed, 0, n_experts * d_model)) {
        for (float& weight : weights_) {
            weight /= std::sqrt(static_cast<float>(d_model));
        }
    }

    /// (n_tokens, n_experts), W x.
    [[nodiscard]] std::vector<float> logits(std::size_t step) const {
        const std::vector<float> x = bench::random_normal(seed_ + 1, step * n_tokens * d_model, n_tokens * d_model);
        std::vector<float> result(n_tokens * n_experts);
        for (std::size_t i = 0; i < result.size(); ++i) {
            const float* token = x.data() + i / n_experts * d_model;
            const float* row = weights_.data() + i % n_experts * d_model;
            for (std::size_t j = 0; j < d_model; ++j) {
                result[i] += token[j] * row[j];
            }
        }
        return result;
    }

private:
    std::uint64_t seed_;
    std::vector<float> weights_;
};

std::vector<std::uint64_t> count_choices(std::vector<float> logits, std::span<const float> preference,
                                         std::span<const float> bias) {
    for (std::size_t i = 0; i < logits.size(); ++i) {
        logits[i] += preference[i % n_experts];
    }
    const moe::TokenChoice<moe::Softmax> gate{
        .top_k = top_k, .normalize = true, .selection_bias = bias, .select_on = moe::SelectOn::logits};
    std::array<moe::ExpertId, top_k> experts{};
    std::array<float, top_k> weights{};
    std::array<float, moe::selection_parts * n_experts> scratch{};
    std::array<moe::ExpertId, n_experts> order{};
    std::vector<std::uint64_t> counts(n_experts);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        const auto row = std::span<const float>(logits).subspan(t * n_experts, n_experts);
        (void)moe::select_token<float>(gate, row, {}, {experts, weights, scratch, order});
        for (const moe::ExpertId expert : experts) {
            ++counts[static_cast<std::size_t>(expert)];
        }
    }
    return counts;
}

/// One run; `rate` 0: without balancing.
void run(const std::string& name, const Inputs& inputs, double balancing_rate, std::size_t steps,
         std::vector<CollapseRow>& rows) {
    std::vector<float> preference(n_experts);
    for (std::size_t e = 0; e < n_experts; ++e) {
        preference[e] = std::max(0.0F, 1.0F - 0.25F * static_cast<float>(e));  // a few favourites
    }
    moe::SignBalancer balancer{.rate = balancing_rate};
    balancer.reset(n_experts);
    for (std::size_t step = 0; step < steps; ++step) {
        const std::vector<std::uint64_t> counts = count_choices(inputs.logits(step), preference, balancer.bias);
        const std::vector<double> load = load_shares(counts);
        rows.push_back({.run = name,
                        .step = step,
                        .max_violation = moe::max_violation(counts),
                        .variation = moe::load_variation(counts),
                        .load = load});
        for (std::size_t e = 0; e < n_experts; ++e) {
            const double violation = load[e] * n_experts - 1;
            preference[e] = std::clamp(preference[e] + static_cast<float>(gain * violation), -most, most);
        }
        balancer.update(counts);
    }
}

}  // namespace

std::vector<CollapseRow> collapse(std::uint64_t seed, std::size_t steps) {
    const Inputs inputs(moe::random_bits(seed, 0x636f6c));
    std::vector<CollapseRow> rows;
    run("without balancing", inputs, 0, steps, rows);
    run("sign bias", inputs, rate, steps, rows);
    return rows;
}

}  // namespace compare
