#include "layer/reference/runner.hpp"

namespace moe_test::reference_double_test {

TEST_CASE("layers over double weights compute what the definition says", "[reference]") {
    moe_test::check_random_layers<double>(10001, 1200);
}

}  // namespace moe_test::reference_double_test
