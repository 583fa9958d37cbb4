#include "logits.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <moe/core/random.hpp>

#include "../routing.hpp"

namespace compare {

namespace {

std::vector<double> log_probabilities(Distribution distribution, std::size_t n_experts) {
    std::vector<double> weights = bench::popularity(
        n_experts, distribution == Distribution::zipf ? bench::Routing::zipf : bench::Routing::random);
    if (distribution == Distribution::one_hot && n_experts > 1) {
        constexpr double favourite = 0.9;
        weights[n_experts / 3] = favourite / (1 - favourite) * static_cast<double>(n_experts - 1);
    }
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::ranges::transform(weights, weights.begin(), [sum](double weight) { return std::log(weight / sum); });
    return weights;
}

}  // namespace

std::vector<float> random_logits(Distribution distribution, std::size_t n_tokens, std::size_t n_experts,
                                 std::uint64_t seed) {
    const std::vector<double> logs = log_probabilities(distribution, n_experts);
    std::vector<float> logits(n_tokens * n_experts);
    for (std::size_t i = 0; i < logits.size(); ++i) {
        const double uniform = static_cast<double>(moe::random_uniform(seed, i)) + 0x1p-25;  // never 0
        logits[i] = static_cast<float>(logs[i % n_experts] - std::log(-std::log(uniform)));
    }
    return logits;
}

}  // namespace compare
