#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

#include "panel_source.hpp"

namespace moe::inline MOE_ABI {

/// The matrices of a bank of experts. Plain forms leave `gate` empty; biases are optional stacks with one column.
template <WeightElement W>
struct ExpertWeights {
    WeightStack<W> gate;       ///< (n_experts, d_ff, d_model), empty for plain forms
    WeightStack<W> up;         ///< (n_experts, d_ff, d_model)
    WeightStack<W> down;       ///< (n_experts, d_model, d_ff)
    WeightStack<W> gate_bias;  ///< (n_experts, d_ff, 1) or empty
    WeightStack<W> up_bias;    ///< (n_experts, d_ff, 1) or empty
    WeightStack<W> down_bias;  ///< (n_experts, d_model, 1) or empty
};

/// Experts of one form and one shape over the user's weights: expert e computes
/// `down * form(gate * x + gate_bias, up * x + up_bias) + down_bias`, products in float (double for double weights).
/// Panels are gathered from the user's layout each time they are used; PackedExperts does it once.
template <WeightElement W, ExpertForm Form>
class ExpertBank {
public:
    using element_type = W;
    using value_type = ComputeType<W>;
    using form_type = Form;

    /// Throws Error(shape, missing) when a matrix the form needs is absent or the shapes disagree, naming them, and
    /// whatever the form's own validation refuses.
    ExpertBank(Form form, ExpertWeights<W> weights) : form_(form), weights_(std::move(weights)) {
        validate_form(form_);
        const WeightStack<W>& up = weights_.up;
        require(!up.empty(), ErrorCode::missing, "ExpertBank: the up projection is missing");
        require(!weights_.down.empty(), ErrorCode::missing, "ExpertBank: the down projection is missing");
        require(form_.gated() != weights_.gate.empty(), ErrorCode::missing,
                form_.gated() ? "ExpertBank: a gated form needs a gate projection, which is missing"
                              : "ExpertBank: a plain form has no gate projection, but one was given");
        layout_ = {up.inputs(), up.outputs(), form_.gated()};
        check("gate", weights_.gate, layout_.d_ff, layout_.d_model);
        check("down", weights_.down, layout_.d_model, layout_.d_ff);
        check("gate bias", weights_.gate_bias, layout_.d_ff, 1);
        check("up bias", weights_.up_bias, layout_.d_ff, 1);
        check("down bias", weights_.down_bias, layout_.d_model, 1);
        require(form_.gated() || weights_.gate_bias.empty(), ErrorCode::missing,
                "ExpertBank: a gate bias was given to a plain form");
    }

    [[nodiscard]] std::size_t n_experts() const noexcept { return weights_.up.n_experts(); }
    [[nodiscard]] std::size_t d_model() const noexcept { return layout_.d_model; }
    [[nodiscard]] std::size_t d_ff() const noexcept { return layout_.d_ff; }
    [[nodiscard]] const Form& form() const noexcept { return form_; }
    [[nodiscard]] const PanelLayout<value_type>& layout() const noexcept { return layout_; }
    [[nodiscard]] const ExpertWeights<W>& weights() const noexcept { return weights_; }

    /// Expert `e` as a bank of one, over the same memory.
    [[nodiscard]] ExpertBank expert(std::size_t e) const {
        const auto one = [e](const WeightStack<W>& stack) { return stack.empty() ? stack : stack.expert(e); };
        return {form_,
                {one(weights_.gate), one(weights_.up), one(weights_.down), one(weights_.gate_bias),
                 one(weights_.up_bias), one(weights_.down_bias)}};
    }

    /// Inputs [first, first + depth) of one panel, (depth, width) at `target`, in the compute type or, for packing, the
    /// storage type.
    template <class Target>
    void gather_hidden(std::size_t e, std::size_t panel, std::size_t first, std::size_t depth,
                       Target* target) const noexcept {
        const std::size_t columns = layout_.hidden_columns();
        if (layout_.gated) {
            detail::pack_columns(weights_.gate, e, panel * columns, columns, first, depth, target);
            detail::pack_columns(weights_.up, e, panel * columns, columns, first, depth, target + columns);
        } else {
            detail::pack_columns(weights_.up, e, panel * columns, columns, first, depth, target);
        }
    }
    template <class Target>
    void gather_output(std::size_t e, std::size_t panel, std::size_t first, std::size_t depth,
                       Target* target) const noexcept {
        constexpr std::size_t columns = Panel<value_type>::width;
        detail::pack_columns(weights_.down, e, panel * columns, columns, first, depth, target);
    }

    // PanelSource.

