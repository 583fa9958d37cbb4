#include "layer/invariance/invariance.hpp"

namespace moe_test::invariance_double_test {

TEST_CASE("a token's bits do not depend on batch, order, split, threads or packing: double", "[invariance]") {
    moe_test::check_random_invariance<double>(2000000007);
}

TEST_CASE("the same around the limits of tasks and tiles: double", "[invariance]") {
    moe_test::check_task_limits<double>(21);
}

}  // namespace moe_test::invariance_double_test
