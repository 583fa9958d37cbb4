#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI {

/// The types of metadata, with their numbers in a GGUF file.
enum class GgufType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

namespace detail {

struct GgufTypeFacts {
    std::string_view name;
    std::size_t size;  // bytes an element has, or at least has
};

/// In the order of the enumerators.
inline constexpr std::array<GgufTypeFacts, 13> gguf_type_facts{{
    {"UINT8", 1},
    {"INT8", 1},
    {"UINT16", 2},
    {"INT16", 2},
    {"UINT32", 4},
    {"INT32", 4},
    {"FLOAT32", 4},
    {"BOOL", 1},
    {"STRING", 8},
    {"ARRAY", 12},
    {"UINT64", 8},
    {"INT64", 8},
    {"FLOAT64", 8},
}};

[[nodiscard]] inline const GgufTypeFacts& facts_of(GgufType type) {
    const auto index = static_cast<std::size_t>(type);
    ensure(index < gguf_type_facts.size(), ErrorCode::unknown_type, "GgufType: ", index, " is not an enumerator");
    return gguf_type_facts[index];
}

/// The number that begins at `source`, at any alignment.
template <class T>
[[nodiscard]] T load_number(const std::byte* source) noexcept {
    T value;
    std::memcpy(&value, source, sizeof value);
    return value;
}

/// What integers of metadata are read as: any type whose range holds the value.
template <class T>
concept GgufInteger = std::integral<T> && !std::same_as<T, bool> && sizeof(T) <= 8;

}  // namespace detail

/// The name of a type of metadata, as the description of the format spells it. Throws Error(unknown_type) for a value
/// that is no enumerator.
[[nodiscard]] inline std::string_view gguf_type_name(GgufType type) { return detail::facts_of(type).name; }

/// A C++ type that metadata can be read as.
template <class T>
concept GgufElement = detail::GgufInteger<T> || std::same_as<T, bool> || std::same_as<T, float> ||
    std::same_as<T, double> || std::same_as<T, std::string_view> || std::same_as<T, std::string>;

/// One entry of a file's metadata, in somebody else's memory: valid as long as that is (see GgufFile).
struct GgufValue {
    static_assert(std::endian::native == std::endian::little, "GGUF files are little-endian and are not swapped");

    std::string key;
    GgufType type = GgufType::u8;      ///< of the value, or of the elements of an array; never GgufType::array
    bool is_array = false;             ///< so a key may have one value or, in other files, one for each layer
    std::size_t count = 1;             ///< of elements, 1 for what is no array
    std::span<const std::byte> bytes;  ///< the text of a string; else numbers, or strings behind their lengths

