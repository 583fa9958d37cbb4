#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

#include "../kernels/in_place_product.hpp"
#include "panel_source.hpp"

namespace moe::inline MOE_ABI {

/// The matrices of a bank of experts. Plain forms leave `gate` empty; biases are optional stacks with one column.
template <WeightElement W>
struct ExpertWeights {
    using element_type = W;

    WeightStack<W> gate{};       ///< (n_experts, d_ff, d_model), empty for plain forms
    WeightStack<W> up{};         ///< (n_experts, d_ff, d_model)
    WeightStack<W> down{};       ///< (n_experts, d_model, d_ff)
    WeightStack<W> gate_bias{};  ///< (n_experts, d_ff, 1) or empty
    WeightStack<W> up_bias{};    ///< (n_experts, d_ff, 1) or empty
    WeightStack<W> down_bias{};  ///< (n_experts, d_model, 1) or empty
};

/// The weights of a bank as panels, whatever the form: what is compiled once for a storage type.
namespace detail {

/// The sizes that the weights of a `bank`, which is its name, have. Throws Error as the constructor of ExpertBank does.
template <class T, class Weights>
[[nodiscard]] PanelLayout<T> check_bank(const char* bank, bool gated, const Weights& weights) {
    const auto& up = weights.up;
    ensure(!up.empty(), ErrorCode::missing, bank, ": the up projection is missing");
    ensure(!weights.down.empty(), ErrorCode::missing, bank, ": the down projection is missing");
    ensure(gated != weights.gate.empty(), ErrorCode::missing, bank,
           gated ? ": a gated form needs a gate projection, which is missing"
                 : ": a plain form has no gate projection, but one was given");
    const PanelLayout<T> layout{up.inputs(), up.outputs(), gated};
    const auto confirm = [&](const char* name, const auto& stack, std::size_t outputs, std::size_t inputs) {
        ensure(stack.empty() ||
                   (stack.n_experts() == up.n_experts() && stack.outputs() == outputs && stack.inputs() == inputs),
               ErrorCode::shape, bank, ": ", name, " is ", stack.n_experts(), " x ", stack.outputs(), " x ",
               stack.inputs(), " but up is ", up.n_experts(), " x ", layout.d_ff, " x ", layout.d_model, ", so ", name,
               " must be ", up.n_experts(), " x ", outputs, " x ", inputs);
    };
    confirm("gate", weights.gate, layout.d_ff, layout.d_model);
    confirm("down", weights.down, layout.d_model, layout.d_ff);
    confirm("gate bias", weights.gate_bias, layout.d_ff, 1);
    confirm("up bias", weights.up_bias, layout.d_ff, 1);
    confirm("down bias", weights.down_bias, layout.d_model, 1);
    ensure(gated || weights.gate_bias.empty(), ErrorCode::missing, bank, ": a gate bias was given to a plain form");
    return layout;
}
template <WeightElement W>
[[nodiscard]] PanelLayout<ComputeType<W>> check_weights(bool gated, const ExpertWeights<W>& weights) {
    return check_bank<ComputeType<W>>("ExpertBank", gated, weights);
}

template <class Weights>
[[nodiscard]] const char* overlapped_weights(const Weights& weights, const ByteView& memory) {
    return weights.gate.overlaps(memory)        ? "the gate projections"
           : weights.up.overlaps(memory)        ? "the up projections"
           : weights.down.overlaps(memory)      ? "the down projections"
           : weights.gate_bias.overlaps(memory) ? "the biases of the gate projections"
           : weights.up_bias.overlaps(memory)   ? "the biases of the up projections"
           : weights.down_bias.overlaps(memory) ? "the biases of the down projections"
                                                : nullptr;
}

/// Inputs [first, first + depth) of one panel, (depth, width) at `target`, in the compute type or, for packing, the
/// storage type.
template <WeightElement W, class Target>
void gather_hidden(const ExpertWeights<W>& weights, std::size_t e, std::size_t panel, std::size_t first,
                   std::size_t depth, Target* target) {
    constexpr std::size_t width = Panel<ComputeType<W>>::width;
    const bool gated = !weights.gate.empty();
    const std::size_t columns = gated ? width / 2 : width;
    if (gated) {
        pack_columns(weights.gate, e, panel * columns, columns, first, depth, target);
    }
    pack_columns(weights.up, e, panel * columns, columns, first, depth, gated ? target + columns : target);
}
template <WeightElement W, class Target>
void gather_output(const ExpertWeights<W>& weights, std::size_t e, std::size_t panel, std::size_t first,
                   std::size_t depth, Target* target) {
    constexpr std::size_t columns = Panel<ComputeType<W>>::width;
    pack_columns(weights.down, e, panel * columns, columns, first, depth, target);
}

/// Columns of a row of biases: (width), zero where there is none.
template <WeightElement W>
void gather_bias(const WeightStack<W>& stack, std::size_t e, std::size_t first, std::size_t columns,
                 ComputeType<W>* row) {
    if (!stack.empty()) {
        pack_columns(stack, e, first, columns, 0, 1, row);
    }
}
template <WeightElement W>
void gather_hidden_bias(const ExpertWeights<W>& weights, std::size_t e, std::size_t panel, ComputeType<W>* row) {
    constexpr std::size_t width = Panel<ComputeType<W>>::width;
    std::fill_n(row, width, ComputeType<W>(0));
    const bool gated = !weights.gate.empty();
    const std::size_t columns = gated ? width / 2 : width;
    gather_bias(weights.gate_bias, e, panel * columns, columns, row);
    gather_bias(weights.up_bias, e, panel * columns, columns, gated ? row + columns : row);
}
template <WeightElement W>
void gather_output_bias(const ExpertWeights<W>& weights, std::size_t e, std::size_t panel, ComputeType<W>* row) {
    constexpr std::size_t columns = Panel<ComputeType<W>>::width;
    std::fill_n(row, columns, ComputeType<W>(0));
    gather_bias(weights.down_bias, e, panel * columns, columns, row);
}

/// scratch.sums = rows (n_rows, d_model or d_ff) times panels that are used where they lie.
template <WeightElement W>
void multiply_hidden(const ExpertWeights<W>& weights, std::size_t e, PanelRange panels, RowPointers rows,
                     const PanelScratch<ComputeType<W>>& scratch) {
    constexpr std::size_t width = Panel<ComputeType<W>>::width;
    const auto panel = [&](std::size_t i) {
        if (weights.gate.empty()) {
            return PanelView<W>{view_columns(weights.up, e, (panels.first + i) * width, width)};
        }
        const std::size_t first = (panels.first + i) * (width / 2);
        return PanelView<W>{view_columns(weights.gate, e, first, width / 2),
                            view_columns(weights.up, e, first, width / 2)};
    };
    multiply_views<W>(rows, weights.up.inputs(), panels.count, scratch, panel);
}
template <WeightElement W>
void multiply_output(const ExpertWeights<W>& weights, std::size_t e, PanelRange panels, RowPointers rows,
                     const PanelScratch<ComputeType<W>>& scratch) {
    constexpr std::size_t width = Panel<ComputeType<W>>::width;
    const auto panel = [&](std::size_t i) {
        return PanelView<W>{view_columns(weights.down, e, (panels.first + i) * width, width)};
    };
    multiply_views<W>(rows, weights.down.inputs(), panels.count, scratch, panel);
}

}  // namespace detail

/// Experts of one form and one shape over the user's weights: expert e computes
/// `down * form(gate * x + gate_bias, up * x + up_bias) + down_bias`, products in float (double for double weights).
/// Weights are turned over each time they are used, for a few rows in registers; PackedExperts does it once.
template <WeightElement W, ExpertForm Form>
class ExpertBank {
public:
    using element_type = W;
    using value_type = ComputeType<W>;
    using form_type = Form;

