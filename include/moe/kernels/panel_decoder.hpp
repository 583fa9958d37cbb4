#pragma once

#include <array>
#include <cstddef>

#include "../formats/blocks/tables.hpp"
#include "arch/code_lanes.hpp"
#include "arch/scale_lanes.hpp"
#include "convert.hpp"
#include "panel_kind.hpp"

namespace moe::inline MOE_ABI::detail {

/// Codes on their way to floats: in a register, or where they are. (No std::conditional: it would drop attributes.)
template <class L, bool from_memory>
struct CodesOf {
    using Codes = typename L::Codes;
};
template <class L>
struct CodesOf<L, true> {
    using Codes = const std::byte*;
};

/// The weights of a group as vectors of floats, exactly: what its codes stand for times their scale.
///
/// Codes go in two passes of 16 inputs: of bytes the first and the second four vectors, of half bytes the lower and the
/// upper halves of the same four.
template <PanelKind kind, class L = arch::CodeLanes>
class PanelDecoder {
    static constexpr bool by_table = (kind.bits == 4 || kind.padded) && L::permutes_floats;
    /// Padded codes are looked up by vectors that begin a byte later for each input: loads are cheaper than shifts.
    static constexpr bool from_memory = by_table && kind.padded;
    /// Codes arrive as multiples of 2^24, and their scales make good for it: exact, unless a scale may be as small as
    /// numbers get.
    static constexpr bool large = !by_table && kind.scale != ScaleForm::power_of_two;
    static constexpr float unit = large ? 0x1p-24F : 1.0F;

public:
    using Codes = typename CodesOf<L, from_memory>::Codes;
    using Float = Vector<float>;

    static constexpr std::size_t passes = 2;
    static constexpr std::size_t steps = 4;  ///< vectors of codes in a pass, four inputs each

    PanelDecoder() noexcept {
        if constexpr (by_table) {
            std::array<float, 16> values;
            for (std::size_t i = 0; i < values.size(); ++i) {
                values[i] = static_cast<float>(value_of(i));
            }
            table_ = L::load_table(values.data());
        }
    }

    /// Where step `j` of pass `Pass` of the 64 outputs begins, from the first byte of the group on.
    template <std::size_t Pass>
    [[nodiscard]] static constexpr std::size_t codes_at(std::size_t j) noexcept {
        return kind.codes_at() + (j + (kind.bits == 8 ? Pass * steps : 0)) * 4 * PanelKind::width;
    }

    /// The scales of vector `v` of outputs in one pass: exact. `Large`: for codes that are multiples of 2^24.
    template <std::size_t Pass, bool Large = large>
    [[nodiscard]] MOE_ALWAYS_INLINE static Float scale(const std::byte* factors, const std::byte* group,
                                                       std::size_t v) noexcept {
        constexpr std::size_t half = kind.shared == 16 ? Pass : 0;
        const std::size_t at = half * PanelKind::width + v * lanes<float>;
        const Float one(Large ? 0x1p-24F : 1.0F);
        if constexpr (kind.scale == ScaleForm::half) {
            return halves(group, at) * one;
        } else if constexpr (kind.scale == ScaleForm::half_times_unsigned) {
            return halves(factors, v * lanes<float>) * one * arch::load_unsigned_bytes(group + at);
        } else if constexpr (kind.scale == ScaleForm::half_times_signed) {
            return halves(factors, v * lanes<float>) * one * arch::load_signed_bytes(group + at);
        } else if constexpr (kind.scale == ScaleForm::power_of_two) {
            return arch::load_powers_of_two(group + at);
        } else {
            return arch::load_half_e4m3(group + at) * one;
        }
    }

    /// What is added to them.
    template <std::size_t Pass>
    [[nodiscard]] MOE_ALWAYS_INLINE static Float minimum(const std::byte* factors, const std::byte* group,
                                                         std::size_t v) noexcept {
        constexpr std::size_t half = kind.shared == 16 ? Pass : 0;
        if constexpr (kind.minimum == MinimumForm::half) {
            return halves(group + kind.minima_at(), v * lanes<float>);
        } else if constexpr (kind.minimum == MinimumForm::half_times_unsigned) {
            const std::byte* const bytes = group + kind.minima_at() + half * PanelKind::width + v * lanes<float>;
            // times -1, because zero less zero would have the wrong sign
            const Float factor = halves(factors, PanelKind::width + v * lanes<float>) * Float(-1.0F);
            return factor * arch::load_unsigned_bytes(bytes);
        } else {
            return Float(0.0F);
        }
    }

