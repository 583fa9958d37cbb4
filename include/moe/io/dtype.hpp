#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

#include "../core/error.hpp"
#include "../core/half.hpp"

namespace moe::inline MOE_ABI {

/// What the elements of a stored tensor are. Types narrower than a byte are not supported.
enum class DType : std::uint8_t {
    boolean,
    u8,
    i8,
    f8_e4m3,  ///< OCP 8-bit float, 4 exponent bits, no infinities ("fn")
    f8_e5m2,  ///< OCP 8-bit float, 5 exponent bits
    f8_e8m0,  ///< OCP power-of-two scale
    u16,
    i16,
    f16,
    bf16,
    u32,
    i32,
    f32,
    u64,
    i64,
    f64,
};

namespace detail {

struct DTypeFacts {
    std::string_view name;  // as safetensors headers spell it
    std::size_t size;       // bytes an element
};

/// In the order of the enumerators.
inline constexpr std::array<DTypeFacts, 16> dtype_facts{{
    {"BOOL", 1},
    {"U8", 1},
    {"I8", 1},
    {"F8_E4M3", 1},
    {"F8_E5M2", 1},
    {"F8_E8M0", 1},
    {"U16", 2},
    {"I16", 2},
    {"F16", 2},
    {"BF16", 2},
    {"U32", 4},
    {"I32", 4},
    {"F32", 4},
    {"U64", 8},
    {"I64", 8},
    {"F64", 8},
}};

[[nodiscard]] constexpr const DTypeFacts& facts_of(DType dtype) {
    const auto index = static_cast<std::size_t>(dtype);
    ensure(index < dtype_facts.size(), ErrorCode::unknown_type, "DType: ", index, " is not an enumerator");
    return dtype_facts[index];
}

}  // namespace detail

/// Bytes of one element. Throws Error(unknown_type) for a value that is no enumerator.
[[nodiscard]] constexpr std::size_t dtype_size(DType dtype) { return detail::facts_of(dtype).size; }

/// The name in a safetensors header, e.g. "BF16". Throws Error(unknown_type) for a value that is no enumerator.
[[nodiscard]] constexpr std::string_view dtype_name(DType dtype) { return detail::facts_of(dtype).name; }

/// The type a safetensors header means by `name`, which is case-sensitive; nothing if there is none.
[[nodiscard]] constexpr std::optional<DType> find_dtype(std::string_view name) noexcept {
    for (std::size_t i = 0; i < detail::dtype_facts.size(); ++i) {
        if (detail::dtype_facts[i].name == name) {
            return static_cast<DType>(i);
        }
    }
    return std::nullopt;
}

/// A C++ type whose values a tensor can hold: the integers, float, double, `bfloat16`, `float16`. Not bool: a byte of a
/// file may be neither 0 nor 1, so boolean tensors are read as std::uint8_t.
template <class T>
concept TensorElement = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, bfloat16> ||
    std::same_as<T, float16> ||(std::integral<T> && !std::same_as<T, bool> && sizeof(T) <= 8);

namespace detail {

template <TensorElement T>
[[nodiscard]] consteval DType dtype_for() {
    if constexpr (std::same_as<T, float>) {
        return DType::f32;
    } else if constexpr (std::same_as<T, double>) {
        return DType::f64;
    } else if constexpr (std::same_as<T, bfloat16>) {
        return DType::bf16;
    } else if constexpr (std::same_as<T, float16>) {
        return DType::f16;
    } else if constexpr (sizeof(T) == 1) {
        return std::is_signed_v<T> ? DType::i8 : DType::u8;
    } else if constexpr (sizeof(T) == 2) {
        return std::is_signed_v<T> ? DType::i16 : DType::u16;
    } else if constexpr (sizeof(T) == 4) {
        return std::is_signed_v<T> ? DType::i32 : DType::u32;
    } else {
        return std::is_signed_v<T> ? DType::i64 : DType::u64;
    }
}

}  // namespace detail

/// The stored type of a C++ type, e.g. `dtype_of<float>` is `DType::f32`.
template <TensorElement T>
inline constexpr DType dtype_of = detail::dtype_for<T>();

/// Whether elements of `dtype` are read as T: its own type, and std::uint8_t for booleans too.
template <TensorElement T>
[[nodiscard]] constexpr bool reads_as(DType dtype) noexcept {
    return dtype == dtype_of<T> || (dtype == DType::boolean && dtype_of<T> == DType::u8);
}

}  // namespace moe::inline MOE_ABI
