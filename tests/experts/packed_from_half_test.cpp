#include "experts/packed_formats.hpp"

namespace moe_test::packed_from_half_test {

TEST_CASE("16-bit experts packed as float keep their values", "[packed]") {
    moe_test::check_format<moe::bfloat16, float>();
    moe_test::check_format<moe::float16, float>();
}
TEST_CASE("experts of one kind of 16 bits packed in the other are rounded", "[packed]") {
    moe_test::check_format<moe::bfloat16, moe::float16>();
    moe_test::check_format<moe::float16, moe::bfloat16>();
}
TEST_CASE("16-bit experts packed in 8 and 4 bits have the bits of the dequantised weights", "[packed]") {
    moe_test::check_format<moe::bfloat16, moe::Int8>();
    moe_test::check_format<moe::float16, moe::Int4>();
}

}  // namespace moe_test::packed_from_half_test
