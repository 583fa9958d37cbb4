#include "layer/invariance/invariance.hpp"

namespace moe_test::invariance_bfloat16_test {

TEST_CASE("a token's bits do not depend on batch, order, split, threads or packing: bfloat16", "[invariance]") {
    moe_test::check_random_invariance<moe::bfloat16>(3000000007);
}

TEST_CASE("the same around the limits of tasks and tiles: bfloat16", "[invariance]") {
    moe_test::check_task_limits<moe::bfloat16>(31);
}

}  // namespace moe_test::invariance_bfloat16_test
