#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

#include "../core/error.hpp"
#include "../core/float_environment.hpp"
#include "../core/matrix_view.hpp"
#include "../core/overlap.hpp"
#include "../experts/any_form.hpp"
#include "../gating/scores.hpp"
#include "../gating/top_k.hpp"
#include "parts/check_call.hpp"
#include "parts/tape.hpp"

namespace moe::inline MOE_ABI {

/// Default MoE (Panda et al. 2025, "Dense backpropagation improves training for sparse mixture-of-experts",
/// 2504.12463): an expert that a token does not go to gives it what it gives on average, so that the router hears of
/// all experts, at the cost of a product of two small matrices. With p = softmax(l) over all experts,
///
///     y += scale * sum over e not chosen of p_e m_e,     m_e <- decay m_e + (1 - decay) mean of f_e over its tokens
///
/// for a gate whose weights are p of the chosen, as they are: TokenChoice without normalisation. A step is
///
///     moe::forward(layer, x, y, tape, workspace);
///     defaults.update(layer, tape);          // once a step, before or after add
///     defaults.add(tape, y);                 // leave it away to use m in the backward pass alone, which is biased
///     ...                                    // dy
///     defaults.add_gradients(tape, dy);      // to tape.d_logits()
///     moe::backward(layer, tape, dy, dx, gradients, workspace);
///
/// The gradient is that of the y which add wrote, m being constant: so no update between the two.
template <class T>
class DefaultVectors {
public:
    /// `means` (n_experts, d_model), m: yours, kept in checkpoints, 0 or anything at first. Null experts have a row,
    /// too, which update leaves as it is. `scale` is the routed_scale of the layer. Throws Error(range): a decay
    /// outside 0..1, a scale that is not finite.
    explicit DefaultVectors(MatrixView<T> means, double decay = 0.99, double scale = 1)
        : means_(means), decay_(decay), scale_(scale) {
        ensure(decay >= 0 && decay <= 1, ErrorCode::range, "DefaultVectors: decay is ", decay, ", it must lie in 0..1");
        ensure(std::isfinite(scale), ErrorCode::range, "DefaultVectors: scale is ", scale, ", it must be finite");
    }

    [[nodiscard]] MatrixView<const T> means() const noexcept { return means_; }

    /// Moves the mean of each expert that has tokens, from the products that the tape keeps: the sum of the hidden
    /// values, then one product with the down projection. Experts must be views. Throws Error before anything is
    /// written: a tape that is not recorded (state) or kept no products (missing), weights at the input (range), means
    /// of another shape (shape). O(assignments d_ff + n_experts d_model d_ff), one thread; allocates until it has
    /// grown.
    template <class Layer>
    void update(const Layer& layer, const Tape<T>& tape);

    /// Adds to y (n_tokens, d_model) what the others give. Not to that of padding. Throws Error before anything is
    /// written: a tape that is not recorded (state) or has no logits (missing), other than one logit an expert, shapes
    /// (shape), y on the means (layout). O(n_tokens n_experts d_model), one thread.
    void add(const Tape<T>& tape, std::type_identity_t<MatrixView<T>> y) {
        confirm("DefaultVectors::add", tape, "y", y.rows(), y.cols());
        require_disjoint("DefaultVectors::add", "the means", means_, "y", y);
        for_tokens(tape, [&](std::size_t t, std::span<const T> p) {
            for (std::size_t e = 0; e < p.size(); ++e) {
                if (!is_chosen_[e]) {
                    const T weight = static_cast<T>(scale_) * p[e];
                    for (std::size_t i = 0; i < means_.cols(); ++i) {
                        y(t, i) += weight * means_(e, i);
                    }
                }
            }
        });
    }

    /// Adds to tape.d_logits() what flows through the p of add, from the gradients of y. Throws as add does. The same
    /// cost.
    void add_gradients(Tape<T>& tape, std::type_identity_t<MatrixView<const T>> dy) {
        confirm("DefaultVectors::add_gradients", tape, "dy", dy.rows(), dy.cols());
        for_tokens(tape, [&](std::size_t t, std::span<const T> p) {
            T mean = 0;
            for (std::size_t e = 0; e < p.size(); ++e) {
                T dot = 0;
                for (std::size_t i = 0; i < means_.cols() && !is_chosen_[e]; ++i) {
                    dot += means_(e, i) * dy(t, i);
                }
                d_scores_[e] = static_cast<T>(scale_) * dot;
                mean += d_scores_[e] * p[e];
            }
            const std::span<T> d_logits = tape.d_logits().row_span(t);
            for (std::size_t e = 0; e < p.size(); ++e) {
                if (!detail::excludes(tape.logits()(t, e))) {
                    d_logits[e] += p[e] * (d_scores_[e] - mean);
                }
            }
        });
    }

private:
    void confirm(const char* name, const Tape<T>& tape, const char* what, std::size_t rows, std::size_t cols) const {
        detail::ensure_recorded(name, tape.recorded());
        ensure(tape.plan().n_experts == means_.rows(), ErrorCode::shape, name, ": there are ", means_.rows(),
               " means of ", tape.plan().n_experts, " experts");
        ensure(tape.x().rows() == 0 || tape.logits().rows() > 0, ErrorCode::missing, name,
               ": the tape has no logits: the plan was given, or the gate reads none");
        ensure(tape.x().rows() == 0 || tape.logits().cols() == means_.rows(), ErrorCode::shape, name, ": there are ",
               tape.logits().cols(), " logits for ", means_.rows(), " experts, it must be one an expert");
        ensure(rows == tape.x().rows() && cols == means_.cols() && cols == tape.x().cols(), ErrorCode::shape, name,
               ": ", what, " is ", rows, " x ", cols, ", the means ", means_.rows(), " x ", means_.cols(), ", x was ",
               tape.x().rows(), " x ", tape.x().cols());
    }

