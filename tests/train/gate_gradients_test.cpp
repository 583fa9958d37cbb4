#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "train/gate_gradients_cases.hpp"
#include "train/gradient_memory.hpp"

namespace moe_test::gate_gradients_test {

/// Gradients of what gates hold, against the definition, differences and themselves.
namespace {

constexpr std::size_t n = 23;

/// The tokens of a tape after its backward pass.
template <class T>
ExpectedGateGradients expected_of(const GateComposition& composition, const HeldParameters& memory,
                                  const moe::Tape<T>& tape) {
    ExpectedGateGradients expected{moe::reference::Vector(HeldParameters::n_experts, 0.0),
                                   moe::reference::Vector(HeldParameters::n_experts * HeldParameters::width, 0.0)};
    const moe::PlanView<T> plan = tape.plan();
    for (std::size_t t = 0; t < tape.x().rows(); ++t) {
        if (!tape.is_valid(t)) {
            continue;
        }
        GateToken token;
        token.logits.assign(tape.logits().row(t), tape.logits().row(t) + tape.logits().cols());
        std::size_t a = plan.token_offsets[t];
        for (const moe::ExpertId e : tape.choices().row_span(t)) {
            if (e != moe::no_expert) {
                token.choice.experts.push_back(e);
                token.d_weights.push_back(e < 0 ? 0 : static_cast<double>(tape.d_weights()[a++]));
            }
        }
        REQUIRE(a == plan.token_offsets[t + 1]);
        composition.add_expected(memory, token, expected);
    }
    return expected;
}

template <class T>
double error_of_composition(const GateComposition& composition, std::uint64_t seed) {
    Draw draw(seed);
    const HeldParameters memory(draw);
    GateNet<T> net(draw, n, composition.n_experts, composition.n_logits);
    for (const std::size_t t : {std::size_t{0}, std::size_t{11}, n - 1}) {
        net.valid[t] = 0;
        std::fill_n(net.x.begin() + static_cast<std::ptrdiff_t>(t * net.d), net.d, std::numeric_limits<T>::quiet_NaN());
    }
    const auto layer = net.layer(composition.gate(memory));
    moe::Tape<T> tape;
    moe::Workspace workspace;
    net.run(layer, tape, workspace, 0, n);
    GateSums<T> sums;
    moe::add_gate_gradients(layer, tape, sums.to(composition.is_cosine), workspace);
    const ExpectedGateGradients expected = expected_of(composition, memory, std::as_const(tape));
    GradientError error;
    error.compare(sums.scale, expected.scale);
    CHECK(error.power > 0);
    if (composition.is_cosine) {
        error.compare(sums.centroids, expected.centroids);
        error.compare(std::vector<T>{sums.temperature}, {expected.temperature});
    }
    return error.nmse();
}

double loss(const GateNet<double>& net, const std::vector<double>& y) {
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
        sum += y[i] * net.dy[i];
    }
    return sum;
}

/// The slope of the loss where `move(memory, step)` moves one value of `memory` and returns by how much; none where the
/// tokens go elsewhere.
template <class Move>
std::optional<double> slope(const GateComposition& composition, const GateNet<double>& net,
                            const HeldParameters& memory, double step, const Move& move) {
    double losses[2];
    double moved[2];
    std::vector<moe::ExpertId> choices[2];
    for (const int side : {0, 1}) {
        HeldParameters at = memory;
        moved[side] = move(at, side == 0 ? -step : step);
        moe::Tape<double> tape;
        moe::Workspace workspace;
        losses[side] = loss(net, net.forward(net.layer(composition.gate(at)), tape, workspace, 0, n));
        const auto experts = std::as_const(tape).plan().experts;
        choices[side].assign(experts.begin(), experts.end());
    }
    if (choices[0] != choices[1]) {
        return std::nullopt;
    }
    return (losses[1] - losses[0]) / (moved[1] - moved[0]);
}

}  // namespace

