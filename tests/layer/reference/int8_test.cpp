#include "layer/reference/packed.hpp"
#include "support/computes.hpp"

namespace moe_test::reference_int8_test {

TEST_CASE("layers packed as Int8, exact, compute what the definition says of the dequantised weights", "[reference]") {
    moe_test::check_packed_layers<moe::Int8>(1, 700, moe::Compute::exact);
}
TEST_CASE("layers packed as Int8, with 8-bit activations, are within 2e-4 of the definition", "[reference]") {
    moe_test::check_packed_layers<moe::Int8>(5000, 700, moe::Compute::int8);
}
TEST_CASE("layers packed as Int8, in bfloat16, are within 2e-5 of the definition", "[reference]") {
    if (moe_test::has_compute<moe::Int8>(moe::Compute::bf16)) {
        moe_test::check_packed_layers<moe::Int8>(9000, 300, moe::Compute::bf16);
    }
}

}  // namespace moe_test::reference_int8_test
