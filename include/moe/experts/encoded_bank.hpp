#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "../kernels/turned_product.hpp"
#include "encoded_stack.hpp"
#include "expert_bank.hpp"

namespace moe::inline MOE_ABI {

/// The matrices of a bank of experts as a checkpoint has them, each in an encoding of its own, and biases in float.
struct EncodedWeights {
    using element_type = float;  ///< what they are decoded to

    EncodedStack gate{};             ///< (n_experts, d_ff, d_model), empty for plain forms
    EncodedStack up{};               ///< (n_experts, d_ff, d_model)
    EncodedStack down{};             ///< (n_experts, d_model, d_ff)
    WeightStack<float> gate_bias{};  ///< (n_experts, d_ff, 1) or empty
    WeightStack<float> up_bias{};    ///< (n_experts, d_ff, 1) or empty
    WeightStack<float> down_bias{};  ///< (n_experts, d_model, 1) or empty
};

namespace detail {

/// Packs columns [first_output, ...) of one stack, as many of `columns` as there are, into `target`: (depth, width), in
/// rows of Panel<float>::width.
inline void decode_columns(const EncodedStack& stack, std::size_t e, std::size_t first_output, std::size_t columns,
                           std::size_t first_input, std::size_t depth, float* target) {
    constexpr std::size_t width = Panel<float>::width;
    constexpr std::size_t rows = 16;     // what pack_block() turns over at once
    constexpr std::size_t inputs = 256;  // the largest blocks are decoded once where all of them are asked for
    std::array<float, rows * inputs> decoded;
    const std::size_t valid = (std::min)(columns, stack.outputs() - first_output);
    for (std::size_t k = 0; k < depth; k += inputs) {
        const std::size_t n = (std::min)(inputs, depth - k);
        for (std::size_t o = 0; o < columns; o += rows) {
            const std::size_t count = o < valid ? (std::min)(rows, valid - o) : 0;
            if (count > 0) {
                stack.decode(e, first_output + o, count, first_input + k, n, decoded.data(), n);
            }
            pack_block(WeightBlock<float>{decoded.data(), count, n, 1}, 0, n, (std::min)(rows, columns - o),
                       target + k * width + o, width);
        }
    }
}

/// See gather_hidden and its like of ExpertWeights.
inline void gather_hidden(const EncodedWeights& weights, std::size_t e, std::size_t panel, std::size_t first,
                          std::size_t depth, float* target) {
    constexpr std::size_t width = Panel<float>::width;
    const bool gated = !weights.gate.empty();
    const std::size_t columns = gated ? width / 2 : width;
    if (gated) {
        decode_columns(weights.gate, e, panel * columns, columns, first, depth, target);
    }
    decode_columns(weights.up, e, panel * columns, columns, first, depth, gated ? target + columns : target);
}
inline void gather_output(const EncodedWeights& weights, std::size_t e, std::size_t panel, std::size_t first,
                          std::size_t depth, float* target) {
    constexpr std::size_t columns = Panel<float>::width;
    decode_columns(weights.down, e, panel * columns, columns, first, depth, target);
}
inline void gather_hidden_bias(const EncodedWeights& weights, std::size_t e, std::size_t panel, float* row) {
    constexpr std::size_t width = Panel<float>::width;
    std::fill_n(row, width, 0.0F);
    const bool gated = !weights.gate.empty();
    const std::size_t columns = gated ? width / 2 : width;
    gather_bias(weights.gate_bias, e, panel * columns, columns, row);
    gather_bias(weights.up_bias, e, panel * columns, columns, gated ? row + columns : row);
}
inline void gather_output_bias(const EncodedWeights& weights, std::size_t e, std::size_t panel, float* row) {
    constexpr std::size_t columns = Panel<float>::width;
    std::fill_n(row, columns, 0.0F);
    gather_bias(weights.down_bias, e, panel * columns, columns, row);
}

/// `columns` outputs of a matrix of `outputs` from `first` on.
[[nodiscard]] inline TurnedColumns turned_columns(const BlockRows& rows, std::size_t outputs, std::size_t first,
                                                  std::size_t columns) noexcept {
    const std::size_t valid = first < outputs ? (std::min)(columns, outputs - first) : 0;
    return {rows, valid > 0 ? rows.first + first * rows.stride : rows.first, valid};
}

/// multiply_hidden and multiply_output of ExpertWeights, for matrices of blocks with codes: whether these are.
inline bool multiply_hidden_blocks(const EncodedWeights& weights, std::size_t e, PanelRange panels, RowPointers rows,
                                   const PanelScratch<float>& scratch) {
    const bool gated = !weights.gate.empty();
    const BlockRows up = weights.up.blocks(e);
    const BlockRows gate = gated ? weights.gate.blocks(e) : up;
    if (!turns_blocks(gate) || !turns_blocks(up)) {
        return false;
    }
    const std::size_t columns = gated ? Panel<float>::width / 2 : Panel<float>::width;
    const auto panel = [&](std::size_t i) {
        const std::size_t first = (panels.first + i) * columns;
        const std::size_t outputs = weights.up.outputs();
        return TurnedPanel{turned_columns(gate, outputs, first, columns),
                           gated ? turned_columns(up, outputs, first, columns) : TurnedColumns{}};
    };
    multiply_turned_blocks(rows, weights.up.inputs(), panels.count, scratch, panel);
    return true;
}
inline bool multiply_output_blocks(const EncodedWeights& weights, std::size_t e, PanelRange panels, RowPointers rows,
                                   const PanelScratch<float>& scratch) {
    constexpr std::size_t width = Panel<float>::width;
    const BlockRows down = weights.down.blocks(e);
    if (!turns_blocks(down)) {
        return false;
    }
    const auto panel = [&](std::size_t i) {
        return TurnedPanel{turned_columns(down, weights.down.outputs(), (panels.first + i) * width, width)};
    };
    multiply_turned_blocks(rows, weights.down.inputs(), panels.count, scratch, panel);
    return true;
}

}  // namespace detail

/// An ExpertBank over weights as a checkpoint encodes them: with products in float32, the bits of an ExpertBank<float>
/// over the decoded weights, without memory for these. They are decoded each time they are used, blocks of codes in
/// registers (kernels/turned_product.hpp), all else a block of a panel at a time; PackedExperts does it once, into any
/// of its formats, and is what many tokens want.
template <ExpertForm Form>
class EncodedBank {
public:
    using element_type = float;  ///< of what is kept beside it, like a gate, and of pack() without a format
    using value_type = float;
    using form_type = Form;