    /// Codes as weight() takes them.
    template <std::size_t Pass>
    [[nodiscard]] MOE_ALWAYS_INLINE static Codes prepared(const std::byte* codes) noexcept {
        if constexpr (from_memory) {
            return codes;
        } else if constexpr (by_table) {
            return L::load(codes);
        } else if constexpr (kind.bits == 8) {
            return without_zero_point(L::load(codes));
        } else if constexpr (Pass == 0) {
            return without_zero_point(L::low_nibbles(L::load(codes)));
        } else {
            return without_zero_point(L::high_nibbles(L::load(codes)));
        }
    }

    /// Input `B` of the four. A minimum is added to an exact product: whether that is fused changes nothing.
    template <std::size_t Pass, int B>
    [[nodiscard]] MOE_ALWAYS_INLINE Float weight(const Codes& codes, const Float& scale,
                                                 [[maybe_unused]] const Float& minimum) const noexcept {
        if constexpr (kind.minimum == MinimumForm::none) {
            return value<Pass, B>(codes) * scale;
        } else {
            return multiply_add<float>(value<Pass, B>(codes), scale, minimum);
        }
    }

private:
    [[nodiscard]] static constexpr int value_of(std::size_t code) noexcept {
        switch (kind.table) {
            case CodeTable::iq4: return iq4_values[code];
            case CodeTable::fp4: return fp4_values[code];
            default: return static_cast<int>(code) - static_cast<int>(kind.zero_point);
        }
    }

    [[nodiscard]] MOE_ALWAYS_INLINE static Float halves(const std::byte* source, std::size_t i) noexcept {
        return load_converted(reinterpret_cast<const float16*>(source) + i);
    }

    [[nodiscard]] MOE_ALWAYS_INLINE static Codes without_zero_point(const Codes& codes) noexcept {
        if constexpr (kind.table == CodeTable::iq4) {
            return L::look_up(codes, iq4_values);
        } else if constexpr (kind.table == CodeTable::fp4) {
            return L::look_up(codes, fp4_values);
        } else if constexpr (kind.zero_point == 0) {
            return codes;
        } else {
            return L::subtract(codes, kind.zero_point);
        }
    }

    template <std::size_t Pass, int B>
    [[nodiscard]] MOE_ALWAYS_INLINE Float value(const Codes& codes) const noexcept {
        if constexpr (from_memory) {
            return L::template nibble<0>(L::load(codes + B), table_);
        } else if constexpr (by_table) {
            return L::template nibble<2 * B + static_cast<int>(Pass)>(codes, table_);
        } else if constexpr (large) {
            return L::template large_byte<B>(codes);
        } else {
            return L::template byte<B>(codes);
        }
    }

    typename L::Table table_;
};

}  // namespace moe::inline MOE_ABI::detail

namespace moe::inline MOE_ABI {

/// The weights of one group as floats, (32, 64) at `target`: exact. `factors` is where those of the group are.
template <PanelKind kind>
MOE_NOINLINE void decode_panel_group(const std::byte* factors, const std::byte* group,
                                     float* MOE_RESTRICT target) noexcept {
    using D = detail::PanelDecoder<kind>;
    constexpr std::size_t width = Panel<float>::width;
    const D decoder;
    const auto pass = [&]<std::size_t Pass>() {
        for (std::size_t v = 0; v < Panel<float>::vectors; ++v) {
            const Vector<float> scale = D::template scale<Pass>(factors, group, v);
            const Vector<float> minimum = D::template minimum<Pass>(factors, group, v);
            for (std::size_t j = 0; j < D::steps; ++j) {
                const auto codes =
                    D::template prepared<Pass>(group + D::template codes_at<Pass>(j) + v * 4 * lanes<float>);
                float* const row = target + (Pass * 16 + 4 * j) * width + v * lanes<float>;
                store(row, decoder.template weight<Pass, 0>(codes, scale, minimum));
                store(row + width, decoder.template weight<Pass, 1>(codes, scale, minimum));
                store(row + 2 * width, decoder.template weight<Pass, 2>(codes, scale, minimum));
                store(row + 3 * width, decoder.template weight<Pass, 3>(codes, scale, minimum));
            }
        }
    };
    pass.template operator()<0>();
    pass.template operator()<1>();
}

}  // namespace moe::inline MOE_ABI
