#include "moe/kernels/quantized_panel.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <vector>

#include "support/catch.hpp"
#include "support/kept.hpp"

namespace moe_test::quantized_panel_test {

namespace {

constexpr std::size_t width = moe::Panel<float>::width;
constexpr std::size_t depth = moe::quantization_group;

/// One group of a panel as a scalar program sees it.
struct Columns {
    std::array<moe::QuantizedGroup, width> column;

    template <class F>
    Columns(F, const std::vector<float>& block, std::size_t n_inputs) {
        for (std::size_t c = 0; c < width; ++c) {
            std::array<float, depth> x{};
            for (std::size_t k = 0; k < n_inputs; ++k) {
                x[k] = block[k * width + c];
            }
            column[c] = moe::quantize_group(F{}, x);
        }
    }
};

/// The code of input k of output c, by the documented place of its byte.
int code_at(moe::Int8, const std::byte* codes, std::size_t k, std::size_t c) {
    return static_cast<int>(codes[(k / 4 * width + c) * 4 + k % 4]);
}
int code_at(moe::Int4, const std::byte* codes, std::size_t k, std::size_t c) {
    const std::size_t low = k % 16;
    const int both = static_cast<int>(codes[(low / 4 * width + c) * 4 + low % 4]);
    return k < 16 ? both & 15 : both >> 4;
}

bool same_value(float a, float b) {
    return (std::isnan(a) && std::isnan(b)) || std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

template <class F>
void check_round_trip() {
    using P = moe::QuantizedPanel<F>;
    for (std::size_t n = 1; n <= depth; ++n) {
        moe_test::Draw draw(n);
        std::vector<float> block = moe_test::random_elements<float>(draw, n * width, 1);
        block[draw.size(0, block.size() - 1)] = std::nanf("");
        const Columns expected(F{}, block, n);
        std::vector<std::byte> group(P::group_bytes + 1, std::byte{0xEE});
        moe::encode_group<F>(block.data(), n, group.data());
        REQUIRE(group.back() == std::byte{0xEE});
        std::vector<float> decoded(depth * width + 1, 99.0F);
        moe::decode_group<F>(group.data(), decoded.data());
        REQUIRE(decoded.back() == 99.0F);
        std::size_t wrong = 0;
        for (std::size_t c = 0; c < width; ++c) {
            moe::float16 scale;
            std::memcpy(&scale, &group[c * sizeof scale], sizeof scale);
            wrong += scale == expected.column[c].scale ? 0U : 1U;
            for (std::size_t k = 0; k < depth; ++k) {
                const int code = code_at(F{}, &group[P::scale_bytes], k, c);
                wrong += code == static_cast<int>(expected.column[c].codes[k]) ? 0U : 1U;
                const float value = moe::dequantize<F>(expected.column[c], k);
                wrong += same_value(decoded[k * width + c], value) ? 0U : 1U;
            }
        }
        INFO(n << " inputs");
        REQUIRE(wrong == 0);
    }
}

/// Whatever scale a file may hold: subnormal, negative, infinite, NaN.
template <class F>
void check_all_scales() {
    using P = moe::QuantizedPanel<F>;
    moe_test::Draw draw(5);
    std::vector<std::byte> group(P::group_bytes);
    std::vector<float> decoded(depth * width);
    std::size_t wrong = 0;
    for (std::size_t first = 0; first < 0x10000; first += width) {
        for (std::size_t c = 0; c < width; ++c) {
            const moe::float16 scale{static_cast<std::uint16_t>(first + c)};
            std::memcpy(&group[c * sizeof scale], &scale, sizeof scale);
        }
        for (std::size_t i = P::scale_bytes; i < group.size(); ++i) {
            group[i] = static_cast<std::byte>(draw.size(0, 255));
        }
        moe::decode_group<F>(group.data(), decoded.data());
        for (std::size_t c = 0; c < width; ++c) {
            const float scale = moe::to_float(moe::float16{static_cast<std::uint16_t>(first + c)});
            for (std::size_t k = 0; k < depth; ++k) {
                const int code = code_at(F{}, &group[P::scale_bytes], k, c) - F::zero_point;
                wrong += same_value(decoded[k * width + c], static_cast<float>(code) * scale) ? 0U : 1U;
            }
        }
    }
    CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("a group of a panel holds the scalar quantisation of its columns, at the documented bytes: Int8",
          "[quantized]") {
    check_round_trip<moe::Int8>();
}
TEST_CASE("a group of a panel holds the scalar quantisation of its columns, at the documented bytes: Int4",
          "[quantized]") {
    check_round_trip<moe::Int4>();
}

TEST_CASE("groups are decoded exactly for every scale there is", "[quantized]") {
    check_all_scales<moe::Int8>();
    check_all_scales<moe::Int4>();
}

TEST_CASE("expanded codes of Int4 lie as those of Int8, with the same scales", "[quantized]") {
    moe_test::Draw draw(6);
    std::vector<std::byte> group(moe::QuantizedPanel<moe::Int4>::group_bytes);
    for (std::byte& byte : group) {
        byte = static_cast<std::byte>(draw.size(0, 255));
    }
    constexpr std::size_t codes = moe::QuantizedPanel<moe::Int4>::scale_bytes;
    std::vector<std::byte> expanded(moe::QuantizedPanel<moe::Int8>::group_bytes + 1, std::byte{0xEE});
    moe::detail::expand_codes(group.data(), expanded.data());
    CHECK(std::equal(group.begin(), group.begin() + codes, expanded.begin()));
    CHECK(expanded.back() == std::byte{0xEE});
    std::size_t wrong = 0;
    for (std::size_t c = 0; c < width; ++c) {
        for (std::size_t k = 0; k < depth; ++k) {
            wrong +=
                code_at(moe::Int8{}, &expanded[codes], k, c) == code_at(moe::Int4{}, &group[codes], k, c) ? 0U : 1U;
        }
    }
    CHECK(wrong == 0);
}

TEST_CASE("a quantised panel takes a byte or half a byte a weight and two bytes a group", "[quantized]") {
    CHECK(moe::QuantizedPanel<moe::Int8>::bytes(32) == width * (32 + 2));
    CHECK(moe::QuantizedPanel<moe::Int4>::bytes(32) == width * (16 + 2));
    CHECK(moe::QuantizedPanel<moe::Int8>::bytes(33) == 2 * moe::QuantizedPanel<moe::Int8>::bytes(1));
    CHECK(moe::QuantizedPanel<moe::Int8>::bytes(0) == 0);
}

}  // namespace moe_test::quantized_panel_test