    [[nodiscard]] static ActivationFormat<value_type> activations() noexcept { return {}; }
    void multiply_hidden(std::size_t e, PanelRange panels, RowPointers rows,
                         const PanelScratch<value_type>& scratch) const {
        multiply_gathered<value_type>(rows, layout_.d_model, panels.count, scratch,
                                      [&](std::size_t i, std::size_t first, std::size_t depth, value_type* block) {
                                          gather_hidden(e, panels.first + i, first, depth, block);
                                      });
    }
    void multiply_output(std::size_t e, PanelRange panels, RowPointers rows,
                         const PanelScratch<value_type>& scratch) const {
        multiply_gathered<value_type>(rows, layout_.d_ff, panels.count, scratch,
                                      [&](std::size_t i, std::size_t first, std::size_t depth, value_type* block) {
                                          gather_output(e, panels.first + i, first, depth, block);
                                      });
    }
    void hidden_bias(std::size_t e, std::size_t panel, value_type* row) const noexcept {
        std::fill_n(row, Panel<value_type>::width, value_type(0));
        const std::size_t columns = layout_.hidden_columns();
        bias_row(weights_.gate_bias, e, panel * columns, columns, row);
        bias_row(weights_.up_bias, e, panel * columns, columns, layout_.gated ? row + columns : row);
    }
    void output_bias(std::size_t e, std::size_t panel, value_type* row) const noexcept {
        constexpr std::size_t columns = Panel<value_type>::width;
        std::fill_n(row, columns, value_type(0));
        bias_row(weights_.down_bias, e, panel * columns, columns, row);
    }

private:
    void check(std::string_view name, const WeightStack<W>& stack, std::size_t outputs, std::size_t inputs) const {
        require(stack.empty() ||
                    (stack.n_experts() == n_experts() && stack.outputs() == outputs && stack.inputs() == inputs),
                ErrorCode::shape, "ExpertBank: ", name, " is ", stack.n_experts(), " x ", stack.outputs(), " x ",
                stack.inputs(), " but up is ", n_experts(), " x ", layout_.d_ff, " x ", layout_.d_model, ", so ", name,
                " must be ", n_experts(), " x ", outputs, " x ", inputs);
    }

    static void bias_row(const WeightStack<W>& stack, std::size_t e, std::size_t first, std::size_t columns,
                         value_type* row) noexcept {
        if (!stack.empty()) {
            detail::pack_columns(stack, e, first, columns, 0, 1, row);
        }
    }

    Form form_;
    ExpertWeights<W> weights_;
    PanelLayout<value_type> layout_;
};

/// A bank of gated experts without biases, from stacks of gate, up and down or from a joined gate_up.
template <WeightElement W, class Activation>
struct GatedBank : ExpertBank<W, Gated<Activation>> {
    GatedBank(WeightStack<W> gate, WeightStack<W> up, WeightStack<W> down)
        : ExpertBank<W, Gated<Activation>>({}, {.gate = std::move(gate),
                                                .up = std::move(up),
                                                .down = std::move(down),
                                                .gate_bias = {},
                                                .up_bias = {},
                                                .down_bias = {}}) {}
    GatedBank(GateUp<W> gate_up, WeightStack<W> down)
        : GatedBank(std::move(gate_up.gate), std::move(gate_up.up), std::move(down)) {}
};

/// down * (silu(gate * x) . (up * x)): Mixtral, Qwen, DeepSeek and most others.
template <WeightElement W>
struct SwiGLU : GatedBank<W, Silu> {
    using GatedBank<W, Silu>::GatedBank;
};
template <class W>
SwiGLU(WeightStack<W>, WeightStack<W>, WeightStack<W>) -> SwiGLU<W>;
template <class W>
SwiGLU(GateUp<W>, WeightStack<W>) -> SwiGLU<W>;

/// The same with GELU (Grok-1).
template <WeightElement W>
struct GeGLU : GatedBank<W, Gelu> {
    using GatedBank<W, Gelu>::GatedBank;
};
template <class W>
GeGLU(WeightStack<W>, WeightStack<W>, WeightStack<W>) -> GeGLU<W>;
template <class W>
GeGLU(GateUp<W>, WeightStack<W>) -> GeGLU<W>;

/// The same with ReLU.
template <WeightElement W>
struct ReGLU : GatedBank<W, Relu> {
    using GatedBank<W, Relu>::GatedBank;
};
template <class W>
ReGLU(WeightStack<W>, WeightStack<W>, WeightStack<W>) -> ReGLU<W>;
template <class W>
ReGLU(GateUp<W>, WeightStack<W>) -> ReGLU<W>;

}  // namespace moe::inline MOE_ABI
