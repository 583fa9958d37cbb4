#include "layer/reference/runner.hpp"

namespace moe_test::reference_bfloat16_test {

TEST_CASE("layers over bfloat16 weights compute what the definition says", "[reference]") {
    moe_test::check_random_layers<moe::bfloat16>(20001, 1200);
}

}  // namespace moe_test::reference_bfloat16_test
