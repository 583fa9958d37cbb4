#pragma once

#include <array>
#include <cstdio>
#include <string>

namespace bench {

/// printf into a string, of at most 511 characters.
template <class... Values>
[[nodiscard]] std::string formatted(const char* format, Values... values) {
    std::array<char, 512> text{};
    std::snprintf(text.data(), text.size(), format, values...);
    return text.data();
}

/// "2.31x", or "-" where there is nothing to compare with.
[[nodiscard]] inline std::string times(double factor) { return factor > 0 ? formatted("%.2fx", factor) : "-"; }

}  // namespace bench
