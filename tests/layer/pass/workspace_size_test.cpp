#include <cstddef>

#include "moe/moe.hpp"
#include "support/catch.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::workspace_size_test {

namespace {

/// Only shapes matter here: nothing is read.
float nothing = 0.0F;

auto mixtral() {
    constexpr std::size_t n_experts = 8;
    constexpr std::size_t d_model = 4096;
    constexpr std::size_t d_ff = 14336;
    return moe::MoELayer{
        moe::Router{moe::view(&nothing, n_experts, d_model),
                    moe::TokenChoice<moe::Softmax>{.top_k = 2, .normalize = true}},
        moe::SwiGLU{moe::stacked(&nothing, n_experts, d_ff, d_model), moe::stacked(&nothing, n_experts, d_ff, d_model),
                    moe::stacked(&nothing, n_experts, d_model, d_ff)}};
}

}  // namespace

TEST_CASE("2048 tokens at the shape of Mixtral 8x7B need less than 400 MB", "[workspace]") {
    CHECK(mixtral().workspace_bytes(2048, 4) < 400'000'000);
    CHECK(mixtral().workspace_bytes(2048, 64) < 400'000'000);
}

TEST_CASE("a workspace for more tokens or workers is enough for fewer", "[workspace]") {
    moe_test::LayerShape shape;  // so small that what few tokens need beside would show
    shape.n_experts = 70;
    shape.d_model = 700;
    shape.d_ff = 3;
    const moe_test::LayerCase<float> layer_case(shape, 1);
    const auto layer = moe::pack(layer_case.layer(moe::TokenChoice<moe::Softmax>{.top_k = 1}));
    for (const std::size_t workers : {1U, 2U, 4U, 9U}) {
        for (std::size_t n = 1; n <= 40; ++n) {
            INFO(n << " tokens, " << workers << " workers");
            CHECK(layer.workspace_bytes(n - 1, workers) <= layer.workspace_bytes(n, workers));
            CHECK(layer.workspace_bytes(n, workers) <= layer.workspace_bytes(n, workers + 1));
        }
    }
}

TEST_CASE("the workspace grows linearly with the tokens", "[workspace]") {
    const auto layer = mixtral();
    const std::size_t fixed = layer.workspace_bytes(0, 4);
    const std::size_t thousand = layer.workspace_bytes(1000, 4) - fixed;
    const std::size_t million = layer.workspace_bytes(1'000'000, 4) - fixed;
    const std::size_t rounding = 1000 * 2048;  // every array ends at a whole cache line
    CHECK(million <= 1000 * thousand + rounding);
    CHECK(million + rounding >= 1000 * thousand);
}

}  // namespace moe_test::workspace_size_test
