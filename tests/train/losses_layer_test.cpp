#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::losses_layer_test {

/// Losses and counts in a layer: what arrives at the router, and the loop of a step.
namespace {

constexpr std::size_t d = 6;
constexpr std::size_t n = 11;
constexpr std::size_t n_experts = 5;

template <class T>
struct LayerData {
    moe_test::LayerCase<T> experts;
    std::vector<T> router, x, zero, y, dx;
    moe::Workspace workspace;
    moe::Tape<T> tape;

    explicit LayerData(std::size_t n_logits, std::size_t n_zero = 0)
        : experts({.n_experts = n_experts, .d_model = d, .d_ff = 3, .n_zero = n_zero}, 1) {
        moe_test::Draw draw(2);
        router = moe_test::random_elements<T>(draw, n_logits * d, 1);
        x = moe_test::random_elements<T>(draw, n * d, 1);
        zero.assign(n * d, T(0));
        y = dx = zero;
    }
    LayerData(const LayerData&) = delete;
    LayerData& operator=(const LayerData&) = delete;

    template <class Gate>
    [[nodiscard]] auto layer(Gate gate) const {
        return moe::MoELayer{moe::Router{moe::view(router.data(), router.size() / d, d), std::move(gate)},
                             experts.bank(), experts.shared(), experts.options()};
    }
    [[nodiscard]] moe::MatrixView<const T> input(std::size_t first = 0, std::size_t count = n) const {
        return moe::view(x.data() + first * d, count, d);
    }
    template <class Layer>
    void forward(const Layer& layer, const moe::ForwardOptions<T>& options = {}) {
        moe::forward(layer, input(), moe::view(y.data(), n, d), tape, workspace, moe::SerialExecutor{}, options);
    }
    /// The gradient of the router, of dy = `dy` and what losses left in the tape.
    template <class Layer>
    std::vector<T> backward(const Layer& layer, const std::vector<T>& dy) {
        std::vector<T> gradient(router.size(), T(0));
        moe::LayerGradients<T> to;
        to.router = moe::stacked_gradients(gradient.data(), 1, router.size() / d, d);
        moe::backward(layer, tape, moe::view(dy.data(), n, d), moe::view(dx.data(), n, d), to, workspace);
        return gradient;
    }
};

/// The gradient of `loss(data)` by the router, by central differences over whole forward passes, whose choices must
/// not change.
template <class Gate, class Loss>
std::vector<double> differences(LayerData<double>& data, const Gate& gate, const Loss& loss) {
    const auto layer = data.layer(gate);  // views the router
    data.forward(layer);
    const std::vector<moe::ExpertId> choices(data.tape.plan().experts.begin(), data.tape.plan().experts.end());
    const double h = 1e-6;
    std::vector<double> result;
    for (double& weight : data.router) {
        const double before = weight;
        double values[2];
        for (const int side : {0, 1}) {
            weight = before + (side == 0 ? -h : h);
            data.forward(layer);
            REQUIRE(choices ==
                    std::vector<moe::ExpertId>(data.tape.plan().experts.begin(), data.tape.plan().experts.end()));
            values[side] = loss(data);
        }
        weight = before;
        result.push_back((values[1] - values[0]) / (2 * h));
    }
    data.forward(layer);
    return result;
}

}  // namespace

