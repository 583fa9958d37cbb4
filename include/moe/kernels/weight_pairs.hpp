#pragma once

#include <array>
#include <cstddef>
#include <type_traits>

#include "arch/avx512.hpp"
#include "arch/bfloat16_lanes.hpp"
#include "panel_decoder.hpp"
#include "quantized_panel.hpp"

#if MOE_BFLOAT16_PRODUCTS

namespace moe::inline MOE_ABI::detail {

/// Inputs that the pairs of a panel are made of at a time: a group of codes, a step of the matrix unit.
inline constexpr std::size_t pair_group = 32;
/// Bytes of these inputs as pairs: element (k, column) at word (k / 2 * 64 + column) * 2 + k % 2.
inline constexpr std::size_t pair_group_bytes = pair_group * Panel<float>::width * sizeof(bfloat16);

/// A group of 32 inputs of a packed panel of F as pairs of bfloat16: weights of two neighbouring inputs of one output
/// side by side, which is how products of bfloat16 want them. bfloat16 as they are, others rounded: once, from their
/// exact value. F is a storage type, Int8 or Int4, or CodedWeights of a kind of panel.
template <class F>
class WeightPairs {
    static_assert(std::is_same_v<F, bfloat16> || std::is_same_v<F, float16> || std::is_same_v<F, float>);

public:
    /// Where group `g` of a panel begins.
    [[nodiscard]] static constexpr std::size_t group_at(std::size_t g) noexcept {
        return g * pair_group * Panel<float>::width * sizeof(F);
    }

    /// Group `g`, of which `valid` inputs exist; the others are zero.
    MOE_ALWAYS_INLINE WeightPairs(const std::byte* panel, std::size_t g, std::size_t valid) noexcept
        : from_(reinterpret_cast<const F*>(panel + group_at(g))), valid_(valid) {}

    /// Inputs k and k + 1, k even, of outputs [32 half, 32 half + 32).
    MOE_ALWAYS_INLINE void get(std::size_t k, std::size_t half, __m512i (&pair)[2]) const noexcept {
        constexpr std::size_t width = Panel<float>::width;
        const F* const row = from_ + k * width + half * 32;
        if constexpr (std::is_same_v<F, bfloat16>) {
            // words 0, 32, 1, 33, ...: columns of one input and of the next
            const __m512i lower = _mm512_add_epi32(
                _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                   _mm512_set1_epi32(0x00010001)),
                _mm512_set1_epi32(0x00200000));
            const __m512i upper = _mm512_add_epi32(lower, _mm512_set1_epi32(0x00100010));
            const __m512i even = k < valid_ ? _mm512_loadu_si512(row) : _mm512_setzero_si512();
            const __m512i odd = k + 1 < valid_ ? _mm512_loadu_si512(row + width) : _mm512_setzero_si512();
            pair[0] = _mm512_permutex2var_epi16(even, lower, odd);
            pair[1] = _mm512_permutex2var_epi16(even, upper, odd);
        } else {
            MOE_UNROLL
            for (std::size_t i = 0; i < 2; ++i) {
                const __m512 even = k < valid_ ? __m512(load_converted(row + 16 * i)) : _mm512_setzero_ps();
                const __m512 odd = k + 1 < valid_ ? __m512(load_converted(row + width + 16 * i)) : _mm512_setzero_ps();
                pair[i] = arch::round_pairs(even, odd);
            }
        }
    }

    /// All pairs, pair_group_bytes of them, to `target`.
    MOE_ALWAYS_INLINE void store(std::byte* target) const noexcept {
        if constexpr (std::is_same_v<F, bfloat16>) {
            if (valid_ == pair_group) {
                return store_whole(target);
            }
        }
        MOE_UNROLL
        for (std::size_t k = 0; k < pair_group; k += 2) {
            MOE_UNROLL
            for (std::size_t half = 0; half < 2; ++half, target += 128) {
                __m512i pair[2];
                get(k, half, pair);
                _mm512_storeu_si512(target, pair[0]);
                _mm512_storeu_si512(target + 64, pair[1]);
            }
        }
    }

private:
    /// store() of a group without a tail: quarters of lines are put in the order that interleaving within quarters
    /// wants. A panel from the cache is a tenth faster than with get(), whose permutations are three instructions each.
    MOE_ALWAYS_INLINE void store_whole(std::byte* target) const noexcept {
        const __m512i quarters = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
        const F* row = from_;
        for (std::size_t k = 0; k < pair_group; k += 2, row += 2 * Panel<float>::width) {
            MOE_UNROLL
            for (std::size_t half = 0; half < 2; ++half, target += 128) {
                const __m512i even = _mm512_permutexvar_epi64(quarters, _mm512_loadu_si512(row + half * 32));
                const __m512i odd =
                    _mm512_permutexvar_epi64(quarters, _mm512_loadu_si512(row + Panel<float>::width + half * 32));
                _mm512_storeu_si512(target, _mm512_unpacklo_epi16(even, odd));
                _mm512_storeu_si512(target + 64, _mm512_unpackhi_epi16(even, odd));
            }
        }
    }

