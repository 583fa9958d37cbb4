#include "moe/core/error.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::error_test {

using moe::ErrorCode;
using moe_test::error_of;

TEST_CASE("fail joins texts and numbers of every kind", "[error]") {
    const std::string text = "text";
    const auto error = error_of([&] {
        moe::raise_error(ErrorCode::range, "literal ", text, " ", std::string_view("view "), true, " ", false, " ", -7,
                         " ", std::uint64_t{18446744073709551615ULL}, " ", std::int64_t{-9223372036854775807LL}, " ",
                         0.5);
    });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, moe_test::contains("literal text"));
    CHECK_THAT(error.text, moe_test::contains("view true"));
    CHECK_THAT(error.text, moe_test::contains("false"));
    CHECK_THAT(error.text, moe_test::contains("-7"));
    CHECK_THAT(error.text, moe_test::contains("18446744073709551615"));
    CHECK_THAT(error.text, moe_test::contains("-9223372036854775807"));
    CHECK_THAT(error.text, moe_test::contains("0.5"));
    CHECK(error_of([] { moe::raise_error(ErrorCode::range, 1e-20, " ", -2.5F, " ", 3e300); }).text ==
          "1e-20 -2.5 3e+300");
}

TEST_CASE("require throws only when the condition fails", "[error]") {
    CHECK_NOTHROW(moe::ensure(true, ErrorCode::shape, "never seen"));
    const auto error = error_of([] { moe::ensure(false, ErrorCode::shape, "seen ", 3); });
    CHECK(error.code == ErrorCode::shape);
    CHECK(error.text == "seen 3");
}

TEST_CASE("Error is a std::runtime_error and keeps its code when copied", "[error]") {
    static_assert(std::is_base_of_v<std::runtime_error, moe::Error>);
    const moe::Error error(ErrorCode::stride, "text");
    const moe::Error copy = error;  // NOLINT: the copy is what is tested
    CHECK(copy.code() == ErrorCode::stride);
    CHECK(std::string(copy.what()) == "text");
}

namespace {
constexpr int halve(int value) {
    moe::ensure(value % 2 == 0, ErrorCode::range, "odd: ", value);
    return value / 2;
}
}  // namespace

static_assert(halve(8) == 4, "require can stand in a constant expression as long as it holds");

}  // namespace moe_test::error_test
