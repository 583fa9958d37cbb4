#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "panel_source.hpp"

namespace moe::inline MOE_ABI {

/// Two banks as one: the experts of `First`, and behind them those of `Second`, of the same form and sizes, in memory
/// and storage of their own. For experts that a checkpoint keeps apart and a router chooses together, as the shared
/// ones that Inkling weighs beside the routed ones (WithShared).
template <PanelSource First, PanelSource Second = First>
class JoinedExperts {
public:
    using element_type = typename First::element_type;
    using value_type = typename First::value_type;
    using form_type = typename First::form_type;

    static_assert(std::is_same_v<value_type, typename Second::value_type> &&
                      std::is_same_v<form_type, typename Second::form_type>,
                  "JoinedExperts: both banks must compute in the same type and have the same form");

    /// Throws Error(shape) naming both sizes, Error(range) where they multiply rows of different forms.
    JoinedExperts(First first, Second second) : first_(std::move(first)), second_(std::move(second)) {
        const auto a = first_.layout();
        const auto b = second_.layout();
        ensure(a.d_model == b.d_model && a.d_ff == b.d_ff, ErrorCode::shape,
               "JoinedExperts: the first bank has d_model ", a.d_model, " and d_ff ", a.d_ff, ", the second ",
               b.d_model, " and ", b.d_ff);
        ensure(first_.activations() == second_.activations(), ErrorCode::range,
               "JoinedExperts: both banks must compute in the same way, exact, int8 or bf16");
    }

    [[nodiscard]] const First& first() const noexcept { return first_; }
    [[nodiscard]] const Second& second() const noexcept { return second_; }

    // PanelSource.

    [[nodiscard]] std::size_t n_experts() const noexcept { return first_.n_experts() + second_.n_experts(); }
    [[nodiscard]] PanelLayout<value_type> layout() const noexcept { return first_.layout(); }
    [[nodiscard]] const form_type& form() const noexcept { return first_.form(); }
    [[nodiscard]] ActivationFormat<value_type> activations() const noexcept { return first_.activations(); }
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        const char* const name = first_.overlapped(memory);
        return name != nullptr ? name : second_.overlapped(memory);
    }
    void multiply_hidden(std::size_t e, PanelRange panels, RowPointers rows,
                         const PanelScratch<value_type>& scratch) const {
        of_expert(e, [&](const auto& bank, std::size_t i) { bank.multiply_hidden(i, panels, rows, scratch); });
    }
    void multiply_output(std::size_t e, PanelRange panels, RowPointers rows,
                         const PanelScratch<value_type>& scratch) const {
        of_expert(e, [&](const auto& bank, std::size_t i) { bank.multiply_output(i, panels, rows, scratch); });
    }
    void hidden_bias(std::size_t e, std::size_t panel, value_type* row) const {
        of_expert(e, [&](const auto& bank, std::size_t i) { bank.hidden_bias(i, panel, row); });
    }
    void output_bias(std::size_t e, std::size_t panel, value_type* row) const {
        of_expert(e, [&](const auto& bank, std::size_t i) { bank.output_bias(i, panel, row); });
    }

private:
    template <class Use>
    void of_expert(std::size_t e, Use&& use) const {
        if (e < first_.n_experts()) {
            use(first_, e);
        } else {
            use(second_, e - first_.n_experts());
        }
    }

    First first_;
    Second second_;
};

}  // namespace moe::inline MOE_ABI
