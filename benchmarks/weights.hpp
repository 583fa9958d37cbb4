#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include <moe/core/half.hpp>
#include <moe/core/random.hpp>
#include <moe/formats/quantized.hpp>

#include "formats.hpp"
#include "threads.hpp"

namespace bench {

/// Which matrix of a layer: each has its own stream of random values.
enum class Matrix : unsigned char { gate, up, down, router };

/// Where weights come from: value (row, column) of a matrix is a pure function of these, so every arm can make the same
/// ones in the order it stores them, on all threads, and nobody needs to keep a copy.
struct WeightStream {
    std::uint64_t seed;
    float amplitude;  ///< values are uniform in [-amplitude, amplitude)

    /// `group` 0 is the routed experts, 1 the shared ones, 2 the dense network; inputs: columns of the matrix.
    WeightStream(std::size_t layer, std::size_t group, Matrix matrix, std::size_t inputs)
        : seed(moe::random_bits(0x6d6f65, layer * 64 + group * 8 + static_cast<std::size_t>(matrix))),
          amplitude(std::sqrt(3.0F / static_cast<float>(inputs))) {}

    [[nodiscard]] float operator()(std::size_t index) const noexcept {
        return amplitude * (2.0F * moe::random_uniform(seed, index) - 1.0F);
    }
};

/// The nearest value of a storage type.
template <class W>
[[nodiscard]] inline W stored(float value) noexcept {
    if constexpr (std::is_same_v<W, moe::bfloat16>) {
        return moe::to_bfloat16(value);
    } else if constexpr (std::is_same_v<W, moe::float16>) {
        return moe::to_float16(value);
    } else {
        return value;
    }
}

[[nodiscard]] inline float loaded(float value) noexcept { return value; }
template <class W>
[[nodiscard]] inline float loaded(W value) noexcept {
    return moe::to_float(value);
}

/// out[i] = value first + i of the stream as format F keeps it: an element type, moe::Int8 or moe::Int4. `first` and
/// the size are multiples of 32 and a row of every matrix is one as well, so that groups of 32 along a row stay whole.
template <class F>
void rounded_values(const WeightStream& stream, std::size_t first, std::span<float> out) {
    if constexpr (requires { F::zero_point; }) {
        std::array<float, moe::quantization_group> values;
        for (std::size_t begin = 0; begin < out.size(); begin += values.size()) {
            for (std::size_t i = 0; i < values.size(); ++i) {
                values[i] = stream(first + begin + i);
            }
            const moe::QuantizedGroup group = moe::quantize_group(F{}, values);
            for (std::size_t i = 0; i < values.size(); ++i) {
                out[begin + i] = moe::dequantize<F>(group, i);
            }
        }
    } else {
        for (std::size_t i = 0; i < out.size(); ++i) {
            out[i] = loaded(stored<F>(stream(first + i)));
        }
    }
}

/// The same on all threads.
template <class F>
void fill_rounded(const Threads& threads, const WeightStream& stream, std::size_t first, std::span<float> out) {
    constexpr std::size_t grain = 4096;
    threads.split(out.size(), grain, [&](std::size_t begin, std::size_t end) {
        rounded_values<F>(stream, first + begin, out.subspan(begin, end - begin));
    });
}

/// target[i] = value first + i of the stream as an element type.
template <class W>
void fill_stored(const Threads& threads, const WeightStream& stream, std::size_t first, std::span<W> target) {
    constexpr std::size_t grain = 4096;
    threads.split(target.size(), grain, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            target[i] = stored<W>(stream(first + i));
        }
    });
}

/// Calls visit(F{}) with what the library calls a format: an element type, moe::Int8 or moe::Int4.
template <class Visit>
void visit_format(Format format, Visit&& visit) {
    switch (format) {
        case Format::f32: return visit(float{});
        case Format::bf16: return visit(moe::bfloat16{});
        case Format::f16: return visit(moe::float16{});
        case Format::int8: return visit(moe::Int8{});
        case Format::int4: return visit(moe::Int4{});
    }
}

}  // namespace bench
