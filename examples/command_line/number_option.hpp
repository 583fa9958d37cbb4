#pragma once

#include <cstddef>
#include <cstdio>
#include <string>
#include <type_traits>

#include "command_line.hpp"
#include "values.hpp"

namespace command_line {

/// As `%g` writes it.
[[nodiscard]] inline std::string text_of(double value) {
    std::string text(32, ' ');
    text.resize(static_cast<std::size_t>(std::snprintf(text.data(), text.size(), "%g", value)));
    return text;
}

/// An option whose value is a number in [least, most], with a default unless that is 0.
template <class Number>
void add_number(Parser& parser, const std::string& name, Number& value, Number least, Number most,
                const std::string& help) {
    parser.option(
        name, std::is_integral_v<Number> ? "N" : "X",
        [&value, name, least, most](const std::string& text) {
            value = parse_number<Number>("--" + name, text, least, most);
        },
        value == Number{} ? help : help + " (default: " + text_of(static_cast<double>(value)) + ")");
}

}  // namespace command_line
