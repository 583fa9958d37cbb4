#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <string_view>

namespace bench {

/// How the library stores the weights, and how it computes with them.
enum class Format : unsigned char { f32, bf16, f16, int8, int4 };
enum class Compute : unsigned char {
    exact,   ///< products in float32
    int8,    ///< activations quantised to 8 bits, integer dot products
    bf16x3,  ///< activations split into three bfloat16, products of the matrix unit
    bf16,    ///< activations rounded to bfloat16, products of the matrix unit or of vectors of bfloat16
};

struct FormatInfo {
    Format format;
    std::string_view name;
    double bytes_per_weight;  ///< scales of groups included
};
inline constexpr std::array all_formats{
    FormatInfo{Format::f32, "f32", 4.0},         FormatInfo{Format::bf16, "bf16", 2.0},
    FormatInfo{Format::f16, "f16", 2.0},         FormatInfo{Format::int8, "int8", 34.0 / 32},
    FormatInfo{Format::int4, "int4", 18.0 / 32},
};

struct ComputeInfo {
    Compute compute;
    std::string_view name;
    double peak;  ///< operations a second, as a multiple of the FMA peak
};
inline constexpr std::array all_computes{
    ComputeInfo{Compute::exact, "exact", 1.0},
    ComputeInfo{Compute::int8, "int8", 4.0},
    ComputeInfo{Compute::bf16x3, "bf16x3", 1.0},
    ComputeInfo{Compute::bf16, "bf16", 2.0},
};

[[nodiscard]] constexpr const FormatInfo& info(Format format) noexcept {
    return all_formats[static_cast<unsigned>(format)];
}
[[nodiscard]] constexpr const ComputeInfo& info(Compute compute) noexcept {
    return all_computes[static_cast<unsigned>(compute)];
}

[[nodiscard]] constexpr bool quantized(Format format) noexcept {
    return format == Format::int8 || format == Format::int4;
}
/// What of this program's processor decides which computes it has.
struct Instructions {
    bool matrix_unit = false;
    bool bfloat16 = false;  ///< products of bfloat16, in vectors or on the unit
};

/// Whether the library can compute so with weights of this format, with these instructions; other combinations are left
/// out.
[[nodiscard]] constexpr bool supported(Format format, Compute compute, Instructions has) noexcept {
    switch (compute) {
        case Compute::exact: return true;
        case Compute::int8: return quantized(format);
        case Compute::bf16x3: return format == Format::bf16 && has.matrix_unit;
        case Compute::bf16: return format != Format::f32 && has.bfloat16;
    }
    return false;
}

/// What is measured where the command line names no compute: the fastest of a format for so many tokens.
[[nodiscard]] constexpr Compute fastest_compute(Format format, std::size_t tokens, Instructions has) noexcept {
    constexpr std::size_t many_tokens = 512;
    if (quantized(format)) {
        return Compute::int8;
    }
    return tokens >= many_tokens && supported(format, Compute::bf16, has) ? Compute::bf16 : Compute::exact;
}

/// Largest normalised mean squared error of a result against the rounded weights' in double before it counts as wrong:
/// for integers and bfloat16 what the library promises for normal inputs, 2e-4 and 2e-5, and four standard deviations
/// above it, each sqrt(2 / values) of it for the mean of so many squares: one token of a small shape has few values. A
/// mistake makes an error near 1.
[[nodiscard]] inline double tolerance(Compute compute, std::size_t values) noexcept {
    const double promised = compute == Compute::int8 ? 2e-4 : 2e-5;
    const bool rounds = compute == Compute::int8 || compute == Compute::bf16;
    return rounds ? promised * (1 + 4 * std::sqrt(2 / static_cast<double>(values))) : 1e-10;
}

}  // namespace bench
