#include "layer/reference/runner.hpp"

TEST_CASE("layers over float16 weights compute what the definition says", "[reference]") {
    moe_test::check_random_layers<moe::float16>(30001, 600);
}
