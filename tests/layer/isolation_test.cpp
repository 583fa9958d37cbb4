#include <cstddef>
#include <vector>

#include "layer/isolation.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"

namespace moe_test::isolation_test {

namespace {

template <class W>
void check_isolation() {
    using T = moe::ComputeType<W>;
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        moe_test::Draw draw(seed);
        const moe_test::LayerShape shape = moe_test::random_layer_shape(draw, 40, 5);
        const moe_test::LayerCase<W> layer_case(shape, seed);
        const moe_test::GateCases gates(draw, shape.n_choices());
        const moe_test::Batch<T> batch(draw, draw.size(2, 20), shape.d_model);
        for (std::size_t g = 0; g < gates.gates().size(); ++g) {
            const auto layer = layer_case.layer(gates.gates()[g]);
            const auto packed = layer_case.packed_layer(gates.gates()[g]);
            moe::Workspace workspace;
            const std::vector<T> clean = moe_test::run_tokens(layer, batch, moe_test::first_tokens(batch.n_tokens()),
                                                              true, workspace, moe::SerialExecutor{});
            REQUIRE(moe_test::all_finite(clean));
            for (const double special : moe_test::specials) {
                const std::size_t bad = draw.size(0, batch.n_tokens() - 1);
                const std::size_t at = draw.size(0, batch.d_model - 1);
                INFO("seed " << seed << ", gate " << g << ", " << special << " in token " << bad);
                REQUIRE(moe_test::disturbed(layer, batch, bad, at, static_cast<T>(special), false, clean) == 0);
                REQUIRE(moe_test::disturbed(packed, batch, bad, at, static_cast<T>(special), false, clean) == 0);
                REQUIRE(moe_test::disturbed(layer, batch, bad, at, static_cast<T>(special), true, clean) == 0);
            }
        }
    }
}

}  // namespace

TEST_CASE("NaN or infinity in a token, or in its row of y, leaves the bits of all others alone: float", "[isolation]") {
    check_isolation<float>();
}
TEST_CASE("NaN or infinity in a token, or in its row of y, leaves the bits of all others alone: double",
          "[isolation]") {
    check_isolation<double>();
}
TEST_CASE("NaN or infinity in a token, or in its row of y, leaves the bits of all others alone: bfloat16",
          "[isolation]") {
    check_isolation<moe::bfloat16>();
}

TEST_CASE("a workspace full of NaN is as good as any other", "[isolation]") {
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        moe_test::Draw draw(seed);
        const moe_test::LayerShape shape = moe_test::random_layer_shape(draw, 70, 6);
        const moe_test::LayerCase<float> layer_case(shape, seed);
        const moe_test::GateCases gates(draw, shape.n_choices());
        const auto layer = layer_case.layer(gates.gates()[seed % gates.gates().size()]);
        const moe_test::Batch<float> batch(draw, draw.size(1, 30), shape.d_model);
        moe::Workspace fresh;
        const moe_test::Expected<float> expected(layer, batch, false, fresh);
        const moe::AlignedBuffer memory(layer.workspace_bytes(batch.n_tokens(), 2));
        std::fill(memory.data(), memory.data() + memory.size(), std::byte{0xFF});  // a NaN, and a huge index
        moe::Workspace dirty(std::span(memory.data(), memory.size()));
        REQUIRE(
            expected.holds_for(layer, moe_test::first_tokens(batch.n_tokens()), dirty, moe_test::ReversedExecutor(2)));
    }
}

}  // namespace moe_test::isolation_test
