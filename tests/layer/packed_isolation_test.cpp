#include <cmath>
#include <cstddef>
#include <vector>

#include "layer/isolation.hpp"
#include "moe/layer/pack.hpp"
#include "support/catch.hpp"
#include "support/computes.hpp"

namespace moe_test::packed_isolation_test {

namespace {

template <class F>
void check_isolation(moe::Compute compute) {
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        moe_test::Draw draw(seed);
        const moe_test::LayerShape shape = moe_test::random_layer_shape(draw, 70, 5);
        const moe_test::LayerCase<float> layer_case(shape, seed);
        const moe_test::GateCases gates(draw, shape.n_choices());
        const moe_test::Batch<float> batch(draw, draw.size(2, 20), shape.d_model);
        for (std::size_t g = 0; g < gates.gates().size(); ++g) {
            const auto layer = moe::pack<F>(layer_case.layer(gates.gates()[g]), moe::SerialExecutor{}, compute);
            moe::Workspace workspace;
            const std::vector<float> clean = moe_test::run_tokens(
                layer, batch, moe_test::first_tokens(batch.n_tokens()), true, workspace, moe::SerialExecutor{});
            REQUIRE(moe_test::all_finite(clean));
            for (const double special : moe_test::specials) {
                const std::size_t bad = draw.size(0, batch.n_tokens() - 1);
                const std::size_t at = draw.size(0, batch.d_model - 1);
                INFO("seed " << seed << ", gate " << g << ", " << special << " in token " << bad);
                REQUIRE(moe_test::disturbed(layer, batch, bad, at, static_cast<float>(special), false, clean) == 0);
            }
        }
    }
}

/// Outputs of an expert that are NaN when one value of x is.
template <class F>
void check_poison(moe::Compute compute) {
    moe_test::LayerShape shape;
    shape.n_experts = 1;
    shape.d_model = 100;
    shape.d_ff = 70;
    const moe_test::LayerCase<float> layer_case(shape, 1);
    const auto layer =
        moe::pack<F>(layer_case.layer(moe::AnyGate(moe::Dense<moe::Uniform>{})), moe::SerialExecutor{}, compute);
    moe_test::Draw draw(2);
    for (const double special : moe_test::specials) {
        for (std::size_t at = 0; at < shape.d_model; ++at) {
            moe_test::Batch<float> batch(draw, 2, shape.d_model);
            batch.x[at] = static_cast<float>(special);
            moe::Workspace workspace;
            const std::vector<float> y =
                moe_test::run_tokens(layer, batch, moe_test::first_tokens(2), false, workspace, moe::SerialExecutor{});
            for (std::size_t o = 0; o < shape.d_model; ++o) {
                REQUIRE(std::isnan(y[o]));
                REQUIRE(std::isfinite(y[shape.d_model + o]));
            }
        }
    }
}

}  // namespace

TEST_CASE("NaN or infinity in a token leaves the bits of all others alone: Int8", "[isolation]") {
    for (const moe::Compute compute : moe_test::computes<moe::Int8>()) {
        check_isolation<moe::Int8>(compute);
    }
}
TEST_CASE("NaN or infinity in a token leaves the bits of all others alone: Int4", "[isolation]") {
    for (const moe::Compute compute : moe_test::computes<moe::Int4>()) {
        check_isolation<moe::Int4>(compute);
    }
}
TEST_CASE("NaN or infinity in a token leaves the bits of all others alone: bfloat16", "[isolation]") {
    for (const moe::Compute compute : moe_test::computes<moe::bfloat16>()) {
        check_isolation<moe::bfloat16>(compute);
    }
}

TEST_CASE("8-bit activations do not hide NaN or infinity: all outputs of the token are NaN", "[isolation]") {
    check_poison<moe::Int8>(moe::Compute::int8);
    check_poison<moe::Int4>(moe::Compute::int8);
}

}  // namespace moe_test::packed_isolation_test