    /// Throws Error(shape, missing) when a matrix the form needs is absent or the shapes disagree, naming them, and
    /// whatever the form's own validation refuses.
    ExpertBank(Form form, ExpertWeights<W> weights) : form_(form), weights_(std::move(weights)) {
        moe::validate_form(form_);
        layout_ = detail::check_weights(form_.gated(), weights_);
    }

    [[nodiscard]] std::size_t n_experts() const noexcept { return weights_.up.n_experts(); }
    [[nodiscard]] std::size_t d_model() const noexcept { return layout_.d_model; }
    [[nodiscard]] std::size_t d_ff() const noexcept { return layout_.d_ff; }
    [[nodiscard]] const Form& form() const noexcept { return form_; }
    [[nodiscard]] const PanelLayout<value_type>& layout() const noexcept { return layout_; }
    [[nodiscard]] const ExpertWeights<W>& weights() const& noexcept { return weights_; }
    [[nodiscard]] ExpertWeights<W> weights() && { return std::move(weights_); }

    /// Expert `e` as a bank of one, over the same memory.
    [[nodiscard]] ExpertBank expert(std::size_t e) const {
        const auto one = [e](const WeightStack<W>& stack) { return stack.empty() ? stack : stack.expert(e); };
        return {form_,
                {one(weights_.gate), one(weights_.up), one(weights_.down), one(weights_.gate_bias),
                 one(weights_.up_bias), one(weights_.down_bias)}};
    }

