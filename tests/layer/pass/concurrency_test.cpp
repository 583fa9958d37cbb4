#include "layer/pass/concurrency.hpp"

#include "support/catch.hpp"

namespace moe_test::concurrency_test {

TEST_CASE("8 threads on one const layer get equal bits", "[concurrency]") {
    const moe_test::LayerCase<float> layer_case(moe_test::shared_layer_shape(), 3);
    moe_test::Draw draw(4);
    const moe_test::GateCases gates(draw, layer_case.shape().n_choices());
    for (std::size_t g = 0; g < gates.gates().size(); ++g) {
        INFO("gate " << g);
        CHECK(moe_test::differing_outputs(layer_case.layer(gates.gates()[g]), 8) == 0);
        CHECK(moe_test::differing_outputs(layer_case.packed_layer(gates.gates()[g]), 8) == 0);
    }
}

TEST_CASE("8 threads on one const layer get equal bits, double and 16-bit weights", "[concurrency]") {
    const moe::TokenChoice<moe::Softmax> gate{.top_k = 2, .normalize = true};
    const moe_test::LayerCase<double> wide(moe_test::shared_layer_shape(), 5);
    CHECK(moe_test::differing_outputs(wide.layer(gate), 8) == 0);
    const moe_test::LayerCase<moe::bfloat16> narrow(moe_test::shared_layer_shape(), 5);
    CHECK(moe_test::differing_outputs(narrow.packed_layer(gate), 8) == 0);
}

}  // namespace moe_test::concurrency_test
