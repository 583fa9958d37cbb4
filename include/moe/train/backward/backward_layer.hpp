#pragma once

#include <cstddef>
#include <vector>

#include "../../gating/backward.hpp"
#include "../../layer/pass/pass_layer.hpp"
#include "../parts/tape.hpp"
#include "backward_experts.hpp"

namespace moe::inline MOE_ABI {

/// A layer as its backward pass sees it: references, as PassLayer.
template <class T>
struct BackwardLayer {
    PassLayer<T> pass;
    BackwardExperts<T> experts;
    /// Adds the gradients of a token's logits; see gate_backward.
    void (*gate_backward)(const void* gate, std::span<const T> logits, const Chosen<T>& chosen,
                          std::span<const T> d_weights, std::span<T> d_logits) = nullptr;
    const void* gate = nullptr;
    TapeOwner owner;  ///< whose tapes it takes

    [[nodiscard]] BackwardExperts<T> shared(std::size_t s) const { return shared_at_(shared_, s); }

    template <class Layer>
    explicit BackwardLayer(const Layer& layer)
        : pass(layer.erased()), experts(layer.experts()), owner(moe::tape_owner(&layer.options(), layer.router())) {
        ask(layer.router());
        point_at(layer.shared());
    }

    /// A router of somebody else's experts. To `options` they are zero experts, through which nothing flows: what the
    /// weights of the plan are worth must stand in Tape::d_weights.
    template <class RouterType>
    BackwardLayer(const RouterType& router, const LayerOptions<T>& options, const TapeOwner& the_owner)
        : owner(the_owner) {
        pass.n_experts = router.n_experts();
        pass.router = LinearRef<T>(router.linear());
        if constexpr (RouterType::has_gate) {
            pass.has_gate = true;
            pass.gate = GateRef<T>(router.gate());
        }
        pass.options = &options;
        ask(router);
    }

    /// Shared experts alone, for a tape whose plan has no experts.
    template <class Bank, class GateElement>
    BackwardLayer(const SharedExperts<Bank, GateElement>& shared, const LayerOptions<T>& options,
                  const TapeOwner& the_owner)
        : owner(the_owner) {
        pass.shared = SharedRef<T>(shared);
        pass.options = &options;
        point_at(shared);
    }

private:
    template <class RouterType>
    void ask(const RouterType& router) {
        using Gate = std::remove_cvref_t<decltype(router.gate())>;
        gate = &router.gate();
        gate_backward = [](const void* self, std::span<const T> logits, const Chosen<T>& chosen,
                           std::span<const T> d_weights, std::span<T> d_logits) {
            moe::gate_backward<T>(*static_cast<const Gate*>(self), logits, chosen, d_weights, d_logits);
        };
    }

    template <class Bank, class GateElement>
    void point_at(const SharedExperts<Bank, GateElement>& shared) {
        shared_ = &shared.experts();
        shared_at_ = [](const void* banks, std::size_t s) {
            return BackwardExperts<T>((*static_cast<const std::vector<Bank>*>(banks))[s]);
        };
    }

    const void* shared_ = nullptr;
    BackwardExperts<T> (*shared_at_)(const void*, std::size_t) = nullptr;
};

}  // namespace moe::inline MOE_ABI
