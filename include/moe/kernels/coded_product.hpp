#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "arch/integer_table.hpp"
#include "decoded_product.hpp"
#include "quantized_tile.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// The codes of a panel as the integers that dot products take.
template <PanelKind kind>
struct IntegerCodes {
    using L = arch::IntegerLanes;
    static_assert(L::size == lanes<float>);

    /// What each of them is too large by. A table has values of both signs: 128 and 12 make them positive.
    static constexpr int zero_point = kind.table == CodeTable::iq4   ? 128
                                      : kind.table == CodeTable::fp4 ? 12
                                                                     : static_cast<int>(kind.zero_point);
    /// Whether sums of the activations have to take that off again: see IntegerLanes::dot.
    static constexpr bool biased = zero_point != 0 && (L::multiplies_unsigned || zero_point != 128);

    static constexpr std::array<std::uint8_t, 16> table() noexcept {
        std::array<std::uint8_t, 16> result{};
        for (std::size_t i = 0; i < result.size(); ++i) {
            result[i] =
                static_cast<std::uint8_t>((kind.table == CodeTable::iq4 ? iq4_values[i] : fp4_values[i]) + zero_point);
        }
        return result;
    }
    static constexpr std::array<std::uint8_t, 16> values = table();

    template <std::size_t Pass>
    [[nodiscard]] static MOE_ALWAYS_INLINE L::Integer load(const std::byte* codes) noexcept {
        const L::Integer loaded = L::load(codes);
        if constexpr (kind.bits == 8) {
            return loaded;
        } else {
            const L::Integer nibbles = Pass == 0 ? L::low_nibbles(loaded) : L::high_nibbles(loaded);
            if constexpr (kind.table == CodeTable::linear) {
                return nibbles;
            } else {
                return arch::look_up(nibbles, values);
            }
        }
    }
};

/// The sum of 16 signed bytes.
[[nodiscard]] MOE_ALWAYS_INLINE std::int32_t sum_of_codes(const std::byte* codes) noexcept {
    constexpr std::uint64_t every_second = 0x00FF00FF00FF00FFU;
    constexpr std::uint64_t signs = 0x8080808080808080U;  // flipped: each byte plus 128
    std::array<std::uint64_t, 2> eight;
    std::memcpy(eight.data(), codes, sizeof eight);
    std::uint64_t pairs = 0;
    for (const std::uint64_t bytes : eight) {
        pairs += ((bytes ^ signs) & every_second) + (((bytes ^ signs) >> 8U) & every_second);
    }
    return static_cast<std::int32_t>((pairs * 0x0001000100010001U) >> 48U) - 16 * 128;
}

/// Quantised rows as one group of a panel meets them: `meta` is where their GroupScale is.
template <std::size_t Rows>
struct CodedRows {
    std::array<const std::byte*, Rows> codes;
    std::array<const std::byte*, Rows> meta;
};

/// sums (Rows, 64), of `Vectors` vectors from `first` on, += rows * one group.
template <PanelKind kind, std::size_t Rows, std::size_t Vectors>
MOE_ALWAYS_INLINE void multiply_coded_group(const CodedRows<Rows>& rows, const std::byte* factors,
                                            const std::byte* group, std::size_t first, float* MOE_RESTRICT sums,
                                            const std::byte* other) noexcept {
    using L = arch::IntegerLanes;
    using C = IntegerCodes<kind>;
    using D = PanelDecoder<kind>;
    constexpr bool halves = kind.shared == 16;
    std::array<std::array<std::int32_t, Rows>, 2> sum;  // of the activations' codes, as far as they share a scale
    for (std::size_t r = 0; r < Rows; ++r) {
        if constexpr (halves) {
            sum[0][r] = sum_of_codes(rows.codes[r]);
            sum[1][r] = sum_of_codes(rows.codes[r] + 16);
        } else {
            std::memcpy(&sum[0][r], rows.meta[r] + offsetof(GroupScale, offset), sizeof(std::int32_t));
            sum[0][r] = -sum[0][r];
        }
    }
    L::Integer acc[Rows][Vectors];
    const auto begin = [&](std::size_t half) MOE_INLINE_CALL {
        MOE_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
            const std::int32_t from = -C::zero_point * sum[half][r];
            const L::Integer start =
                C::biased ? L::broadcast(reinterpret_cast<const std::byte*>(&from)) : L::integer_zero();
            MOE_UNROLL
            for (std::size_t v = 0; v < Vectors; ++v) {
                acc[r][v] = start;
            }
        }
    };
    const auto dots = [&]<std::size_t Pass>() MOE_INLINE_CALL {
        for (std::size_t j = 0; j < D::steps; ++j) {
            const std::size_t at = D::template codes_at<Pass>(j) + first * 4 * L::size;
            if (kind.bits == 8 || Pass == 0) {
                prefetch_part<Vectors * 4 * L::size, 1>(other + at, 0);
            }
            L::Integer weight[Vectors];
            MOE_UNROLL
            for (std::size_t v = 0; v < Vectors; ++v) {
                weight[v] = C::template load<Pass>(group + at + v * 4 * L::size);
            }
            MOE_UNROLL
            for (std::size_t r = 0; r < Rows; ++r) {
                const L::Integer x = L::broadcast(rows.codes[r] + Pass * 16 + 4 * j);
                MOE_UNROLL
                for (std::size_t v = 0; v < Vectors; ++v) {
                    acc[r][v] = L::template dot < C::zero_point == 128 ? 128 : 8 > (acc[r][v], weight[v], x);
                }
            }
        }
    };
    const auto end = [&]<std::size_t Pass>() MOE_INLINE_CALL {
        MOE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) {
            const Vector<float> scale = D::template scale<Pass, false>(factors, group, first + v);
            const Vector<float> minimum = D::template minimum<Pass>(factors, group, first + v);
            MOE_UNROLL
            for (std::size_t r = 0; r < Rows; ++r) {
                float* const target = sums + r * Panel<float>::width + (first + v) * L::size;
                float x;
                std::memcpy(&x, rows.meta[r], sizeof x);
                Vector<float> value =
                    multiply_add<float>(Vector<float>(L::to_float(acc[r][v])), scale * Vector<float>(x), load(target));
                if constexpr (kind.minimum != MinimumForm::none) {
                    const float all = x * static_cast<float>(sum[halves ? Pass : 0][r]);
                    value = multiply_add<float>(minimum, Vector<float>(all), value);
                }
                store(target, value);
            }
        }
    };
    begin(0);
    dots.template operator()<0>();
    if constexpr (halves) {
        end.template operator()<0>();
        begin(1);
    }
    dots.template operator()<1>();
    end.template operator()<halves ? 1 : 0>();
}

