#pragma once

#include <array>
#include <cstddef>
#include <utility>

#include "lora_adapters.hpp"

namespace moe::inline MOE_ABI {

template <PanelSource Base>
class LoraExperts;

namespace detail {

template <class S>
inline constexpr bool adapts = false;
template <class Base>
inline constexpr bool adapts<LoraExperts<Base>> = true;

}  // namespace detail

/// A bank of experts, over views or packed in any format, with low-rank updates: each product of the base has scale B
/// (A x) added, without B A ever being formed. A and B are views of the user's memory, in the type that the bank
/// computes in, read at each call: an optimiser may change them between two. With B = 0 the bits are those of the base.
///
///     const moe::LoraAdapters<float> adapters{.gate = {moe::stacked(gate_a, n_experts, rank, d_model),
///                                                      moe::stacked(gate_b, n_experts, d_ff, rank)},
///                                             .scale = alpha / rank};  // and up, down
///     const moe::MoELayer layer{router, moe::LoraExperts{moe::pack<moe::Int4>(frozen).experts(), adapters}};
///
/// u = A x is recomputed in each task, for its rows and up to eight panels of columns; nothing is kept between tasks.
/// To serve adapters that no longer change, merge them into the weights (train/merge_lora.hpp).
template <PanelSource Base>
class LoraExperts {
public:
    using base_type = Base;
    using element_type = typename Base::element_type;
    using value_type = typename Base::value_type;
    using form_type = typename Base::form_type;

    static_assert(!detail::adapts<Base>, "LoraExperts: the base has adapters already: merge these, or add their ranks");

    /// Throws Error(shape, missing) naming both shapes where adapters do not fit the base, Error(range) for a scale
    /// that is not finite, or a base that multiplies integers or bfloat16, whose rows an adapter cannot read.
    LoraExperts(Base base, LoraAdapters<value_type> adapters)
        : base_(std::move(base)), adapters_(std::move(adapters)), layout_(base_.layout()) {
        ensure(!base_.activations().encoded(), ErrorCode::range,
               "LoraExperts: the base computes with Compute::int8 or bf16, adapters need Compute::exact");
        detail::check_adapters(adapters_, layout_, base_.n_experts());
    }

    [[nodiscard]] const Base& base() const noexcept { return base_; }
    [[nodiscard]] const LoraAdapters<value_type>& adapters() const noexcept { return adapters_; }

    [[nodiscard]] std::size_t n_experts() const noexcept { return base_.n_experts(); }
    [[nodiscard]] std::size_t d_model() const noexcept { return layout_.d_model; }
    [[nodiscard]] std::size_t d_ff() const noexcept { return layout_.d_ff; }
    [[nodiscard]] const form_type& form() const noexcept { return base_.form(); }
    [[nodiscard]] const PanelLayout<value_type>& layout() const noexcept { return layout_; }

    /// The name of what of the weights has bytes in common with `memory`, or null.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        if (adapters_.overlaps(memory)) {
            return "the LoRA adapters";
        }
        if constexpr (requires { base_.overlapped(memory); }) {
            return base_.overlapped(memory);
        } else {
            return nullptr;
        }
    }

    // PanelSource.

    [[nodiscard]] ActivationFormat<value_type> activations() const noexcept { return base_.activations(); }
    void multiply_hidden(std::size_t e, PanelRange panels, RowPointers rows,
                         const PanelScratch<value_type>& scratch) const {
        base_.multiply_hidden(e, panels, rows, scratch);
        add_hidden(e, panels, rows, scratch);
    }
    void multiply_output(std::size_t e, PanelRange panels, RowPointers rows,
                         const PanelScratch<value_type>& scratch) const {
        base_.multiply_output(e, panels, rows, scratch);
        const std::array<detail::LoraColumns<value_type>, 1> down{{{&adapters_.down, 0, Panel<value_type>::width}}};
        detail::add_low_rank<value_type>(down, e, layout_.d_ff, scale(), panels, rows, scratch);
    }
    void hidden_bias(std::size_t e, std::size_t panel, value_type* row) const { base_.hidden_bias(e, panel, row); }
    void output_bias(std::size_t e, std::size_t panel, value_type* row) const { base_.output_bias(e, panel, row); }

    /// What the adapters add to products of the base.
    void add_hidden(std::size_t e, PanelRange panels, RowPointers rows, const PanelScratch<value_type>& scratch) const {
        const std::size_t columns = layout_.hidden_columns();
        const std::array<detail::LoraColumns<value_type>, 2> hidden{
            {{&adapters_.gate, 0, columns}, {&adapters_.up, layout_.gated ? columns : 0, columns}}};
        detail::add_low_rank<value_type>(hidden, e, layout_.d_model, scale(), panels, rows, scratch);
    }

private:
    [[nodiscard]] value_type scale() const noexcept { return static_cast<value_type>(adapters_.scale); }

    Base base_;
    LoraAdapters<value_type> adapters_;
    PanelLayout<value_type> layout_;
};

}  // namespace moe::inline MOE_ABI
