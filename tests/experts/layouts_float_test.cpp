#include "experts/layouts.hpp"

namespace moe_test::layouts_float_test {

TEST_CASE("every storage layout gives the same bits, viewed and packed: float", "[layouts]") {
    moe_test::check_layouts<float>();
}

}  // namespace moe_test::layouts_float_test
