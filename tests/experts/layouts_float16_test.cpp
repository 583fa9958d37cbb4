#include "experts/layouts.hpp"

namespace moe_test::layouts_float16_test {

TEST_CASE("every storage layout gives the same bits, viewed and packed: float16", "[layouts]") {
    moe_test::check_layouts<moe::float16>();
}

}  // namespace moe_test::layouts_float16_test
