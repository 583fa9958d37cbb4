#include "layer/invariance/packed_invariance.hpp"
#include "support/computes.hpp"

namespace moe_test::invariance_int4_test {

TEST_CASE("a token's bits do not depend on its batch, order, split or the executor: Int4", "[invariance]") {
    moe_test::check_random_packed_invariance<moe::Int4>(1, moe::Compute::exact);
    moe_test::check_random_packed_invariance<moe::Int4>(2, moe::Compute::int8);
}
TEST_CASE("a token's bits do not change at the limits of tiles, blocks and tasks: Int4", "[invariance]") {
    moe_test::check_switch_points<moe::Int4>(moe::Compute::exact);
    moe_test::check_switch_points<moe::Int4>(moe::Compute::int8);
}

TEST_CASE("the same where they are computed in bfloat16: Int4", "[invariance]") {
    if (moe_test::has_compute<moe::Int4>(moe::Compute::bf16)) {
        moe_test::check_random_packed_invariance<moe::Int4>(3, moe::Compute::bf16);
        moe_test::check_switch_points<moe::Int4>(moe::Compute::bf16);
    }
}

}  // namespace moe_test::invariance_int4_test
