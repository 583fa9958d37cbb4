#include "layer/reference/runner.hpp"

TEST_CASE("layers over float weights compute what the definition says", "[reference]") {
    moe_test::check_random_layers<float>(1, 2000);
}
