#include <algorithm>
#include <string_view>

#include "output.hpp"
#include "sections.hpp"
#include "text.hpp"

namespace compare {

namespace {

std::string quoted(std::string_view bytes) {
    const std::string text = clean_utf8(bytes);
    if (text.find_first_of(",\"\r\n") == std::string::npos) {
        return text;
    }
    std::string result = "\"";
    for (const char c : text) {
        result += c == '"' ? "\"\"" : std::string(1, c);
    }
    return result + '"';
}

struct CellText {
    std::string operator()(const std::string& value) const { return quoted(value); }
    std::string operator()(std::int64_t value) const { return std::to_string(value); }
    std::string operator()(double value) const { return exact(value); }
    std::string operator()(bool value) const { return value ? "true" : "false"; }
    std::string operator()(const std::vector<double>& values) const {
        std::string text;
        for (std::size_t i = 0; i < values.size(); ++i) {
            text += (i == 0 ? "" : " ") + exact(values[i]);
        }
        return text;
    }
};

/// The columns of all sections, in the order in which they come first.
std::vector<std::string> all_columns(const std::vector<Section>& parts) {
    std::vector<std::string> columns;
    for (const Section& part : parts) {
        for (const std::string& column : part.columns) {
            if (std::ranges::find(columns, column) == columns.end()) {
                columns.push_back(column);
            }
        }
    }
    return columns;
}

}  // namespace

std::string to_csv(const Report& report) {
    const std::vector<Section> parts = sections(report);
    const std::vector<std::string> columns = all_columns(parts);
    std::string text = "section";
    for (const std::string& column : columns) {
        text += ',' + column;
    }
    text += '\n';
    for (const Section& part : parts) {
        for (const auto& cells : part.rows) {
            text += part.name;
            for (const std::string& column : columns) {
                const auto found = std::ranges::find(part.columns, column);
                text += ',';
                if (found != part.columns.end()) {
                    text += std::visit(CellText{}, cells[static_cast<std::size_t>(found - part.columns.begin())]);
                }
            }
            text += '\n';
        }
    }
    return text;
}

}  // namespace compare