TEST_CASE("the gradient at the router is that of the loss, by differences over whole forward passes",
          "[losses][gradients]") {
    LayerData<double> data(n_experts);
    const auto check = [&](const auto& gate, const auto& loss) {
        const std::vector<double> expected = differences(data, gate, loss);
        const auto layer = data.layer(gate);
        data.forward(layer);
        (void)loss(data);
        const std::vector<double> gradient = data.backward(layer, data.zero);
        double size = 0;
        for (const double g : gradient) {
            size += std::abs(g);
        }
        CHECK(size > 1e-3);
        CHECK(moe_test::nmse(gradient, expected) <= 1e-13);
    };
    const moe::TokenChoice<> softmax{.top_k = 2, .normalize = true};
    check(softmax, [](auto& c) { return moe::add_load_balance(c.tape, {.top_k = 2}, c.workspace); });
    check(softmax, [](auto& c) { return moe::add_z_loss(c.tape, {}); });
    check(softmax, [](auto& c) { return moe::add_entropy(c.tape, {}); });
    check(softmax, [](auto& c) { return moe::add_importance(c.tape, {}, c.workspace); });
    check(moe::TokenChoice<moe::Sigmoid>{.top_k = 2}, [](auto& c) {
        return moe::add_load_balance(c.tape, {.top_k = 2, .score = moe::ScoreKind::sigmoid}, c.workspace);
    });
    const std::vector<std::size_t> lengths{4, 7};
    check(softmax,
          [&](auto& c) { return moe::add_load_balance(c.tape, {.top_k = 2, .lengths = lengths}, c.workspace); });
}

TEST_CASE("the losses of a noisy top k, by differences: through the weights, and through the thresholds",
          "[losses][gradients]") {
    LayerData<double> data(2 * n_experts);
    const moe::NoisyTopK gate{.top_k = 2, .seed = 3, .step = 8};
    const auto load = [&](auto& c) { return moe::add_load(c.tape, gate, {.unbiased = true}, c.workspace); };
    const std::vector<double> expected = differences(data, gate, load);
    const auto layer = data.layer(gate);
    data.forward(layer);
    (void)load(data);
    CHECK(moe_test::nmse(data.backward(layer, data.zero), expected) <= 1e-13);
    data.forward(layer);
    (void)moe::add_load(data.tape, gate, {.unbiased = true, .threshold_is_constant = true}, data.workspace);
    CHECK(moe_test::nmse(data.backward(layer, data.zero), expected) > 1e-3);

    const auto importance = [&](auto& c) { return moe::add_importance(c.tape, {}, c.workspace); };
    const std::vector<double> of_weights = differences(data, gate, importance);
    data.forward(layer);
    (void)importance(data);
    CHECK(moe_test::nmse(data.backward(layer, data.zero), of_weights) <= 1e-13);

    // without noise the chances are steps: a value, and no gradient
    moe::NoisyTopK silent = gate;
    silent.training = false;
    const auto quiet = data.layer(silent);
    data.forward(quiet);
    CHECK(moe::add_load(data.tape, silent, {}, data.workspace) > 0);
    CHECK(data.backward(quiet, data.zero) == std::vector<double>(data.router.size(), 0.0));
}

TEMPLATE_TEST_CASE("no gradient: the router's gradient differs by exactly the formula, and dx with it",
                   "[losses][gradients]", float, double) {
    using T = TestType;
    LayerData<T> data(n_experts);
    const auto layer = data.layer(moe::TokenChoice<>{.top_k = 2});
    moe_test::Draw draw(5);
    const std::vector<T> dy = moe_test::random_elements<T>(draw, n * d, 1);
    data.forward(layer);
    const std::vector<T> without = data.backward(layer, dy);
    const std::vector<T> dx = data.dx;
    data.forward(layer);
    const double value = moe::add_load_balance(data.tape, {.coefficient = 0.5, .top_k = 2}, data.workspace);
    std::vector<double> formula(data.router.size(), 0.0);
    std::vector<double> on_dx(n * d, 0.0);
    for (std::size_t t = 0; t < n; ++t) {
        for (std::size_t e = 0; e < n_experts; ++e) {
            const auto dl = static_cast<double>(data.tape.d_logits()(t, e));
            for (std::size_t i = 0; i < d; ++i) {
                formula[e * d + i] += dl * static_cast<double>(data.x[t * d + i]);
                on_dx[t * d + i] += dl * static_cast<double>(data.router[e * d + i]);
            }
        }
    }
    const std::vector<T> with = data.backward(layer, dy);
    std::vector<double> difference, of_dx;
    for (std::size_t i = 0; i < with.size(); ++i) {
        difference.push_back(static_cast<double>(with[i]) - static_cast<double>(without[i]));
    }
    for (std::size_t i = 0; i < dx.size(); ++i) {
        of_dx.push_back(static_cast<double>(data.dx[i]) - static_cast<double>(dx[i]));
    }
    const double bound = 100 * static_cast<double>(std::numeric_limits<T>::epsilon());
    CHECK(value > 0.9);
    CHECK(moe_test::nmse(difference, formula) <= bound * bound);
    CHECK(moe_test::nmse(of_dx, on_dx) <= bound * bound);
}