    /// The value. Integers are read from any type of integer there is, since files differ in which they have;
    /// doubles from floats too. Throws Error(unknown_type) for a value of another type and for an array, Error(range)
    /// for an integer that T cannot hold. A string_view points into the file's memory.
    template <GgufElement T>
    [[nodiscard]] T as() const {
        require_type(!is_array && reads_as<T>(), kind_of<T>());
        if constexpr (std::constructible_from<T, const char*, std::size_t>) {
            return T(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        } else {
            return number<T>(bytes.data());
        }
    }

    /// The elements of an array, or the one value of what is none. Throws as `as`. O(count).
    template <GgufElement T>
    [[nodiscard]] std::vector<T> to_vector() const {
        if (!is_array) {
            std::vector<T> one;
            one.push_back(as<T>());
            return one;
        }
        require_type(reads_as<T>(), kind_of<T>());
        std::vector<T> result;
        result.reserve(count);
        std::span<const std::byte> rest = bytes;
        for (std::size_t i = 0; i < count; ++i) {
            if constexpr (std::constructible_from<T, const char*, std::size_t>) {
                const std::string_view text = next_string(rest);
                result.push_back(T(text.data(), text.size()));
            } else {
                result.push_back(number<T>(rest.data()));
                rest = rest.subspan(detail::facts_of(type).size);
            }
        }
        return result;
    }

private:
    /// What a message calls T.
    template <class T>
    [[nodiscard]] static constexpr std::string_view kind_of() {
        if constexpr (std::same_as<T, bool>) {
            return "BOOL";
        } else if constexpr (detail::GgufInteger<T>) {
            return "an integer";
        } else if constexpr (std::floating_point<T>) {
            return sizeof(T) == 4 ? "FLOAT32" : "FLOAT32 or FLOAT64";
        } else {
            return "STRING";
        }
    }

    template <class T>
    [[nodiscard]] bool reads_as() const noexcept {
        switch (type) {
            case GgufType::boolean: return std::same_as<T, bool>;
            case GgufType::string: return std::constructible_from<T, const char*, std::size_t>;
            case GgufType::f32: return std::floating_point<T>;
            case GgufType::f64: return std::same_as<T, double>;
            case GgufType::array: return false;
            default: return detail::GgufInteger<T>;
        }
    }

    void require_type(bool met, std::string_view wanted) const {
        if (!met) {
            raise_error(ErrorCode::unknown_type, "metadata ", detail::in_quotes(key), " is ",
                        is_array ? "an array of " : "", gguf_type_name(type), ", not ", wanted);
        }
    }

    template <class T>
    [[nodiscard]] T number(const std::byte* source) const {
        switch (type) {
            case GgufType::u8: return converted<T>(detail::load_number<std::uint8_t>(source));
            case GgufType::i8: return converted<T>(detail::load_number<std::int8_t>(source));
            case GgufType::u16: return converted<T>(detail::load_number<std::uint16_t>(source));
            case GgufType::i16: return converted<T>(detail::load_number<std::int16_t>(source));
            case GgufType::u32: return converted<T>(detail::load_number<std::uint32_t>(source));
            case GgufType::i32: return converted<T>(detail::load_number<std::int32_t>(source));
            case GgufType::u64: return converted<T>(detail::load_number<std::uint64_t>(source));
            case GgufType::i64: return converted<T>(detail::load_number<std::int64_t>(source));
            case GgufType::f32: return converted<T>(detail::load_number<float>(source));
            case GgufType::f64: return converted<T>(detail::load_number<double>(source));
            default: return converted<T>(detail::load_number<std::uint8_t>(source) != 0);
        }
    }

    /// What reads_as() has ruled out is not converted, but has to compile.
    template <class T, class Stored>
    [[nodiscard]] T converted(Stored value) const {
        if constexpr (detail::GgufInteger<T> && detail::GgufInteger<Stored>) {
            if (!std::in_range<T>(value)) {
                raise_error(ErrorCode::range, "metadata ", detail::in_quotes(key), " is ", value,
                            ", more than what it is read as can hold, or less");
            }
            return static_cast<T>(value);
        } else if constexpr (std::same_as<T, Stored> || (std::same_as<T, double> && std::same_as<Stored, float>)) {
            return static_cast<T>(value);
        } else {
            return T{};
        }
    }

    /// Takes a string from the front of `rest`. Compared again with what is there: a mapped file may have changed.
    [[nodiscard]] std::string_view next_string(std::span<const std::byte>& rest) const {
        constexpr std::size_t prefix = sizeof(std::uint64_t);
        const std::uint64_t length = rest.size() < prefix ? 0 : detail::load_number<std::uint64_t>(rest.data());
        if (rest.size() < prefix || length > rest.size() - prefix) {
            raise_error(ErrorCode::truncated, "metadata ", detail::in_quotes(key), ": a string of ", length,
                        " bytes does not fit: the file was changed after it was opened");
        }
        const std::size_t size = detail::to_size(length);
        const std::string_view text(reinterpret_cast<const char*>(rest.data()) + prefix, size);
        rest = rest.subspan(prefix + size);
        return text;
    }
};

}  // namespace moe::inline MOE_ABI
