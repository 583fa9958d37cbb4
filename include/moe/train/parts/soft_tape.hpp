#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "../../layer/soft_moe_layer.hpp"
#include "gradient_overlap.hpp"
#include "trained.hpp"

namespace moe::inline MOE_ABI {

/// Where the gradients of a SoftMoELayer are added; what is empty is not computed.
template <class T>
struct SoftGradients {
    MutableStack<T> slots{};       ///< (1, n_slots, d_router)
    std::span<T> scale{};          ///< (1) of SoftMoEOptions::scale
    MatrixView<T> router_input{};  ///< (n_tokens, d_router), where a call gave one of its own
    ExpertGradients<T> experts{};
};

/// What a forward pass of a SoftMoELayer leaves for the backward pass: both matrices of weights and what went into the
/// experts and came out of them, 2 n_slots values a token and 4 d_model a slot, half of these for gradients on their
/// way. As Tape it views x and the router's input, reuses its memory, and serves one call in flight.
template <class T = float>
class SoftTape {
public:
    SoftTape() = default;
    // The tape of the experts views memory of this one, which moves along.
    SoftTape(SoftTape&&) noexcept = default;
    SoftTape& operator=(SoftTape&&) noexcept = default;
    SoftTape(const SoftTape&) = delete;
    SoftTape& operator=(const SoftTape&) = delete;
    ~SoftTape() = default;

    /// False until a forward pass has filled it, and after the backward pass has used it.
    [[nodiscard]] bool recorded() const noexcept { return recorded_; }
    [[nodiscard]] MatrixView<const T> x() const noexcept { return x_; }
    [[nodiscard]] MatrixView<const T> router_input() const noexcept { return router_input_; }
    /// (N) tokens that are no padding.
    [[nodiscard]] std::span<const Index> tokens() const& noexcept { return tokens_; }
    std::span<const Index> tokens() const&& = delete;  // temporary: give it a name, this is a view of it
    /// (N, n_slots) what the slots give a token.
    [[nodiscard]] MatrixView<const T> combine() const& noexcept {
        return view(combine_.data(), tokens_.size(), n_slots_);
    }
    MatrixView<const T> combine() const&& = delete;  // temporary: give it a name, this is a view of it
    /// (n_slots, N) what the tokens give a slot.
    [[nodiscard]] MatrixView<const T> dispatch() const& noexcept {
        return view(dispatch_.data(), n_slots_, tokens_.size());
    }
    MatrixView<const T> dispatch() const&& = delete;  // temporary: give it a name, this is a view of it

private:
    template <class, class>
    friend class SoftRecorder;
    template <class, class>
    friend class SoftBackward;

    /// The rows of the slots of one of the four.
    [[nodiscard]] MatrixView<T> rows_of(std::vector<T>& values) const {
        return view(values.data(), values.empty() ? 0 : n_slots_, x_.cols());
    }

    bool recorded_ = false;
    const void* layer_ = nullptr;
    MatrixView<const T> x_;
    MatrixView<const T> router_input_;
    std::size_t n_slots_ = 0;
    std::vector<Index> tokens_;
    std::vector<T> token_scales_;
    std::vector<T> combine_;
    std::vector<T> dispatch_;
    std::vector<T> inputs_;     // (n_slots, d_model), or none where all tokens are padding
    std::vector<T> outputs_;    // the same
    std::vector<T> d_outputs_;  // the same
    std::vector<T> d_inputs_;   // the same
    Tape<T> experts_;
    LayerGradients<T> of_experts_;
};

template <class W, class Experts>
struct Trained<SoftMoELayer<W, Experts>> {
    using tape = SoftTape<ComputeType<W>>;
    using gradients = SoftGradients<ComputeType<W>>;
};

template <class T>
[[nodiscard]] bool overlaps(const SoftGradients<T>& to, const ByteView& memory) {
    return to.slots.overlaps(memory) || overlaps(to.experts, memory) ||
           overlapped(memory, {{"", bytes_of(to.scale)}, {"", bytes_of(to.router_input)}}) != nullptr;
}

}  // namespace moe::inline MOE_ABI