    /// Throws Error(shape, missing) when a matrix the form needs is absent or the shapes disagree, naming them, and
    /// whatever the form's own validation refuses.
    EncodedBank(Form form, EncodedWeights weights) : form_(form), weights_(std::move(weights)) {
        moe::validate_form(form_);
        layout_ = detail::check_bank<float>("EncodedBank", form_.gated(), weights_);
    }

    [[nodiscard]] std::size_t n_experts() const noexcept { return weights_.up.n_experts(); }
    [[nodiscard]] std::size_t d_model() const noexcept { return layout_.d_model; }
    [[nodiscard]] std::size_t d_ff() const noexcept { return layout_.d_ff; }
    [[nodiscard]] const Form& form() const noexcept { return form_; }
    [[nodiscard]] const PanelLayout<float>& layout() const noexcept { return layout_; }
    [[nodiscard]] const EncodedWeights& weights() const& noexcept { return weights_; }
    [[nodiscard]] EncodedWeights weights() && { return std::move(weights_); }

    /// Expert `e` as a bank of one, over the same memory.
    [[nodiscard]] EncodedBank expert(std::size_t e) const {
        const auto one = [e](const auto& stack) { return stack.empty() ? stack : stack.expert(e); };
        return {form_,
                {one(weights_.gate), one(weights_.up), one(weights_.down), one(weights_.gate_bias),
                 one(weights_.up_bias), one(weights_.down_bias)}};
    }

    /// The name of what of the weights has bytes in common with `memory`, or null.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        return detail::overlapped_weights(weights_, memory);
    }

    // PanelSource.

    [[nodiscard]] static ActivationFormat<float> activations() noexcept { return {}; }
    void multiply_hidden(std::size_t e, PanelRange panels, RowPointers rows, const PanelScratch<float>& scratch) const {
        if (detail::multiply_hidden_blocks(weights_, e, panels, rows, scratch)) {
            return;
        }
        const auto gather = [&](std::size_t i, std::size_t first, std::size_t depth, float* block) {
            detail::gather_hidden(weights_, e, panels.first + i, first, depth, block);
        };
        multiply_gathered<float>(rows, layout_.d_model, panels.count, scratch, {gather});
    }
    void multiply_output(std::size_t e, PanelRange panels, RowPointers rows, const PanelScratch<float>& scratch) const {
        if (detail::multiply_output_blocks(weights_, e, panels, rows, scratch)) {
            return;
        }
        const auto gather = [&](std::size_t i, std::size_t first, std::size_t depth, float* block) {
            detail::gather_output(weights_, e, panels.first + i, first, depth, block);
        };
        multiply_gathered<float>(rows, layout_.d_ff, panels.count, scratch, {gather});
    }
    void hidden_bias(std::size_t e, std::size_t panel, float* row) const {
        detail::gather_hidden_bias(weights_, e, panel, row);
    }
    void output_bias(std::size_t e, std::size_t panel, float* row) const {
        detail::gather_output_bias(weights_, e, panel, row);
    }

private:
    Form form_;
    EncodedWeights weights_;
    PanelLayout<float> layout_;
};

}  // namespace moe::inline MOE_ABI
