#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "layer/reference/cases.hpp"
#include "moe/reference/backward/layer/layer.hpp"
#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"
#include "train/gradients.hpp"
#include "train/open_layer.hpp"

/// Faults that backward passes of mixtures were published with, each named after its kind.
namespace moe_test::bugs_test {

namespace {

LayerShape shape_of_all(bool biases = true) {
    LayerShape shape;
    shape.n_experts = 10;
    shape.d_model = 37;
    shape.d_ff = 70;
    shape.biases = biases;
    shape.shared_widths = {20};
    return shape;
}

template <class W>
struct Case {
    using T = moe::ComputeType<W>;
    Draw draw;
    OpenLayer<W> open;
    std::size_t n;
    std::vector<T> x;
    std::vector<T> dy;

    explicit Case(std::uint64_t seed, LayerShape shape = shape_of_all(), std::size_t tokens = 23)
        : draw(seed),
          open(draw, std::move(shape)),
          n(tokens),
          x(random_elements<T>(draw, n * open.shape.d_model, 1)),
          dy(random_elements<T>(draw, n * open.shape.d_model, 1)) {}

    template <class Layer>
    [[nodiscard]] std::vector<T> of(const Layer& layer, const PassOptions<T>& options = {}) const {
        Gradients<T> g(layer, n);
        run_backward(layer, x, dy, g, options);
        return g.all();
    }
    template <class Layer>
    [[nodiscard]] std::vector<T> output(const Layer& layer) const {
        std::vector<T> y(x.size());
        moe::Workspace workspace;
        layer.forward(moe::view(x.data(), n, open.shape.d_model), moe::view(y.data(), n, open.shape.d_model),
                      workspace);
        return y;
    }
};

template <class T>
bool all_zero(const std::vector<T>& values) {
    return !values.empty() && values == std::vector<T>(values.size(), T(0));
}

/// The same layer as the definition has it, without shared and null experts.
template <class W, class Gate>
reference::Layer definition_of(const OpenLayer<W>& open, const Gate& gate) {
    reference::Layer layer;
    layer.d_model = open.shape.d_model;
    layer.router = to_vector(std::span<const W>(open.router));
    layer.router_bias = to_vector(std::span<const W>(open.router_bias));
    layer.rule = rule_of(gate);
    for (std::size_t e = 0; e < open.shape.n_experts; ++e) {
        layer.experts.push_back(reference_expert(open.bank(), open.shape.form, e));
    }
    layer.weight_at_input = open.shape.weight_at == moe::WeightAt::input;
    layer.routed_scale = open.shape.routed_scale;
    for (const auto& bank : open.shared_experts().experts()) {
        layer.shared.push_back(reference_expert(bank, open.shape.form, 0));
    }
    return layer;
}

}  // namespace

TEST_CASE("the weight of a single normalised expert is 1: the router learns nothing, as its differences say",
          "[gradients]") {
    Case<double> c(1);
    for (const auto from : {moe::WeightFrom::score, moe::WeightFrom::softmax_of_selected}) {
        const auto layer = c.open.layer(
            moe::TokenChoice<>{.top_k = 1, .normalize = from == moe::WeightFrom::score, .weight_from = from});
        Gradients<double> g(layer, c.n);
        run_backward(layer, c.x, c.dy, g);
        CHECK(all_zero(g.router));
        CHECK(all_zero(g.router_bias));
        const std::vector<double> y = c.output(layer);
        for (double& weight : c.open.router) {
            weight *= 1.0009765625;  // nobody chooses otherwise
        }
        CHECK(same_bits(c.output(layer), y));
    }
    const auto not_normalised = c.open.layer(moe::TokenChoice<>{.top_k = 1});
    Gradients<double> g(not_normalised, c.n);
    run_backward(not_normalised, c.x, c.dy, g);
    CHECK_FALSE(all_zero(g.router));
}

TEST_CASE("a softmax over all experts has a derivative by logits that were not chosen", "[gradients]") {
    Case<double> c(2, shape_of_all(), 1);
    const auto layer = c.open.layer(moe::TokenChoice<>{.top_k = 2});
    Gradients<double> g(layer, 1);
    run_backward(layer, c.x, c.dy, g);
    for (const double of_logit : g.router_bias) {  // of one token: the gradients of its logits
        CHECK(std::abs(of_logit) > 1e-12);
    }
    // a softmax over the chosen ones has none
    const auto selected = c.open.layer(moe::TokenChoice<>{.top_k = 2, .normalize = true});
    Gradients<double> of_chosen(selected, 1);
    run_backward(selected, c.x, c.dy, of_chosen);
    std::size_t reached = 0;
    for (const double of_logit : of_chosen.router_bias) {
        reached += std::abs(of_logit) > 1e-12 ? 1U : 0U;
    }
    CHECK(reached == 2);
}

TEST_CASE("experts that nobody chose may hold anything, and their gradients are not touched", "[gradients]") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    Case<float> c(3);
    c.open.router_bias[4] = c.open.router_bias[9] = -100;  // nobody takes these
    const auto layer = c.open.layer(moe::TokenChoice<>{.top_k = 3, .normalize = true});
    const std::vector<float> expected = c.of(layer);
    const auto poison = [&](std::vector<float>& values, float with) {
        const std::size_t size = values.size() / c.open.shape.n_experts;
        for (const std::size_t e : {4U, 9U}) {
            std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(e * size), size, with);
        }
    };
    auto& weights = c.open.experts;
    for (std::vector<float>* const part :
         {&weights.gate, &weights.up, &weights.down, &weights.gate_bias, &weights.up_bias, &weights.down_bias}) {
        poison(*part, nan);
    }
    for (const moe::TapeKeeps keeps : {moe::TapeKeeps::products, moe::TapeKeeps::routing}) {
        Gradients<float> g(layer, c.n);
        for (std::vector<float>* const part : {&g.gate, &g.up, &g.down, &g.gate_bias, &g.up_bias, &g.down_bias}) {
            poison(*part, nan);
        }
        PassOptions<float> options;
        options.keeps = keeps;
        run_backward(layer, c.x, c.dy, g, options);
        for (std::vector<float>* const part : {&g.gate, &g.up, &g.down, &g.gate_bias, &g.up_bias, &g.down_bias}) {
            const std::size_t size = part->size() / c.open.shape.n_experts;
            for (const std::size_t e : {4U, 9U}) {
                for (std::size_t i = 0; i < size; ++i) {
                    REQUIRE(std::isnan((*part)[e * size + i]));
                }
            }
            poison(*part, 0);
        }
        CHECK(same_bits(g.all(), expected));
    }
}

