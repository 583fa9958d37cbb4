#pragma once

#include <cmath>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "support/catch.hpp"

/// What tests read in the table of a comparison.
namespace shown {

inline bool same_double(double a, double b) { return a == b && std::signbit(a) == std::signbit(b); }

/// The lines of the table from one that is `heading` to the next empty one.
inline std::vector<std::string> block(const std::string& table, const std::string& heading) {
    std::istringstream stream(table);
    std::vector<std::string> lines;
    for (std::string line; std::getline(stream, line) && !(line.empty() && !lines.empty());) {
        if (line == heading || !lines.empty()) {
            lines.push_back(line);
        }
    }
    return lines;
}

/// The cells of the line of `strategy`, or none.
inline std::vector<std::string> cells(const std::vector<std::string>& lines, const std::string& strategy) {
    for (const std::string& line : lines) {
        if (line.starts_with("  " + strategy + "  ")) {
            std::istringstream words(line.substr(2 + strategy.size()));
            std::vector<std::string> result;
            for (std::string word; words >> word;) {
                result.push_back(word);
            }
            return result;
        }
    }
    return {};
}

inline void check_shown(const std::string& cell, double value) {
    INFO(cell << " for " << value);
    CHECK(std::abs(std::strtod(cell.c_str(), nullptr) - value) <= 0.0051 * std::abs(value));
}

}  // namespace shown
