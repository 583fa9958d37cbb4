#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace compare {

/// `bytes` as UTF-8: one U+FFFD for each byte that belongs to no whole code point (RFC 3629).
std::string clean_utf8(std::string_view bytes);

/// The same in one line of a terminal: U+FFFD for control characters too (C0, DEL, C1), which could move its cursor.
std::string printable(std::string_view bytes);

/// Code points of well-formed UTF-8: columns of a terminal, for scripts that take one each.
std::size_t width(std::string_view text);

/// The shortest decimal that reads back to the same bits, or "" where it is not finite.
std::string exact(double value);

/// `value` with three significant digits (all those before the point), without an exponent from 0.001 to a million, or
/// "-" where it is not finite.
std::string rounded(double value);

/// The same, but whole numbers below a million as such: 8, not 8.00.
std::string tally(double value);

/// A share of 1: "12.5%", or "-" where it is not finite.
std::string percent(double share);

/// Four decimals: what strategies differ in lies in the third.
std::string nats(double value);

/// Lines of cells: the first column to the left, all others to the right, two spaces between them.
class Grid {
public:
    explicit Grid(std::vector<std::string> header) : lines_{std::move(header)} {}
    void add(std::vector<std::string> cells) { lines_.push_back(std::move(cells)); }
    [[nodiscard]] std::string text(std::string_view indent) const;

private:
    std::vector<std::vector<std::string>> lines_;
};

}  // namespace compare
