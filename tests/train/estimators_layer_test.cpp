// What drawing changes in a layer: the router's gradient and nothing else, and what a router learns from it.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "gating/backward_support.hpp"
#include "moe/reference/backward/gate/estimators.hpp"
#include "moe/reference/routing.hpp"
#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"
#include "train/gradient_memory.hpp"

namespace moe_test::estimators_layer_test {

namespace reference = moe::reference;

namespace {

using Top = moe::TokenChoice<>;

constexpr std::size_t d = 11;
constexpr std::size_t n = 13;
constexpr std::size_t n_experts = 5;

LayerShape shape() {
    LayerShape result;
    result.n_experts = n_experts;
    result.d_model = d;
    result.d_ff = 7;
    return result;
}

/// Output and gradients of the same layer under one gate.
struct Run {
    std::vector<double> y, router, experts, d_weights;
    std::vector<reference::Vector> logits, inputs;  // of each token
    std::vector<moe::ExpertId> chosen;
    std::size_t per_token = 0;

    template <class Gate>
    explicit Run(const Gate& gate, std::size_t k = 1) : per_token(k) {
        const LayerCase<double> memory(shape(), 1);
        Draw draw{2};
        const std::vector<double> x = random_elements<double>(draw, n * d, 1);
        const std::vector<double> dy = random_elements<double>(draw, n * d, 1);
        const auto layer = memory.layer(gate);
        y.resize(n * d);
        moe::Tape<double> tape;
        moe::Workspace workspace;
        moe::forward(layer, moe::view(x.data(), n, d), moe::view(y.data(), n, d), tape, workspace);
        const auto plan = tape.plan();
        for (std::size_t t = 0; t < n; ++t) {
            REQUIRE(plan.experts_of(t).size() == k);
            chosen.insert(chosen.end(), plan.experts_of(t).begin(), plan.experts_of(t).end());
            const auto row = tape.logits().row_span(t);
            logits.emplace_back(row.begin(), row.end());
        }
        BankGradients<double> to;
        moe::LayerGradients<double> gradients;
        gradients.experts = to.over(layer.experts());
        gradients.router = gradient_stack(router, 1, n_experts, d);
        moe::backward(layer, tape, moe::view(dy.data(), n, d), moe::MatrixView<double>(), gradients, workspace);
        to.append_to(experts);
        d_weights.assign(tape.d_weights().begin(), tape.d_weights().end());
        for (std::size_t t = 0; t < n; ++t) {
            inputs.emplace_back(x.begin() + static_cast<std::ptrdiff_t>(t * d),
                                x.begin() + static_cast<std::ptrdiff_t>((t + 1) * d));
        }
    }

