#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::groups_of_layers_test {

/// A HierarchicalLayer of one group that takes every token with the weight 1 is that group, whatever kind of layer it
/// is: y, dx and the gradients of what is in it.
namespace {

using Bank = moe::ExpertBank<float, moe::AnyForm>;

constexpr std::size_t d = 19;
constexpr std::size_t n = 13;

std::vector<float> random(std::uint64_t seed, std::size_t count) {
    Draw draw(seed);
    return random_elements<float>(draw, count, 1);
}

struct Passes {
    std::vector<float> y = std::vector<float>(n * d);
    std::vector<float> dx = std::vector<float>(n * d, 7.0F);
};

template <class Layer>
Passes run(const Layer& layer, const moe::GradientsOf<Layer>& to) {
    const std::vector<float> x = random(1, n * d);
    const std::vector<float> dy = random(2, n * d);
    Passes passes;
    moe::TapeOf<Layer> tape;
    moe::Workspace workspace;
    moe::forward(layer, moe::view(x.data(), n, d), moe::view(passes.y.data(), n, d), tape, workspace);
    CHECK(tape.recorded());
    auto moved = std::move(tape);  // what it views moves along
    moe::backward(layer, moved, moe::view(dy.data(), n, d), moe::view(passes.dx.data(), n, d), to, workspace);
    CHECK_FALSE(moved.recorded());
    return passes;
}

/// `to(memory)` gives where gradients go.
template <class Layer, class To>
void check_alone_and_as_group(const Layer& layer, std::size_t gradient_size, To&& to) {
    std::vector<float> gradient(gradient_size);
    const Passes alone = run(layer, to(gradient));
    const std::vector<float> router = random(3, d);
    const moe::HierarchicalLayer above{
        moe::Router{moe::view(router.data(), 1, d), moe::TokenChoice<>{.top_k = 1, .normalize = true}},
        std::vector<Layer>{layer}};
    std::vector<float> inside(gradient_size);
    moe::GradientsOf<decltype(above)> of_groups;
    of_groups.groups.push_back(to(inside));
    const Passes group = run(above, of_groups);
    CHECK(same_bits(group.y, alone.y));
    CHECK(group.dx == alone.dx);
    CHECK(all_finite(alone.dx));
    CHECK(same_bits(inside, gradient));
    CHECK(std::any_of(gradient.begin(), gradient.end(), [](float value) { return value != 0; }));
}

}  // namespace

TEST_CASE("neurons as a group", "[gradients][hierarchical]") {
    const auto rows = random(4, 2 * 5 * d);
    const auto down = random(5, 25 * d);
    const auto up = random(6, 25 * d);
    const moe::NeuronLayer layer{moe::ProductKeyRouter{moe::view(rows.data(), 10, d), 1}, moe::ProductKeys{.top_k = 3},
                                 moe::view(down.data(), 25, d), moe::view(up.data(), 25, d)};
    check_alone_and_as_group(layer, 25 * d, [](std::vector<float>& memory) {
        moe::NeuronGradients<float> to;
        to.up = moe::view(memory.data(), 25, d);
        return to;
    });
}

TEST_CASE("Soft MoE as a group", "[gradients][hierarchical]") {
    Draw draw(7);
    const BankWeights<float> weights(draw, 2, d, 11, true, true);
    const auto slots = random(8, 4 * d);
    const moe::SoftMoELayer layer{moe::view(slots.data(), 4, d), Bank(moe::AnyForm{}, weights.stacks())};
    check_alone_and_as_group(layer, 4 * d, [](std::vector<float>& memory) {
        moe::SoftGradients<float> to;
        to.slots = moe::stacked_gradients(memory.data(), 1, 4, d);
        return to;
    });
}

TEST_CASE("a latent layer as a group", "[gradients][hierarchical]") {
    LayerShape shape;
    shape.d_model = d;
    const LayerCase<float> inner(shape, 9);
    const auto in = random(10, d * d);
    const auto out = random(11, d * d);
    const moe::LatentLayer layer{moe::Linear<float>(moe::stacked(in.data(), 1, d, d)),
                                 inner.layer(moe::TokenChoice<>{.top_k = 2}),
                                 moe::Linear<float>(moe::stacked(out.data(), 1, d, d))};
    check_alone_and_as_group(layer, d * d, [](std::vector<float>& memory) {
        moe::LatentGradients<float> to;
        to.in = moe::stacked_gradients(memory.data(), 1, d, d);
        return to;
    });
}

TEST_CASE("a layer under another gate as a group", "[gradients][hierarchical]") {
    LayerShape shape;
    shape.d_model = d;
    const LayerCase<float> memory(shape, 12);
    const auto layer = memory.layer(moe::TokenChoice<>{.top_k = 1});
    const auto under = layer.with_gate(moe::TokenChoice<>{.top_k = 2});
    check_alone_and_as_group(under, 4 * d, [](std::vector<float>& gradient) {
        moe::LayerGradients<float> to;
        to.router = moe::stacked_gradients(gradient.data(), 1, 4, d);
        return to;
    });
}

}  // namespace moe_test::groups_of_layers_test