TEST_CASE("padding that a gradient comes from reaches the shared experts and their gate, as it does forward",
          "[gradients]") {
    LayerShape shape = shape_of_all();
    shape.shared_mode = moe::SharedMode::gated;
    shape.n_zero = 1;
    Case<double> c(14, shape);
    c.open.router_bias.back() = 100;  // all tokens take the expert that adds nothing, at a weight without derivative
    const auto layer = c.open.layer(moe::TokenChoice<>{.top_k = 1, .normalize = true});
    const std::vector<double> of_tokens = c.of(layer);
    const std::vector<std::uint8_t> none(c.n, 0);
    PassOptions<double> padding;
    padding.forward.valid = none;
    CHECK(same_bits(c.of(layer, padding), of_tokens));
}

TEST_CASE("what a workspace held before is not read, nor what a tape did", "[gradients]") {
    Case<float> c(4);
    c.open.router_bias[0] = 100;  // all tokens on one, others without any
    const auto layer = c.open.layer(moe::TokenChoice<>{.top_k = 2});
    const std::vector<float> expected = c.of(layer);
    std::vector<std::byte> memory(8U << 20U);
    moe::Workspace workspace{std::span<std::byte>(memory)};
    moe::Tape<float> tape;
    const std::size_t d = c.open.shape.d_model;
    for (const std::size_t rows : {c.n, std::size_t{3}, c.n}) {  // the tape grows, then is too large
        Gradients<float> g(layer, rows);
        std::vector<float> y(rows * d);
        std::memset(memory.data(), 0xFF, memory.size());  // NaN
        moe::forward(layer, moe::view(std::as_const(c.x).data(), rows, d), moe::view(y.data(), rows, d), tape,
                     workspace);
        std::memset(memory.data(), 0xFF, memory.size());
        moe::backward(layer, tape, moe::view(std::as_const(c.dy).data(), rows, d), moe::view(g.dx.data(), rows, d),
                      g.to, workspace, ReversedExecutor(3));
        CHECK(all_finite(g.all()));
        CHECK((rows < c.n || same_bits(g.all(), expected)));
    }
}

