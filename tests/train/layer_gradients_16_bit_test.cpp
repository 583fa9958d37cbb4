#include "train/layer_gradients.hpp"

/// Weights of 16 bits: the definition has them as they are rounded.
namespace moe_test::layer_gradients_16_bit_test {

TEST_CASE("gradients of random layers with bfloat16 weights are those of the definition", "[gradients]") {
    check_many_gradients<moe::bfloat16>(200000, 2000, 1e-11);
}

TEST_CASE("gradients of random layers with float16 weights are those of the definition", "[gradients]") {
    check_many_gradients<moe::float16>(300000, 2000, 1e-11);
}

}  // namespace moe_test::layer_gradients_16_bit_test
