// SoftMoE, experts of one neuron, layers of layers.

#include <moe/reference/backward/layer/hierarchical.hpp>
#include <moe/reference/backward/layer/layer.hpp>
#include <moe/reference/backward/layer/neuron_layer.hpp>
#include <moe/reference/backward/layer/soft_moe.hpp>

#include <cmath>
#include <string>

#include "reference/backward/random_cases.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::other_layers_backward_test {

namespace reference = moe::reference;
using moe_test::Differences;
using moe_test::Numbers;
using reference::Vector;

TEST_CASE("SoftMoE: through both softmaxes to tokens, slots, scale and experts", "[reference]") {
    Numbers draw(1);
    Differences differences(2);
    for (std::size_t i = 0; i < 300; ++i) {
        reference::SoftMoE layer{.d_model = draw.size(1, 3)};
        const bool apart = draw.coin();
        const std::size_t d_router = apart ? draw.size(1, 3) : layer.d_model;
        for (std::size_t e = draw.size(1, 3); e > 0; --e) {
            layer.experts.push_back(
                moe_test::random_expert(draw, layer.d_model, draw.size(1, 3), i % moe_test::n_forms, draw.coin()));
        }
        layer.slots = draw.normals(layer.experts.size() * draw.size(1, 2) * d_router);
        layer.normalize = draw.coin();
        layer.scale = 1.7;
        std::vector<Vector> x;
        std::vector<Vector> read;
        std::vector<Vector> dy;
        for (std::size_t t = draw.one_of<std::size_t>({0, 1, 5}); t > 0; --t) {
            x.push_back(draw.normals(layer.d_model));
            read.push_back(draw.normals(d_router));
            dy.push_back(draw.normals(layer.d_model));
        }
        const auto f = [&] {
            double sum = 0;
            const std::vector<Vector> y = reference::forward(layer, x, apart ? read : x);
            for (std::size_t t = 0; t < y.size(); ++t) {
                sum += moe_test::sum_of_products(y[t], dy[t]);
            }
            return sum;
        };
        const reference::SoftMoEGradients gradients = reference::backward(layer, x, apart ? read : x, dy);
        REQUIRE(gradients.x.size() == x.size());
        for (std::size_t t = 0; t < x.size(); ++t) {
            Vector dx = gradients.x[t];
            if (apart) {
                differences.hold("router input", read[t], gradients.router_input[t], f);
            } else {
                reference::add_scaled(dx, 1, gradients.router_input[t]);
            }
            differences.hold("x", x[t], dx, f);
        }
        differences.hold("slots", layer.slots, gradients.slots, f);
        differences.hold("scale", layer.scale, gradients.scale, f);
        for (std::size_t e = 0; e < layer.experts.size(); ++e) {
            differences.hold("gate", layer.experts[e].gate, gradients.experts[e].gate, f);
            differences.hold("up", layer.experts[e].up, gradients.experts[e].up, f);
            differences.hold("down bias", layer.experts[e].down_bias, gradients.experts[e].down_bias, f);
        }
    }
    CHECK(differences.problem(4000) == "");
}

TEST_CASE("SoftMoE: the gradient of a token goes to all of them, that of the logits sums to 0", "[reference]") {
    Numbers draw(3);
    reference::SoftMoE layer{.d_model = 2, .slots = draw.normals(8), .normalize = false};
    layer.experts = {moe_test::random_expert(draw, 2, 2, 0, false), moe_test::random_expert(draw, 2, 2, 0, false)};
    const std::vector<Vector> x{{1, 2}, {-1, 0.5}, {0.3, 0.1}};
    const auto gradients = reference::backward(layer, x, x, {{1, 1}, {0, 0}, {0, 0}});
    for (const Vector& dx : gradients.x) {
        CHECK(dx[0] != 0);
    }
    const auto none = reference::backward(layer, {}, {}, {});
    CHECK(none.slots == Vector(8, 0.0));
    CHECK(none.experts.size() == 2);
}

