#include "layer/reference/runner.hpp"

namespace moe_test::reference_float_test {

TEST_CASE("layers over float weights compute what the definition says", "[reference]") {
    moe_test::check_random_layers<float>(1, 2000);
}

}  // namespace moe_test::reference_float_test
