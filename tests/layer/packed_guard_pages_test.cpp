#include <cstddef>
#include <span>
#include <vector>

#include "layer/batch_runner.hpp"
#include "moe/layer/pack.hpp"
#include "support/catch.hpp"
#include "support/computes.hpp"
#include "support/guarded.hpp"

namespace moe_test::packed_guard_pages_test {

/// As guard_pages_test.cpp, for packed experts: x, y, the workspace and the packed experts end, or begin, at a page
/// that may not be touched.
namespace {

using moe_test::Guarded;
using moe_test::Side;

template <class F>
bool runs_guarded(const moe_test::LayerCase<float>& layer_case, std::size_t n_tokens, Side side, moe::Compute compute) {
    using Packed = moe::PackedExperts<F, moe::AnyForm>;
    const std::size_t d = layer_case.shape().d_model;
    moe_test::Draw draw(n_tokens);
    const auto bank = layer_case.bank();
    const Guarded<std::byte> memory(std::vector<std::byte>(Packed::bytes_for(bank)), side);
    const auto layer_of = [&](auto... packed_memory) {
        return moe::MoELayer<moe::Router<float, moe::Dense<moe::Softmax>>, Packed>(
            layer_case.router(moe::Dense<moe::Softmax>{}),
            Packed(bank, packed_memory..., moe::SerialExecutor{}, compute), layer_case.options());
    };
    const auto layer = layer_of(std::span(memory.data(), memory.size()));
    const Guarded<float> x(moe_test::random_elements<float>(draw, n_tokens * d, 1), side);
    const Guarded<float> y(std::vector<float>(n_tokens * d), side);
    const Guarded<std::byte> scratch(std::vector<std::byte>(layer.workspace_bytes(n_tokens, 1)), side);
    moe::Workspace workspace(std::span(scratch.data(), scratch.size()));
    const auto input = moe::view(static_cast<const float*>(x.data()), n_tokens, d);
    layer.forward(input, moe::view(y.data(), n_tokens, d), workspace);
    std::vector<float> expected(n_tokens * d);
    moe::Workspace grown;
    layer_of().forward(input, moe::view(expected.data(), n_tokens, d), grown);
    return moe_test::same_bits(std::span(y.data(), y.size()), expected);
}

template <class F>
void check_guarded() {
    for (std::uint64_t seed = 0; seed < 150; ++seed) {
        moe_test::Draw draw(seed);
        moe_test::LayerShape shape = moe_test::random_layer_shape(draw, 70, 4);
        const std::size_t n_tokens = draw.size(0, 14);
        const moe_test::LayerCase<float> layer_case(shape, seed);
        INFO("seed " << seed);
        for (const moe::Compute compute : moe_test::computes<F>()) {
            REQUIRE(runs_guarded<F>(layer_case, n_tokens, Side::end, compute));
            REQUIRE(runs_guarded<F>(layer_case, n_tokens, Side::begin, compute));
        }
    }
}

}  // namespace

TEST_CASE("nothing is read or written beyond x, y, packed experts and workspace: Int8", "[guard]") {
    check_guarded<moe::Int8>();
}
TEST_CASE("nothing is read or written beyond x, y, packed experts and workspace: Int4", "[guard]") {
    check_guarded<moe::Int4>();
}
TEST_CASE("nothing is read or written beyond x, y, packed experts and workspace: bfloat16", "[guard]") {
    check_guarded<moe::bfloat16>();
}

}  // namespace moe_test::packed_guard_pages_test
