// What a product asks of memory while it works on the block before: exactly the lines that will be gathered.

#include <cstddef>
#include <map>
#include <vector>

#include "moe/kernels/block_prefetch.hpp"
#include "moe/kernels/pack.hpp"
#include "support/catch.hpp"

namespace moe_test::gather_prefetch_test {

namespace {

/// How often each line is asked for by `n_tiles` tiles of `steps` steps.
std::map<std::ptrdiff_t, int> asked(const moe::FarBlock& far, std::size_t n_tiles, std::size_t steps,
                                    const std::byte* origin) {
    std::map<std::ptrdiff_t, int> lines;
    const moe::detail::GatherPrefetch prefetch(far, n_tiles, steps);
    for (std::size_t tile = 0; tile < n_tiles; ++tile) {
        moe::Prefetch ahead = prefetch.tile(tile);
        const std::size_t in_step = ahead.lines;
        ahead.lines = in_step > 0 ? 1 : 0;
        for (std::size_t i = 0; i < in_step * steps; ++i) {
            ++lines[ahead.next - origin];
            ahead.step();
        }
    }
    return lines;
}

/// Lines of the rows that are not asked for, or more than once.
int wrong_lines(const std::map<std::ptrdiff_t, int>& lines, const moe::FarRows& far, const std::byte* origin) {
    int wrong = 0;
    for (std::size_t r = 0; r < far.rows; ++r) {
        for (std::size_t at = 0; at < far.bytes; at += moe::Prefetch::line) {
            const auto found = lines.find(far.first + r * far.stride + at - origin);
            wrong += found == lines.end() || found->second != 1 ? 1 : 0;
        }
    }
    return wrong;
}

}  // namespace

TEST_CASE("every line of the next block is asked for once, whatever the tiles", "[product]") {
    const std::vector<float> memory(2 * 64 * 300);
    const auto* const origin = reinterpret_cast<const std::byte*>(memory.data());
    for (const std::size_t n_tiles : {1U, 2U, 3U, 22U, 32U}) {
        for (const std::size_t rows : {1U, 7U, 32U, 64U}) {
            const moe::FarRows all{origin, rows, 1200, 512};
            INFO(n_tiles << " tiles, " << rows << " rows");
            CHECK(wrong_lines(asked({all}, n_tiles, 32, origin), all, origin) == 0);
            if (n_tiles > 1) {
                const moe::FarRows other{origin + 64 * 1200, rows, 1200, 256};
                const auto lines = asked({all, other}, n_tiles, 32, origin);
                CHECK(wrong_lines(lines, all, origin) == 0);
                CHECK(wrong_lines(lines, other, origin) == 0);
            }
        }
    }
    CHECK(asked({}, 5, 32, origin).empty());
}

TEST_CASE("far_rows tells where pack_block reads", "[product]") {
    const std::vector<float> memory(1000);
    const auto at = [&](std::size_t i) { return reinterpret_cast<const std::byte*>(memory.data() + i); };
    const moe::FarRows rows = moe::far_rows(moe::WeightBlock<float>{memory.data(), 5, 100, 1}, 7, 11);
    CHECK(rows.first == at(7));
    CHECK((rows.rows == 5 && rows.stride == 400 && rows.bytes == 44));
    const moe::FarRows columns = moe::far_rows(moe::WeightBlock<float>{memory.data(), 5, 1, 100}, 7, 3);
    CHECK(columns.first == at(700));
    CHECK((columns.rows == 3 && columns.stride == 400 && columns.bytes == 20));
    CHECK(moe::far_rows(moe::WeightBlock<float>{memory.data(), 5, 2, 100}, 7, 3).rows == 0);
}

}  // namespace moe_test::gather_prefetch_test
