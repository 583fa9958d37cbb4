#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "../core/error.hpp"
#include "../core/half.hpp"
#include "../core/index.hpp"
#include "../formats/block_type.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// The number of the type that ggml has for a C++ type; nothing it could be where there is none.
template <class T>
[[nodiscard]] consteval std::uint32_t ggml_type_for() {
    if constexpr (std::same_as<T, float>) {
        return blocks::F32::ggml_type;
    } else if constexpr (std::same_as<T, float16>) {
        return blocks::F16::ggml_type;
    } else if constexpr (std::same_as<T, bfloat16>) {
        return blocks::BF16::ggml_type;
    } else if constexpr (std::same_as<T, double>) {
        return 28;
    } else if constexpr (std::signed_integral<T> && sizeof(T) <= 8) {
        return sizeof(T) == 1 ? 24 : sizeof(T) == 2 ? 25 : sizeof(T) == 4 ? 26 : 27;
    } else {
        return 0xFFFFFFFFU;
    }
}

}  // namespace detail

/// A C++ type that a tensor of a GGUF file can hold one of an element: float, double, `bfloat16`, `float16`, signed
/// integers.
template <class T>
concept GgufTensorElement = detail::ggml_type_for<T>()
!= 0xFFFFFFFFU;

/// A named tensor of a GGUF file in somebody else's memory: little-endian blocks, row by row, without gaps. Valid as
/// long as that memory is (see GgufFile).
struct GgufTensor {
    static_assert(std::endian::native == std::endian::little, "GGUF files are little-endian and are not swapped");

    std::string name;
    const BlockType* type = nullptr;   ///< one of `block_types`, never null
    std::vector<std::size_t> shape;    ///< the last dimension runs fastest, (experts, outputs, inputs): the reverse of
                                       ///< what ggml calls ne and the file has; empty for a scalar; may have zeros
    std::span<const std::byte> bytes;  ///< aligned to general.alignment within the file, not always in memory

    /// Values in all.
    [[nodiscard]] std::size_t element_count() const { return bytes.size() / type->block_bytes * type->block_values; }
    /// Values a row: the last dimension, 1 for a scalar.
    [[nodiscard]] std::size_t row_values() const noexcept { return shape.empty() ? 1 : shape.back(); }
    /// Bytes a row: rows of a tensor, and so its experts, lie behind each other at this distance.
    [[nodiscard]] std::size_t row_bytes() const { return row_values() / type->block_values * type->block_bytes; }
    /// Rows in all.
    [[nodiscard]] std::size_t rows() const { return row_values() == 0 ? 0 : element_count() / row_values(); }

    /// Decodes `values.size() / row_values()` rows from row `first` on, to the bits that ggml has. Throws
    /// Error(unknown_type) if this library cannot decode them, Error(shape) for a part of a row, Error(range) for rows
    /// that are not there.
    void decode_rows(std::size_t first, std::span<float> values) const {
        const std::size_t width = row_values();
        const std::size_t count = width == 0 ? 0 : values.size() / width;
        if (count * width != values.size()) {
            raise_error(ErrorCode::shape, "tensor ", detail::in_quotes(name), ": ", values.size(),
                        " values are no whole rows of ", width);
        }
        if (first > rows() || count > rows() - first) {
            raise_error(ErrorCode::range, "tensor ", detail::in_quotes(name), ": there are no ", count,
                        " rows from row ", first, " on, it has ", rows());
        }
        require_type(type->decode != nullptr, "a type this library can decode");
        decode_blocks(*type, bytes.subspan(first * row_bytes(), count * row_bytes()), values);
    }

    /// All values decoded. Throws Error(unknown_type) if this library cannot decode them.
    [[nodiscard]] std::vector<float> to_float_vector() const {
        require_type(type->decode != nullptr, "a type this library can decode");
        std::vector<float> result(element_count());
        decode_blocks(*type, bytes, result);
        return result;
    }

    /// The same as doubles: no value changes.
    [[nodiscard]] std::vector<double> to_double_vector() const {
        const std::vector<float> values = to_float_vector();
        return {values.begin(), values.end()};
    }

    /// Whether `data_as<T>()` may be dereferenced as an ordinary T*.
    template <GgufTensorElement T>
    [[nodiscard]] bool is_aligned() const noexcept {
        return reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(T) == 0;
    }

    /// The elements in place, of a type that has one value a block. Throws Error(unknown_type) unless they are T. Where
    /// is_aligned<T>() is false the pointer may only be handed to code that loads unaligned.
    template <GgufTensorElement T>
    [[nodiscard]] const T* data_as() const {
        require_element<T>();
        return reinterpret_cast<const T*>(bytes.data());
    }

    /// A copy of the elements, from any alignment. Throws Error(unknown_type) unless they are T.
    template <GgufTensorElement T>
    [[nodiscard]] std::vector<T> to_vector() const {
        require_element<T>();
        std::vector<T> result(element_count());
        if (!result.empty()) {
            std::memcpy(result.data(), bytes.data(), bytes.size());
        }
        return result;
    }

private:
    template <class T>
    void require_element() const {
        constexpr std::uint32_t number = detail::ggml_type_for<T>();
        require_type(type->number == number, find_block_type(number)->name);
    }

    void require_type(bool met, std::string_view wanted) const {
        if (!met) {
            raise_error(ErrorCode::unknown_type, "tensor ", detail::in_quotes(name), " holds ", type->name, ", not ",
                        wanted);
        }
    }
};

}  // namespace moe::inline MOE_ABI
