#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "layer/reference/cases.hpp"
#include "moe/reference/backward/layer/layer.hpp"
#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"

namespace moe_test::gradients_of_test {

/// Memory for gradients in the shapes of a layer: what is there, what it is called, and that gradients arrive in it.
namespace {

namespace reference = moe::reference;
using moe::ErrorCode;
using moe_test::contains;
using moe_test::error_of;

void append(std::vector<double>& all, const reference::Vector& values) {
    all.insert(all.end(), values.begin(), values.end());
}

/// The gradients of the definition in the order of OwnedGradients::all(), of biases only those that there are.
std::vector<double> in_order(const reference::Layer& layer, const reference::LayerGradients& of, bool router_bias) {
    std::vector<double> all = of.router;
    if (router_bias) {
        append(all, of.router_bias);
    }
    using E = reference::ExpertGradients;
    using W = reference::Expert;
    const auto add_bank = [&](const auto& gradients, const auto& weights, std::size_t first, std::size_t end) {
        const auto add = [&](const reference::Vector E::*gradient, const reference::Vector W::*weight) {
            for (std::size_t e = first; e < end && !(weights[first].*weight).empty(); ++e) {
                append(all, gradients[e].*gradient);
            }
        };
        add(&E::gate, &W::gate);
        add(&E::up, &W::up);
        add(&E::down, &W::down);
        add(&E::gate_bias, &W::gate_bias);
        add(&E::up_bias, &W::up_bias);
        add(&E::down_bias, &W::down_bias);
    };
    add_bank(of.experts, layer.experts, 0, layer.experts.size());
    for (std::size_t s = 0; s < layer.shared.size(); ++s) {
        add_bank(of.shared, layer.shared, s, s + 1);
    }
    if (!layer.shared.empty() && layer.shared_mode == reference::Shared::gated) {
        append(all, of.shared_gate);
    }
    if (!layer.output_bias.empty()) {
        append(all, of.output_bias);
    }
    for (const reference::Vector& row : of.constants) {
        append(all, row);
    }
    for (const reference::Vector& rows : of.mixes) {
        append(all, rows);
    }
    return all;
}

/// A plain layer of 3 experts, d_model 5, d_ff 4, in T.
template <class T>
struct Small {
    std::vector<T> router = std::vector<T>(15, T(0.25));
    std::vector<T> weights = std::vector<T>(60, T(0.5));
    [[nodiscard]] auto layer() const {
        return moe::MoELayer{moe::Router{moe::view(router.data(), 3, 5), moe::TokenChoice<>{.top_k = 2}},
                             moe::SwiGLU{moe::stacked(weights.data(), 3, 4, 5), moe::stacked(weights.data(), 3, 4, 5),
                                         moe::stacked(weights.data(), 3, 5, 4)}};
    }
};

std::vector<std::string> names(const moe::OwnedGradients<float>& gradients) {
    std::vector<std::string> result;
    for (const moe::ParameterGroup& group : gradients.groups()) {
        result.push_back(group.name);
    }
    return result;
}

}  // namespace

TEST_CASE("gradients of random layers arrive in owned memory, all that the layer has and nothing else",
          "[gradients_of]") {
    std::size_t compared = 0;
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        Draw draw(seed);
        const LayerShape shape = random_layer_shape(draw, 40, 9);
        const std::size_t d = shape.d_model;
        const ReferenceCase<double> c(draw, shape, d);
        GateMemory memory;
        const RuntimeChoice gate = random_choice(draw, shape.n_choices(), memory);
        const moe::MoELayer layer{c.router(gate), c.bank(), c.shared(), c.options()};
        const std::size_t n = std::vector<std::size_t>{0, 1, 7}[seed % 3];
        const auto x = random_elements<double>(draw, n * d, 1);
        const auto dy = random_elements<double>(draw, n * d, 1);
        reference::Layer definition = c.definition();
        definition.rule = rule_of(gate);
        bool decided = true;
        for (std::size_t t = 0; t < n; ++t) {
            const reference::Vector row(x.begin() + static_cast<std::ptrdiff_t>(t * d),
                                        x.begin() + static_cast<std::ptrdiff_t>((t + 1) * d));
            decided = decided && is_decided(definition.rule,
                                            reference::linear(definition.router, definition.router_bias, row,
                                                              definition.n_experts()),
                                            std::numeric_limits<double>::epsilon());
        }
        if (!decided) {
            continue;
        }
        ++compared;
        moe::OwnedGradients<double> gradients = moe::gradients_of(layer);
        for (const double value : gradients.all()) {
            REQUIRE(value == 0);
        }
        moe::Tape<double> tape;
        moe::Workspace workspace;
        std::vector<double> y(n * d);
        std::vector<double> dx(n * d);
        const auto run = [&] {
            moe::forward(layer, moe::view(x.data(), n, d), moe::view(y.data(), n, d), tape, workspace);
            moe::backward(layer, tape, moe::view(dy.data(), n, d), moe::view(dx.data(), n, d), gradients, workspace);
        };
        run();
        const std::vector<double> expected =
            in_order(definition, reference::backward(definition, x, x, dy), !definition.router_bias.empty());
        INFO("seed " << seed << ", " << n << " tokens");
        REQUIRE(gradients.all().size() == expected.size());
        REQUIRE((n == 0 || nmse(std::span<const double>(gradients.all()), std::span<const double>(expected)) <= 1e-22));
        const std::vector<double> once(gradients.all().begin(), gradients.all().end());
        gradients.zero();
        run();
        REQUIRE(same_bits(std::vector<double>(gradients.all().begin(), gradients.all().end()), once));
    }
    CHECK(compared > 40);
}

