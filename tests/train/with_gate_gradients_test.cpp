#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"
#include "train/gradient_memory.hpp"

namespace moe_test::with_gate_gradients_test {

/// A layer under another gate shares all with the layer but the gate, and its tapes are its own all the same.
namespace {

using moe::ErrorCode;
using TopK = moe::TokenChoice<>;

constexpr std::size_t d = 17;
constexpr std::size_t n = 9;

LayerShape shape() {
    LayerShape result;
    result.n_experts = 5;
    result.d_model = d;
    result.d_ff = 12;
    return result;
}

struct Case {
    LayerCase<float> memory{shape(), 1};
    decltype(memory.layer(TopK{})) layer = memory.layer(TopK{.top_k = 2});
    Draw draw{2};
    std::vector<float> x = random_elements<float>(draw, n* d, 1);
    std::vector<float> dy = random_elements<float>(draw, n* d, 1);
    std::vector<float> dx = std::vector<float>(n * d, 7.0F);
    std::vector<float> y = std::vector<float>(n * d);
    moe::Tape<float> tape;
    moe::Workspace workspace;

    template <class Layer>
    void forward(const Layer& any) {
        moe::forward(any, moe::view(std::as_const(x).data(), n, d), moe::view(y.data(), n, d), tape, workspace);
    }
    template <class Layer>
    void backward(const Layer& any, const moe::LayerGradients<float>& to = {}) {
        moe::backward(any, tape, moe::view(std::as_const(dy).data(), n, d), moe::view(dx.data(), n, d), to, workspace);
    }
};

}  // namespace

TEST_CASE("a gate that was changed between the passes is told", "[gradients][with_gate]") {
    Case c;
    const auto one = c.layer.with_gate(TopK{.top_k = 1});
    const auto three = c.layer.with_gate(TopK{.top_k = 3});
    const auto sigmoid = c.layer.with_gate(moe::TokenChoice<moe::Sigmoid>{.top_k = 1});
    c.forward(one);
    const std::string text = "another gate; give a layer from with_gate a name";
    check_refused([&] { c.backward(c.layer); }, ErrorCode::state, text);
    check_refused([&] { c.backward(three); }, ErrorCode::state, text);
    check_refused([&] { c.backward(sigmoid); }, ErrorCode::state, text);
    CHECK(c.dx == std::vector<float>(n * d, 7.0F));
    c.backward(one);
    const std::vector<float> dx = c.dx;
    c.forward(c.layer);
    check_refused([&] { c.backward(one); }, ErrorCode::state, text);
    c.backward(c.layer);
    CHECK_FALSE(same_bits(c.dx, dx));

    const Case other;
    const auto elsewhere = other.layer.with_gate(TopK{.top_k = 1});
    c.forward(one);
    check_refused([&] { c.backward(elsewhere); }, ErrorCode::state, "another layer");
}

TEST_CASE("a gate has the gradients of a layer that was made with it", "[gradients][with_gate]") {
    Case c;
    const auto under = c.layer.with_gate(TopK{.top_k = 3, .normalize = true});
    const auto made = c.memory.layer(TopK{.top_k = 3, .normalize = true});
    std::vector<float> first;
    std::vector<float> second;
    moe::LayerGradients<float> to;
    to.router = gradient_stack(first, 1, 5, d);
    c.forward(under);
    c.backward(under, to);
    const std::vector<float> dx = c.dx;
    to.router = gradient_stack(second, 1, 5, d);
    c.forward(made);
    c.backward(made, to);
    CHECK(same_bits(c.dx, dx));
    CHECK(same_bits(first, second));
}

TEST_CASE("the gradient of a router input of no rows is not wanted, whatever its columns", "[gradients][with_gate]") {
    Case c;
    moe::LayerGradients<float> to;
    to.router_input = moe::view(static_cast<float*>(nullptr), 0, d);
    c.forward(c.layer);
    c.backward(c.layer, to);
    CHECK(all_finite(c.dx));
}

}  // namespace moe_test::with_gate_gradients_test
