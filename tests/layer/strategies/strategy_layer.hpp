#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "layer/batch_runner.hpp"
#include "support/strategy_cases.hpp"

namespace moe_test {

/// A layer under a strategy, as a class that is compiled once for all tests of strategies (layer/strategy_layer.cpp).
/// Its members are those of MoELayer.
template <class T>
class StrategyLayer {
public:
    using value_type = T;

    /// Views both. `router` (n_logits, d_model).
    StrategyLayer(const LayerCase<T>& layer_case, moe::MatrixView<const T> router, moe::AnyGate gate);
    StrategyLayer(const StrategyLayer&) = delete;
    StrategyLayer& operator=(const StrategyLayer&) = delete;
    ~StrategyLayer();

    void forward(moe::MatrixView<const T> x, moe::MatrixView<T> y, moe::Workspace& workspace,
                 moe::ExecutorRef executor = moe::SerialExecutor{}, const moe::ForwardOptions<T>& options = {}) const;
    void forward(moe::MatrixView<const T> x, const moe::PlanView<T>& plan, moe::MatrixView<T> y,
                 moe::Workspace& workspace, moe::ExecutorRef executor = moe::SerialExecutor{},
                 const moe::ForwardOptions<T>& options = {}) const;
    void route(moe::MatrixView<const T> x, moe::RoutingPlan<T>& plan, moe::Workspace& workspace,
               moe::ExecutorRef executor = moe::SerialExecutor{}, const moe::ForwardOptions<T>& options = {}) const;
    [[nodiscard]] std::size_t workspace_bytes(std::size_t n_tokens, std::size_t n_workers) const;

    /// layer.with_gate(gate).forward(...)
    void forward_with(moe::AnyGate gate, moe::MatrixView<const T> x, moe::MatrixView<T> y, moe::Workspace& workspace,
                      const moe::ForwardOptions<T>& options) const;

private:
    struct Held;
    std::unique_ptr<const Held> held_;
};

/// Every strategy over one random layer, and a batch for it.
template <class T>
struct StrategyBench {
    StrategyBench(const LayerShape& shape, std::size_t n_tokens, std::uint64_t seed)
        : StrategyBench(shape, n_tokens, seed, Draw(seed)) {}

    [[nodiscard]] StrategyLayer<T> layer(const Strategy& strategy) const {
        return layer(strategy.gate, strategy.n_logits);
    }
    [[nodiscard]] StrategyLayer<T> layer(const moe::AnyGate& gate, std::size_t n_logits) const {
        return {layer_case, moe::view(router.data(), n_logits, batch.d_model), gate};
    }
    [[nodiscard]] moe::MatrixView<const T> x() const {
        return moe::view(batch.x.data(), batch.n_tokens(), batch.d_model);
    }
    /// The whole batch, its tokens at their positions.
    [[nodiscard]] moe::ForwardOptions<T> options() const {
        moe::ForwardOptions<T> options;
        options.token_ids = batch.ids;
        options.first_position = batch_position;
        return options;
    }
    [[nodiscard]] std::vector<T> forward(const StrategyLayer<T>& layer, const moe::ForwardOptions<T>& options) const {
        std::vector<T> y(batch.x.size(), T(7));
        moe::Workspace workspace;
        layer.forward(x(), moe::view(y.data(), batch.n_tokens(), batch.d_model), workspace, moe::SerialExecutor{},
                      options);
        return y;
    }
    [[nodiscard]] std::vector<T> forward(const Strategy& strategy) const { return forward(layer(strategy), options()); }
    [[nodiscard]] moe::RoutingPlan<T> route(const Strategy& strategy, const moe::ForwardOptions<T>& options) const {
        moe::RoutingPlan<T> plan;
        moe::Workspace workspace;
        layer(strategy).route(x(), plan, workspace, moe::SerialExecutor{}, options);
        return plan;
    }
    /// Row t of an output.
    [[nodiscard]] std::span<const T> row(const std::vector<T>& y, std::size_t t) const {
        return std::span(y).subspan(t * batch.d_model, batch.d_model);
    }

    LayerCase<T> layer_case;
    Batch<T> batch;
    StrategyCases strategies;
    std::vector<T> router;  ///< (most_logits, d_model)

private:
    StrategyBench(const LayerShape& shape, std::size_t n_tokens, std::uint64_t seed, Draw draw)
        : layer_case(shape, seed + 1),
          batch(draw, n_tokens, shape.d_model),
          strategies(draw, shape.n_choices(), n_tokens, batch_position),
          router(random_elements<T>(draw, strategies.most_logits() * shape.d_model, 2)) {}
};

/// A shape for tests that look at routing: small, its experts all different.
inline LayerShape routing_shape(std::size_t n_experts, std::size_t d_model = 8) {
    LayerShape shape;
    shape.n_experts = n_experts;
    shape.d_model = d_model;
    shape.d_ff = 5;
    return shape;
}

}  // namespace moe_test
