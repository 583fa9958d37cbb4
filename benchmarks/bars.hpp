#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "row.hpp"

namespace bench {

/// A figure of a row, and what it must reach.
struct Bar {
    enum class Kind : unsigned char {
        read,        ///< weights read a second, as a fraction of the memory read probe
        roofline,    ///< fraction of the roofline
        peak,        ///< fraction of the arithmetic peak of the compute
        threads,     ///< one thread's time over that of four
        one_expert,  ///< time with all tokens on one expert over that of the row
        routing,     ///< share of logits, gate and plan
        workspace,   ///< MB
    };

    Kind kind;
    double figure;
    double limit;

    [[nodiscard]] constexpr bool met() const noexcept {
        return kind >= Kind::one_expert ? figure <= limit : figure >= limit;
    }
};

/// Which bars hold: they are of a build for a processor, and one without any is only measured.
enum class BarTable : unsigned char { none, avx2, avx512_vnni };

/// Of the instruction sets this program is compiled for.
[[nodiscard]] BarTable built_table() noexcept;

inline constexpr std::string_view bar_shapes[] = {"qwen3-30b-a3b", "olmoe-1b-7b", "deepseek-v2-lite", "mixtral-8x7b"};
inline constexpr std::size_t bar_tokens[] = {1, 8, 32, 128, 512, 2048};
/// Where threads are compared with one and a single expert with many.
inline constexpr std::size_t scaling_tokens = 512;

/// The bars that a row has: none for other shapes than these, and none of what it did not measure.
[[nodiscard]] std::vector<Bar> bars_of(const Row& row, BarTable table);

/// All bars of the rows, a line a shape, missed ones marked, and how many were met.
[[nodiscard]] std::string bars_text(std::span<const Row> rows, BarTable table);

}  // namespace bench