// Scores, shares and sums of some 20 tokens, each some roundings: the square of 30 to 40 epsilon. Seen: 2e-30 in
// double, 2e-13 in float.
TEST_CASE("gradients of what gates hold are those of the definition", "[gradients][gate_gradients]") {
    double most[2] = {0, 0};
    for (const GateComposition& composition : gate_compositions()) {
        for (std::uint64_t seed = 1; seed <= 20; ++seed) {
            INFO(composition.name << ", seed " << seed);
            const double wide = error_of_composition<double>(composition, seed);
            const double narrow = error_of_composition<float>(composition, seed);
            CHECK(wide <= 1e-28);
            CHECK(narrow <= 1e-11);
            most[0] = std::max(most[0], wide);
            most[1] = std::max(most[1], narrow);
        }
    }
    INFO("most: " << most[0] << " in double, " << most[1] << " in float");
    CHECK(most[0] > 0);
}

// The parameters are float, so that a step is no less than 1 / 2048: what it leaves out is its square times the third
// derivative.
TEST_CASE("gradients of what gates hold are those of differences through a layer", "[gradients][gate_gradients]") {
    std::size_t compared = 0;
    std::size_t skipped = 0;
    for (const GateComposition& composition : gate_compositions()) {
        INFO(composition.name);
        Draw draw(41);
        HeldParameters memory(draw);
        const GateNet<double> net(draw, n, composition.n_experts, composition.n_logits);
        const auto layer = net.layer(composition.gate(memory));
        moe::Tape<double> tape;
        moe::Workspace workspace;
        net.run(layer, tape, workspace, 0, n);
        GateSums<double> sums;
        moe::add_gate_gradients(layer, tape, sums.to(composition.is_cosine), workspace);
        double size = 0;
        for (const double value : sums.all()) {
            size = std::max(size, std::abs(value));
        }
        const auto compare = [&](double gradient, double step, const auto& move) {
            const std::optional<double> difference = slope(composition, net, memory, step, move);
            compared += difference ? 1U : 0U;
            skipped += difference ? 0U : 1U;
            CHECK(std::abs(difference.value_or(gradient) - gradient) <= 2e-5 * size);
        };
        const auto move_float = [](std::vector<float>& values, std::size_t i, double by) {
            values[i] += static_cast<float>(by);
            return static_cast<double>(values[i]);
        };
        for (std::size_t e = 0; e < sums.scale.size(); ++e) {
            compare(sums.scale[e], 1.0 / 1024, [&](HeldParameters& at, double by) {
                return move_float(composition.positive ? at.positive : at.scale, e, by);
            });
        }
        for (std::size_t i = 0; i < sums.centroids.size() && composition.is_cosine; ++i) {
            compare(sums.centroids[i], 1.0 / 2048,
                    [&](HeldParameters& at, double by) { return move_float(at.centroids, i, by); });
        }
        if (composition.is_cosine) {
            compare(sums.temperature, 1e-5, [](HeldParameters& at, double by) { return at.temperature += by; });
        }
    }
    CHECK(compared > 100);
    CHECK(skipped * 10 < compared);
}

TEST_CASE("gradients of what gates hold have the same bits for any cut of a batch", "[gradients][gate_gradients]") {
    for (const GateComposition& composition : gate_compositions()) {
        if (!composition.by_token) {
            continue;
        }
        INFO(composition.name);
        Draw draw(3);
        const HeldParameters memory(draw);
        GateNet<float> net(draw, n, composition.n_experts, composition.n_logits);
        net.valid[4] = 0;
        const auto layer = net.layer(composition.gate(memory));
        moe::Tape<float> tape;
        moe::Workspace workspace;
        const auto sums_of = [&](const std::vector<std::size_t>& cuts) {
            GateSums<float> sums;
            sums.scale.assign(sums.scale.size(), 0.3F);  // they are added to
            for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
                net.run(layer, tape, workspace, cuts[i], cuts[i + 1] - cuts[i]);
                moe::add_gate_gradients(layer, tape, sums.to(composition.is_cosine), workspace);
            }
            return sums.all();
        };
        const std::vector<float> whole = sums_of({0, n});
        CHECK(same_bits(sums_of({0, 1, 8, 8, n}), whole));
        CHECK_FALSE(same_bits(sums_of({0, n - 1}), whole));
    }
}

}  // namespace moe_test::gate_gradients_test
