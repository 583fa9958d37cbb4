#include "layer/invariance/packed_invariance.hpp"
#include "support/computes.hpp"

namespace moe_test::invariance_rounded_test {

TEST_CASE("a token's bits do not change at the limits of tiles, blocks and tasks: bfloat16", "[invariance]") {
    for (const moe::Compute compute : moe_test::computes<moe::bfloat16>()) {
        moe_test::check_switch_points<moe::bfloat16>(compute);
    }
}
TEST_CASE("a token's bits do not change at the limits of tiles, blocks and tasks: float", "[invariance]") {
    moe_test::check_switch_points<float>(moe::Compute::exact);
}

}  // namespace moe_test::invariance_rounded_test