    /// The name of what of the weights has bytes in common with `memory`, or null.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        return detail::overlapped_weights(weights_, memory);
    }

    // PanelSource.

    [[nodiscard]] static ActivationFormat<value_type> activations() noexcept { return {}; }
    void multiply_hidden(std::size_t e, PanelRange panels, RowPointers rows,
                         const PanelScratch<value_type>& scratch) const {
        detail::multiply_hidden(weights_, e, panels, rows, scratch);
    }
    void multiply_output(std::size_t e, PanelRange panels, RowPointers rows,
                         const PanelScratch<value_type>& scratch) const {
        detail::multiply_output(weights_, e, panels, rows, scratch);
    }
    void hidden_bias(std::size_t e, std::size_t panel, value_type* row) const {
        detail::gather_hidden_bias(weights_, e, panel, row);
    }
    void output_bias(std::size_t e, std::size_t panel, value_type* row) const {
        detail::gather_output_bias(weights_, e, panel, row);
    }

private:
    Form form_;
    ExpertWeights<W> weights_;
    PanelLayout<value_type> layout_;
};

/// A bank of gated experts without biases, from stacks of gate, up and down or from a joined gate_up.
template <WeightElement W, class Activation>
struct GatedBank : ExpertBank<W, Gated<Activation>> {
    GatedBank(WeightStack<W> gate, WeightStack<W> up, WeightStack<W> down)
        : ExpertBank<W, Gated<Activation>>({},
                                           {.gate = std::move(gate), .up = std::move(up), .down = std::move(down)}) {}
    GatedBank(GateUp<W> gate_up, WeightStack<W> down)
        : GatedBank(std::move(gate_up.gate), std::move(gate_up.up), std::move(down)) {}
};

/// down * (silu(gate * x) . (up * x)): Mixtral, Qwen, DeepSeek and most others.
template <WeightElement W>
struct SwiGLU : GatedBank<W, Silu> {
    using GatedBank<W, Silu>::GatedBank;
};
template <class W, class U, class D>
SwiGLU(WeightStack<W>, WeightStack<U>, WeightStack<D>) -> SwiGLU<W>;
template <class W, class D>
SwiGLU(GateUp<W>, WeightStack<D>) -> SwiGLU<W>;

/// The same with GELU, exact (Grok-1 has the form with tanh: Gated<GeluTanh>).
template <WeightElement W>
struct GeGLU : GatedBank<W, Gelu> {
    using GatedBank<W, Gelu>::GatedBank;
};
template <class W, class U, class D>
GeGLU(WeightStack<W>, WeightStack<U>, WeightStack<D>) -> GeGLU<W>;
template <class W, class D>
GeGLU(GateUp<W>, WeightStack<D>) -> GeGLU<W>;

/// The same with ReLU.
template <WeightElement W>
struct ReGLU : GatedBank<W, Relu> {
    using GatedBank<W, Relu>::GatedBank;
};
template <class W, class U, class D>
ReGLU(WeightStack<W>, WeightStack<U>, WeightStack<D>) -> ReGLU<W>;
template <class W, class D>
ReGLU(GateUp<W>, WeightStack<D>) -> ReGLU<W>;

}  // namespace moe::inline MOE_ABI
