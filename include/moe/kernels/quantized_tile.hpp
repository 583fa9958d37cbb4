#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "arch/integer_lanes.hpp"
#include "quantized_panel.hpp"
#include "quantized_rows.hpp"

namespace moe::inline MOE_ABI {

/// How the codes of a block of a quantised panel lie: as packed, or Int4 already expanded to bytes.
template <class Format, bool Expanded = false>
struct Codes {
    static constexpr int zero_point = Format::zero_point;
    static constexpr bool nibbles = Format::zero_point == 8 && !Expanded;
    static constexpr std::size_t group_bytes =
        nibbles ? QuantizedPanel<Int4>::group_bytes : QuantizedPanel<Int8>::group_bytes;
    /// Whether the kernel wants weights with their zero point, and the sums of the activations to take it off again.
    static constexpr bool biased = arch::IntegerLanes::multiplies_unsigned || zero_point == 8;
};

namespace detail {

// Plain arrays here: std::array of an intrinsic type drops the type's alignment attribute, and g++ warns.

/// Loads after this stay after it. 24 accumulators, 4 weights and 1 activation fill 29 registers: g++ 12, which fetches
/// operands long before their use, otherwise spills 60 vectors a group and loses a fifth of the speed.
MOE_ALWAYS_INLINE void keep_order() noexcept {
#if defined(__GNUC__)
    __asm__ volatile("" ::: "memory");
#endif
}

/// What a strip asks for while it computes: some lines of the next block at each group ...
struct AskBlock {
    Prefetch* ahead;

    MOE_ALWAYS_INLINE void at_group() const noexcept { ahead->step(); }
    MOE_ALWAYS_INLINE void at_load(std::size_t /*offset*/) const noexcept {}
};

/// ... or a line of another stream at each load of codes.
struct AskStream {
    const std::byte* codes;

    MOE_ALWAYS_INLINE void at_group() const noexcept {}
    MOE_ALWAYS_INLINE void at_load(std::size_t offset) const noexcept {
        if (offset % Prefetch::line == 0) {
            prefetch_part<Prefetch::line, 1>(codes + offset, 0);
        }
    }
};

/// The dot products of one group: acc[r][v] = sum over 32 inputs of code * activation code, exact.
template <class C, std::size_t Rows, std::size_t Vectors, class Ask>
MOE_ALWAYS_INLINE void dot_group(const std::byte* codes, const std::array<const std::byte*, Rows>& row, std::size_t at,
                                 arch::IntegerLanes::Integer (&acc)[Rows][Vectors], const Ask& ask) noexcept {
    using L = arch::IntegerLanes;
    constexpr std::size_t stride = 4 * Panel<float>::width;
    constexpr std::size_t steps = C::nibbles ? 4 : 8;
    MOE_UNROLL
    for (std::size_t j = 0; j < steps; ++j) {
        keep_order();
        L::Integer weight[Vectors];
        MOE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) {
            ask.at_load(j * stride + v * 4 * L::size);
            weight[v] = L::load(codes + j * stride + v * 4 * L::size);
        }
        if constexpr (C::nibbles) {
            MOE_UNROLL
            for (std::size_t r = 0; r < Rows; ++r) {
                keep_order();
                const L::Integer low = L::broadcast(row[r] + at + 4 * j);
                const L::Integer high = L::broadcast(row[r] + at + 16 + 4 * j);
                MOE_UNROLL
                for (std::size_t v = 0; v < Vectors; ++v) {
                    acc[r][v] = L::template dot<8>(acc[r][v], L::low_nibbles(weight[v]), low);
                    acc[r][v] = L::template dot<8>(acc[r][v], L::high_nibbles(weight[v]), high);
                }
            }
        } else {
            MOE_UNROLL
            for (std::size_t r = 0; r < Rows; ++r) {
                keep_order();
                const L::Integer x = L::broadcast(row[r] + at + 4 * j);
                MOE_UNROLL
                for (std::size_t v = 0; v < Vectors; ++v) {
                    acc[r][v] = L::template dot<C::zero_point>(acc[r][v], weight[v], x);
                }
            }
        }
    }
}

template <class C, std::size_t Rows, std::size_t Vectors, class Ask>
MOE_ALWAYS_INLINE void multiply_quantized_strip(const std::array<const std::byte*, Rows>& row, std::size_t first_group,
                                                std::size_t scales_at, const std::byte* panel, std::size_t first_vector,
                                                std::size_t groups, float* MOE_RESTRICT c, bool add,
                                                const Ask& ask) noexcept {
    using L = arch::IntegerLanes;
    float* const sums = c + first_vector * L::size;
    if (!add) {
        MOE_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
            MOE_UNROLL
            for (std::size_t v = 0; v < Vectors; ++v) {
                L::store_floats(sums + r * Panel<float>::width + v * L::size, L::zero());
            }
        }
    }
    for (std::size_t g = 0; g < groups; ++g) {
        const std::byte* const group = panel + g * C::group_bytes;
        const std::size_t at = (first_group + g) * quantization_group;
        const std::size_t meta = scales_at + (first_group + g) * sizeof(GroupScale);
        ask.at_group();
        L::Integer acc[Rows][Vectors];
        MOE_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
            const L::Integer from =
                C::biased ? L::broadcast(row[r] + meta + offsetof(GroupScale, offset)) : L::integer_zero();
            MOE_UNROLL
            for (std::size_t v = 0; v < Vectors; ++v) {
                acc[r][v] = from;
            }
        }
        const std::byte* const codes = group + QuantizedPanel<Int8>::scale_bytes + first_vector * 4 * L::size;
        dot_group<C, Rows, Vectors>(codes, row, at, acc, ask);
        MOE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) {
            const L::Float scale = L::load_scales(group + (first_vector + v) * L::size * sizeof(float16));
            MOE_UNROLL
            for (std::size_t r = 0; r < Rows; ++r) {
                keep_order();
                float* const sum = sums + r * Panel<float>::width + v * L::size;
                const L::Float both = L::multiply(scale, L::broadcast_float(row[r] + meta));
                L::store_floats(sum, L::multiply_add(L::to_float(acc[r][v]), both, L::load_floats(sum)));
            }
        }
    }
}

