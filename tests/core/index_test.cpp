#include "moe/core/index.hpp"

#include <cstddef>
#include <limits>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::index_test {

using moe::checked_add;
using moe::checked_multiply;
using moe_test::error_of;

namespace {
constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
}

TEST_CASE("checked_multiply multiplies up to the limit", "[index]") {
    CHECK(checked_multiply(0, most) == 0);
    CHECK(checked_multiply(most, 0) == 0);
    CHECK(checked_multiply(1, most) == most);
    CHECK(checked_multiply(most / 3, 3) == most);
    CHECK(checked_multiply(std::size_t{1} << 32U, (std::size_t{1} << 32U) - 1) == most - (std::size_t{1} << 32U) + 1);
}

TEST_CASE("checked_multiply names both factors of an overflow", "[index]") {
    const auto error = error_of([] { (void)checked_multiply(most / 3 + 1, 3); });
    CHECK(error.code == moe::ErrorCode::overflow);
    CHECK_THAT(error.text, moe_test::contains("6148914691236517206 x 3"));
    CHECK(error_of([] { (void)checked_multiply(2, most); }).code == moe::ErrorCode::overflow);
    CHECK(error_of([] { (void)checked_multiply(std::size_t{1} << 32U, std::size_t{1} << 32U); }).code ==
          moe::ErrorCode::overflow);
}

TEST_CASE("checked_add names both summands of an overflow", "[index]") {
    CHECK(checked_add(most, 0) == most);
    CHECK(checked_add(most - 5, 5) == most);
    const auto error = error_of([] { (void)checked_add(most - 5, 6); });
    CHECK(error.code == moe::ErrorCode::overflow);
    CHECK_THAT(error.text, moe_test::contains("18446744073709551610 + 6"));
}

TEST_CASE("divide_up and round_up do not overflow near the limit", "[index]") {
    CHECK(moe::divide_up(0, 6) == 0);
    CHECK(moe::divide_up(1, 6) == 1);
    CHECK(moe::divide_up(6, 6) == 1);
    CHECK(moe::divide_up(7, 6) == 2);
    CHECK(moe::divide_up(most, 2) == most / 2 + 1);
    CHECK(moe::round_up(0, 64) == 0);
    CHECK(moe::round_up(1, 64) == 64);
    CHECK(moe::round_up(128, 64) == 128);
}

}  // namespace moe_test::index_test