    const F* from_;
    std::size_t valid_;
};

/// Weights of a kind of panel that is a value.
template <PanelKind Kind>
struct CodedWeights {};

/// Codes, by way of the floats that PanelDecoder makes of them; what a row of the panel lacks is code and scale zero.
template <PanelKind Kind>
class WeightPairs<CodedWeights<Kind>> {
    using D = PanelDecoder<Kind>;

public:
    [[nodiscard]] static constexpr std::size_t group_at(std::size_t g) noexcept { return Kind.group_at(g); }

    MOE_ALWAYS_INLINE WeightPairs(const std::byte* panel, std::size_t g, std::size_t /*valid*/) noexcept
        : factors_(panel + Kind.factors_at(g)), group_(panel + group_at(g)) {}

    void store(std::byte* target) const noexcept {
        const D decoder;
        const auto pass = [&]<std::size_t Pass>() MOE_INLINE_CALL {
            for (std::size_t v = 0; v < Panel<float>::vectors; ++v) {
                const Vector<float> scale = D::template scale<Pass>(factors_, group_, v);
                const Vector<float> minimum = D::template minimum<Pass>(factors_, group_, v);
                for (std::size_t j = 0; j < D::steps; ++j) {
                    const auto codes =
                        D::template prepared<Pass>(group_ + D::template codes_at<Pass>(j) + v * 4 * lanes<float>);
                    std::byte* const to = target + ((Pass * 8 + 2 * j) * Panel<float>::vectors + v) * 64;
                    _mm512_storeu_si512(to, arch::round_pairs(decoder.template weight<Pass, 0>(codes, scale, minimum),
                                                              decoder.template weight<Pass, 1>(codes, scale, minimum)));
                    _mm512_storeu_si512(to + Panel<float>::vectors * 64,
                                        arch::round_pairs(decoder.template weight<Pass, 2>(codes, scale, minimum),
                                                          decoder.template weight<Pass, 3>(codes, scale, minimum)));
                }
            }
        };
        pass.template operator()<0>();
        pass.template operator()<1>();
    }

private:
    const std::byte* factors_;
    const std::byte* group_;
};

/// The panels that floats are quantised into, which few rows take apart in registers.
template <class F>
    requires requires { F::zero_point; }
class WeightPairs<F> : public WeightPairs<CodedWeights<kind_of<F>>> {
public:
    MOE_ALWAYS_INLINE WeightPairs(const std::byte* panel, std::size_t g, std::size_t valid) noexcept
        : WeightPairs<CodedWeights<kind_of<F>>>(panel, g, valid),
          codes_(panel + kind_of<F>.group_at(g) + QuantizedPanel<F>::scale_bytes) {
        const auto* const scales = reinterpret_cast<const float16*>(panel + kind_of<F>.group_at(g));
        MOE_UNROLL
        for (std::size_t v = 0; v < Panel<float>::vectors; ++v) {
            scale_[v] = arch::load_floats(scales + v * 16);
            zero_[v] = _mm512_mul_ps(scale_[v], _mm512_set1_ps(-static_cast<float>(F::zero_point)));
        }
    }

    MOE_ALWAYS_INLINE void get(std::size_t k, std::size_t half, __m512i (&pair)[2]) const noexcept {
        constexpr bool nibbles = F::zero_point == 8;
        const std::size_t row = nibbles ? k % 16 / 4 : k / 4;
        const auto shift = static_cast<int>(k % 4 * 8 + (nibbles && k >= 16 ? 4 : 0));
        MOE_UNROLL
        for (std::size_t i = 0; i < 2; ++i) {
            const std::size_t v = 2 * half + i;
            const __m512i codes = _mm512_loadu_si512(codes_ + (row * Panel<float>::width + v * 16) * 4);
            pair[i] = arch::round_pairs(value(codes, shift, v), value(codes, shift + 8, v));
        }
    }

private:
    [[nodiscard]] MOE_ALWAYS_INLINE __m512 value(__m512i codes, int shift, std::size_t v) const noexcept {
        const __m512i mask = _mm512_set1_epi32(F::zero_point == 8 ? 0x0F : 0xFF);
        const __m512i code = _mm512_and_si512(_mm512_srl_epi32(codes, _mm_cvtsi32_si128(shift)), mask);
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(code), scale_[v], zero_[v]);
    }

    const std::byte* codes_;
    __m512 scale_[Panel<float>::vectors];
    __m512 zero_[Panel<float>::vectors];
};

}  // namespace moe::inline MOE_ABI::detail

#endif
