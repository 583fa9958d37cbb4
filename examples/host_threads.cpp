// A host whose threads are already running side by side: each takes its part (ith, nth) of every phase of the forward
// pass, and all meet at a barrier after each. No executor, no thread of the library.

#include <barrier>
#include <cstdio>
#include <thread>
#include <vector>

#include <moe/moe.hpp>

int main() {
    const std::size_t n_experts = 8;
    const std::size_t d = 64;
    const std::size_t n_tokens = 300;
    std::vector<float> values(n_experts * d * d);
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = moe::random_uniform(1, i) - 0.5F;
    }
    const auto weights = moe::stacked(values.data(), n_experts, d, d);
    const moe::MoELayer layer{moe::Router{moe::view(values.data(), n_experts, d), moe::TokenChoice<>{.top_k = 2}},
                              moe::SwiGLU{weights, weights, weights}};
    const auto x = moe::view(static_cast<const float*>(values.data()), n_tokens, d);
    std::vector<float> alone(n_tokens * d);
    std::vector<float> shared(n_tokens * d);
    moe::Workspace workspace;
    layer.forward(x, moe::view(alone.data(), n_tokens, d), workspace);

    constexpr std::size_t n_threads = 4;
    auto pass = layer.prepare(x, moe::view(shared.data(), n_tokens, d), workspace, n_threads);
    std::barrier meet(n_threads);
    const auto thread = [&](std::size_t ith) {
        for (int phase = 0; phase < moe::n_phases; ++phase) {
            pass.run_phase(static_cast<moe::Phase>(phase), ith, n_threads);
            meet.arrive_and_wait();
        }
    };
    {
        std::vector<std::jthread> threads;
        for (std::size_t ith = 0; ith < n_threads; ++ith) {
            threads.emplace_back(thread, ith);
        }
    }
    std::printf("%zu tokens on %zu threads of the host: %s\n", n_tokens, n_threads, alone == shared ? "ok" : "WRONG");
    return alone == shared ? 0 : 1;
}