    /// Calls f(t, p) for every token that is no padding, is_chosen_ saying who has it.
    template <class F>
    void for_tokens(const Tape<T>& tape, const F& f) {
        const FloatEnvironment environment;
        scores_.resize(means_.rows());
        d_scores_.resize(means_.rows());
        for (std::size_t t = 0; t < tape.logits().rows(); ++t) {
            if (tape.is_valid(t)) {
                is_chosen_.assign(means_.rows(), 0);
                for (const ExpertId e : tape.plan().experts_of(t)) {
                    is_chosen_[static_cast<std::size_t>(e)] = 1;
                }
                Softmax{}(tape.logits().row_span(t), std::span<T>(scores_));
                f(t, std::span<const T>(scores_));
            }
        }
    }

    MatrixView<T> means_;
    double decay_;
    double scale_;
    std::vector<T> scores_;
    std::vector<T> d_scores_;
    std::vector<unsigned char> is_chosen_;
    std::vector<double> hidden_;
};

namespace detail {

/// Adds the hidden values of a row of products, as the tape keeps it, of expert `e`.
template <class Bank, class T>
void add_hidden(const Bank& bank, std::size_t e, std::span<const T> row, std::span<double> hidden) {
    const auto& weights = bank.weights();
    const auto bias = [e](const auto& stack, std::size_t i) {
        return stack.empty() ? T(0) : static_cast<T>(load_element(stack.block(e, i, 1).data));
    };
    moe::visit_form(bank.form(), [&](const auto& form) {
        for (std::size_t i = 0; i < hidden.size(); ++i) {
            if constexpr (std::remove_cvref_t<decltype(form)>::gated()) {
                const T gate = row[i] + bias(weights.gate_bias, i);
                hidden[i] += static_cast<double>(form(gate, T(row[hidden.size() + i] + bias(weights.up_bias, i))));
            } else {
                hidden[i] += static_cast<double>(form(T(row[i] + bias(weights.up_bias, i))));
            }
        }
    });
}

}  // namespace detail

template <class T>
template <class Layer>
void DefaultVectors<T>::update(const Layer& layer, const Tape<T>& tape) {
    constexpr bool views = requires { layer.experts().weights().down.block(0, 0, 0); };
    static_assert(views, "DefaultVectors: the experts of the layer must be a moe::ExpertBank, which views weights.");
    if constexpr (views) {
        const auto& bank = layer.experts();
        confirm("DefaultVectors::update", tape, "x", tape.x().rows(), tape.x().cols());
        ensure(layer.options().weight_at == WeightAt::output, ErrorCode::range,
               "DefaultVectors::update: the weights are at the input of the experts, which then have no mean output");
        const std::span<const T> products = tape.products().routed;
        const std::size_t kept = bank.layout().kept_values();
        ensure(products.size() == tape.plan().expert_offsets[bank.n_experts()] * kept, ErrorCode::missing,
               "DefaultVectors::update: the tape kept no products: it must be of TapeKeeps::products");
        const FloatEnvironment environment;
        hidden_.resize(bank.d_ff());
        const auto& down = bank.weights().down;
        const auto& bias = bank.weights().down_bias;
        for (std::size_t e = 0; e < bank.n_experts(); ++e) {
            const std::size_t first = tape.plan().expert_offsets[e];
            const std::size_t count = tape.plan().expert_offsets[e + 1] - first;
            if (count == 0) {
                continue;
            }
            std::fill(hidden_.begin(), hidden_.end(), 0.0);
            for (std::size_t a = first; a < first + count; ++a) {
                detail::add_hidden(bank, e, products.subspan(a * kept, kept), std::span<double>(hidden_));
            }
            const auto block = down.block(e, 0, down.outputs());
            for (std::size_t o = 0; o < down.outputs(); ++o) {
                double sum = 0;
                for (std::size_t i = 0; i < hidden_.size(); ++i) {
                    sum += hidden_[i] * static_cast<double>(load_element(block.data + o * block.output_stride +
                                                                         i * block.input_stride));
                }
                const double shift = bias.empty() ? 0 : static_cast<double>(load_element(bias.block(e, o, 1).data));
                const double mean = sum / static_cast<double>(count) + shift;
                means_(e, o) = static_cast<T>(decay_ * static_cast<double>(means_(e, o)) + (1 - decay_) * mean);
            }
        }
    }
}

}  // namespace moe::inline MOE_ABI
