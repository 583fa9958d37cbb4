#pragma once

#include <array>
#include <cstddef>

#include "arch/code_lanes.hpp"
#include "convert.hpp"
#include "panel_kind.hpp"

namespace moe::inline MOE_ABI::detail {

/// The weights of a group as vectors of floats, exactly: what its codes stand for times their scale.
///
/// Codes go in two passes of 16 inputs: of bytes the first and the second four vectors, of half bytes the lower and the
/// upper halves of the same four.
template <PanelKind kind, class L = arch::CodeLanes>
class PanelDecoder {
    static constexpr bool by_table = kind.bits == 4 && L::permutes_floats;
    /// Codes arrive as multiples of 2^24, and their scales make good for it: exact.
    static constexpr float unit = by_table ? 1.0F : 0x1p-24F;

public:
    using Codes = typename L::Codes;
    using Float = Vector<float>;

    static constexpr std::size_t passes = 2;
    static constexpr std::size_t steps = 4;  ///< vectors of codes in a pass, four inputs each

    PanelDecoder() noexcept {
        if constexpr (by_table) {
            std::array<float, 16> values;
            for (std::size_t i = 0; i < values.size(); ++i) {
                values[i] = static_cast<float>(static_cast<int>(i) - static_cast<int>(kind.zero_point));
            }
            table_ = L::load_table(values.data());
        }
    }

    /// Where step `j` of pass `Pass` of the 64 outputs begins, from the first byte of the group on.
    template <std::size_t Pass>
    [[nodiscard]] static constexpr std::size_t codes_at(std::size_t j) noexcept {
        return kind.codes_at() + (j + (kind.bits == 8 ? Pass * steps : 0)) * 4 * PanelKind::width;
    }

    /// The scales of vector `v` of outputs.
    [[nodiscard]] MOE_ALWAYS_INLINE static Float scale(const std::byte* group, std::size_t v) noexcept {
        const auto* const source = reinterpret_cast<const float16*>(group + v * lanes<float> * sizeof(float16));
        return load_converted(source) * Float(unit);
    }

    /// Codes as weight() takes them.
    template <std::size_t Pass>
    [[nodiscard]] MOE_ALWAYS_INLINE static Codes prepared(const std::byte* codes) noexcept {
        const Codes loaded = L::load(codes);
        if constexpr (by_table) {
            return loaded;
        } else if constexpr (kind.bits == 8) {
            return L::subtract(loaded, kind.zero_point);
        } else if constexpr (Pass == 0) {
            return L::subtract(L::low_nibbles(loaded), kind.zero_point);
        } else {
            return L::subtract(L::high_nibbles(loaded), kind.zero_point);
        }
    }

    /// Input `B` of the four.
    template <std::size_t Pass, int B>
    [[nodiscard]] MOE_ALWAYS_INLINE Float weight(const Codes& codes, const Float& scale) const noexcept {
        if constexpr (by_table) {
            return Float(L::template nibble<2 * B + static_cast<int>(Pass)>(codes, table_)) * scale;
        } else {
            return Float(L::template large_byte<B>(codes)) * scale;
        }
    }

private:
    typename L::Table table_;
};

}  // namespace moe::inline MOE_ABI::detail

namespace moe::inline MOE_ABI {

/// The weights of one group as floats, (32, 64) at `target`: exact.
template <PanelKind kind>
MOE_NOINLINE void decode_panel_group(const std::byte* group, float* MOE_RESTRICT target) noexcept {
    using D = detail::PanelDecoder<kind>;
    const D decoder;
    const auto pass = [&]<std::size_t Pass>() {
        for (std::size_t v = 0; v < Panel<float>::vectors; ++v) {
            const Vector<float> scale = D::scale(group, v);
            for (std::size_t j = 0; j < D::steps; ++j) {
                const auto codes =
                    D::template prepared<Pass>(group + D::template codes_at<Pass>(j) + v * 4 * lanes<float>);
                float* const row = target + (Pass * 16 + 4 * j) * Panel<float>::width + v * lanes<float>;
                store(row, decoder.template weight<Pass, 0>(codes, scale));
                store(row + Panel<float>::width, decoder.template weight<Pass, 1>(codes, scale));
                store(row + 2 * Panel<float>::width, decoder.template weight<Pass, 2>(codes, scale));
                store(row + 3 * Panel<float>::width, decoder.template weight<Pass, 3>(codes, scale));
            }
        }
    };
    pass.template operator()<0>();
    pass.template operator()<1>();
}

}  // namespace moe::inline MOE_ABI
