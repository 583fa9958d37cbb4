#include "layer/packed_invariance.hpp"

TEST_CASE("a token's bits do not change at the limits of tiles, blocks and tasks: bfloat16", "[invariance]") {
    moe_test::check_switch_points<moe::bfloat16>(moe::Compute::exact);
}
TEST_CASE("a token's bits do not change at the limits of tiles, blocks and tasks: float", "[invariance]") {
    moe_test::check_switch_points<float>(moe::Compute::exact);
}
