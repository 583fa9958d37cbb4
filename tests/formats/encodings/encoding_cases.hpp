#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "moe/formats/encodings/awq.hpp"
#include "moe/formats/encodings/compressed_int4.hpp"
#include "moe/formats/encodings/fp8.hpp"
#include "moe/formats/encodings/gptq.hpp"
#include "moe/formats/encodings/mxfp4.hpp"
#include "moe/formats/encodings/nvfp4.hpp"
#include "support/layer_cases.hpp"

/// Random matrices in the encodings of checkpoints: first the numbers are drawn, then they are written where the format
/// says, so that decoding is tested against what was to be stored.
namespace moe_test {

namespace enc = moe::encodings;

/// A tensor of a file: at an odd address, and nothing behind it.
class FileTensor {
public:
    explicit FileTensor(std::size_t n_bytes) : memory_(n_bytes + 1) {}

    template <class N>
    void put(std::size_t i, const N& value) {
        std::memcpy(&memory_.at(1 + i * sizeof(N)), &value, sizeof value);
    }
    template <class N>
    void put_all(const std::vector<N>& values) {
        for (std::size_t i = 0; i < values.size(); ++i) {
            put(i, values[i]);
        }
    }
    /// Four bits of a word of 32, or of a byte.
    void put_code(std::size_t word, std::size_t which, unsigned code) {
        memory_.at(1 + word * 4 + which / 2) |= static_cast<std::byte>(code << (4 * (which % 2)));
    }
    void put_half_byte(std::size_t byte, std::size_t which, unsigned code) {
        memory_.at(1 + byte) |= static_cast<std::byte>(code << (4 * which));
    }
    [[nodiscard]] std::span<const std::byte> bytes() const { return std::span(memory_).subspan(1); }

private:
    std::vector<std::byte> memory_;
};

/// Scales of any type, and what they are as floats.
struct RandomScales {
    FileTensor tensor;
    enc::ScaleType type;
    std::vector<float> values;

    RandomScales(Draw& draw, std::size_t count, enc::ScaleType the_type)
        : tensor(count * (the_type == enc::ScaleType::float32 ? 4 : 2)), type(the_type), values(count) {
        for (std::size_t i = 0; i < count; ++i) {
            const float value = draw.value() / 8;
            if (type == enc::ScaleType::float32) {
                tensor.put(i, value);
                values[i] = value;
            } else if (type == enc::ScaleType::bfloat16) {
                tensor.put(i, moe::to_bfloat16(value));
                values[i] = moe::to_float(moe::to_bfloat16(value));
            } else {
                tensor.put(i, moe::to_float16(value));
                values[i] = moe::to_float(moe::to_float16(value));
            }
        }
    }
};

inline enc::ScaleType some_scale_type(Draw& draw) { return static_cast<enc::ScaleType>(draw.size(0, 2)); }

/// A matrix with its memory and its values, (outputs, inputs).
template <class M>
struct EncodedMatrix {
    std::vector<FileTensor> memory;
    M matrix;
    std::vector<float> values;
};

/// Views the tensors where they stay: moving a vector keeps their addresses.
template <class Make>
auto encoded_matrix(std::vector<FileTensor> memory, std::vector<float> values, Make&& make) {
    auto matrix = make(memory);
    return EncodedMatrix<decltype(matrix)>{std::move(memory), std::move(matrix), std::move(values)};
}
using FileTensors = std::vector<FileTensor>;

inline std::size_t up_to(std::size_t count, std::size_t multiple) { return (count + multiple - 1) / multiple; }

/// float8_e4m3fn and float8_e5m2, as their papers define them.
inline double float8_value(enc::Float8 type, unsigned code) {
    const int mantissa_bits = type == enc::Float8::e4m3 ? 3 : 2;
    const int bias = type == enc::Float8::e4m3 ? 7 : 15;
    const double sign = code >= 128 ? -1.0 : 1.0;
    const int exponent = static_cast<int>(code % 128) >> mantissa_bits;
    const int mantissa = static_cast<int>(code) % (1 << mantissa_bits);
    if (type == enc::Float8::e4m3 && code % 128 == 127) {
        return std::nan("");
    }
    if (type == enc::Float8::e5m2 && exponent == 31) {
        return mantissa == 0 ? sign * std::numeric_limits<double>::infinity() : std::nan("");
    }
    const double fraction = std::ldexp(mantissa, -mantissa_bits);
    return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias));
}