/// Groups [first_group, end_group) of up to four panels, which take turns group by group: see multiply_decoded_rows.
template <PanelKind kind, std::size_t Rows>
MOE_NOINLINE void multiply_coded_rows(const std::byte* const* rows, const QuantizedRows& layout,
                                      std::size_t first_group, std::size_t end_group,
                                      const std::array<const std::byte*, 4>& panels, std::size_t count, float* c,
                                      std::size_t stride) noexcept {
    constexpr std::size_t ahead = 2048;
    constexpr std::size_t vectors = quantized_tile_vectors(Rows);
    if (first_group == 0) {
        for (std::size_t p = 0; p < count; ++p) {
            std::fill_n(c + p * stride, Rows * Panel<float>::width, 0.0F);
        }
    }
    CodedRows<Rows> at;
    for (std::size_t g = first_group; g < end_group; ++g) {
        for (std::size_t r = 0; r < Rows; ++r) {
            at.codes[r] = rows[r] + g * quantization_group;
            at.meta[r] = rows[r] + layout.codes() + g * sizeof(GroupScale);
        }
        for (std::size_t p = 0; p < count; ++p) {
            const std::byte* const other = panels[(p + count / 2) % count] + kind.group_at(g) + ahead;
            ask_for<kind.codes_at()>(other);
            for (std::size_t v = 0; v < Panel<float>::vectors; v += vectors) {
                multiply_coded_group<kind, Rows, vectors>(at, panels[p] + kind.factors_at(g),
                                                          panels[p] + kind.group_at(g), v, c + p * stride, other);
            }
        }
    }
}

}  // namespace detail

/// multiply_decoded with rows quantised for a zero point of 1, whose offsets are their sums, and integer dot products.
///
/// Order of summation, the same for any number of rows: the dot product of what shares a scale, 32 inputs or 16, is an
/// exact integer; float(dot) * (weight scale * activation scale) is added with one fused multiply-add, then minimum *
/// (activation scale * sum of the activations' codes) with another, in order of k.
template <PanelKind kind>
void multiply_coded(RowPointers rows, std::size_t k, const PackedPanels& panels, const PanelScratch<float>& scratch) {
    const QuantizedRows layout{k};
    constexpr std::size_t width = Panel<float>::width;
    const bool one_tile = rows.size() <= Panel<float>::tile_rows;
    // the codes of a few groups stay in the first level while all rows stream past them
    const std::size_t together = one_tile ? layout.groups() : PanelKind::factor_groups;
    const std::size_t side = one_tile ? 4 : 1;
    for (std::size_t first = 0; first < layout.groups() && !rows.empty(); first += together) {
        const std::size_t end = (std::min)(layout.groups(), first + together);
        for (std::size_t p = 0; p < panels.count; p += side) {
            const std::size_t count = (std::min)(side, panels.count - p);
            std::array<const std::byte*, 4> at{};
            for (std::size_t i = 0; i < count; ++i) {
                at[i] = panels[p + i];
            }
            detail::for_each_tile(rows.size(), [&](std::size_t r, std::size_t n, std::size_t) {
                with_rows(n, [&]<std::size_t Rows>() {
                    detail::multiply_coded_rows<kind, Rows>(rows.data() + r, layout, first, end, at, count,
                                                            scratch.sums_of(p, rows.size()) + r * width,
                                                            rows.size() * width);
                });
            });
        }
    }
}

}  // namespace moe::inline MOE_ABI
