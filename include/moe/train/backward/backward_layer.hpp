#pragma once

#include <cstddef>
#include <vector>

#include "../../gating/backward.hpp"
#include "../../layer/pass/pass_layer.hpp"
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

    [[nodiscard]] BackwardExperts<T> shared(std::size_t s) const { return shared_at_(shared_, s); }

    template <class Layer>
    explicit BackwardLayer(const Layer& layer)
        : pass(layer.erased()),
          experts(layer.experts()),
          gate(&layer.router().gate()),
          shared_(&layer.shared().experts()),
          shared_at_([](const void* banks, std::size_t s) {
              using Bank = typename Layer::shared_type::bank_type;
              return BackwardExperts<T>((*static_cast<const std::vector<Bank>*>(banks))[s]);
          }) {
        using Gate = std::remove_cvref_t<decltype(layer.router().gate())>;
        gate_backward = [](const void* self, std::span<const T> logits, const Chosen<T>& chosen,
                           std::span<const T> d_weights, std::span<T> d_logits) {
            moe::gate_backward<T>(*static_cast<const Gate*>(self), logits, chosen, d_weights, d_logits);
        };
    }

private:
    const void* shared_;
    BackwardExperts<T> (*shared_at_)(const void*, std::size_t);
};

}  // namespace moe::inline MOE_ABI
