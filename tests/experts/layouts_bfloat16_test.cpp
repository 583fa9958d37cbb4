#include "experts/layouts.hpp"

namespace moe_test::layouts_bfloat16_test {

TEST_CASE("every storage layout gives the same bits, viewed and packed: bfloat16", "[layouts]") {
    moe_test::check_layouts<moe::bfloat16>();
}

}  // namespace moe_test::layouts_bfloat16_test
