#include "moe/core/borrowed.hpp"

#include <array>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"

namespace moe_test::borrowed_test {

using moe::Borrowed;
using Floats = Borrowed<const float>;

static_assert(std::is_convertible_v<std::vector<float>&, Floats>);
static_assert(std::is_convertible_v<const std::vector<float>&, Floats>);
static_assert(std::is_convertible_v<std::array<float, 3>&, Floats>);
static_assert(std::is_convertible_v<float (&)[3], Floats>);
static_assert(std::is_convertible_v<std::span<float>, Floats> && std::is_convertible_v<std::span<const float>, Floats>);
static_assert(std::is_convertible_v<Borrowed<float>, Floats> && std::is_convertible_v<Floats, std::span<const float>>);
static_assert(!std::is_constructible_v<Floats, std::vector<float>>);
static_assert(!std::is_constructible_v<Floats, const std::vector<float>>);
static_assert(!std::is_constructible_v<Floats, std::array<float, 3>>);
static_assert(!std::is_constructible_v<Floats, std::vector<double>&>);
static_assert(!std::is_constructible_v<Borrowed<float>, const std::vector<float>&>);
static_assert(std::ranges::enable_borrowed_range<Floats>);

TEST_CASE("a borrowed span is the span of what it is made of", "[borrowed]") {
    const std::vector<float> values{1, 2, 3};
    const Floats all = values;
    CHECK(all.data() == values.data());
    CHECK(all.size() == 3);
    CHECK(all[2] == 3);
    const Floats two{values.data() + 1, 2};
    CHECK(two.front() == 2);
    CHECK(Floats(all.first(1)).size() == 1);
    CHECK(Floats().empty());
    CHECK(Floats(Floats(values)).data() == values.data());
}

}  // namespace moe_test::borrowed_test
