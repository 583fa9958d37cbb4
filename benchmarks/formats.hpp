#pragma once

#include <array>
#include <string_view>

namespace bench {

/// How the library stores the weights, and how it computes with them.
enum class Format : unsigned char { f32, bf16, f16 };
enum class Compute : unsigned char { exact };

struct FormatInfo {
    Format format;
    std::string_view name;
    double bytes_per_weight;  ///< scales of groups included
};
inline constexpr std::array all_formats{
    FormatInfo{Format::f32, "f32", 4.0},
    FormatInfo{Format::bf16, "bf16", 2.0},
    FormatInfo{Format::f16, "f16", 2.0},
};

struct ComputeInfo {
    Compute compute;
    std::string_view name;
    double peak;  ///< operations a second, as a multiple of the FMA peak
};
inline constexpr std::array all_computes{
    ComputeInfo{Compute::exact, "exact", 1.0},
};

[[nodiscard]] constexpr const FormatInfo& info(Format format) noexcept {
    return all_formats[static_cast<unsigned>(format)];
}
[[nodiscard]] constexpr const ComputeInfo& info(Compute compute) noexcept {
    return all_computes[static_cast<unsigned>(compute)];
}

/// Whether the library can compute so with weights of this format; other combinations are left out.
[[nodiscard]] constexpr bool supported(Format, Compute) noexcept { return true; }

/// Largest normalised mean squared error of a result against the rounded weights' in double before it counts as wrong.
/// A mistake makes an error near 1.
[[nodiscard]] constexpr double tolerance(Format, Compute) noexcept { return 1e-10; }

}  // namespace bench
