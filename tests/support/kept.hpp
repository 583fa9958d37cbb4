#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <type_traits>
#include <vector>

#include "moe/experts/packed_format.hpp"
#include "support/layer_cases.hpp"

/// What becomes of weights in a packed format, by the scalar functions of formats/ and core/ alone.
namespace moe_test {

/// Weights (outputs, inputs) as format F keeps them: quantised along each row in groups of 32, the last one filled up
/// with zeros, and back.
template <class F>
std::vector<float> as_kept(std::vector<float> weights, std::size_t inputs) {
    if constexpr (moe::QuantizedFormat<F>) {
        for (std::size_t row = 0; row < weights.size(); row += inputs) {
            for (std::size_t first = 0; first < inputs; first += moe::quantization_group) {
                const std::size_t count = std::min(moe::quantization_group, inputs - first);
                std::array<float, moe::quantization_group> x{};
                std::copy_n(&weights[row + first], count, x.begin());
                const moe::QuantizedGroup group = moe::quantize_group(F{}, x);
                for (std::size_t i = 0; i < count; ++i) {
                    weights[row + first + i] = moe::dequantize<F>(group, i);
                }
            }
        }
    } else if constexpr (!std::is_same_v<F, float>) {
        for (float& weight : weights) {
            weight = moe::to_float(to_element<F>(weight));
        }
    }
    return weights;
}

/// Standard normal (Box and Muller 1958).
inline float normal(Draw& draw) {
    const double u = (static_cast<double>(draw.size(1, 1U << 24))) * 0x1p-24;
    const double v = static_cast<double>(draw.size(0, (1U << 24) - 1)) * 0x1p-24;
    return static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v));
}
inline std::vector<float> normals(Draw& draw, std::size_t count, double deviation) {
    std::vector<float> values(count);
    for (float& value : values) {
        value = normal(draw) * static_cast<float>(deviation);
    }
    return values;
}

}  // namespace moe_test