/// The value of four bits: sign, two bits of exponent of bias 1, one of mantissa.
inline double float4_value(unsigned code) {
    const double fraction = code % 2 == 1 ? 0.5 : 0.0;
    const int exponent = static_cast<int>(code / 2 % 4);
    return (code >= 8 ? -1.0 : 1.0) * (exponent == 0 ? fraction : std::ldexp(1 + fraction, exponent - 1));
}

inline EncodedMatrix<enc::Fp8Matrix> random_fp8(Draw& draw, enc::Float8 type, std::size_t outputs, std::size_t inputs,
                                                std::size_t block_outputs, std::size_t block_inputs) {
    const std::size_t columns = up_to(inputs, block_inputs);
    const RandomScales scales(draw, up_to(outputs, block_outputs) * columns, some_scale_type(draw));
    FileTensor weight(outputs * inputs);
    std::vector<float> values;
    for (std::size_t i = 0; i < outputs * inputs; ++i) {
        auto code = static_cast<unsigned char>(draw.size(0, 255));
        if (!std::isfinite(float8_value(type, code))) {
            code = 0x81;
        }
        weight.put(i, code);
        const float scale = scales.values[i / inputs / block_outputs * columns + i % inputs / block_inputs];
        values.push_back(static_cast<float>(float8_value(type, code)) * scale);
    }
    return encoded_matrix({weight, scales.tensor}, std::move(values), [&](const FileTensors& m) {
        return enc::Fp8Matrix(type, m[0].bytes(), {m[1].bytes(), scales.type}, outputs, inputs, block_outputs,
                              block_inputs);
    });
}

inline EncodedMatrix<enc::Mxfp4Matrix> random_mxfp4(Draw& draw, std::size_t outputs, std::size_t inputs) {
    FileTensor blocks(outputs * inputs / 2);
    FileTensor scales(outputs * inputs / 32);
    std::vector<float> values;
    for (std::size_t g = 0; g < outputs * inputs / 32; ++g) {
        const std::size_t exponent = draw.size(0, 19) == 0 ? draw.size(0, 117) : draw.size(118, 124);
        scales.put(g, static_cast<unsigned char>(exponent));
        for (std::size_t i = 0; i < 32; ++i) {
            const auto code = static_cast<unsigned>(draw.size(0, 15));
            blocks.put_half_byte(g * 16 + i / 2, i % 2, code);
            values.push_back(static_cast<float>(std::ldexp(float4_value(code), static_cast<int>(exponent) - 127)));
        }
    }
    return encoded_matrix({blocks, scales}, std::move(values), [&](const FileTensors& m) {
        return enc::Mxfp4Matrix(m[0].bytes(), m[1].bytes(), outputs, inputs);
    });
}

inline EncodedMatrix<enc::Nvfp4Matrix> random_nvfp4(Draw& draw, enc::GlobalScale does, std::size_t outputs,
                                                    std::size_t inputs) {
    FileTensor weight(outputs * inputs / 2);
    FileTensor scales(outputs * inputs / 16);
    const float strength = std::abs(draw.value()) / 100 + 0.001F;
    const float global = does == enc::GlobalScale::multiplies ? strength : 1 / strength;
    std::vector<float> values;
    for (std::size_t g = 0; g < outputs * inputs / 16; ++g) {
        const auto scale = static_cast<unsigned char>(draw.size(0, 126));
        scales.put(g, scale);
        const auto own = static_cast<float>(float8_value(enc::Float8::e4m3, scale));
        const float both = does == enc::GlobalScale::multiplies ? own * global : own / global;
        for (std::size_t i = 0; i < 16; ++i) {
            const auto code = static_cast<unsigned>(draw.size(0, 15));
            weight.put_half_byte(g * 8 + i / 2, i % 2, code);
            values.push_back(static_cast<float>(float4_value(code)) * both);
        }
    }
    return encoded_matrix({weight, scales}, std::move(values), [&](const FileTensors& m) {
        return enc::Nvfp4Matrix(m[0].bytes(), m[1].bytes(), global, does, outputs, inputs);
    });
}