TEST_CASE("doubling the coefficient doubles what arrives at the router, to the bit", "[losses][gradients]") {
    LayerData<float> data(n_experts);
    const auto layer = data.layer(moe::TokenChoice<>{.top_k = 2});
    std::vector<std::vector<float>> gradients;
    for (const double coefficient : {0.01, 0.02}) {
        data.forward(layer);
        (void)moe::add_load_balance(data.tape, {.coefficient = coefficient, .top_k = 2}, data.workspace);
        gradients.push_back(data.backward(layer, data.zero));
    }
    for (float& g : gradients[0]) {
        g *= 2;
    }
    CHECK(moe_test::same_bits(gradients[0], gradients[1]));
    CHECK(gradients[1] != std::vector<float>(data.router.size(), 0.0F));
}

TEST_CASE("null experts are experts of the losses and counts", "[losses]") {
    LayerData<double> data(n_experts + 2, 2);
    const auto layer = data.layer(moe::TokenChoice<>{.top_k = 2});
    data.forward(layer);
    moe::RoutingCounts counts;
    counts.reset(n_experts + 2);
    counts.add(data.tape);
    REQUIRE(counts.counts[5] + counts.counts[6] > 0);
    CHECK(counts.total() == 2 * n);
    double expected = 0;  // E / (K T^2) sum n_e P_e with E = 7
    for (std::size_t t = 0; t < n; ++t) {
        double sum = 0;
        double mean = 0;
        for (std::size_t e = 0; e < n_experts + 2; ++e) {
            sum += std::exp(data.tape.logits()(t, e));
            mean += static_cast<double>(counts.counts[e]) * std::exp(data.tape.logits()(t, e));
        }
        expected += 7.0 / (2 * n * n) * mean / sum;
    }
    CHECK(std::abs(moe::add_load_balance(data.tape, {.top_k = 2}, data.workspace) - expected) <= 1e-13);
}

TEST_CASE("update once a step: micro-batches are summed, and a pass run again leaves the counts", "[balancer]") {
    LayerData<float> data(n_experts);
    moe::SignBalancer balancer{.rate = 0.25};
    balancer.reset(n_experts);
    const auto layer = data.layer(moe::TokenChoice<moe::Sigmoid>{.top_k = 2, .selection_bias = balancer.bias});
    moe::RoutingCounts counts;
    counts.reset(n_experts);
    const std::size_t ends[] = {0, 3, 4, n};
    for (std::size_t m = 0; m < 3; ++m) {
        const std::size_t rows = ends[m + 1] - ends[m];
        const auto x = data.input(ends[m], rows);
        const auto y = moe::view(data.y.data(), rows, d);
        moe::forward(layer, x, y, data.tape, data.workspace);
        counts.add(data.tape);
        const moe::RoutingCounts once = counts;
        (void)moe::add_z_loss(data.tape, {.coefficient = 1e-3});
        moe::backward(layer, data.tape, moe::view(std::as_const(data.zero).data(), rows, d),
                      moe::view(data.dx.data(), rows, d), {}, data.workspace);
        moe::forward(layer, x, y, data.tape, data.workspace);  // a checkpoint that is recomputed
        CHECK(counts.counts == once.counts);
        CHECK(counts.n_tokens == ends[m + 1]);
    }
    data.forward(layer);
    moe::RoutingCounts whole;
    whole.reset(n_experts);
    whole.add(data.tape);
    CHECK(counts.counts == whole.counts);
    balancer.update(counts.counts);
    std::size_t moved = 0;
    for (std::size_t e = 0; e < n_experts; ++e) {
        const bool above = counts.counts[e] * n_experts > counts.total();
        CHECK(balancer.bias[e] == (above ? -0.25F : 0.25F));  // 22 choices of 5 experts: none is at the mean
        moved += above ? 1U : 0U;
    }
    CHECK(moved > 0);
}

