#include "text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "../../formatted.hpp"

namespace compare {

namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";

/// Bytes of the code point that begins `bytes`, or 0 where none does: overlong forms, surrogates and what lies above
/// U+10FFFF are excluded by the bounds of the second byte (RFC 3629, section 4).
std::size_t code_point(std::string_view bytes) {
    const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
    const unsigned first = at(0);
    if (first < 0x80) {
        return 1;
    }
    if (first < 0xC2 || first > 0xF4) {
        return 0;
    }
    const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (bytes.size() < length) {
        return 0;
    }
    const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (at(1) < low || at(1) > high) {
        return 0;
    }
    for (std::size_t i = 2; i < length; ++i) {
        if (at(i) < 0x80 || at(i) > 0xBF) {
            return 0;
        }
    }
    return length;
}

bool control(std::string_view point) {
    const auto first = static_cast<unsigned char>(point[0]);
    return first < 0x20 || first == 0x7F || (first == 0xC2 && static_cast<unsigned char>(point[1]) < 0xA0);
}

std::string replaced(std::string_view bytes, bool controls) {
    std::string text;
    while (!bytes.empty()) {
        const std::size_t length = code_point(bytes);
        const std::string_view point = bytes.substr(0, std::max<std::size_t>(length, 1));
        text += length == 0 || (controls && control(point)) ? replacement : point;
        bytes.remove_prefix(point.size());
    }
    return text;
}

}  // namespace

std::string clean_utf8(std::string_view bytes) { return replaced(bytes, false); }

std::string printable(std::string_view bytes) { return replaced(bytes, true); }

std::size_t width(std::string_view text) {
    return static_cast<std::size_t>(
        std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80; }));
}

std::string exact(double value) {
    if (!std::isfinite(value)) {
        return "";
    }
    std::array<char, 32> text{};
    return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

std::string rounded(double value) {
    if (!std::isfinite(value)) {
        return "-";
    }
    const double size = std::abs(value);
    if (size == 0) {
        return "0";
    }
    if (size < 0.0009995 || size >= 999'500) {
        return bench::formatted("%.2e", value);
    }
    // by the rounded value: 9.996 is 10.0 with three digits
    const int magnitude = static_cast<int>(std::floor(std::log10(size * (1 + 5e-4))));
    return bench::formatted("%.*f", std::max(0, 2 - magnitude), value);
}

std::string tally(double value) {
    const bool whole = std::floor(value) == value && std::abs(value) < 1e6;
    return whole ? bench::formatted("%.0f", value == 0 ? 0.0 : value) : rounded(value);
}

std::string percent(double share) {
    const std::string text = rounded(100 * share);
    return text == "-" ? text : text + "%";
}

std::string nats(double value) { return std::abs(value) < 1e6 ? bench::formatted("%.4f", value) : rounded(value); }

std::string Grid::text(std::string_view indent) const {
    std::vector<std::size_t> widths(lines_.front().size());
    for (const auto& line : lines_) {
        for (std::size_t i = 0; i < line.size(); ++i) {
            widths[i] = std::max(widths[i], width(line[i]));
        }
    }
    std::string text;
    for (const auto& line : lines_) {
        std::string row{indent};
        for (std::size_t i = 0; i < line.size(); ++i) {
            const std::string space(widths[i] - width(line[i]), ' ');
            row += i == 0 ? line[i] + space : "  " + space + line[i];
        }
        text += row.substr(0, row.find_last_not_of(' ') + 1) + '\n';
    }
    return text;
}

}  // namespace compare
