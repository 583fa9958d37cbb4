#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "../config.hpp"

namespace moe::inline MOE_ABI::detail {

/// `text` between quotes for a message: what a file says may be a megabyte long or full of control characters, so it is
/// cut after 80 bytes and bytes outside printable ASCII are written as \xNN. (Not called `quoted`: given a std::string,
/// unqualified calls of that name would find the stream manipulator std::quoted.)
[[nodiscard]] inline std::string in_quotes(std::string_view text) {
    constexpr std::size_t limit = 80;
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

/// Index of the first byte that breaks UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF), or
/// `text.size()` if there is none. A sequence cut off by the end breaks at its first byte.
[[nodiscard]] inline std::size_t first_invalid_utf8(std::string_view text) noexcept {
    const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    std::size_t i = 0;
    while (i < text.size()) {
        const unsigned char lead = byte(i);
        if (lead < 0x80U) {
            ++i;
            continue;
        }
        const std::size_t length = lead >= 0xF0U ? 4 : lead >= 0xE0U ? 3 : 2;
        if (lead < 0xC2U || lead > 0xF4U || length > text.size() - i) {
            return i;
        }
        // The second byte alone decides about overlong forms, surrogates and the upper end.
        const unsigned char low = lead == 0xE0U ? 0xA0U : lead == 0xF0U ? 0x90U : 0x80U;
        const unsigned char high = lead == 0xEDU ? 0x9FU : lead == 0xF4U ? 0x8FU : 0xBFU;
        if (byte(i + 1) < low || byte(i + 1) > high) {
            return i;
        }
        for (std::size_t k = 2; k < length; ++k) {
            if ((byte(i + k) & 0xC0U) != 0x80U) {
                return i;
            }
        }
        i += length;
    }
    return text.size();
}

/// Appends `code_point`, at most 0x10FFFF, in UTF-8.
inline void append_utf8(std::string& text, unsigned code_point) {
    const auto put = [&text](unsigned byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
    if (code_point < 0x80U) {
        put(code_point);
    } else if (code_point < 0x800U) {
        put(0xC0U | (code_point >> 6U));
        put(0x80U | (code_point & 0x3FU));
    } else if (code_point < 0x10000U) {
        put(0xE0U | (code_point >> 12U));
        put(0x80U | ((code_point >> 6U) & 0x3FU));
        put(0x80U | (code_point & 0x3FU));
    } else {
        put(0xF0U | (code_point >> 18U));
        put(0x80U | ((code_point >> 12U) & 0x3FU));
        put(0x80U | ((code_point >> 6U) & 0x3FU));
        put(0x80U | (code_point & 0x3FU));
    }
}

/// Appends `text` as a JSON string, quotes included.
inline void append_json_string(std::string& json, std::string_view text) {
    constexpr std::string_view digits = "0123456789abcdef";
    json += '"';
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            json += '\\';
            json += c;
        } else if (byte < 0x20U) {
            json += "\\u00";
            json += digits[byte >> 4U];
            json += digits[byte & 0xFU];
        } else {
            json += c;
        }
    }
    json += '"';
}

}  // namespace moe::inline MOE_ABI::detail
