#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "layer/reference/cases.hpp"
#include "moe/reference/backward/layer/layer.hpp"
#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"
#include "train/gradients.hpp"

namespace moe_test::layer_gradients_test {

/// The backward pass of random layers against the definition: every kind of expert, shared and null experts, weights at
/// input and output, routers that read something else, and every rule of TokenChoice.
namespace {

namespace reference = moe::reference;

/// Sums of squares over all gradients of a case.
struct Error {
    double error = 0;
    double power = 0;
    std::size_t sizes_differ = 0;

    template <class T>
    void compare(const std::vector<T>& values, const reference::Vector& expected) {
        if (expected.empty()) {
            return;  // a bias that is not there: its gradient is computed all the same
        }
        sizes_differ += values.size() != expected.size() ? 1U : 0U;
        for (std::size_t i = 0; i < std::min(values.size(), expected.size()); ++i) {
            const double difference = static_cast<double>(values[i]) - expected[i];
            error += difference * difference;
            power += expected[i] * expected[i];
        }
    }
    /// NaN, which passes nothing, where sizes differ.
    [[nodiscard]] double nmse() const {
        return sizes_differ > 0 ? std::numeric_limits<double>::quiet_NaN() : (error == 0 ? 0 : error / power);
    }
};

template <class T>
Error compare(const Gradients<T>& g, const reference::LayerGradients& expected) {
    Error error;
    error.compare(g.dx, expected.x);
    error.compare(g.router, expected.router);
    error.compare(g.router_bias, expected.router_bias);
    error.compare(g.router_input, expected.router_input);
    const auto joined = [](const std::vector<reference::ExpertGradients>& experts, auto member) {
        reference::Vector all;
        for (const reference::ExpertGradients& expert : experts) {
            all.insert(all.end(), (expert.*member).begin(), (expert.*member).end());
        }
        return all;
    };
    using E = reference::ExpertGradients;
    error.compare(g.gate, joined(expected.experts, &E::gate));
    error.compare(g.up, joined(expected.experts, &E::up));
    error.compare(g.down, joined(expected.experts, &E::down));
    error.compare(g.gate_bias, joined(expected.experts, &E::gate_bias));
    error.compare(g.up_bias, joined(expected.experts, &E::up_bias));
    error.compare(g.down_bias, joined(expected.experts, &E::down_bias));
    for (std::size_t s = 0; s < expected.shared.size(); ++s) {
        const E& shared = expected.shared[s];
        const reference::Vector* const parts[] = {&shared.gate,      &shared.up,      &shared.down,
                                                  &shared.gate_bias, &shared.up_bias, &shared.down_bias};
        for (std::size_t i = 0; i < 6; ++i) {
            error.compare(g.shared[6 * s + i], *parts[i]);
        }
    }
    if (!g.shared_gate.empty()) {  // the definition has one where nothing is gated, too
        error.compare(g.shared_gate, expected.shared_gate);
    }
    error.compare(g.output_bias, expected.output_bias);
    reference::Vector constants;
    for (const reference::Vector& row : expected.constants) {
        constants.insert(constants.end(), row.begin(), row.end());
    }
    reference::Vector mixes;
    for (const reference::Vector& rows : expected.mixes) {
        mixes.insert(mixes.end(), rows.begin(), rows.end());
    }
    error.compare(g.constants, constants);
    error.compare(g.mixes, mixes);
    return error;
}

struct Tally {
    std::size_t compared = 0;
    std::size_t undecided = 0;
};

template <class T>
void check(std::uint64_t seed, double bound, Tally& tally) {
    Draw draw(seed);
    const LayerShape shape = random_layer_shape(draw, 80, 9);
    const std::size_t d = shape.d_model;
    const std::size_t router_inputs = draw.coin() ? d : draw.size(1, 40);
    const ReferenceCase<T> c(draw, shape, router_inputs);
    GateMemory memory;
    const RuntimeChoice gate = random_choice(draw, shape.n_choices(), memory);
    const moe::MoELayer layer{c.router(gate), c.bank(), c.shared(), c.options()};
    const std::size_t n = std::vector<std::size_t>{0, 1, 2, 7, 23}[draw.size(0, 4)];
    const auto x = random_elements<T>(draw, n * d, 1);
    const auto dy = random_elements<T>(draw, n * d, 1);
    const bool own_input = router_inputs != d || draw.size(0, 3) == 0;
    const auto router_input = random_elements<T>(draw, own_input ? n * router_inputs : 0, 1);
    moe::ForwardOptions<T> options;
    if (own_input) {
        options.router_input = moe::view(router_input.data(), n, router_inputs);
    }
    reference::Layer definition = c.definition();
    definition.rule = rule_of(gate);
    const auto& read = own_input ? router_input : x;
    for (std::size_t t = 0; t < n; ++t) {
        const reference::Vector row(read.begin() + static_cast<std::ptrdiff_t>(t * router_inputs),
                                    read.begin() + static_cast<std::ptrdiff_t>((t + 1) * router_inputs));
        const auto logits = reference::linear(definition.router, definition.router_bias, row, definition.n_experts());
        if (!is_decided(definition.rule, logits, static_cast<double>(std::numeric_limits<T>::epsilon()))) {
            ++tally.undecided;
            return;
        }
    }
    ++tally.compared;
    const auto wide = [](const std::vector<T>& values) { return reference::Vector(values.begin(), values.end()); };
    const reference::Vector wide_x = wide(x);
    const reference::Vector wide_input = wide(router_input);
    const reference::LayerGradients expected =
        reference::backward(definition, wide_x, own_input ? wide_input : wide_x, wide(dy));
    const auto run = [&](const auto& any, Gradients<T>& gradients, std::size_t workers,
                         moe::TapeKeeps keeps = moe::TapeKeeps::products) {
        moe::Tape<T> tape(keeps);
        moe::Workspace workspace;
        std::vector<T> y(n * d);
        moe::forward(any, moe::view(x.data(), n, d), moe::view(y.data(), n, d), tape, workspace,
                     ThreadExecutor(workers), options);
        moe::backward(any, tape, moe::view(dy.data(), n, d), moe::view(gradients.dx.data(), n, d), gradients.to,
                      workspace, ReversedExecutor(workers));
    };
    Gradients<T> gradients(layer, n, router_inputs, own_input);
    run(layer, gradients, 1 + seed % 3);
    INFO("seed " << seed << ", " << n << " tokens, form " << static_cast<int>(shape.form.kind));
    REQUIRE(compare(gradients, expected).nmse() <= bound);
    if (seed % 3 == 0) {
        Gradients<T> again(layer, n, router_inputs, own_input);
        run(layer, again, 2, moe::TapeKeeps::routing);
        REQUIRE(same_bits(again.all(), gradients.all()));
    }
    if (seed % 4 == 0) {
        Gradients<T> packed(layer, n, router_inputs, own_input);
        run(moe::pack(layer), packed, 2);
        REQUIRE(same_bits(packed.all(), gradients.all()));
    }
}

template <class T>
void check_many(std::uint64_t first, std::size_t count, double bound) {
    Tally tally;
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
        check<T>(seed, bound, tally);
    }
    CHECK(tally.compared > 2 * count / 3);
}

}  // namespace

TEST_CASE("gradients of random layers in double are those of the definition", "[gradients]") {
    check_many<double>(0, 600, 1e-22);
}

TEST_CASE("gradients of random layers in float are those of the definition", "[gradients]") {
    check_many<float>(10000, 600, 1e-9);
}

}  // namespace moe_test::layer_gradients_test
