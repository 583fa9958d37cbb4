#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "../formats/block_type.hpp"

namespace moe::inline MOE_ABI::detail {

inline constexpr std::string_view gguf_magic = "GGUF";
inline constexpr std::uint32_t gguf_version = 3;  ///< what is written; version 2 has the same layout
inline constexpr std::size_t gguf_max_dimensions = 4;
inline constexpr std::string_view gguf_alignment_key = "general.alignment";
inline constexpr std::size_t gguf_default_alignment = 32;
inline constexpr std::size_t gguf_max_alignment = std::size_t{1} << 30U;

/// Bytes of the data of a tensor, whose last dimension runs fastest. `where()` begins the message of what cannot be:
/// Error(layout) for rows that are no whole blocks, Error(overflow). Zero extents make a tensor empty but do not hide
/// the others: their product must fit too, because whoever computes strides from the shape multiplies them.
template <class Where>
[[nodiscard]] std::size_t gguf_tensor_bytes(const BlockType& type, std::span<const std::size_t> shape, Where where) {
    const std::size_t row = shape.empty() ? 1 : shape.back();
    if (row % type.block_values != 0) {
        raise_error(ErrorCode::layout, where(), ": rows of ", row, " values are no whole blocks of ", type.name,
                    ", which has ", type.block_values);
    }
    const auto product = [&](std::size_t a, std::size_t b) {
        if (a > (std::numeric_limits<std::size_t>::max)() / b) {
            raise_error(ErrorCode::overflow, where(), ": its size, ", a, " x ", b, " or more, overflows");
        }
        return a * b;
    };
    std::size_t values = 1;
    bool empty = false;
    for (const std::size_t extent : shape) {
        empty = empty || extent == 0;
        values = product(values, extent == 0 ? 1 : extent);
    }
    const std::size_t bytes = product(divide_up(values, type.block_values), type.block_bytes);
    return empty ? 0 : bytes;
}

}  // namespace moe::inline MOE_ABI::detail
