#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

#include "../../layer/latent_layer.hpp"
#include "gradient_overlap.hpp"
#include "trained.hpp"

namespace moe::inline MOE_ABI {

/// Where the gradients of a LatentLayer are added; what is empty is not computed.
template <class T>
struct LatentGradients {
    MutableStack<T> in{};    ///< (1, d_latent, d_model)
    std::span<T> in_bias{};  ///< (d_latent)
    /// Of the layer inside; its router's input only where a call gave one of its own, else it is part of dx.
    LayerGradients<T> inner{};
    MutableStack<T> out{};                     ///< (1, d_model, d_latent)
    std::span<T> out_bias{};                   ///< (d_model)
    std::vector<ExpertGradients<T>> shared{};  ///< one a shared expert, or none
};

/// What a forward pass of a LatentLayer leaves for the backward pass: the tape of the layer inside, what went into it
/// and came out, 3 d_latent values a token, the third for gradients on their way. As Tape it views x and the router's
/// input, reuses its memory, and serves one call in flight.
template <class T = float>
class LatentTape {
public:
    LatentTape() = default;
    // The tape of the layer inside views memory of this one, which moves along.
    LatentTape(LatentTape&&) noexcept = default;
    LatentTape& operator=(LatentTape&&) noexcept = default;
    LatentTape(const LatentTape&) = delete;
    LatentTape& operator=(const LatentTape&) = delete;
    ~LatentTape() = default;

    [[nodiscard]] bool recorded() const noexcept { return outside_.recorded(); }
    /// Of the layer inside: for losses of its routing.
    [[nodiscard]] Tape<T>& inner() & noexcept { return inner_; }
    [[nodiscard]] const Tape<T>& inner() const& noexcept { return inner_; }
    const Tape<T>& inner() const&& = delete;  // temporary: give it a name

private:
    template <class, class, class>
    friend class LatentRecorder;
    template <class, class, class>
    friend class LatentBackward;

    /// One of the three.
    [[nodiscard]] MatrixView<T> rows_of(std::vector<T>& values) const {
        return view(values.data(), outside_.x().rows(), d_latent_);
    }
    /// Whether something may flow through a row of padding, where x may be anything: nothing does where there is no
    /// gradient.
    [[nodiscard]] bool takes_part(std::size_t t, const T* gradient, std::size_t n) const {
        return outside_.is_valid(t) || std::any_of(gradient, gradient + n, [](T value) { return value != 0; });
    }

    std::size_t d_latent_ = 0;
    bool reads_x_ = true;  // the router inside
    Tape<T> inner_;
    Tape<T> outside_;  // of x itself, with a plan of no experts, for the shared ones
    std::vector<Index> no_experts_;
    std::vector<T> latent_;  // (n_tokens, d_latent)
    std::vector<T> routed_;  // the same; in the backward pass its gradient
    std::vector<T> d_latent_rows_;
    LayerGradients<T> of_inner_;
    LayerGradients<T> of_shared_;
};

template <class Inner, class W, class SharedBank>
struct Trained<LatentLayer<Inner, W, SharedBank>> {
    using tape = LatentTape<ComputeType<W>>;
    using gradients = LatentGradients<ComputeType<W>>;
};

template <class T>
[[nodiscard]] bool overlaps(const LatentGradients<T>& to, const ByteView& memory) {
    return to.in.overlaps(memory) || to.out.overlaps(memory) || overlaps(to.inner, memory) ||
           overlapped(memory, {{"", bytes_of(to.in_bias)}, {"", bytes_of(to.out_bias)}}) != nullptr ||
           std::any_of(to.shared.begin(), to.shared.end(),
                       [&](const ExpertGradients<T>& shared) { return overlaps(shared, memory); });
}

}  // namespace moe::inline MOE_ABI
