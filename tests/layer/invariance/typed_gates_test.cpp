#include "layer/invariance/invariance.hpp"

namespace moe_test::invariance_typed_gates_test {

/// The same promise for layers whose gate is no AnyGate but the type itself, and for a gate in float under double
/// weights.

namespace {

template <class W, class Gate>
std::string broken_with(const Gate& gate, std::size_t n_experts, std::uint64_t seed) {
    using T = moe::ComputeType<W>;
    moe_test::Draw draw(seed);
    moe_test::LayerShape shape;
    shape.n_experts = n_experts;
    shape.d_model = draw.size(1, 70);
    shape.d_ff = draw.size(1, 70);
    const moe_test::LayerCase<W> layer_case(shape, seed);
    const moe_test::Batch<T> batch(draw, draw.size(1, 40), shape.d_model);
    const auto layer = layer_case.layer(gate);
    moe::Workspace workspace;
    const moe_test::Expected<T> expected(layer, batch, false, workspace);
    const auto erased = layer_case.layer(moe::AnyGate(gate));
    if (!expected.holds_for(erased, moe_test::first_tokens(batch.n_tokens()), workspace, moe::SerialExecutor{})) {
        return "AnyGate";
    }
    return broken_by(draw, expected, layer, batch.n_tokens(), workspace);
}

template <class Gate>
void check(const Gate& gate, std::size_t n_experts) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        REQUIRE(broken_with<float>(gate, n_experts, seed) == "");
    }
}

}  // namespace

TEST_CASE("gates by their own type give invariant layers, and the bits of AnyGate", "[invariance]") {
    const std::vector<std::int32_t> table{0, 3, 1, 1, 4, 2, 0, 0, 3, 3, 1, 2, 4, 0, 2, 1, 3,
                                          1, 2, 0, 4, 4, 1, 2, 3, 0, 1, 2, 2, 0, 4, 3, 3, 0};
    check(moe::TokenChoice<moe::Softmax>{.top_k = 2, .normalize = true}, 5);
    check(moe::TokenChoice<moe::Sigmoid>{.top_k = 3, .scale = 2.5, .groups = {.n_groups = 3, .kept = 2}}, 9);
    check(moe::SparseMixer{}, 6);
    check(moe::Dense<moe::Softmax>{}, 4);
    check(moe::Hash<moe::Uniform>{.table = moe::view(table.data(), moe_test::GateCases::vocabulary, 2)}, 5);
    check(moe_test::PositiveLogits{2}, 7);
}

TEST_CASE("more than 64 experts, not a power of two", "[invariance]") {
    check(moe::TokenChoice<moe::Softmax>{.top_k = 6, .normalize = true}, 133);
}

TEST_CASE("a gate in float serves a layer in double", "[invariance]") {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        REQUIRE(broken_with<double>(moe_test::PositiveLogits{3}, 6, seed) == "");
    }
}

}  // namespace moe_test::invariance_typed_gates_test
