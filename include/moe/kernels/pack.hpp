#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

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

/// Copies outputs [0, block.outputs) and inputs [first, first + depth) of `block` into panel order: input k, output o
/// at `target[k * target_stride + o]`; outputs up to `padded` are zero. Target is the storage type, or its compute
/// type. Reads and writes each element once; complexity padded * depth.
template <class W, class Target>
inline void pack_block(const WeightBlock<W>& block, std::size_t first, std::size_t depth, std::size_t padded,
                       Target* MOE_RESTRICT target, std::size_t target_stride) noexcept {
    constexpr std::size_t edge = 16;  // a square of 16 x 16 floats turned over in the first-level cache, line by line
    const W* const origin = block.data + first * block.input_stride;
    if (block.output_stride == 1) {  // already in panel order
        for (std::size_t k = 0; k < depth; ++k) {
            convert_run(origin + k * block.input_stride, block.outputs, target + k * target_stride);
        }
    } else if (block.input_stride == 1) {
        std::array<std::array<Target, edge>, edge> square;
        for (std::size_t o0 = 0; o0 < block.outputs; o0 += edge) {
            const std::size_t outputs = (std::min)(edge, block.outputs - o0);
            for (std::size_t k0 = 0; k0 < depth; k0 += edge) {
                const std::size_t inputs = (std::min)(edge, depth - k0);
                for (std::size_t o = 0; o < outputs; ++o) {
                    convert_run(origin + (o0 + o) * block.output_stride + k0, inputs, square[o].data());
                }
                for (std::size_t k = 0; k < inputs; ++k) {
                    for (std::size_t o = 0; o < outputs; ++o) {
                        target[(k0 + k) * target_stride + o0 + o] = square[o][k];
                    }
                }
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
