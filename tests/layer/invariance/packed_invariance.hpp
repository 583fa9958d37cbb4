#pragma once

#include "layer/invariance/invariance.hpp"
#include "moe/layer/pack.hpp"

/// Batch and thread invariance of layers packed in a format other than their own, for both computes.
namespace moe_test {

template <class F>
auto packed_as(const LayerCase<float>& layer_case, const moe::AnyGate& gate, moe::Compute compute) {
    return moe::pack<F>(layer_case.layer(gate), moe::SerialExecutor{}, compute);
}

/// Random layers under every kind of gate, = and +=.
template <class F>
void check_random_packed_invariance(std::uint64_t seed, moe::Compute compute) {
    std::size_t n_compared = 0;
    for (std::uint64_t i = 0; n_compared < enough_compared; ++i) {
        Draw draw(seed + 1000 * i);
        const LayerShape shape = random_layer_shape(draw, draw.size(0, 9) == 0 ? 300 : 70, 9);
        const LayerCase<float> layer_case(shape, seed + i);
        const GateCases gates(draw, shape.n_choices());
        const Batch<float> batch(draw, draw.size(1, 40), shape.d_model);
        moe::Workspace workspace;
        for (const moe::AnyGate& gate : gates.gates()) {
            const auto layer = packed_as<F>(layer_case, gate, compute);
            const Expected<float> expected(layer, batch, draw.coin(), workspace);
            INFO("seed " << seed + 1000 * i);
            REQUIRE(expected.finite());
            REQUIRE(broken_by(draw, expected, layer, batch.n_tokens(), workspace) == "");
            ++n_compared;
        }
    }
}

/// As many tokens on every expert as where a kernel may change its way: at every tile of the first two, at the limits
/// of blocks and tasks. Each token as it is alone.
template <class F>
void check_switch_points(moe::Compute compute) {
    LayerShape shape;
    shape.n_experts = 2;
    shape.d_model = 97;
    shape.d_ff = 67;
    shape.biases = true;
    shape.shared_widths = {40};
    const LayerCase<float> layer_case(shape, 12);
    const auto layer = packed_as<F>(layer_case, moe::AnyGate(moe::Dense<moe::Softmax>{}), compute);
    Draw draw(13);
    const Batch<float> batch(draw, 2 * moe::max_task_rows + 1, shape.d_model);
    moe::Workspace workspace;
    const Expected<float> all(layer, batch, false, workspace);
    REQUIRE(all.finite());
    for (std::size_t t = 0; t < batch.n_tokens(); ++t) {
        REQUIRE(all.holds_for(layer, std::span(&t, 1), workspace, moe::SerialExecutor{}));
    }
    constexpr std::size_t counts[] = {1,  2,  3,  4,  5,  6,  7,  8,   9,   10,  11,  12,  13, 18,
                                      19, 31, 32, 33, 63, 64, 65, 128, 191, 192, 193, 384, 385};
    for (const std::size_t n : counts) {
        INFO(n << " tokens");
        for (const std::size_t workers : {1U, 3U, 8U}) {
            REQUIRE(all.holds_for(layer, first_tokens(n), workspace, ReversedExecutor(workers)));
            REQUIRE(all.holds_for(layer, first_tokens(n), workspace, ThreadExecutor(workers)));
        }
    }
}

}  // namespace moe_test
