#include "layer/invariance/packed_invariance.hpp"

namespace moe_test::invariance_int4_test {

TEST_CASE("a token's bits do not depend on its batch, order, split or the executor: Int4", "[invariance]") {
    moe_test::check_random_packed_invariance<moe::Int4>(1, moe::Compute::exact);
    moe_test::check_random_packed_invariance<moe::Int4>(2, moe::Compute::int8);
}
TEST_CASE("a token's bits do not change at the limits of tiles, blocks and tasks: Int4", "[invariance]") {
    moe_test::check_switch_points<moe::Int4>(moe::Compute::exact);
    moe_test::check_switch_points<moe::Int4>(moe::Compute::int8);
}

}  // namespace moe_test::invariance_int4_test
