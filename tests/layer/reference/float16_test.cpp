#include "layer/reference/runner.hpp"

namespace moe_test::reference_float16_test {

TEST_CASE("layers over float16 weights compute what the definition says", "[reference]") {
    moe_test::check_random_layers<moe::float16>(30001, 600);
}

}  // namespace moe_test::reference_float16_test
