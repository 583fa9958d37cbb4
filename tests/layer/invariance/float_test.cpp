#include "layer/invariance/invariance.hpp"

namespace moe_test::invariance_float_test {

TEST_CASE("a token's bits do not depend on batch, order, split, threads or packing: float", "[invariance]") {
    moe_test::check_random_invariance<float>(1000000007);
}

TEST_CASE("the same around the limits of tasks and tiles: float", "[invariance]") {
    moe_test::check_task_limits<float>(11);
}

}  // namespace moe_test::invariance_float_test
