#pragma once

#include <algorithm>
#include <cstddef>

#include "../core/index.hpp"
#include "tile.hpp"

namespace moe::inline MOE_ABI::detail {

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
        pages_ = n_tiles > 1 ? std::max<std::size_t>(1, bytes / Prefetch::page) : 1;
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
        const std::size_t page = begin % pages_;
        return {next_ + page * Prefetch::page + begin / pages_ * Prefetch::line, per_step_, pages_, page};
    }

private:
    const std::byte* next_ = nullptr;
    std::size_t lines_ = 0;
    std::size_t per_step_ = 0;
    std::size_t per_tile_ = 0;
    std::size_t pages_ = 1;
};

}  // namespace moe::inline MOE_ABI::detail