TEST_CASE("experts of one neuron: queries, keys, down and up, shared by several heads", "[reference]") {
    Numbers draw(4);
    Differences differences(5);
    for (int i = 0; i < 300; ++i) {
        reference::NeuronLayer layer{.d_model = draw.size(1, 3), .n_heads = draw.size(1, 2)};
        layer.n_keys = draw.size(1, 3);
        layer.top_k = draw.size(1, layer.n_keys);
        layer.relu = draw.coin();
        const bool apart = draw.coin();
        const std::size_t d_router = apart ? draw.size(1, 3) : layer.d_model;
        const std::size_t d_key = draw.coin() ? draw.size(1, 2) : 0;
        layer.queries = draw.normals(2 * layer.n_heads * d_key * d_router);
        layer.keys = draw.normals(2 * layer.n_heads * layer.n_keys * (d_key == 0 ? d_router : d_key));
        layer.down = draw.normals(layer.n_keys * layer.n_keys * layer.d_model);
        layer.up = draw.normals(layer.n_keys * layer.n_keys * layer.d_model);
        layer.activation = [](double z) { return std::sin(z) + z * z; };
        layer.activation_slope = [](double z) { return std::cos(z) + 2 * z; };
        Vector x = draw.normals(layer.d_model);
        Vector read = draw.normals(apart ? d_router : 0);
        const Vector dy = draw.normals(layer.d_model);
        const auto f = [&] {
            const Vector logits = reference::logits(layer, apart ? read : x);
            return moe_test::sum_of_products(reference::combine(layer, logits, x), dy);
        };
        reference::NeuronGradients gradients = reference::zero_gradients(layer);
        reference::NeuronTokenGradient token = reference::backward(layer, x, apart ? read : x, dy, gradients);
        if (apart) {
            differences.hold("router input", read, token.router_input, f);
        } else {
            reference::add_scaled(token.x, 1, token.router_input);
        }
        differences.hold("x", x, token.x, f);
        differences.hold("queries", layer.queries, gradients.queries, f);
        differences.hold("keys", layer.keys, gradients.keys, f);
        differences.hold("down", layer.down, gradients.down, f);
        differences.hold("up", layer.up, gradients.up, f);
    }
    CHECK(differences.problem(2500) == "");
}

TEST_CASE("a layer of layers: the outer router, and through to the innermost", "[reference]") {
    Numbers draw(6);
    Differences differences(7);
    for (int i = 0; i < 200; ++i) {
        std::vector<reference::Layer> inner(3);
        for (reference::Layer& layer : inner) {
            layer.d_model = 2;
            layer.rule = {.top_k = 2, .norm = reference::Norm::sum};
            layer.router = draw.normals(6);
            const std::size_t form = draw.size(0, moe_test::n_forms - 1);
            for (int e = 0; e < 3; ++e) {
                layer.experts.push_back(moe_test::random_expert(draw, 2, 2, form, true));
            }
        }
        std::vector<reference::LayerGradients> of_inner;
        std::vector<reference::TokenBackward> of_groups;
        reference::Hierarchical outer{.router = draw.normals(6)};
        outer.rule = {.top_k = draw.size(1, 3), .score = reference::Score::sigmoid};
        for (std::size_t g = 0; g < 3; ++g) {
            of_inner.push_back(reference::zero_gradients(inner[g]));
            outer.groups.push_back([&inner, g](const Vector& x) {
                Vector y;
                reference::forward(inner[g], x, x, y);
                return y;
            });
            of_groups.push_back([&inner, &of_inner, g](const Vector& x, const Vector& dy) {
                of_inner[g] = reference::backward(inner[g], x, x, dy);
                return of_inner[g].x;
            });
        }
        Vector x = draw.normals(2);
        const Vector dy = draw.normals(2);
        Vector d_router(6, 0.0);
        const Vector dx = reference::backward(outer, of_groups, x, dy, d_router);
        const auto f = [&] { return moe_test::sum_of_products(outer(x), dy); };
        differences.hold("x", x, dx, f);
        differences.hold("outer router", outer.router, d_router, f);
        for (std::size_t g = 0; g < 3; ++g) {
            differences.hold("inner router", inner[g].router, of_inner[g].router, f);
            differences.hold("inner up", inner[g].experts[0].up, of_inner[g].experts[0].up, f);
            differences.hold("inner bias", inner[g].experts[1].down_bias, of_inner[g].experts[1].down_bias, f);
        }
    }
    CHECK(differences.problem(4000) == "");
}

}  // namespace moe_test::other_layers_backward_test
