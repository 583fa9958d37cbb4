#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include "../core/workspace.hpp"
#include "../parallel/executor.hpp"
#include "expert_bank.hpp"

namespace moe::inline MOE_ABI {

/// A bank of experts copied once into panels, in the storage type of its source: float32 and float64 panels are then
/// used in place, 16-bit ones are converted as they stream. Results have the same bits as the bank it was made from.
/// Owns its memory: about the size of the weights, with d_ff and d_model rounded up to whole panels.
template <WeightElement W, ExpertForm Form>
class PackedExperts {
public:
    using element_type = W;
    using value_type = ComputeType<W>;
    using form_type = Form;

    /// Packs on the workers of `executor`. Complexity: every weight read and written once. Throws std::bad_alloc.
    template <class Executor = SerialExecutor>
    explicit PackedExperts(const ExpertBank<W, Form>& bank, const Executor& executor = {})
        : form_(bank.form()), layout_(bank.layout()), n_experts_(bank.n_experts()) {
        const std::size_t weights = checked_multiply(n_experts_, expert_size());
        const std::size_t biases = checked_multiply(n_experts_, bias_size());
        weights_ = AlignedBuffer(checked_multiply(weights, sizeof(W)));
        biases_ = AlignedBuffer(checked_multiply(biases, sizeof(value_type)));
        pack(bank, ExecutorRef(executor));
    }

    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_; }
    [[nodiscard]] std::size_t d_model() const noexcept { return layout_.d_model; }
    [[nodiscard]] std::size_t d_ff() const noexcept { return layout_.d_ff; }
    [[nodiscard]] const Form& form() const noexcept { return form_; }
    [[nodiscard]] const PanelLayout<value_type>& layout() const noexcept { return layout_; }

    /// Bytes it owns.
    [[nodiscard]] std::size_t bytes() const noexcept { return weights_.size() + biases_.size(); }

    const value_type* hidden_block(std::size_t e, std::size_t panel, std::size_t first, std::size_t depth,
                                   value_type* buffer) const noexcept {
        return unpack(panel_weights(e, panel) + first * width, depth, buffer);
    }
    const value_type* output_block(std::size_t e, std::size_t panel, std::size_t first, std::size_t depth,
                                   value_type* buffer) const noexcept {
        return unpack(panel_weights(e, layout_.hidden_panels() + panel) + first * width, depth, buffer);
    }
    void hidden_bias(std::size_t e, std::size_t panel, value_type* row) const noexcept {
        std::copy_n(bias(e) + panel * width, width, row);
    }
    void output_bias(std::size_t e, std::size_t panel, value_type* row) const noexcept {
        std::copy_n(bias(e) + (layout_.hidden_panels() + panel) * width, width, row);
    }

private:
    static constexpr std::size_t width = Panel<value_type>::width;

    /// Elements of an expert: its hidden panels of (d_model, width), then its output panels of (d_ff, width).
    [[nodiscard]] std::size_t expert_size() const {
        return checked_add(checked_multiply(checked_multiply(layout_.hidden_panels(), layout_.d_model), width),
                           checked_multiply(checked_multiply(layout_.output_panels(), layout_.d_ff), width));
    }
    [[nodiscard]] std::size_t bias_size() const noexcept {
        return (layout_.hidden_panels() + layout_.output_panels()) * width;
    }

    [[nodiscard]] std::size_t panel_offset(std::size_t e, std::size_t panel) const noexcept {
        const std::size_t hidden = layout_.hidden_panels();
        const std::size_t hidden_size = layout_.d_model * width;
        const std::size_t output_size = layout_.d_ff * width;
        return e * (hidden * hidden_size + layout_.output_panels() * output_size) +
               std::min(panel, hidden) * hidden_size + (panel > hidden ? panel - hidden : 0) * output_size;
    }
    [[nodiscard]] const W* panel_weights(std::size_t e, std::size_t panel) const noexcept {
        return reinterpret_cast<const W*>(weights_.data()) + panel_offset(e, panel);
    }
    [[nodiscard]] const value_type* bias(std::size_t e) const noexcept {
        return reinterpret_cast<const value_type*>(biases_.data()) + e * bias_size();
    }

    static const value_type* unpack(const W* packed, std::size_t depth, value_type* buffer) noexcept {
        if constexpr (std::is_same_v<W, value_type>) {
            return packed;
        } else {
            convert_run(packed, depth * width, buffer);
            return buffer;
        }
    }

    void pack(const ExpertBank<W, Form>& bank, const ExecutorRef& executor) {
        const std::size_t hidden = layout_.hidden_panels();
        const std::size_t panels = hidden + layout_.output_panels();
        TaskQueue queue;
        executor.run([&](std::size_t, std::size_t) {
            for (std::size_t task = queue.take(); task < n_experts_ * panels; task = queue.take()) {
                const std::size_t e = task / panels;
                const std::size_t panel = task % panels;
                W* const target = reinterpret_cast<W*>(weights_.data()) + panel_offset(e, panel);
                value_type* const bias_row =
                    reinterpret_cast<value_type*>(biases_.data()) + e * bias_size() + panel * width;
                if (panel < hidden) {
                    (void)bank.hidden_block(e, panel, 0, layout_.d_model, target);
                    bank.hidden_bias(e, panel, bias_row);
                } else {
                    (void)bank.output_block(e, panel - hidden, 0, layout_.d_ff, target);
                    bank.output_bias(e, panel - hidden, bias_row);
                }
            }
        });
    }

    Form form_;
    PanelLayout<value_type> layout_;
    std::size_t n_experts_;
    AlignedBuffer weights_;
    AlignedBuffer biases_;
};

}  // namespace moe::inline MOE_ABI