/// The integers of 4 bits that a matrix is made of, and the group of each input.
struct Int4Numbers {
    std::size_t outputs;
    std::size_t inputs;
    std::size_t n_groups;
    std::vector<unsigned> codes;               ///< (outputs, inputs)
    std::vector<unsigned> zeros;               ///< (n_groups, outputs), as they are stored
    std::vector<std::int32_t> group_of_input;  ///< (inputs)

    Int4Numbers(Draw& draw, std::size_t the_outputs, std::size_t the_inputs, std::size_t group_size, bool shuffled)
        : outputs(the_outputs),
          inputs(the_inputs),
          n_groups(up_to(the_inputs, group_size)),
          codes(outputs * inputs),
          zeros(n_groups * outputs),
          group_of_input(inputs) {
        for (unsigned& code : codes) {
            code = static_cast<unsigned>(draw.size(0, 15));
        }
        for (unsigned& zero : zeros) {
            zero = static_cast<unsigned>(draw.size(0, 15));
        }
        for (std::size_t k = 0; k < inputs; ++k) {
            group_of_input[k] = static_cast<std::int32_t>(k / group_size);
        }
        for (std::size_t k = inputs; shuffled && k > 1; --k) {
            std::swap(group_of_input[k - 1], group_of_input[draw.size(0, k - 1)]);
        }
    }
    [[nodiscard]] std::size_t group(std::size_t input) const { return static_cast<std::size_t>(group_of_input[input]); }

    /// (code - zero - added) * scale, where the zero of a group and output is `zero_at` of it.
    template <class Zero, class Scale>
    [[nodiscard]] std::vector<float> values(Zero&& zero_at, Scale&& scale_at) const {
        std::vector<float> result;
        for (std::size_t o = 0; o < outputs; ++o) {
            for (std::size_t k = 0; k < inputs; ++k) {
                const double difference = static_cast<double>(codes[o * inputs + k]) - zero_at(group(k), o);
                result.push_back(static_cast<float>(difference * static_cast<double>(scale_at(group(k), o))));
            }
        }
        return result;
    }
};

inline EncodedMatrix<enc::GptqMatrix> random_gptq(Draw& draw, enc::GptqZeros zeros, bool act_order, std::size_t outputs,
                                                  std::size_t inputs, std::size_t group_size) {
    const Int4Numbers numbers(draw, outputs, inputs, group_size, act_order);
    const RandomScales scales(draw, numbers.n_groups * outputs, some_scale_type(draw));
    FileTensor qweight(outputs * inputs / 2);
    FileTensor qzeros(numbers.n_groups * outputs / 2);
    FileTensor g_idx(act_order ? inputs * 4 : 0);
    for (std::size_t o = 0; o < outputs; ++o) {
        for (std::size_t k = 0; k < inputs; ++k) {
            qweight.put_code(k / 8 * outputs + o, k % 8, numbers.codes[o * inputs + k]);
        }
        for (std::size_t g = 0; g < numbers.n_groups; ++g) {
            qzeros.put_code(g * (outputs / 8) + o / 8, o % 8, numbers.zeros[g * outputs + o]);
        }
    }
    if (act_order) {
        g_idx.put_all(numbers.group_of_input);
    }
    const double added = zeros == enc::GptqZeros::less_one ? 1 : 0;
    std::vector<float> values =
        numbers.values([&](std::size_t g, std::size_t o) { return numbers.zeros[g * outputs + o] + added; },
                       [&](std::size_t g, std::size_t o) { return scales.values[g * outputs + o]; });
    return encoded_matrix({qweight, qzeros, scales.tensor, g_idx}, std::move(values), [&](const FileTensors& m) {
        return enc::GptqMatrix({m[0].bytes(), m[1].bytes(), {m[2].bytes(), scales.type}, m[3].bytes()}, outputs, inputs,
                               group_size, zeros);
    });
}

