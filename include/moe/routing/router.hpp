#pragma once

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

#include "../core/borrowed.hpp"
#include "../core/emptied.hpp"
#include "../core/matrix_view.hpp"
#include "../core/never.hpp"
#include "../gating/diagnose.hpp"
#include "../gating/gate.hpp"
#include "../parallel/executor.hpp"
#include "linear.hpp"
#include "plan.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// W, or float where W is none.
template <class W>
using WeightOr = std::conditional_t<WeightElement<W>, W, float>;

}  // namespace detail

/// Chooses the experts of each token: logits = weight * x + bias, then the gate. Weights are float, double, bfloat16 or
/// float16 (n_logits, d_model) in the user's memory, n_logits = n_experts for most gates; logits are computed in float,
/// in double for double weights. A gate that reads no logits needs no weights.
template <WeightElement W, class G>
class Router {
public:
    using element_type = W;
    using value_type = ComputeType<W>;
    using gate_type = G;

    static_assert(check_gate<G, value_type>());

    /// False for a type that is almost a gate: check_gate has then said what to type, and nothing else shall.
    static constexpr bool has_gate = Gate<G, value_type>;

    /// Throws Error: shapes that disagree, and whatever the gate's own validation refuses.
    Router(MatrixView<const W> weight, G gate) : Router(weight, {}, std::move(gate)) {}

    /// `bias` (n_logits), added to the logits; a bias that moves the choice alone belongs to the gate.
    Router(MatrixView<const W> weight, Borrowed<const W> bias, G gate)
        : Router(WeightStack<W>(weight.data(), 1, weight.rows(), weight.cols(), weight.stride(),
                                checked_multiply(weight.rows(), weight.stride())),
                 bias, std::move(gate)) {}

    /// Weights that are no weights: told what to be.
    template <class V>
        requires(!WeightElement<std::remove_const_t<V>>)
    Router(MatrixView<V>, G gate) : gate_(std::move(gate)) {
        static_assert(detail::never<V>, "Router: weights are float, double, moe::bfloat16 or moe::float16.");
    }

    /// Any storage order, as a stack of one matrix.
    Router(WeightStack<W> weight, G gate) : Router(std::move(weight), {}, std::move(gate)) {}
    Router(WeightStack<W> weight, Borrowed<const W> bias, G gate)
        : linear_(std::move(weight), bias), gate_(std::move(gate)) {
        if constexpr (has_gate) {
            n_experts_ = Emptied<std::size_t>(moe::gate_n_experts(gate_, linear_.outputs()));
        }
        confirm();
    }

    /// No weights, for a gate that needs no logits. Throws Error(missing) for any other.
    Router(std::size_t n_experts, G gate) : gate_(std::move(gate)), n_experts_(n_experts) {
        ensure(!has_logits(), ErrorCode::missing, "Router: this gate reads logits, so the router needs weights");
        confirm();
    }

    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_.get(); }
    [[nodiscard]] const Linear<W>& linear() const& noexcept { return linear_; }
    [[nodiscard]] Linear<W> linear() && { return std::move(linear_); }

    /// The same router with its weights copied into panels. Equal bits.
    template <Executor E = SerialExecutor>
    [[nodiscard]] Router packed(const E& executor = {}) const {
        Router result = *this;
        result.linear_ = linear_.packed(executor);
        return result;
    }
    /// See Linear::repack; the gate stays.
    void repack(const Router& from, const ExecutorRef& executor) { linear_.repack(from.linear_, executor); }
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
    void confirm() const {
        if constexpr (has_gate) {
            moe::validate_gate(gate_, n_experts_.get());
        }
    }

    Linear<W> linear_;
    G gate_;
    Emptied<std::size_t> n_experts_;
};

// The bias is left out of the deduction, so that a vector or an array of the weights' type may be given as one.
template <class W, class G>
Router(MatrixView<W>, G) -> Router<detail::WeightOr<std::remove_const_t<W>>, G>;
template <class W, class G>
Router(MatrixView<W>, std::type_identity_t<Borrowed<const std::remove_const_t<W>>>, G)
    -> Router<std::remove_const_t<W>, G>;
template <class W, class G>
Router(WeightStack<W>, G) -> Router<W, G>;
template <class W, class G>
Router(WeightStack<W>, std::type_identity_t<Borrowed<const W>>, G) -> Router<W, G>;
template <class G>
Router(std::size_t, G) -> Router<float, G>;

}  // namespace moe::inline MOE_ABI
