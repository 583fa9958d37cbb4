// Routing strategies side by side on one layer, a gate of one's own among them: who gets how many tokens, and how long
// a forward takes.

#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

// [readme]
#include <moe/moe.hpp>
#include <moe/stats.hpp>
// [/readme]

// [readme]
struct WhenUnsure {  // a second expert only for tokens that are not sure of the first
    double sure = 0.5;
    int max_per_token() const { return 2; }
    template <class T>
    int select(std::span<const T> logits, moe::BasicSelection<T> out) const {
        const int chosen = moe::TokenChoice<>{.top_k = 2}.select(logits, out);
        return out.weights[0] > sure ? 1 : chosen;
    }
};
// [/readme]

struct Strategy {
    const char* name;
    moe::AnyGate gate;
};

int main() {
    const std::size_t n_experts = 16;
    const std::size_t d = 64;
    const std::size_t n_tokens = 512;
    const auto random_values = [](std::uint64_t seed, std::size_t count, float deviation) {
        std::vector<float> values(count);
        std::generate(values.begin(), values.end(),
                      [&, i = 0U]() mutable { return deviation * static_cast<float>(moe::random_normal(seed, i++)); });
        return values;
    };
    std::vector<float> router = random_values(1, n_experts * d, 0.2F);
    std::vector<float> x = random_values(2, n_tokens * d, 1);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        x[t * d] = 1;  // what all tokens have in common ...
    }
    for (std::size_t e = 0; e < n_experts; ++e) {
        router[e * d] = 3.0F / static_cast<float>(1 + e);  // ... the first experts like most
    }
    const std::vector<float> values = random_values(3, n_experts * d * d, 0.1F);
    const auto weights = moe::stacked(values.data(), n_experts, d, d);
    const moe::MoELayer layer{moe::Router{moe::view(std::as_const(router).data(), n_experts, d), moe::Dense<>{}},
                              moe::SwiGLU{weights, weights, weights}};
    std::vector<float> y(n_tokens * d);
    moe::Workspace workspace;
    std::vector<double> violations;
    std::printf("strategy        experts/token  max violation  dropped  dead  ms\n");
    // [readme]
    const std::vector<Strategy> strategies{{"top-2", moe::TokenChoice<>{.top_k = 2, .normalize = true}},
                                           {"top-p", moe::TopP<>{.mass = 0.5}},
                                           {"expert choice", moe::ExpertChoice<>{.capacity_factor = 2}},
                                           {"switch", moe::switch_gate(1.25)},
                                           {"balanced", moe::BalancedAssignment{}},
                                           {"when unsure", WhenUnsure{}}};
    for (const auto& [name, gate] : strategies) {
        moe::RouterStats<float> stats(n_experts);
        moe::PhaseTimer<float> timer;
        moe::Observers<float> observers{&stats, &timer};
        layer.with_gate(gate).forward(moe::view(std::as_const(x).data(), n_tokens, d), moe::view(y.data(), n_tokens, d),
                                      workspace, moe::SerialExecutor{}, {.observer = &observers});
        violations.push_back(moe::max_violation(stats.load()));
        std::printf("%-15s %13.2f  %13.2f  %6.1f%%  %4zu  %.2f\n", name, stats.mean_experts_per_token(),
                    violations.back(), 100 * stats.drop_rate(), moe::dead_experts(stats.load()),
                    1e3 * timer.pass().total());
    }
    // [/readme]
    const bool right = violations[0] > 1 && violations[2] == 0 && violations[4] == 0;  // as these strategies promise
    std::printf("%s\n", right ? "ok" : "WRONG");
    return right ? 0 : 1;
}