/// Vectors a tile of `rows` rows holds: two accumulators for each (integer and float), the weights, one activation.
[[nodiscard]] constexpr std::size_t quantized_tile_vectors(std::size_t rows) {
    std::size_t vectors = Panel<float>::width / arch::IntegerLanes::size;
    while (vectors > 1 && (rows + 1) * vectors + 2 > vector_registers) {
        vectors /= 2;
    }
    return vectors;
}

}  // namespace detail

/// c (Rows, 64) = or += quantised rows times `groups` groups of a quantised panel, with integer dot products.
///
/// Order of summation, the same for any number of rows: the dot product of a group is an exact integer; float(dot) *
/// (weight scale * activation scale) is added group by group with one fused multiply-add each, in order of k.
///
/// Eight dot products need three more operations (convert, scale, add), so 72 % of the peak is the most a group of 32
/// allows; 60 % is reached from the cache. Tried and slower: 6 x 2 tiles with their sums in registers (57 %), a loop
/// over k that is not unrolled (25 %: spills); scales widened once a block: no faster. The matrix unit of newer Xeons
/// (AMX), whose 16 x 16 integers go through memory to be scaled, group by group: 1.2 to 1.37 times from the first cache
/// with 16 rows a tile, 0.7 times with 8, 1.05 times in a layer with 128 rows an expert.
///
/// `row` points to the first byte of each row, `first_group` is the group the panel block begins at.
template <class C, std::size_t Rows>
MOE_NOINLINE void multiply_quantized_tile(const std::byte* const* rows, const QuantizedRows& layout,
                                          std::size_t first_group, const std::byte* panel, std::size_t groups, float* c,
                                          bool add, Prefetch ahead) noexcept {
    constexpr std::size_t vectors = detail::quantized_tile_vectors(Rows);
    std::array<const std::byte*, Rows> row;
    MOE_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
        row[r] = rows[r];
    }
    for (std::size_t v = 0; v < Panel<float>::width / arch::IntegerLanes::size; v += vectors) {
        detail::multiply_quantized_strip<C, Rows, vectors>(row, first_group, layout.codes(), panel, v, groups, c, add,
                                                           detail::AskBlock{&ahead});
        ahead.lines = 0;
    }
}

/// multiply_quantized_tile for all groups of `n_panels` panels side by side, whose sums stand `stride` values apart:
/// for one tile, which waits for memory (see multiply_tiles). Requests 2 KB ahead: 512 bytes are 6 % slower, 4 KB 1 %.
template <class C, std::size_t Rows>
MOE_NOINLINE void multiply_quantized_tiles(const std::byte* const* rows, const QuantizedRows& layout,
                                           const std::byte* const* panels, std::size_t n_panels, float* c,
                                           std::size_t stride) noexcept {
    using L = arch::IntegerLanes;
    constexpr std::size_t ahead = 2048;
    constexpr std::size_t vectors = detail::quantized_tile_vectors(Rows);
    constexpr std::size_t codes_at = QuantizedPanel<Int8>::scale_bytes;
    std::array<const std::byte*, Rows> row;
    MOE_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
        row[r] = rows[r];
    }
    for (std::size_t g = 0; g < layout.groups(); ++g) {
        for (std::size_t p = 0; p < n_panels; ++p) {
            const std::byte* const other = panels[(p + n_panels / 2) % n_panels] + g * C::group_bytes + ahead;
            detail::prefetch_part<codes_at, 1>(other, 0);
            for (std::size_t v = 0; v < Panel<float>::width / L::size; v += vectors) {
                detail::multiply_quantized_strip<C, Rows, vectors>(
                    row, g, layout.codes(), panels[p] + g * C::group_bytes, v, 1, c + p * stride, g > 0,
                    detail::AskStream{other + codes_at + v * 4 * L::size});
            }
        }
    }
}

