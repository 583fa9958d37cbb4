#include "layer/reference_packed.hpp"

TEST_CASE("float layers packed as bfloat16 compute what the definition says of the rounded weights", "[reference]") {
    moe_test::check_packed_layers<moe::bfloat16>(1, 500, moe::Compute::exact);
}
