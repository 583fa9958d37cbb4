#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "../config.hpp"

namespace moe::inline MOE_ABI::detail {

/// `text` between quotes for a message: what a file says may be a megabyte long or full of control characters, so it is
/// cut after `limit` bytes and bytes outside printable ASCII are written as \xNN. (Not called `quoted`: given a
/// std::string, unqualified calls of that name would find the stream manipulator std::quoted.)
[[nodiscard]] inline std::string in_quotes(std::string_view text, std::size_t limit = 80) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    std::string result = "'";
    for (const char c : text.substr(0, limit)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20U && byte < 0x7FU) {
            result += c;
        } else {
            result += "\\x";
            result += digits[byte >> 4U];
            result += digits[byte & 0xFU];
        }
    }
    return result + (text.size() > limit ? "'..." : "'");
}

/// The path of a file between quotes, whole: its end is what tells one file from another.
[[nodiscard]] inline std::string path_in_quotes(std::string_view path) { return in_quotes(path, path.size()); }

}  // namespace moe::inline MOE_ABI::detail
