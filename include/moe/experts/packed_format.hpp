#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <type_traits>

#include "../core/error.hpp"
#include "../kernels/bfloat16_product.hpp"
#include "../kernels/quantized_product.hpp"
#include "../kernels/split_product.hpp"

namespace moe::inline MOE_ABI {

/// A format of weights in groups with a scale (formats/quantized.hpp).
template <class F>
concept QuantizedFormat = std::same_as<F, Int8> || std::same_as<F, Int4>;

/// A format packed weights may have: one of the storage types, Int8 or Int4.
template <class F>
concept PackedFormat = WeightElement<F> || QuantizedFormat<F>;

/// How products with packed weights are computed. Errors are normalised mean squared ones of a layer against the exact
/// products of the same weights, on normal inputs.
enum class Compute : unsigned char {
    /// Weights dequantised, products in float32: float accuracy against the dequantised weights.
    exact,
    /// Of Int8, Int4 and PackedBlocks: activations quantised to 8 bits in groups of 32, integer dot products: 2e-4.
    int8,
    /// Of bfloat16, on processors with a matrix unit (AMX): activations split into three bfloat16 whose sum they are,
    /// exact products summed in float32: float accuracy too, in other bits than `exact`.
    bf16x3,
    /// Of bfloat16, float16, Int8, Int4 and PackedBlocks: activations, and weights that are not bfloat16, rounded to it
    /// once, exact products summed in float32: 2e-5. Where the processor multiplies no bfloat16: `exact`.
    bf16,
    /// What pack() does unless told: `int8` of Int8, Int4 and blocks, `exact` of all others.
    by_format,
    /// `bf16` of 16-bit formats where the processor multiplies it, else as `by_format`.
    fastest,
};

/// Formats that have Compute::bf16.
template <class F>
inline constexpr bool packs_bfloat16 = QuantizedFormat<F> || std::same_as<F, bfloat16> || std::same_as<F, float16>;

/// What messages and descriptions call a format.
template <PackedFormat F>
[[nodiscard]] constexpr const char* format_name() noexcept {
    if constexpr (std::same_as<F, float>) {
        return "float32";
    } else if constexpr (std::same_as<F, double>) {
        return "float64";
    } else if constexpr (std::same_as<F, bfloat16>) {
        return "bfloat16";
    } else if constexpr (std::same_as<F, float16>) {
        return "float16";
    } else if constexpr (std::same_as<F, Int8>) {
        return "Int8";
    } else {
        return "Int4";
    }
}

/// The compute that a name for one of several stands for. It is the layer's, never a batch's or an expert's, so that
/// the bits of a token do not depend on how many rows it comes with.
template <PackedFormat F>
[[nodiscard]] Compute resolve_compute(Compute compute) noexcept {
    constexpr bool rounds = MOE_BFLOAT16_PRODUCTS != 0;
    if (compute == Compute::by_format || (compute == Compute::fastest && QuantizedFormat<F>)) {
        return QuantizedFormat<F> ? Compute::int8 : Compute::exact;
    }
    if (compute == Compute::fastest) {
        const bool may = !arch::MatrixUnit::present || arch::MatrixUnit::request();
        return rounds && sizeof(F) == sizeof(bfloat16) && may ? Compute::bf16 : Compute::exact;
    }
    return compute == Compute::bf16 && !rounds && packs_bfloat16<F> ? Compute::exact : compute;
}

/// What a bank of packed experts needs to know of its format.
template <PackedFormat F>
struct PackedPanel {
    using value_type = ComputeType<F>;
    using element_type = F;

    [[nodiscard]] static std::size_t bytes(std::size_t k) {
        return checked_multiply(k, Panel<value_type>::width * sizeof(F));
    }

    /// Inputs [first, first + depth) of the panel at `target`, from (depth, width) values.
    static void encode(const value_type* block, std::size_t first, std::size_t depth, std::byte* target) {
        F* const to = reinterpret_cast<F*>(target) + first * Panel<value_type>::width;
        std::transform(block, block + depth * Panel<value_type>::width, to, round_to);
    }

    static void multiply(RowPointers rows, std::size_t k, const PackedPanels& panels,
                         const PanelScratch<value_type>& scratch, [[maybe_unused]] Compute compute) {
#if MOE_BFLOAT16_PRODUCTS
        if constexpr (sizeof(F) == sizeof(bfloat16)) {
            if (compute == Compute::bf16) {
                return multiply_bfloat16<F>(rows, k, panels, scratch);
            }
        }
#endif
#if MOE_MATRIX_UNIT
        if constexpr (std::is_same_v<F, bfloat16>) {
            if (compute == Compute::bf16x3) {
                return multiply_split(rows, k, panels, scratch);
            }
        }
#endif
        multiply_packed<F>(rows, k, panels, scratch);
    }

private:
    static F round_to(value_type value) {
        if constexpr (std::is_same_v<F, bfloat16>) {
            return to_bfloat16(value);
        } else if constexpr (std::is_same_v<F, float16>) {
            return to_float16(value);
        } else {
            return value;
        }
    }
};

template <QuantizedFormat F>
struct PackedPanel<F> {
    using value_type = float;
    using element_type = float;

    [[nodiscard]] static std::size_t bytes(std::size_t k) {
        return checked_multiply(divide_up(k, quantization_group), QuantizedPanel<F>::group_bytes);
    }

    static void encode(const float* block, std::size_t first, std::size_t depth, std::byte* target) {
        for (std::size_t g = 0; g * quantization_group < depth; ++g) {
            const std::size_t begin = g * quantization_group;
            encode_group<F>(block + begin * Panel<float>::width, (std::min)(quantization_group, depth - begin),
                            target + (first + begin) / quantization_group * QuantizedPanel<F>::group_bytes);
        }
    }

    static void multiply(RowPointers rows, std::size_t k, const PackedPanels& panels,
                         const PanelScratch<float>& scratch, Compute compute) {
#if MOE_BFLOAT16_PRODUCTS
        if (compute == Compute::bf16) {
            return multiply_bfloat16<F>(rows, k, panels, scratch);
        }
#endif
        if (compute == Compute::int8) {
            multiply_quantized<F>(rows, k, panels, scratch);
        } else {
            multiply_dequantized<F>(rows, k, panels, scratch);
        }
    }
};

}  // namespace moe::inline MOE_ABI
