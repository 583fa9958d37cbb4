#pragma once

#include <cstddef>
#include <utility>

#include "layer_calls.hpp"

namespace moe::inline MOE_ABI {

/// The router of a layer under another gate. Views the weights.
template <class RouterType, class G>
class RouterWithGate {
public:
    using element_type = typename RouterType::element_type;
    using value_type = typename RouterType::value_type;
    using gate_type = G;

    static_assert(check_gate<G, value_type>());
    static constexpr bool has_gate = Gate<G, value_type>;

    RouterWithGate(const RouterType& router, G gate) : linear_(&router.linear()), gate_(std::move(gate)) {
        if constexpr (has_gate) {
            ensure(!linear_->empty() || !moe::needs_logits(gate_), ErrorCode::missing,
                   "with_gate: this gate reads logits, but the router of the layer has no weights");
            // How many logits the layer's own gate reads is of no account to one that reads none.
            const std::size_t n =
                moe::needs_logits(gate_) ? moe::gate_n_experts(gate_, linear_->outputs()) : router.n_experts();
            ensure(n == router.n_experts(), ErrorCode::shape, "with_gate: this gate chooses among ", n,
                   " experts, the layer's among ", router.n_experts());
            n_experts_ = n;
            moe::validate_gate(gate_, n);
        }
    }

    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_; }
    [[nodiscard]] const Linear<element_type>& linear() const noexcept { return *linear_; }
    [[nodiscard]] const G& gate() const& noexcept { return gate_; }
    [[nodiscard]] G gate() && { return std::move(gate_); }
    [[nodiscard]] bool has_logits() const {
        if constexpr (has_gate) {
            return moe::needs_logits(gate_);
        } else {
            return true;
        }
    }

private:
    const Linear<element_type>* linear_;
    G gate_;
    std::size_t n_experts_ = 0;
};

/// A layer under another gate, from MoELayer::with_gate. Views the layer, which must outlive it; everything one can do
/// with a layer one can do with it.
template <class Layer, class G>
class LayerWithGate : public LayerCalls<LayerWithGate<Layer, G>, typename Layer::value_type> {
public:
    using value_type = typename Layer::value_type;
    using router_type = RouterWithGate<typename Layer::router_type, G>;
    using experts_type = typename Layer::experts_type;
    using shared_type = typename Layer::shared_type;

    /// See MoELayer::with_gate.
    LayerWithGate(const Layer& layer, G gate) : layer_(&layer), router_(layer.router(), std::move(gate)) {}

    [[nodiscard]] const router_type& router() const& noexcept { return router_; }
    [[nodiscard]] router_type router() && { return std::move(router_); }
    [[nodiscard]] const experts_type& experts() const noexcept { return layer_->experts(); }
    [[nodiscard]] const shared_type& shared() const noexcept { return layer_->shared(); }
    [[nodiscard]] const LayerOptions<value_type>& options() const noexcept { return layer_->options(); }

private:
    const Layer* layer_;
    router_type router_;
};

}  // namespace moe::inline MOE_ABI
