// The gradients of 17 blocks of released models, as PyTorch computed them in double (golden/README.md).

#include <moe/reference/backward/gate/sparse_mixer.hpp>
#include <moe/reference/backward/layer/layer.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "reference/backward/golden_layers.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::golden_backward_test {

namespace reference = moe::reference;
using moe_test::GoldenLayer;
using reference::Choice;
using reference::Vector;

namespace {

constexpr double jitter = 0.01;

std::vector<Choice> choices_of(const GoldenLayer& golden) {
    std::vector<Choice> choices;
    const std::size_t d = golden.layer.d_model;
    for (std::size_t t = 0; t < golden.x.size() / d; ++t) {
        const Vector logits = reference::router_logits(golden.layer, reference::row_of(golden.x, t, d));
        choices.push_back(golden.sparse_mixer ? reference::sparse_mixer(logits, jitter)
                                              : reference::route(golden.layer.rule, logits));
    }
    return choices;
}

/// The sets of experts are those of the file, where it has them.
void check_choices(const GoldenLayer& golden, const std::vector<Choice>& choices) {
    const std::size_t k = golden.experts.size() / choices.size();
    for (std::size_t t = 0; t < choices.size() && k > 0; ++t) {
        const auto first = golden.experts.begin() + static_cast<std::ptrdiff_t>(t * k);
        std::vector<moe::ExpertId> expected(first, first + static_cast<std::ptrdiff_t>(k));
        std::vector<moe::ExpertId> actual = choices[t].experts;
        std::sort(expected.begin(), expected.end());
        std::sort(actual.begin(), actual.end());
        CHECK(actual == expected);
    }
}

void check_block(const std::string& name) {
    INFO(name);
    const GoldenLayer golden = moe_test::golden_layer(name);
    const std::vector<Choice> choices = choices_of(golden);
    check_choices(golden, choices);
    // Switch alone computed its router in float32.
    const double bound = name == "switch_transformers" ? 1e-12 : 1e-24;
    const std::size_t d = golden.layer.d_model;
    Vector y;
    for (std::size_t t = 0; t < choices.size(); ++t) {
        const Vector row = reference::combine(golden.layer, choices[t], reference::row_of(golden.x, t, d));
        y.insert(y.end(), row.begin(), row.end());
    }
    CHECK(moe_test::nmse(y, golden.y) <= bound);

    const auto gate = [&](std::size_t t, const Vector& logits, const Vector& d_weights) {
        return golden.sparse_mixer ? reference::sparse_mixer_backward(logits, jitter, choices[t], d_weights)
                                   : reference::gate_backward(golden.layer.rule, logits, choices[t], d_weights);
    };
    const auto gradients = reference::backward(golden.layer, golden.x, golden.x, golden.dy, choices, gate);
    if (!golden.sparse_mixer) {  // the layer's own rule is the same
        CHECK(reference::backward(golden.layer, golden.x, golden.x, golden.dy).x == gradients.x);
    }
    const auto stored = golden.stored(gradients);
    REQUIRE(golden.expected.size() >= 3);
    REQUIRE(stored.size() == golden.expected.size());
    for (const auto& [tensor, expected] : golden.expected) {
        INFO(tensor);
        const auto actual = stored.find(tensor);
        REQUIRE(actual != stored.end());
        CHECK(moe_test::nmse(actual->second, expected) <= bound);
    }
}

}  // namespace

TEST_CASE("the gradients of the golden blocks", "[reference]") {
    const std::vector<std::string> names = moe_test::golden_layer_names();
    REQUIRE(names.size() == 17);
    for (const std::string& name : names) {
        check_block(name);
    }
}

}  // namespace moe_test::golden_backward_test
