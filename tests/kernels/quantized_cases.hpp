#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "moe/kernels/quantized_tile.hpp"
#include "support/layer_cases.hpp"
#include "support/multiply_add.hpp"

/// Random quantised panels and rows, and their product in the documented order, spelt out.
namespace moe_test {

/// Weights of any code and scale: not those a quantiser would choose.
template <class F>
struct CodedPanel {
    static constexpr std::size_t width = moe::Panel<float>::width;
    static constexpr std::size_t group_size = moe::quantization_group;

    std::size_t k;
    std::size_t groups;
    std::vector<int> weights;   ///< (groups * 32, width), without their zero point
    std::vector<float> scales;  ///< (groups, width)
    std::vector<std::byte> bytes;

    /// `extreme`: only the lowest and the highest integers.
    CodedPanel(Draw& draw, std::size_t inputs, bool extreme)
        : k(inputs),
          groups(moe::divide_up(inputs, group_size)),
          weights(groups * group_size * width),
          scales(groups * width),
          bytes(moe::QuantizedPanel<F>::bytes(inputs)) {
        constexpr int lowest = F::zero_point == 8 ? -8 : -127;
        constexpr int highest = F::zero_point - 1;
        for (std::size_t i = 0; i < weights.size(); ++i) {
            const int any = lowest + static_cast<int>(draw.size(0, static_cast<std::size_t>(highest - lowest)));
            weights[i] = extreme ? (draw.size(0, 7) == 0 ? lowest : highest) : any;
            put_code(i / width, i % width, weights[i] + F::zero_point);
        }
        for (std::size_t i = 0; i < scales.size(); ++i) {
            const moe::float16 scale = moe::to_float16(draw.value());
            scales[i] = moe::to_float(scale);
            std::memcpy(&bytes[i / width * moe::QuantizedPanel<F>::group_bytes + i % width * sizeof scale], &scale,
                        sizeof scale);
        }
    }

    [[nodiscard]] float value(std::size_t input, std::size_t output) const {
        return static_cast<float>(weights[input * width + output]) * scales[input / group_size * width + output];
    }

private:
    void put_code(std::size_t input, std::size_t c, int code) {
        using P = moe::QuantizedPanel<F>;
        const std::size_t in_group = input % group_size;
        const bool upper = F::zero_point == 8 && in_group >= 16;
        const std::size_t at = upper ? in_group - 16 : in_group;
        bytes[input / group_size * P::group_bytes + P::scale_bytes + (at / 4 * width + c) * 4 + at % 4] |=
            static_cast<std::byte>(upper ? code << 4 : code);
    }
};

/// Activations as quantize_row leaves them, for weights of zero point `zero_point`.
struct CodedRows {
    moe::QuantizedRows layout;
    std::vector<std::byte> bytes;
    std::vector<const std::byte*> rows;

    CodedRows(Draw& draw, std::size_t n_rows, std::size_t k, int zero_point, bool extreme)
        : layout{k}, bytes(n_rows * layout.stride()) {
        for (std::size_t r = 0; r < n_rows; ++r) {
            std::vector<float> x = random_elements<float>(draw, k, 1);
            for (float& value : x) {
                value = extreme ? (value < -0.9F ? -1.0F : 1.0F) : value;
            }
            moe::quantize_row(layout, x.data(), zero_point, &bytes[r * layout.stride()]);
            rows.push_back(&bytes[r * layout.stride()]);
        }
    }

    [[nodiscard]] int code(std::size_t r, std::size_t i) const { return static_cast<signed char>(rows[r][i]); }
    [[nodiscard]] float scale(std::size_t r, std::size_t g) const {
        moe::GroupScale meta{};
        std::memcpy(&meta, rows[r] + layout.codes() + g * sizeof meta, sizeof meta);
        return meta.scale;
    }
};

/// rows * panel, group after group: (n_rows, width).
template <class F>
std::vector<float> plain_product(const CodedRows& rows, const CodedPanel<F>& panel) {
    constexpr std::size_t width = moe::Panel<float>::width;
    std::vector<float> c(rows.rows.size() * width);
    for (std::size_t r = 0; r < rows.rows.size(); ++r) {
        for (std::size_t g = 0; g < panel.groups; ++g) {
            for (std::size_t o = 0; o < width; ++o) {
                std::int32_t dot = 0;
                for (std::size_t i = g * moe::quantization_group; i < (g + 1) * moe::quantization_group; ++i) {
                    dot += panel.weights[i * width + o] * rows.code(r, i);
                }
                const float both = panel.scales[g * width + o] * rows.scale(r, g);
                c[r * width + o] = multiply_add(static_cast<float>(dot), both, c[r * width + o]);
            }
        }
    }
    return c;
}

}  // namespace moe_test
