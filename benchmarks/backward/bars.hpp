#pragma once

#include <span>
#include <string>
#include <vector>

#include "row.hpp"

namespace bench::backward {

/// A figure of a row, and what it must reach.
struct Bar {
    enum class Kind : unsigned char {
        roofline,  ///< fraction of the roofline
        peak,      ///< fraction of the FMA peak
        threads,   ///< one thread's time over that of two
        eigen,     ///< the rival's time over that of the library
        onednn,
        backward,  ///< time of the backward pass over that of a forward pass
    };

    Kind kind;
    double figure;
    double limit;

    /// Rivals must be beaten, not met.
    [[nodiscard]] constexpr bool met() const noexcept {
        switch (kind) {
            case Kind::backward: return figure <= limit;
            case Kind::eigen:
            case Kind::onednn: return figure > limit;
            default: return figure >= limit;
        }
    }
};

/// The bars that a row has: none for other shapes than those of the forward bars or a part of their experts, and none
/// of what it did not measure.
[[nodiscard]] std::vector<Bar> bars_of(const Row& row);

/// All bars, a line a row, missed ones marked, and how many were met.
[[nodiscard]] std::string bars_text(std::span<const Row> rows);

}  // namespace bench::backward
