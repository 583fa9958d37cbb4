#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "../core/error.hpp"

namespace moe::inline MOE_ABI {

/// What packed weights are stored in, as a value: for formats that are known when a program runs.
enum class Format : unsigned char { as_stored, float32, float64, bfloat16, float16, int8, int4 };

namespace detail {

inline constexpr std::array<const char*, 7> format_names{"as_stored", "float32", "float64", "bfloat16",
                                                         "float16",   "int8",    "int4"};

}  // namespace detail

/// "int8" and so on.
[[nodiscard]] inline const char* format_name(Format format) {
    ensure(format <= Format::int4, ErrorCode::range, "Format: none has the number ", static_cast<int>(format));
    return detail::format_names[static_cast<std::size_t>(format)];
}

/// The format of that name. Throws Error(not_found) listing those there are.
[[nodiscard]] inline Format find_format(std::string_view name) {
    std::string known;
    for (std::size_t i = 0; i < detail::format_names.size(); ++i) {
        if (name == detail::format_names[i]) {
            return static_cast<Format>(i);
        }
        known += (i == 0 ? "" : ", ") + std::string(detail::format_names[i]);
    }
    raise_error(ErrorCode::not_found, "Format: none is called ", name, "; there are ", known);
}

}  // namespace moe::inline MOE_ABI
