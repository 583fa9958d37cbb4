#include "layer/reference/packed.hpp"

namespace moe_test::reference_int4_test {

TEST_CASE("layers packed as Int4, exact, compute what the definition says of the dequantised weights", "[reference]") {
    moe_test::check_packed_layers<moe::Int4>(1, 700, moe::Compute::exact);
}
TEST_CASE("layers packed as Int4, with 8-bit activations, are within 2e-4 of the definition", "[reference]") {
    moe_test::check_packed_layers<moe::Int4>(5000, 700, moe::Compute::int8);
}

}  // namespace moe_test::reference_int4_test
