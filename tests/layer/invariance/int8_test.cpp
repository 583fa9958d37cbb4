#include "layer/invariance/packed_invariance.hpp"
#include "support/computes.hpp"

namespace moe_test::invariance_int8_test {

TEST_CASE("a token's bits do not depend on its batch, order, split or the executor: Int8", "[invariance]") {
    moe_test::check_random_packed_invariance<moe::Int8>(1, moe::Compute::exact);
    moe_test::check_random_packed_invariance<moe::Int8>(2, moe::Compute::int8);
}
TEST_CASE("a token's bits do not change at the limits of tiles, blocks and tasks: Int8", "[invariance]") {
    moe_test::check_switch_points<moe::Int8>(moe::Compute::exact);
    moe_test::check_switch_points<moe::Int8>(moe::Compute::int8);
}

TEST_CASE("the same where they are computed in bfloat16: Int8", "[invariance]") {
    if (moe_test::has_compute<moe::Int8>(moe::Compute::bf16)) {
        moe_test::check_random_packed_invariance<moe::Int8>(3, moe::Compute::bf16);
        moe_test::check_switch_points<moe::Int8>(moe::Compute::bf16);
    }
}

}  // namespace moe_test::invariance_int8_test
