#include "layer/reference/packed.hpp"
#include "support/computes.hpp"

namespace moe_test::reference_rounded_test {

TEST_CASE("float layers packed as bfloat16 compute what the definition says of the rounded weights", "[reference]") {
    for (const moe::Compute compute : moe_test::computes<moe::bfloat16>()) {
        moe_test::check_packed_layers<moe::bfloat16>(1, 500, compute);
    }
}

TEST_CASE("float layers packed as float16, in bfloat16, are within 2e-5 of the definition", "[reference]") {
    if (moe_test::has_compute<moe::float16>(moe::Compute::bf16)) {
        moe_test::check_packed_layers<moe::float16>(7000, 300, moe::Compute::bf16);
    }
}

}  // namespace moe_test::reference_rounded_test
