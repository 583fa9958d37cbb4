#include "layer/invariance/invariance.hpp"

namespace moe_test::invariance_float16_test {

TEST_CASE("a token's bits do not depend on batch, order, split, threads or packing: float16", "[invariance]") {
    moe_test::check_random_invariance<moe::float16>(4000000007);
}

TEST_CASE("the same around the limits of tasks and tiles: float16", "[invariance]") {
    moe_test::check_task_limits<moe::float16>(41);
}

}  // namespace moe_test::invariance_float16_test