TEST_CASE("groups have names, and so have single values", "[gradients_of]") {
    const Small<float> small;
    const auto layer = small.layer();
    moe::OwnedGradients gradients = moe::gradients_of(layer);
    CHECK(names(gradients) == std::vector<std::string>{"router", "experts.gate", "experts.up", "experts.down"});
    const moe::ParameterGroup& down = gradients.groups()[3];
    CHECK(down.at(0) == "experts.down[0](0, 0)");
    CHECK(down.at(2 * 20 + 3 * 4 + 1) == "experts.down[2](3, 1)");
    CHECK(gradients.groups()[0].at(7) == "router(1, 2)");
    CHECK((moe::ParameterGroup{"output_bias", 0, 0, 5, 0}.at(4)) == "output_bias(4)");
    CHECK((moe::ParameterGroup{"experts.up_bias", 0, 3, 4, 0}.at(9)) == "experts.up_bias[2](1)");

    gradients.all()[down.first + 2 * 20 + 3 * 4 + 1] = 7;
    CHECK(gradients.down(2)(3, 1) == 7);
    gradients.router()(1, 2) = 3;
    CHECK(gradients.all()[7] == 3);
    CHECK(gradients.up(0).rows() == 4);
    CHECK(gradients.up(0).cols() == 5);
    CHECK(gradients.router_bias().empty());
    CHECK(gradients.down_bias(1).empty());
    CHECK(gradients.shared_gate().empty());
    CHECK(gradients.constants().empty());
    const auto error = error_of([&] { (void)gradients.gate(3); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("expert 3 of 3"));
    CHECK(error_of([&] { (void)gradients.shared(0); }).code == ErrorCode::range);
}

TEST_CASE("a copy has memory of its own, and what was moved has the old", "[gradients_of]") {
    const Small<float> small;
    moe::OwnedGradients gradients = moe::gradients_of(small.layer());
    gradients.router()(0, 0) = 1;
    moe::OwnedGradients copy = gradients;
    copy.router()(0, 0) = 2;
    CHECK(gradients.router()(0, 0) == 1);
    CHECK(copy.all()[0] == 2);
    CHECK(copy.views().router.matrix(0).data == copy.all().data());
    const float* const memory = copy.all().data();
    moe::OwnedGradients moved = std::move(copy);
    CHECK(moved.router().data() == memory);
    gradients = moved;
    CHECK(gradients.router()(0, 0) == 2);
    CHECK(gradients.router().data() != memory);
    moe::OwnedGradients<float> none;
    CHECK(none.all().empty());
    CHECK(none.router().empty());
}

TEST_CASE("a router without logits, shared experts, joined banks, a layer under another gate", "[gradients_of]") {
    const Small<float> small;
    const auto layer = small.layer();
    const auto scattered = layer.with_gate(moe::RoundRobin{.top_k = 1});
    CHECK(names(moe::gradients_of(scattered)) ==
          std::vector<std::string>{"experts.gate", "experts.up", "experts.down"});
    CHECK(names(moe::gradients_of(layer.with_gate(moe::TopP<>{}))) == names(moe::gradients_of(layer)));

    using Bank = moe::ExpertBank<float, moe::Plain<moe::Silu>>;
    const auto stack = [&](std::size_t n, std::size_t rows, std::size_t cols) {
        return moe::stacked(small.weights.data(), n, rows, cols);
    };
    const Bank two({}, {.up = stack(2, 4, 5), .down = stack(2, 5, 4)});
    const Bank one({}, {.up = stack(1, 4, 5), .down = stack(1, 5, 4), .up_bias = stack(1, 4, 1)});
    const moe::MoELayer joined{layer.router(), moe::JoinedExperts{two, one},
                               moe::SharedExperts<moe::JoinedExperts<Bank>, float>()};
    moe::OwnedGradients of_joined = moe::gradients_of(joined);
    CHECK(names(of_joined) == std::vector<std::string>{"router", "experts.up", "experts.down", "experts.up_bias"});
    CHECK(of_joined.up_bias(2).size() == 4);  // of all, as one has it

    const moe::MoELayer shared{layer.router(), Bank({}, {.up = stack(3, 4, 5), .down = stack(3, 5, 4)}),
                               moe::SharedExperts<Bank>(one, stack(1, 1, 5))};
    moe::OwnedGradients of_shared = moe::gradients_of(shared);
    CHECK(names(of_shared) == std::vector<std::string>{"router", "experts.up", "experts.down", "shared[0].up",
                                                       "shared[0].down", "shared[0].up_bias", "shared_gate"});
    CHECK(of_shared.groups()[4].at(5) == "shared[0].down(1, 1)");
    of_shared.shared(0).down()(1, 1) = 4;
    CHECK(of_shared.all()[of_shared.groups()[4].first + 5] == 4);
    CHECK(of_shared.shared_gate().cols() == 5);
}

}  // namespace moe_test::gradients_of_test
