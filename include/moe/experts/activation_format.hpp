#pragma once

#include <cstddef>
#include <type_traits>

#include "../core/index.hpp"
#include "../kernels/bfloat16_rows.hpp"
#include "../kernels/quantized_rows.hpp"
#include "panel_layout.hpp"

namespace moe::inline MOE_ABI {

/// In what form an FFN takes the rows it multiplies: values of its compute type, 8-bit codes in groups (QuantizedRows)
/// made for weights with a given zero point, or bfloat16 (Bfloat16Rows). Rows in another form than values are made once
/// for all experts and panels that read them.
template <class T>
class ActivationFormat {
public:
    /// Values of T.
    constexpr ActivationFormat() = default;

    [[nodiscard]] static constexpr ActivationFormat codes(int zero_point) noexcept {
        return ActivationFormat(Kind::codes, zero_point);
    }
    [[nodiscard]] static constexpr ActivationFormat bfloat16s() noexcept {
        return ActivationFormat(Kind::bfloat16s, 0);
    }

    /// Whether rows are in another form than values.
    [[nodiscard]] constexpr bool encoded() const noexcept { return kind_ != Kind::values; }

    /// Bytes from row to row of k encoded values.
    [[nodiscard]] constexpr std::size_t stride(std::size_t k) const noexcept {
        return kind_ == Kind::codes ? QuantizedRows{k}.stride() : Bfloat16Rows{k}.stride();
    }

    /// Bytes from row to row of k hidden activations, whole panels, so that they can be stored without a tail.
    [[nodiscard]] constexpr std::size_t hidden_stride(const PanelLayout<T>& layout) const {
        return encoded() ? stride(layout.d_ff)
                         : checked_multiply(layout.hidden_panels(), layout.hidden_columns() * sizeof(T));
    }
    /// Bytes from row to row of encoded inputs; 0 where the inputs are used as they are.
    [[nodiscard]] constexpr std::size_t input_stride(const PanelLayout<T>& layout) const noexcept {
        return encoded() ? stride(layout.d_model) : 0;
    }

    /// Values [first, first + columns) of a row of k, where both are whole groups of 32; those beyond k do not exist.
    /// `row` is the row's first byte. Only of encoded rows.
    void encode_columns(std::size_t k, std::size_t first, std::size_t columns, const T* values,
                        std::byte* row) const noexcept {
        if constexpr (std::is_same_v<T, float>) {
            if (kind_ == Kind::codes) {
                quantize_columns(QuantizedRows{k}, first, columns, values, zero_point_, row);
            } else {
                round_columns(Bfloat16Rows{k}, first, columns, values, row);
            }
        }
    }
    void encode_row(std::size_t k, const T* values, std::byte* row) const noexcept {
        encode_columns(k, 0, round_up(k, quantization_group), values, row);
    }

    friend constexpr bool operator==(const ActivationFormat&, const ActivationFormat&) = default;

private:
    enum class Kind : unsigned char { values, codes, bfloat16s };

    constexpr ActivationFormat(Kind kind, int zero_point) noexcept : kind_(kind), zero_point_(zero_point) {}

    Kind kind_ = Kind::values;
    int zero_point_ = 0;
};

}  // namespace moe::inline MOE_ABI
