#pragma once

#include <cstddef>

#include "../core/index.hpp"
#include "../kernels/tile.hpp"

namespace moe::inline MOE_ABI {

/// How the outputs of an expert's two products are cut into panels. A panel of the hidden layer of a gated expert holds
/// gate columns in its first half and the up columns of the same outputs in its second, so that one pass over the
/// activations computes both and the form is applied while they are at hand.
template <class T>
struct PanelLayout {
    std::size_t d_model = 0;
    std::size_t d_ff = 0;
    bool gated = false;

    /// Hidden units a panel covers.
    [[nodiscard]] constexpr std::size_t hidden_columns() const noexcept {
        return gated ? Panel<T>::width / 2 : Panel<T>::width;
    }
    [[nodiscard]] constexpr std::size_t hidden_panels() const noexcept { return divide_up(d_ff, hidden_columns()); }
    [[nodiscard]] constexpr std::size_t output_panels() const noexcept { return divide_up(d_model, Panel<T>::width); }
    /// Products of a row with the input projections.
    [[nodiscard]] constexpr std::size_t kept_values() const noexcept { return gated ? 2 * d_ff : d_ff; }
};

}  // namespace moe::inline MOE_ABI
