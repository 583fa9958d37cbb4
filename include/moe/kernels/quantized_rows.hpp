#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "../core/index.hpp"
#include "../formats/quantized.hpp"

namespace moe::inline MOE_ABI {

/// Activations of 8 bits: groups of 32 neighbours share a float32 scale; a value is code * scale, code -127..127.
///
/// A row of k values is `codes()` bytes, zero beyond k, followed by a GroupScale for every group. The sum of a group
/// times the zero point of the weights it will meet is kept beside its scale: integer kernels multiply unsigned weights
/// and begin from it, which costs nothing.
struct GroupScale {
    float scale;
    std::int32_t offset;  ///< -zero_point * sum of the codes
};

struct QuantizedRows {
    std::size_t k = 0;  ///< values of a row

    [[nodiscard]] constexpr std::size_t groups() const noexcept { return divide_up(k, quantization_group); }
    [[nodiscard]] constexpr std::size_t codes() const noexcept { return groups() * quantization_group; }

    /// Bytes from row to row: whole cache lines.
    [[nodiscard]] constexpr std::size_t stride() const noexcept {
        return round_up(codes() + groups() * sizeof(GroupScale), 64);
    }
};

namespace detail {

/// Codes of one group from `x` (32 values), which may hold anything: a NaN or infinity makes the scale NaN, so that
/// every output of the row is NaN, and only of that row. Loops of a constant length over integers, which compilers
/// vectorise: as integers magnitudes are ordered, NaN above infinity above all others, and their maximum may be taken
/// in any order.
inline void quantize_activations(const float* x, int zero_point, std::byte* codes, GroupScale& meta) noexcept {
    // 1.5 * 2^23: adding it rounds to the nearest integer, ties to even, in the lowest bits of the sum
    constexpr float magic = 12582912.0F;
    constexpr std::uint32_t magic_bits = 0x4B400000U;
    constexpr std::uint32_t infinity_bits = 0x7F800000U;
    std::uint32_t largest = 0;
    for (std::size_t i = 0; i < quantization_group; ++i) {
        largest = (std::max)(largest, std::bit_cast<std::uint32_t>(x[i]) & 0x7FFFFFFFU);
    }
    const bool finite = largest < infinity_bits;
    const float scale = finite ? std::bit_cast<float>(largest) / 127.0F : std::numeric_limits<float>::quiet_NaN();
    const float inverse = finite ? inverse_scale(scale) : 0.0F;
    std::array<std::uint32_t, quantization_group> rounded;
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < quantization_group; ++i) {
        rounded[i] = std::bit_cast<std::uint32_t>(x[i] * inverse + magic) - magic_bits;
        sum += rounded[i];
    }
    for (std::size_t i = 0; i < quantization_group; ++i) {
        codes[i] = static_cast<std::byte>(static_cast<std::uint8_t>(finite ? rounded[i] : 0));
    }
    meta.scale = scale;
    meta.offset = finite ? -zero_point * static_cast<std::int32_t>(sum) : 0;
}

}  // namespace detail

/// Groups [first, first + n_groups) of a row, from `x`, whose first value is that of group `first` and of which `valid`
/// values exist. `row` is the row's first byte.
inline void quantize_groups(const QuantizedRows& layout, std::size_t first, std::size_t n_groups, const float* x,
                            std::size_t valid, int zero_point, std::byte* row) noexcept {
    std::array<float, quantization_group> padded;
    for (std::size_t g = 0; g < n_groups; ++g) {
        const std::size_t begin = g * quantization_group;
        const float* source = x + begin;
        if (begin + quantization_group > valid) {
            const std::size_t rest = valid > begin ? valid - begin : 0;
            padded.fill(0.0F);
            std::copy_n(x + (std::min)(begin, valid), rest, padded.begin());
            source = padded.data();
        }
        GroupScale meta{};
        detail::quantize_activations(source, zero_point, row + (first + g) * quantization_group, meta);
        std::memcpy(row + layout.codes() + (first + g) * sizeof meta, &meta, sizeof meta);
    }
}

/// Columns [first, first + columns) of a row, where both are whole groups; those beyond k do not exist.
inline void quantize_columns(const QuantizedRows& layout, std::size_t first, std::size_t columns, const float* x,
                             int zero_point, std::byte* row) noexcept {
    const std::size_t group = first / quantization_group;
    quantize_groups(layout, group, (std::min)(columns / quantization_group, layout.groups() - group), x,
                    layout.k - first, zero_point, row);
}

/// A whole row. Complexity O(k).
inline void quantize_row(const QuantizedRows& layout, const float* x, int zero_point, std::byte* row) noexcept {
    quantize_groups(layout, 0, layout.groups(), x, layout.k, zero_point, row);
}

}  // namespace moe::inline MOE_ABI
