#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../../layer/neuron_layer.hpp"
#include "gradient_overlap.hpp"
#include "trained.hpp"

namespace moe::inline MOE_ABI {

/// Where the gradients of a NeuronLayer are added; what is empty is not computed. Of `down` and `up` only the rows of
/// experts that were chosen are touched.
template <class T>
struct NeuronGradients {
    MutableStack<T> router{};      ///< (1, n_outputs, d_router) of the product with the token: rows, or queries
    MutableStack<T> keys{};        ///< (1, n_heads * 2 * n_keys, d_key), where there are queries
    MatrixView<T> router_input{};  ///< (n_tokens, d_router), where a call gave one of its own
    MatrixView<T> down{};          ///< (n_experts, d_model)
    MatrixView<T> up{};            ///< (n_experts, d_model)
};

/// What a forward pass of a NeuronLayer leaves for the backward pass: queries and logits, and the experts chosen with
/// their weights; n_queries + n_heads * (2 n_keys + 2 top_k) values a token. As Tape it views x and the router's input,
/// reuses its memory, and serves one call in flight.
template <class T = float>
class NeuronTape {
public:
    NeuronTape() = default;

    /// False until a forward pass has filled it, and after the backward pass has used it.
    [[nodiscard]] bool recorded() const noexcept { return recorded_; }
    [[nodiscard]] MatrixView<const T> x() const noexcept { return x_; }
    [[nodiscard]] MatrixView<const T> router_input() const noexcept { return router_input_; }
    /// (n_tokens, n_heads * 2 * n_keys).
    [[nodiscard]] MatrixView<const T> logits() const& noexcept { return view(logits_.data(), x_.rows(), n_logits_); }
    MatrixView<const T> logits() const&& = delete;  // temporary: give it a name, this is a view of it
    /// (n_tokens, n_heads * top_k), and what they weigh; 0 in padding.
    [[nodiscard]] MatrixView<const ExpertId> experts() const& noexcept {
        return view(experts_.data(), x_.rows(), n_chosen_);
    }
    MatrixView<const ExpertId> experts() const&& = delete;  // temporary: give it a name, this is a view of it
    [[nodiscard]] MatrixView<const T> weights() const& noexcept { return view(weights_.data(), x_.rows(), n_chosen_); }
    MatrixView<const T> weights() const&& = delete;  // temporary: give it a name, this is a view of it

    /// What a forward pass of `layer` begins with, tells, and ends with; between these the tape is not recorded.
    void begin(const void* layer, MatrixView<const T> x, const ForwardOptions<T>& options) {
        recorded_ = false;
        layer_ = layer;
        x_ = x;
        router_input_ = options.router_input.cols() == 0 ? x : options.router_input;
    }
    void keep(const NeuronChoice<T>& choice, std::span<const std::uint8_t> valid) {
        n_logits_ = choice.logits.cols();
        n_queries_ = choice.queries.cols();
        n_chosen_ = choice.experts.cols();
        const std::size_t n = choice.logits.rows();
        logits_.assign(choice.logits.data(), choice.logits.data() + n * n_logits_);
        queries_.assign(choice.queries.data(), choice.queries.data() + n * n_queries_);
        experts_.assign(n * n_chosen_, ExpertId{0});
        weights_.assign(n * n_chosen_, T(0));
        tokens_.clear();
        for (std::size_t t = 0; t < n; ++t) {
            if (valid.empty() || valid[t] != 0) {
                tokens_.push_back(static_cast<Index>(t));
                std::copy_n(choice.experts.row(t), n_chosen_, experts_.data() + t * n_chosen_);
                std::copy_n(choice.weights.row(t), n_chosen_, weights_.data() + t * n_chosen_);
            }
        }
    }
    void finish() noexcept { recorded_ = true; }

private:
    template <class, class, class>
    friend class NeuronBackward;

    bool recorded_ = false;
    const void* layer_ = nullptr;
    MatrixView<const T> x_;
    MatrixView<const T> router_input_;
    std::size_t n_queries_ = 0;
    std::size_t n_logits_ = 0;
    std::size_t n_chosen_ = 0;
    std::vector<Index> tokens_;  // that are no padding
    std::vector<T> queries_;
    std::vector<T> logits_;
    std::vector<ExpertId> experts_;
    std::vector<T> weights_;
};

template <class W, class Activation, class RouterElement>
struct Trained<NeuronLayer<W, Activation, RouterElement>> {
    using tape = NeuronTape<ComputeType<W>>;
    using gradients = NeuronGradients<ComputeType<W>>;
};

template <class T>
[[nodiscard]] bool overlaps(const NeuronGradients<T>& to, const ByteView& memory) {
    return to.router.overlaps(memory) || to.keys.overlaps(memory) ||
           overlapped(memory, {{"", bytes_of(to.router_input)}, {"", bytes_of(to.down)}, {"", bytes_of(to.up)}}) !=
               nullptr;
}

}  // namespace moe::inline MOE_ABI