    /// The gradient of the router, where `d_logits` makes that of a token out of its logits and the gradients of the
    /// weights of all experts, 0 for those not chosen.
    template <class DLogits>
    [[nodiscard]] std::vector<double> router_by(const DLogits& d_logits) const {
        std::vector<double> sum(n_experts * d);
        for (std::size_t t = 0; t < n; ++t) {
            reference::Vector g(n_experts, 0.0);
            for (std::size_t i = t * per_token; i < (t + 1) * per_token; ++i) {
                g[static_cast<std::size_t>(chosen[i])] = d_weights[i];
            }
            const reference::Vector dl = d_logits(logits[t], g, static_cast<std::size_t>(chosen[t * per_token]));
            for (std::size_t i = 0; i < sum.size(); ++i) {
                sum[i] += dl[i / d] * inputs[t][i % d];
            }
        }
        return sum;
    }
};

reference::Vector of_softmax(const reference::Vector& logits, const reference::Vector& g, std::size_t /*drawn*/) {
    return reference::softmax_backward(reference::softmax(logits), g);
}

}  // namespace

TEST_CASE("straight-through and plain gradients differ for the router alone", "[estimators]") {
    const Run plain(Top{.top_k = 1, .normalize = true});  // its weight is 1
    const Run through(moe::StraightThrough<Top>{.gate = {.top_k = 1}});
    const Run detached(moe::Detached<moe::StraightThrough<Top>>{{.gate = {.top_k = 1}}});
    CHECK(same_bits(through.y, plain.y));
    CHECK(same_bits(through.experts, plain.experts));
    CHECK(same_bits(through.experts, detached.experts));
    CHECK(most(through.experts) > 0);
    CHECK(most(plain.router) < 1e-13);
    CHECK(most(detached.router) == 0);
    CHECK(most(through.router) > 0.1);
    CHECK(nmse(through.router, through.router_by(of_softmax)) < 1e-28);
    CHECK(same_bits(through.d_weights, plain.d_weights));
}

TEST_CASE("a layer asks all experts for ReinMax and lets one count", "[estimators]") {
    const Run drawn(moe::ReinMax{.seed = 4}, n_experts);
    const Run one(moe::ReinMax{.training = false}, 1);
    const Run best(Top{.top_k = 1, .normalize = true});
    CHECK(same_bits(one.y, best.y));
    CHECK_FALSE(same_bits(drawn.y, best.y));
    CHECK(most(one.router) == 0);
    CHECK(most(drawn.router) > 0.1);
    const auto of_reinmax = [](const reference::Vector& logits, const reference::Vector& g, std::size_t chosen) {
        return reference::reinmax_backward(logits, chosen, 1, g);
    };
    CHECK(nmse(drawn.router, drawn.router_by(of_reinmax)) < 1e-28);
    // Experts that did not count learn nothing: of each token there is one that does.
    const Run first(moe::Detached<moe::Sampled<Top>>{{.gate = {.top_k = 1, .normalize = true}, .seed = 4}});
    CHECK(difference(drawn.y, first.y, 1e-13) == "");
    CHECK(difference(drawn.experts, first.experts, 1e-12) == "");
}

namespace {

template <class Gate>
void draw_from(Gate& gate, std::uint64_t seed, std::uint64_t step) {
    if constexpr (requires { gate.seed; }) {
        gate.seed = seed;
        gate.step = step;
    } else if constexpr (requires { gate.gate; }) {
        draw_from(gate.gate, seed, step);
    }
}

/// A token whose experts are worth 1 and 4, beginning with a router that prefers the first. The loss is minus what a
/// token got. Returns the number of steps after which evaluation takes the second, nothing if it never does.
template <class Gate>
std::optional<std::uint64_t> steps_to_escape(Gate gate, std::uint64_t seed = 0) {
    constexpr std::uint64_t most_steps = 2000;
    const std::vector<double> worth{1, 4};
    std::vector<double> logits{1, 0};
    for (std::uint64_t step = 0; step < most_steps; ++step) {
        if (logits[1] > logits[0]) {
            return step;
        }
        draw_from(gate, seed, step);
        const Chosen<double> chosen = choose<double>(gate, logits);
        std::vector<double> d_weights;
        for (const moe::ExpertId e : chosen.experts) {
            d_weights.push_back(-worth[static_cast<std::size_t>(e)]);
        }
        const std::vector<double> d_logits = gradient(gate, logits, 2, chosen, d_weights);
        for (std::size_t e = 0; e < 2; ++e) {
            logits[e] -= 0.05 * d_logits[e];
        }
    }
    return std::nullopt;
}

/// Over 20 seeds, sorted; fewer values where some never escape.
template <class Gate>
std::vector<std::uint64_t> escapes(const Gate& gate) {
    std::vector<std::uint64_t> steps;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        if (const auto taken = steps_to_escape(gate, seed)) {
            steps.push_back(*taken);
        }
    }
    std::sort(steps.begin(), steps.end());
    return steps;
}

}  // namespace

TEST_CASE("a router that never tries the better expert is stuck, one that draws escapes", "[estimators]") {
    CHECK(!steps_to_escape(Top{.top_k = 1}));
    CHECK(!steps_to_escape(moe::StraightThrough<Top>{.gate = {.top_k = 1}}));
    CHECK(steps_to_escape(moe::Dense<>{}).has_value());
    const auto hold = [](const char* name, const std::vector<std::uint64_t>& steps) {
        INFO(name << ": " << steps.size() << " of 20 escape");
        REQUIRE(steps.size() == 20);
        INFO("median " << steps[10] << " steps, at most " << steps[19]);
        CHECK(steps[0] > 0);
        CHECK(steps[19] < 500);
    };
    hold("Sampled", escapes(moe::Sampled<Top>{.gate = {.top_k = 1}}));
    hold("StraightThrough of Sampled",
         escapes(moe::StraightThrough<moe::Sampled<Top>>{.gate = {.gate = {.top_k = 1}}}));
    hold("Annealed", escapes(moe::Annealed<Top>{.gate = {.top_k = 1}}));
    hold("straight-through over all", escapes(moe::ReinMax{.order = 1}));
    hold("ReinMax", escapes(moe::ReinMax{}));
}

}  // namespace moe_test::estimators_layer_test
