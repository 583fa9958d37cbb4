#include "layer/reference/runner.hpp"

TEST_CASE("layers over bfloat16 weights compute what the definition says", "[reference]") {
    moe_test::check_random_layers<moe::bfloat16>(20001, 1200);
}
