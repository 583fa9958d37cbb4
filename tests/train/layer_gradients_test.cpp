#include "train/layer_gradients.hpp"

namespace moe_test::layer_gradients_test {

TEST_CASE("gradients of random layers in double are those of the definition", "[gradients]") {
    check_many_gradients<double>(0, 8000, 1e-24);
}

TEST_CASE("gradients of random layers in float are those of the definition", "[gradients]") {
    check_many_gradients<float>(100000, 8000, 1e-11);
}

}  // namespace moe_test::layer_gradients_test