TEST_CASE("scales of experts that are tiny, 0 or negative are multiplied with, not divided by", "[gradients]") {
    const std::vector<float> scale{1, 0, -1, 1e-30F, -1e-38F, 0.5F, 0, -3, 1e-20F, 2};
    for (const auto weight_at : {moe::WeightAt::output, moe::WeightAt::input}) {
        LayerShape shape = shape_of_all();
        shape.weight_at = weight_at;
        shape.shared_widths.clear();
        const Case<double> c(5, shape);
        RuntimeChoice gate;
        gate.top_k = 10;  // each of them
        gate.normalize = moe::Normalize::sum(1e-20);
        gate.score.kind = moe::ScoreKind::sigmoid;
        gate.per_expert_scale = scale;
        const auto layer = c.open.layer(gate);
        Gradients<double> g(layer, c.n);
        run_backward(layer, c.x, c.dy, g);
        const auto expected = reference::backward(definition_of(c.open, gate), c.x, c.x, c.dy);
        CHECK(nmse(g.dx, expected.x) <= 1e-24);
        CHECK(nmse(g.router, expected.router) <= 1e-22);
        for (std::size_t e = 0; e < scale.size(); ++e) {  // each by itself: some are tiny
            const std::span<const double> down(g.down);
            const auto& of_expert = expected.experts[e];
            CHECK(nmse(down.subspan(e * of_expert.down.size(), of_expert.down.size()), of_expert.down) <= 1e-24);
        }
    }
}

TEST_CASE("a hundred runs with threads have the same bits", "[gradients]") {
    const Case<float> c(6);
    const auto layer = c.open.layer(moe::TokenChoice<>{.top_k = 3, .normalize = true});
    const std::vector<float> expected = c.of(layer);
    for (int run = 0; run < 100; ++run) {
        Gradients<float> g(layer, c.n);
        run_backward(layer, c.x, c.dy, g, {}, ThreadExecutor(4));
        REQUIRE(same_bits(g.all(), expected));
    }
}

/// Sums in bfloat16 would leave an error of 2^-16 and more.
TEMPLATE_TEST_CASE("gradients through weights of 16 bits are sums in float", "[gradients]", moe::bfloat16,
                   moe::float16) {
    const Case<TestType> c(7);
    RuntimeChoice gate;
    gate.top_k = 8;
    gate.normalize = true;
    const auto layer = c.open.layer(gate);
    Gradients<float> views(layer, c.n);
    Gradients<float> packed(layer, c.n);
    run_backward(layer, c.x, c.dy, views);
    run_backward(moe::pack(layer), c.x, c.dy, packed);
    const auto wide = [](const std::vector<float>& values) { return reference::Vector(values.begin(), values.end()); };
    const reference::Vector x = wide(c.x);
    const auto expected = reference::backward(definition_of(c.open, gate), x, x, wide(c.dy));
    CHECK(nmse(views.dx, expected.x) <= 1e-12);
    CHECK(nmse(views.router, expected.router) <= 1e-11);
    reference::Vector down;
    for (const auto& expert : expected.experts) {
        down.insert(down.end(), expert.down.begin(), expert.down.end());
    }
    CHECK(nmse(views.down, down) <= 1e-12);
    CHECK(same_bits(packed.all(), views.all()));
}