TEST_CASE("two sweeps: what an observer counts while layers route is what the tapes of the second sweep count",
          "[losses]") {
    LayerData<double> data(n_experts);
    const moe::Capacity<moe::TokenChoice<>> gate{.gate = {.top_k = 2}, .limit = moe::CapacityLimit::fixed(3)};
    const auto layer = data.layer(gate);
    moe::RoutingCounts choices, plan, by_tape;
    for (moe::RoutingCounts* counts : {&choices, &plan, &by_tape}) {
        counts->reset(n_experts);
    }
    std::vector<std::uint8_t> valid(n, 1);
    valid[2] = 0;
    moe::CountingObserver<double> of_choices(choices);
    moe::CountingObserver<double> of_plan(plan, moe::CountsFrom::plan);
    moe::RoutingPlan<double> routed;
    layer.route(data.input(), routed, data.workspace, moe::SerialExecutor{}, {.valid = valid, .observer = &of_choices});
    layer.route(data.input(), routed, data.workspace, moe::SerialExecutor{}, {.valid = valid, .observer = &of_plan});
    data.forward(layer, {.valid = valid});
    by_tape.add(data.tape);
    CHECK(choices.counts == by_tape.counts);
    CHECK(choices.n_tokens == n - 1);
    CHECK(choices.total() == 2 * (n - 1));
    CHECK(plan.total() == data.tape.plan().n_assignments());
    CHECK(plan.total() < choices.total());  // some were dropped
    std::vector<std::uint64_t> sizes(n_experts, 0);
    moe::add_expert_counts(data.tape.plan(), std::span<std::uint64_t>(sizes));
    CHECK(plan.counts == sizes);
    const double local = moe::add_load_balance(data.tape, {.top_k = 2}, data.workspace);
    const double global = moe::add_load_balance(
        data.tape, {.top_k = 2, .counts = choices.counts, .n_tokens = choices.n_tokens}, data.workspace);
    CHECK(local == global);
}

TEST_CASE("ReMoE's loop: the sparsity controller holds the experts a token at K, by counts of the step",
          "[losses][balancer]") {
    LayerData<double> data(n_experts);
    const auto layer = data.layer(moe::Threshold<moe::ReluScore>{});
    moe::SparsityController controller{.top_k = 1, .lambda = 1e-2};
    moe::RoutingCounts counts;
    double active = 0;
    for (int step = 0; step < 200; ++step) {
        counts.reset(n_experts);
        data.forward(layer);
        counts.add(data.tape);
        (void)moe::add_l1(data.tape, {.coefficient = controller.lambda, .top_k = 1}, data.workspace);
        const std::vector<double> gradient = data.backward(layer, data.zero);
        for (std::size_t i = 0; i < gradient.size(); ++i) {
            data.router[i] -= 0.1 * gradient[i];
        }
        controller.update(counts.total(), counts.n_tokens);
        active = static_cast<double>(counts.total()) / static_cast<double>(counts.n_tokens);
        if (step == 0) {
            CHECK(active > 2);
        }
    }
    CHECK(active > 0.5);
    CHECK(active < 1.5);
}

}  // namespace moe_test::losses_layer_test
