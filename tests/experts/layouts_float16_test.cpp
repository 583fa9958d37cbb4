#include "experts/layouts.hpp"

TEST_CASE("every storage layout gives the same bits, viewed and packed: float16", "[layouts]") {
    moe_test::check_layouts<moe::float16>();
}
