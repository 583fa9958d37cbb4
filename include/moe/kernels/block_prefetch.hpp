#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "../core/index.hpp"
#include "tile.hpp"

namespace moe::inline MOE_ABI {

/// Where the weights of a block lie in the user's memory: `rows` runs of `bytes` bytes, `stride` bytes apart. Without
/// rows: nowhere that is worth asking for.
struct FarRows {
    const std::byte* first = nullptr;
    std::size_t rows = 0;
    std::size_t stride = 0;
    std::size_t bytes = 0;
};

/// A block is gathered from one matrix, or a half of it from each of two.
using FarBlock = std::array<FarRows, 2>;

namespace detail {

/// What the tiles of a block ask for while they work on it: the block that follows, shared evenly among them and over
/// the `steps` steps of each. A core has few requests under way at once, and its own loads wait behind them: all lines
/// in the first four tiles of 22 cost a tenth of the speed, 46 in one burst as much; page by page side by side a block
/// comes a quarter faster than from front to back. Tried and slower: every second, fourth or eighth line in the hope
/// that the hardware fetches the others, other cache levels, fewer lines than the block has. Without bytes: nothing.
class BlockPrefetch {
public:
    BlockPrefetch() = default;
    BlockPrefetch(std::size_t bytes, std::size_t n_tiles, std::size_t steps) noexcept
        : lines_(divide_up(bytes, Prefetch::line)) {
        per_step_ = divide_up(lines_, n_tiles * steps);
        per_tile_ = per_step_ * steps;
        // a single tile reads the block itself, from front to back, right behind
        rows_ = n_tiles > 1 ? std::max<std::size_t>(1, bytes / Prefetch::page) : 1;
    }
    BlockPrefetch(const FarRows& far, std::size_t n_tiles, std::size_t steps) noexcept
        : next_(far.first),
          lines_(far.rows * divide_up(far.bytes, Prefetch::line)),
          rows_(far.rows),
          stride_(far.stride) {
        per_step_ = divide_up(lines_, n_tiles * steps);
        per_tile_ = per_step_ * steps;
    }

    [[nodiscard]] BlockPrefetch from(const std::byte* next) const noexcept {
        BlockPrefetch result = *this;
        result.next_ = next;
        return result;
    }

    [[nodiscard]] Prefetch tile(std::size_t index) const noexcept {
        const std::size_t begin = index * per_tile_;
        if (begin >= lines_) {
            return {};
        }
        const std::size_t row = begin % rows_;
        return {next_ + row * stride_ + begin / rows_ * Prefetch::line, per_step_, rows_, row, stride_};
    }

private:
    const std::byte* next_ = nullptr;
    std::size_t lines_ = 0;
    std::size_t per_step_ = 0;
    std::size_t per_tile_ = 0;
    std::size_t rows_ = 1;
    std::size_t stride_ = Prefetch::page;
};

/// The same for a block that will be gathered: its two halves one after the other.
class GatherPrefetch {
public:
    GatherPrefetch(const FarBlock& far, std::size_t n_tiles, std::size_t steps) noexcept
        : of_first_(far[1].rows == 0 ? n_tiles : n_tiles / 2),
          first_(far[0], (std::max<std::size_t>)(1, of_first_), steps),
          second_(far[1], n_tiles - (std::min)(of_first_, n_tiles - 1), steps) {}

    [[nodiscard]] Prefetch tile(std::size_t index) const noexcept {
        return index < of_first_ ? first_.tile(index) : second_.tile(index - of_first_);
    }

private:
    std::size_t of_first_;  ///< tiles
    BlockPrefetch first_;
    BlockPrefetch second_;
};

}  // namespace detail

}  // namespace moe::inline MOE_ABI
