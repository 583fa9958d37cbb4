#include "layer/reference/runner.hpp"

TEST_CASE("layers over double weights compute what the definition says", "[reference]") {
    moe_test::check_random_layers<double>(10001, 1200);
}
