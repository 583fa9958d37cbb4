#pragma once

#include <concepts>
#include <cstddef>
#include <span>

#include "ffn.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// Whether a source multiplies as Compute::exact does. One that does not say does.
template <PanelSource S>
[[nodiscard]] bool computes_exactly(const S& source) {
    if constexpr (requires { source.compute(); }) {
        return source.compute() == decltype(source.compute())::exact;
    } else if constexpr (requires { source.first().layout(), source.second().layout(); }) {
        return computes_exactly(source.first()) && computes_exactly(source.second());
    } else if constexpr (requires { source.base().layout(), source.adapters(); }) {
        return computes_exactly(source.base());
    } else {
        return true;
    }
}

}  // namespace detail

/// Any PanelSource by reference: what runs over it is compiled once for each compute type, whatever the form of the
/// experts and the storage of their weights. A call through it does the products of up to max_task_rows rows and
/// max_task_panels panels, beside which it costs nothing. The source must outlive it.
template <class T>
class ExpertsRef {
public:
    /// Of no experts.
    ExpertsRef() = default;

    template <PanelSource S>
        requires std::same_as<typename S::value_type, T>
    explicit ExpertsRef(const S& source)
        : source_(&source),
          n_experts_(source.n_experts()),
          layout_(source.layout()),
          activations_(source.activations()),
          exact_(detail::computes_exactly(source)),
          compute_hidden_([](const void* self, std::size_t e, PanelRange panels, RowPointers x,
                             std::span<const T> scales, std::byte* hidden, std::size_t stride,
                             const PanelScratch<T>& scratch, const KeptRows<T>& kept) {
              moe::compute_hidden(*static_cast<const S*>(self), e, panels, x, scales, hidden, stride, scratch, kept);
          }),
          add_output_([](const void* self, std::size_t e, PanelRange panels, RowPointers hidden,
                         std::span<const T> weights, std::span<T* const> y, const PanelScratch<T>& scratch) {
              moe::add_output(*static_cast<const S*>(self), e, panels, hidden, weights, y, scratch);
          }) {
        if constexpr (requires(const ByteView& memory) { source.overlapped(memory); }) {
            overlapped_ = [](const void* self, const ByteView& memory) -> const char* {
                return static_cast<const S*>(self)->overlapped(memory);
            };
        }
    }

    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_; }
    [[nodiscard]] const PanelLayout<T>& layout() const noexcept { return layout_; }
    [[nodiscard]] const ActivationFormat<T>& activations() const noexcept { return activations_; }
    /// Bytes of a row of hidden activations, and of encoded inputs (0: inputs are used as they are).
    [[nodiscard]] std::size_t hidden_stride() const { return activations_.hidden_stride(layout_); }
    [[nodiscard]] std::size_t input_stride() const { return activations_.input_stride(layout_); }

    /// Whether products are those of Compute::exact.
    [[nodiscard]] bool exact() const noexcept { return exact_; }

    /// The name of what of the weights has bytes in common with `memory`, or null: also where the source does not say.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        return overlapped_ != nullptr ? overlapped_(source_, memory) : nullptr;
    }

    /// See moe::compute_hidden and moe::add_output.
    void compute_hidden(std::size_t e, PanelRange panels, RowPointers x, std::span<const T> scales, std::byte* hidden,
                        std::size_t stride, const PanelScratch<T>& scratch, const KeptRows<T>& kept = {}) const {
        compute_hidden_(source_, e, panels, x, scales, hidden, stride, scratch, kept);
    }
    void add_output(std::size_t e, PanelRange panels, RowPointers hidden, std::span<const T> weights,
                    std::span<T* const> y, const PanelScratch<T>& scratch) const {
        add_output_(source_, e, panels, hidden, weights, y, scratch);
    }

private:
    const void* source_ = nullptr;
    std::size_t n_experts_ = 0;
    PanelLayout<T> layout_;
    ActivationFormat<T> activations_;
    bool exact_ = true;
    const char* (*overlapped_)(const void*, const ByteView&) = nullptr;
    void (*compute_hidden_)(const void*, std::size_t, PanelRange, RowPointers, std::span<const T>, std::byte*,
                            std::size_t, const PanelScratch<T>&, const KeptRows<T>&) = nullptr;
    void (*add_output_)(const void*, std::size_t, PanelRange, RowPointers, std::span<const T>, std::span<T* const>,
                        const PanelScratch<T>&) = nullptr;
};

}  // namespace moe::inline MOE_ABI