inline EncodedMatrix<enc::AwqMatrix> random_awq(Draw& draw, std::size_t outputs, std::size_t inputs,
                                                std::size_t group_size) {
    const Int4Numbers numbers(draw, outputs, inputs, group_size, false);
    const RandomScales scales(draw, numbers.n_groups * outputs, some_scale_type(draw));
    FileTensor qweight(outputs * inputs / 2);
    FileTensor qzeros(numbers.n_groups * outputs / 2);
    constexpr std::array<std::size_t, 8> order{0, 2, 4, 6, 1, 3, 5, 7};
    for (std::size_t c = 0; c < outputs / 8; ++c) {
        for (std::size_t i = 0; i < 8; ++i) {
            const std::size_t o = 8 * c + order[i];
            for (std::size_t k = 0; k < inputs; ++k) {
                qweight.put_code(k * (outputs / 8) + c, i, numbers.codes[o * inputs + k]);
            }
            for (std::size_t g = 0; g < numbers.n_groups; ++g) {
                qzeros.put_code(g * (outputs / 8) + c, i, numbers.zeros[g * outputs + o]);
            }
        }
    }
    std::vector<float> values =
        numbers.values([&](std::size_t g, std::size_t o) { return numbers.zeros[g * outputs + o]; },
                       [&](std::size_t g, std::size_t o) { return scales.values[g * outputs + o]; });
    return encoded_matrix({qweight, qzeros, scales.tensor}, std::move(values), [&](const FileTensors& m) {
        return enc::AwqMatrix({m[0].bytes(), m[1].bytes(), {m[2].bytes(), scales.type}}, outputs, inputs, group_size);
    });
}

inline EncodedMatrix<enc::CompressedInt4Matrix> random_compressed(Draw& draw, bool with_zeros, bool act_order,
                                                                  std::size_t outputs, std::size_t inputs,
                                                                  std::size_t group_size) {
    const Int4Numbers numbers(draw, outputs, inputs, group_size, act_order);
    const RandomScales scales(draw, numbers.n_groups * outputs, some_scale_type(draw));
    const std::size_t words = up_to(inputs, 8);
    FileTensor packed(outputs * words * 4);
    FileTensor zeros(with_zeros ? up_to(outputs, 8) * numbers.n_groups * 4 : 0);
    FileTensor g_idx(act_order ? inputs * 4 : 0);
    for (std::size_t o = 0; o < outputs; ++o) {
        for (std::size_t k = 0; k < inputs; ++k) {
            packed.put_code(o * words + k / 8, k % 8, numbers.codes[o * inputs + k]);
        }
        for (std::size_t g = 0; with_zeros && g < numbers.n_groups; ++g) {
            zeros.put_code(o / 8 * numbers.n_groups + g, o % 8, numbers.zeros[g * outputs + o]);
        }
    }
    if (act_order) {
        g_idx.put_all(numbers.group_of_input);
    }
    std::vector<float> values =
        numbers.values([&](std::size_t g, std::size_t o) { return with_zeros ? numbers.zeros[g * outputs + o] : 8U; },
                       [&](std::size_t g, std::size_t o) { return scales.values[o * numbers.n_groups + g]; });
    return encoded_matrix({packed, scales.tensor, zeros, g_idx}, std::move(values), [&](const FileTensors& m) {
        return enc::CompressedInt4Matrix({m[0].bytes(), {m[1].bytes(), scales.type}, m[2].bytes(), m[3].bytes()},
                                         outputs, inputs, group_size);
    });
}

}  // namespace moe_test
