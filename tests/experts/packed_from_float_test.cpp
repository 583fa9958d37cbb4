#include "experts/packed_formats.hpp"

namespace moe_test::packed_from_float_test {

TEST_CASE("float experts packed in 16 bits have the bits of the rounded weights", "[packed]") {
    moe_test::check_format<float, moe::bfloat16>();
    moe_test::check_format<float, moe::float16>();
}
TEST_CASE("float experts packed in 8 and 4 bits have the bits of the dequantised weights", "[packed]") {
    moe_test::check_format<float, moe::Int8>();
    moe_test::check_format<float, moe::Int4>();
}

}  // namespace moe_test::packed_from_float_test