/// multiply_quantized_tiles for a single row, whose sums stay in registers while `Panels` panels take turns at every
/// load: a token alone waits for memory more than anything else. As a share of what reading alone reaches, int4 0.93
/// instead of 0.83, int8 0.91 instead of 0.89; two panels at once reach 0.89 and 0.88.
template <class C, std::size_t Panels>
MOE_NOINLINE void multiply_quantized_row(const std::byte* row, const QuantizedRows& layout,
                                         const std::byte* const* panels, float* c, std::size_t stride) noexcept {
    using L = arch::IntegerLanes;
    constexpr std::size_t ahead = 2048;
    constexpr std::size_t vectors = Panel<float>::width / L::size;
    constexpr std::size_t codes_at = QuantizedPanel<Int8>::scale_bytes;
    constexpr std::size_t step_bytes = 4 * Panel<float>::width;
    constexpr std::size_t steps = C::nibbles ? 4 : 8;
    const std::byte* at[Panels];
    L::Float sum[Panels][vectors];
    MOE_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) {
        at[p] = panels[p];
        MOE_UNROLL
        for (std::size_t v = 0; v < vectors; ++v) {
            sum[p][v] = L::zero();
        }
    }
    for (std::size_t g = 0; g < layout.groups(); ++g) {
        const std::byte* const codes = row + g * quantization_group;
        const std::byte* const meta = row + layout.codes() + g * sizeof(GroupScale);
        const L::Integer from = C::biased ? L::broadcast(meta + offsetof(GroupScale, offset)) : L::integer_zero();
        L::Integer acc[Panels][vectors];
        MOE_UNROLL
        for (std::size_t p = 0; p < Panels; ++p) {
            MOE_UNROLL
            for (std::size_t v = 0; v < vectors; ++v) {
                acc[p][v] = from;
            }
        }
        MOE_UNROLL
        for (std::size_t j = 0; j < steps; ++j) {
            MOE_UNROLL
            for (std::size_t p = 0; p < Panels; ++p) {
                const std::byte* const source = at[p] + codes_at + j * step_bytes;
                const std::byte* const other = at[(p + Panels / 2) % Panels] + codes_at + j * step_bytes + ahead;
                MOE_UNROLL
                for (std::size_t v = 0; v < vectors; ++v) {
                    const std::size_t offset = v * 4 * L::size;
                    detail::AskStream{other}.at_load(offset);
                    const L::Integer weight = L::load(source + offset);
                    if constexpr (C::nibbles) {
                        const L::Integer low = L::broadcast(codes + 4 * j);
                        const L::Integer high = L::broadcast(codes + 16 + 4 * j);
                        acc[p][v] = L::template dot<8>(acc[p][v], L::low_nibbles(weight), low);
                        acc[p][v] = L::template dot<8>(acc[p][v], L::high_nibbles(weight), high);
                    } else {
                        acc[p][v] = L::template dot<C::zero_point>(acc[p][v], weight, L::broadcast(codes + 4 * j));
                    }
                }
            }
        }
        MOE_UNROLL
        for (std::size_t p = 0; p < Panels; ++p) {
            detail::prefetch_part<codes_at, 1>(at[(p + Panels / 2) % Panels] + ahead, 0);
            MOE_UNROLL
            for (std::size_t v = 0; v < vectors; ++v) {
                const L::Float scale = L::load_scales(at[p] + v * L::size * sizeof(float16));
                const L::Float both = L::multiply(scale, L::broadcast_float(meta));
                sum[p][v] = L::multiply_add(L::to_float(acc[p][v]), both, sum[p][v]);
            }
        }
        MOE_UNROLL
        for (std::size_t p = 0; p < Panels; ++p) {
            at[p] += C::group_bytes;
        }
    }
    MOE_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) {
        MOE_UNROLL
        for (std::size_t v = 0; v < vectors; ++v) {
            L::store_floats(c + p * stride + v * L::size, sum[p][v]);
        }
    }
}

/// The same for a number of rows known at run time, 1 to Panel<float>::tile_rows.
template <class C>
inline void multiply_quantized_tile(std::size_t n_rows, const std::byte* const* rows, const QuantizedRows& layout,
                                    std::size_t first_group, const std::byte* panel, std::size_t groups, float* c,
                                    bool add, Prefetch ahead = {}) noexcept {
    with_rows(n_rows, [&]<std::size_t Rows>() {
        multiply_quantized_tile<C, Rows>(rows, layout, first_group, panel, groups, c, add, ahead);
    });
}

}  // namespace moe::inline MOE_ABI
