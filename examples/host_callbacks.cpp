// An engine written in C: it knows functions and a pointer, runs a graph of nodes on threads of its own with a barrier
// after each, and lets no exception through. The layer is five nodes, one a phase; the pass lives in the operation from
// the first node of a token to the last.

#include <barrier>
#include <cstdio>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <moe/moe.hpp>

namespace {

// ---- what such an engine has
// -----------------------------------------------------------------------------------------

extern "C" {
using NodeFunction = int (*)(void* operation, int node, int ith, int nth);  // 0: go on
}

/// Runs the nodes of a graph once; returns 0, or what the first node that failed returned.
int run_graph(NodeFunction function, void* operation, int n_nodes, int n_threads) {
    std::vector<int> results(static_cast<std::size_t>(n_threads), 0);
    std::barrier meet(n_threads);
    {
        std::vector<std::jthread> threads;
        for (int ith = 0; ith < n_threads; ++ith) {
            threads.emplace_back([&, ith] {
                for (int node = 0; node < n_nodes; ++node) {
                    int& result = results[static_cast<std::size_t>(ith)];
                    result = result == 0 ? function(operation, node, ith, n_threads) : result;
                    meet.arrive_and_wait();
                }
            });
        }
    }
    for (const int result : results) {
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

// ---- the layer as one of its operations
// ------------------------------------------------------------------------------

template <class Layer>
class MoEOperation {
public:
    explicit MoEOperation(const Layer& layer) : layer_(layer) {}

    /// Before the graph runs, in one thread. False if the call cannot be.
    bool begin(moe::MatrixView<const float> x, moe::MatrixView<float> y, std::size_t n_threads) {
        try {
            pass_.emplace(layer_.prepare(x, y, workspace_, n_threads));
            return true;
        } catch (const moe::Error& error) {
            std::fprintf(stderr, "%s\n", error.what());
            return false;
        }
    }

    static int node(void* operation, int node, int ith, int nth) noexcept {
        auto& self = *static_cast<MoEOperation*>(operation);
        const moe::PhaseStatus status = self.pass_->try_run_phase(
            static_cast<moe::Phase>(node), static_cast<std::size_t>(ith), static_cast<std::size_t>(nth));
        if (!status) {
            std::fprintf(stderr, "%s\n", status.message.data());
        }
        return status ? 0 : 1;
    }

private:
    const Layer& layer_;
    moe::Workspace workspace_;
    std::optional<moe::ForwardPass<Layer>> pass_;
};

}  // namespace

int main() {
    const std::size_t n_experts = 8;
    const std::size_t d = 64;
    std::vector<float> values(n_experts * d * d);
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = moe::random_uniform(1, i) - 0.5F;
    }
    const auto weights = moe::stacked(values.data(), n_experts, d, d);
    const moe::MoELayer layer{moe::Router{moe::view(values.data(), n_experts, d), moe::TokenChoice<>{.top_k = 2}},
                              moe::SwiGLU{weights, weights, weights}};
    using Layer = std::remove_const_t<decltype(layer)>;
    MoEOperation<Layer> operation(layer);
    const int n_threads = 3;
    bool right = true;
    for (const std::size_t n_tokens : {std::size_t{100}, std::size_t{1}, std::size_t{37}}) {  // a prompt, then tokens
        const auto x = moe::view(std::as_const(values).data(), n_tokens, d);
        std::vector<float> alone(n_tokens * d);
        std::vector<float> y(n_tokens * d);
        moe::Workspace workspace;
        layer.forward(x, moe::view(alone.data(), n_tokens, d), workspace);
        right = right && operation.begin(x, moe::view(y.data(), n_tokens, d), n_threads) &&
                run_graph(&MoEOperation<Layer>::node, &operation, moe::n_phases, n_threads) == 0 && y == alone;
    }
    std::printf("three calls through the callbacks of a host: %s\n", right ? "ok" : "WRONG");
    return right ? 0 : 1;
}
