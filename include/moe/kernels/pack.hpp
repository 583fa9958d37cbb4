#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

#include "arch/transpose.hpp"
#include "arch/turned_lines.hpp"
#include "block_prefetch.hpp"
#include "convert.hpp"

namespace moe::inline MOE_ABI {

/// A rectangle of weights in any storage order: output `o`, input `k` at `data[o * output_stride + k * input_stride]`.
/// The pointer need not be aligned.
template <class W>
struct WeightBlock {
    const W* data;
    std::size_t outputs;        ///< valid outputs; may be 0
    std::size_t output_stride;  ///< elements between outputs
    std::size_t input_stride;   ///< elements between inputs
};

namespace detail {

/// Outputs [o0, o0 + outputs), inputs [k0, k0 + inputs) of a block whose inputs are neighbours, at most `edge` of each:
/// turned over in the first-level cache, line by line.
template <std::size_t edge, class W, class Target>
inline void pack_square(const W* source, std::size_t stride, std::size_t outputs, std::size_t inputs,
                        Target* MOE_RESTRICT target, std::size_t target_stride) noexcept {
    [[maybe_unused]] const bool whole = outputs == edge && inputs == edge;
    if constexpr (std::is_same_v<W, Target> && arch::shuffles_squares<Target>) {
        if (whole) {
            return arch::transpose_square(source, stride, target, target_stride);
        }
    }
    std::array<std::array<Target, edge>, edge> square;
    for (std::size_t o = 0; o < outputs; ++o) {
        convert_run(source + o * stride, inputs, square[o].data());
    }
    if constexpr (arch::shuffles_squares<Target>) {
        if (whole) {
            return arch::transpose_square(square[0].data(), edge, target, target_stride);
        }
    }
    for (std::size_t k = 0; k < inputs; ++k) {
        for (std::size_t o = 0; o < outputs; ++o) {
            target[k * target_stride + o] = square[o][k];
        }
    }
}

/// target[k * target_stride + o] for as many outputs and inputs as are turned over in registers at once. Of 16-bit
/// weights four rows of activations are a quarter faster so than with squares that were widened in memory before.
template <class W>
inline void pack_turned(const W* source, std::size_t stride, ComputeType<W>* MOE_RESTRICT target,
                        std::size_t target_stride) noexcept {
    using Lines = arch::TurnedLines<W>;
    const Lines lines(reinterpret_cast<const std::byte*>(source), stride * sizeof(W));
    const auto put = [&](const auto& part, std::size_t first) {
        MOE_UNROLL
        for (std::size_t i = 0; i < Lines::part_inputs; ++i) {
            store(target + (first + i) * target_stride, part[i]);
        }
    };
    put(lines.template part<0>(), 0);
    if constexpr (Lines::parts > 1) {
        put(lines.template part<1>(), Lines::part_inputs);
    }
}

/// Values of a square: as many as a vector has where it is shuffled, else 16, a line of floats.
template <class Target>
[[nodiscard]] constexpr std::size_t square_edge() noexcept {
    if constexpr (arch::shuffles_squares<Target>) {
        return lanes<Target>;
    } else {
        return 16;
    }
}

}  // namespace detail

/// Where pack_block() will read.
template <class W>
[[nodiscard]] inline FarRows far_rows(const WeightBlock<W>& block, std::size_t first, std::size_t depth) noexcept {
    const auto* const origin = reinterpret_cast<const std::byte*>(block.data + first * block.input_stride);
    if (block.output_stride == 1) {
        return {origin, depth, block.input_stride * sizeof(W), block.outputs * sizeof(W)};
    }
    if (block.input_stride == 1) {
        return {origin, block.outputs, block.output_stride * sizeof(W), depth * sizeof(W)};
    }
    return {};
}

/// Copies outputs [0, block.outputs) and inputs [first, first + depth) of `block` into panel order: input k, output o
/// at `target[k * target_stride + o]`; outputs up to `padded` are zero. Target is the storage type, or its compute
/// type. Reads and writes each element once; complexity padded * depth.
template <class W, class Target>
inline void pack_block(const WeightBlock<W>& block, std::size_t first, std::size_t depth, std::size_t padded,
                       Target* MOE_RESTRICT target, std::size_t target_stride) noexcept {
    const W* const origin = block.data + first * block.input_stride;
    if (block.output_stride == 1) {  // already in panel order
        for (std::size_t k = 0; k < depth; ++k) {
            convert_run(origin + k * block.input_stride, block.outputs, target + k * target_stride);
        }
    } else if (block.input_stride == 1) {
        constexpr std::size_t edge = detail::square_edge<Target>();
        for (std::size_t o = 0; o < block.outputs; o += edge) {
            std::size_t k = 0;
            if constexpr (arch::TurnedLines<W>::present && std::is_same_v<Target, ComputeType<W>>) {
                if (o + arch::TurnedLines<W>::outputs <= block.outputs && edge == arch::TurnedLines<W>::outputs) {
                    for (; k + arch::TurnedLines<W>::inputs <= depth; k += arch::TurnedLines<W>::inputs) {
                        detail::pack_turned(origin + o * block.output_stride + k, block.output_stride,
                                            target + k * target_stride + o, target_stride);
                    }
                }
            }
            for (; k < depth; k += edge) {
                detail::pack_square<edge>(origin + o * block.output_stride + k, block.output_stride,
                                          (std::min)(edge, block.outputs - o), (std::min)(edge, depth - k),
                                          target + k * target_stride + o, target_stride);
            }
        }
    } else {
        for (std::size_t k = 0; k < depth; ++k) {
            for (std::size_t o = 0; o < block.outputs; ++o) {
                convert_run(origin + o * block.output_stride + k * block.input_stride, 1,
                            target + k * target_stride + o);
            }
        }
    }
    for (std::size_t k = 0; k < depth; ++k) {
        std::fill(target + k * target_stride + block.outputs, target + k * target_stride + padded, Target{});
    }
}

}  // namespace moe::inline MOE_ABI