TEST_CASE("a scale of the routed experts is none of the shared ones", "[gradients]") {
    for (const auto mode : {moe::SharedMode::add, moe::SharedMode::gated, moe::SharedMode::average}) {
        LayerShape shape = shape_of_all();
        shape.shared_mode = mode;
        Case<float> c(10, shape);
        const moe::TokenChoice<moe::Sigmoid> gate{.top_k = 3, .normalize = true};
        const auto run = [&](double scale) {
            c.open.shape.routed_scale = scale;
            auto g = std::make_unique<Gradients<float>>(c.open.layer(gate), c.n);
            run_backward(c.open.layer(gate), c.x, c.dy, *g);
            return g;
        };
        const auto one = run(1);
        const auto two = run(2);  // a power of two: all digits stay
        for (std::size_t i = 0; i < one->shared.size(); ++i) {
            CHECK(same_bits(two->shared[i], one->shared[i]));
        }
        CHECK(same_bits(two->shared_gate, one->shared_gate));
        const auto twice = [](std::vector<float> values) {
            for (float& value : values) {
                value *= 2;
            }
            return values;
        };
        CHECK(same_bits(two->gate, twice(one->gate)));
        CHECK(same_bits(two->down, twice(one->down)));
        CHECK(same_bits(two->down_bias, twice(one->down_bias)));
        CHECK(same_bits(two->router, twice(one->router)));
    }
    const Case<double> c(11, [] {
        LayerShape shape = shape_of_all();
        shape.routed_scale = 2.5;  // DeepSeek-V3
        return shape;
    }());
    RuntimeChoice gate;
    gate.top_k = 4;
    const auto layer = c.open.layer(gate);
    Gradients<double> g(layer, c.n);
    run_backward(layer, c.x, c.dy, g);
    const auto expected = reference::backward(definition_of(c.open, gate), c.x, c.x, c.dy);
    CHECK(nmse(g.dx, expected.x) <= 1e-24);
    CHECK(nmse(g.shared[2], expected.shared[0].down) <= 1e-24);
    CHECK(nmse(g.router, expected.router) <= 1e-22);
}

TEST_CASE("the order of the chosen is no function of the logits: another one has the same gradients", "[gradients]") {
    const Case<double> c(12);
    using Gate = moe::TokenChoice<moe::Sigmoid>;
    const Gate gate{.top_k = 3, .normalize = true};
    const auto layer = c.open.layer(gate);
    const std::vector<double> expected = c.of(layer);
    std::vector<moe::ExpertId> turned(c.n * 3);
    moe::RoutingPlan<double> routed;
    moe::Workspace workspace;
    layer.route(moe::view(c.x.data(), c.n, c.open.shape.d_model), routed, workspace);
    const moe::PlanView<double> plan = routed;
    for (std::size_t t = 0; t < c.n; ++t) {
        for (std::size_t slot = 0; slot < 3; ++slot) {
            turned[3 * t + slot] = plan.experts[3 * t + (slot + 1) % 3];
        }
    }
    const auto forced =
        layer.with_gate(moe::Forced<Gate>{.gate = gate, .experts = moe::view(std::as_const(turned).data(), c.n, 3)});
    Gradients<double> g(layer, c.n);
    run_backward(forced, c.x, c.dy, g);
    CHECK(nmse(g.all(), expected) <= 1e-24);
}

TEST_CASE("parameters that move are seen: by views at once, by packed experts when they are packed anew",
          "[gradients]") {
    Case<float> c(13);
    const auto layer = c.open.layer(moe::TokenChoice<>{.top_k = 2});
    const auto old = moe::pack(layer);
    const std::vector<float> before = c.of(layer);
    auto& weights = c.open.experts;
    for (std::vector<float>* const part : {&weights.gate, &weights.up, &weights.down, &c.open.router}) {
        for (float& weight : *part) {
            weight *= 1.125F;
        }
    }
    const std::vector<float> after = c.of(layer);
    CHECK_FALSE(same_bits(after, before));
    CHECK(same_bits(c.of(c.open.layer(moe::TokenChoice<>{.top_k = 2})), after));
    CHECK(same_bits(c.of(moe::pack(layer)), after));
    CHECK(same_bits(c.of(old), before));
}

}  // namespace moe_test::bugs_test
