#include "experts/layouts.hpp"

namespace moe_test::layouts_double_test {

TEST_CASE("every storage layout gives the same bits, viewed and packed: double", "[layouts]") {
    moe_test::check_layouts<double>();
}

}  // namespace moe_test::layouts_double_test
