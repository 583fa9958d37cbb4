#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "layer_calls.hpp"
#include "layer_with_gate.hpp"

namespace moe::inline MOE_ABI {

/// A sparse mixture of experts: y[t] = routed_scale * sum over the experts e chosen for t of w[t, e] * expert_e(x[t]),
/// plus output bias and shared experts. Composed of a Router, a bank of experts (ExpertBank or PackedExperts) and,
/// optionally, SharedExperts. Owns no weights unless its bank does; `forward` is const and may run in several threads
/// at once, each with a workspace of its own.
template <class RouterType, PanelSource Experts, class Shared = SharedExperts<Experts>>
class MoELayer : public LayerCalls<MoELayer<RouterType, Experts, Shared>, typename Experts::value_type> {
public:
    using value_type = typename Experts::value_type;
    using router_type = RouterType;
    using experts_type = Experts;
    using shared_type = Shared;
    using T = value_type;

    static_assert(std::is_same_v<T, typename RouterType::value_type>,
                  "the router and the experts must compute in the same type: give both double weights, or neither");

    /// Throws Error naming both shapes when router and experts disagree, and whatever `options` refuse.
    MoELayer(RouterType router, Experts experts, LayerOptions<T> options = {})
        : MoELayer(std::move(router), std::move(experts), Shared{}, std::move(options)) {}
    MoELayer(RouterType router, Experts experts, Shared shared, LayerOptions<T> options = {})
        : router_(std::move(router)),
          experts_(std::move(experts)),
          shared_(std::move(shared)),
          options_(std::move(options)) {
        const std::size_t n_null = options_.null_experts.count();
        (void)checked_add(experts_.n_experts(), n_null);
        static_assert(std::is_same_v<T, typename Shared::bank_type::value_type>,
                      "the shared experts must compute in the type of the routed ones");
        ensure(router_.n_experts() == experts_.n_experts() + n_null, ErrorCode::shape,
               "MoELayer: the router chooses among ", router_.n_experts(), " experts but there are ",
               experts_.n_experts(), " and ", n_null, " null experts");
        ensure(shared_.experts().empty() || shared_.d_model() == this->d_model(), ErrorCode::shape,
               "MoELayer: the shared experts have another d_model than the routed ones, whose d_model is ",
               this->d_model());
        options_.validate(this->d_model());
    }

    [[nodiscard]] const RouterType& router() const& noexcept { return router_; }
    [[nodiscard]] const Experts& experts() const& noexcept { return experts_; }
    [[nodiscard]] const Shared& shared() const& noexcept { return shared_; }
    [[nodiscard]] const LayerOptions<T>& options() const& noexcept { return options_; }
    // A temporary hands over what it owns.
    [[nodiscard]] RouterType router() && { return std::move(router_); }
    [[nodiscard]] Experts experts() && { return std::move(experts_); }
    [[nodiscard]] Shared shared() && { return std::move(shared_); }
    [[nodiscard]] LayerOptions<T> options() && { return options_; }

    /// The same layer under another gate, for as long as this one lives: other experts a token, masked or forced ones,
    /// for a call or for all. Copies no weights and allocates nothing but what a copy of the gate does. Throws Error:
    /// what the gate's validation refuses, a gate for another number of experts, one that reads logits where the router
    /// has no weights.
    template <class G>
    [[nodiscard]] LayerWithGate<MoELayer, G> with_gate(G gate) const& {
        return {*this, std::move(gate)};
    }
    template <class G>
    LayerWithGate<MoELayer, G> with_gate(G) const&& = delete;  // temporary: give the layer a name

    /// The weights of `layer` as they are now, after an optimiser's step say, in place of those that this one was
    /// packed from by pack(): router, experts and shared experts. What pack(layer) would be, bit for bit, without its
    /// allocation. Gate, form, compute and options stay. No call may use the layer meanwhile. Throws Error(shape,
    /// state) before anything is written: other sizes, experts that were packed elsewhere. Every weight is read and
    /// written once.
    template <class OtherExperts, class OtherShared, Executor E = SerialExecutor>
    void repack(const MoELayer<RouterType, OtherExperts, OtherShared>& layer, const E& executor = {}) {
        router_.linear().confirm_repack(layer.router().linear());
        experts_.confirm_repack(layer.experts());
        shared_.confirm_repack(layer.shared());
        const ExecutorRef threads(executor);
        router_.repack(layer.router(), threads);
        experts_.repack(layer.experts(), threads);
        shared_.repack(layer.shared(), threads);
    }

private:
    RouterType router_;
    Experts experts_;
    Shared shared_;
    LayerOptions<T> options_;
};

template <class R, class E>
MoELayer(R, E) -> MoELayer<R, E>;
template <class R, class E, class T>
MoELayer(R, E, LayerOptions<T>) -> MoELayer<R, E>;
template <class R, class E, class B, class W>
MoELayer(R, E, SharedExperts<B, W>) -> MoELayer<R, E, SharedExperts<B, W>>;
template <class R, class E, class B, class W, class T>
MoELayer(R, E, SharedExperts<B, W>, LayerOptions<T>) -> MoELayer<R, E, SharedExperts<B, W>>;

}  // namespace moe::inline MOE_ABI
