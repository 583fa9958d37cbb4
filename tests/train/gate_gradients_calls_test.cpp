#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/counting_allocator.hpp"
#include "train/gate_gradients_cases.hpp"
#include "train/gradient_memory.hpp"

namespace moe_test::gate_gradients_calls_test {

/// Calls of add_gate_gradients: what they refuse, what NaN reaches, which layers they take.
namespace {

using moe::ErrorCode;
using Scaled = moe::TokenChoice<moe::Sigmoid>;
constexpr std::size_t n = 6;
constexpr std::size_t n_experts = HeldParameters::n_experts;
constexpr std::size_t width = HeldParameters::width;

/// A layer with a Cosine, after its backward pass.
struct Case {
    Draw draw{5};
    HeldParameters memory{draw};
    GateNet<float> net{draw, n, n_experts, width};
    decltype(net.layer(gate_gradients::cosine_gate(memory))) layer = net.layer(gate_gradients::cosine_gate(memory));
    moe::Tape<float> tape;
    moe::Workspace workspace;
    GateSums<float> sums;

    Case() { net.run(layer, tape, workspace, 0, n); }

    template <class Layer>
    void add(const Layer& any, const moe::GateGradients<float>& to) {
        moe::add_gate_gradients(any, tape, to, workspace);
    }
    void check_refused(const moe::GateGradients<float>& to, ErrorCode code, const std::string& text) {
        const std::vector<float> before = sums.all();
        moe_test::check_refused([&] { add(layer, to); }, code, text);
        CHECK(sums.all() == before);
    }
};

/// Its `select` takes float alone, so that in a layer of double it is called with what is rounded.
struct InFloat : Scaled {
    int select(std::span<const float> logits, moe::Selection out) const { return Scaled::select<float>(logits, out); }
    void backward(std::span<const float> logits, const moe::Chosen<float>& chosen, std::span<const float> d_weights,
                  std::span<float> d_logits) const {
        Scaled::backward<float>(logits, chosen, d_weights, d_logits);
    }
};

/// <dy, y> is linear in each scale, with this slope, where forward() writes y.
template <class Forward>
void check_slopes(std::vector<float>& scale, const std::vector<double>& slopes, const std::vector<double>& y,
                  const std::vector<double>& dy, const Forward& forward) {
    const auto loss_at = [&](std::size_t e, float value) {
        scale[e] = value;
        forward();
        return std::inner_product(y.begin(), y.end(), dy.begin(), 0.0);
    };
    for (std::size_t e = 0; e < scale.size(); ++e) {
        const float at = scale[e];
        const double difference = (loss_at(e, at + 0.125F) - loss_at(e, at - 0.125F)) / 0.25;
        CHECK_THAT(slopes[e], Catch::Matchers::WithinAbs(difference, 1e-9));
        scale[e] = at;
    }
    CHECK(std::any_of(slopes.begin(), slopes.end(), [](double slope) { return std::abs(slope) > 1e-3; }));
}

}  // namespace

TEST_CASE("gradients of gates need a tape whose backward pass is done", "[gradients][gate_gradients]") {
    Case c;
    CHECK(std::as_const(c.tape).used_up());
    moe::Tape<float> moved = std::move(c.tape);
    c.check_refused(c.sums.to(true), ErrorCode::state, "call backward with it first");
    c.tape = std::move(moved);
    const auto under = c.layer.with_gate(gate_gradients::cosine_gate(c.memory));
    check_refused([&] { c.add(under, c.sums.to(true)); }, ErrorCode::state, "under another gate");
    const Case other;
    check_refused([&] { c.add(other.layer, c.sums.to(true)); }, ErrorCode::state, "another layer");
    (void)c.net.forward(c.layer, c.tape, c.workspace, 0, n);
    CHECK_FALSE(std::as_const(c.tape).used_up());
    c.check_refused(c.sums.to(true), ErrorCode::state, "call backward with it first");
    c.net.run(c.layer, c.tape, c.workspace, 0, n);
    (void)c.tape.input_memory(n, c.net.d);
    c.check_refused(c.sums.to(true), ErrorCode::state, "call backward with it first");
    (void)c.net.forward(c.layer, c.tape, c.workspace, 0, 0);  // no tokens, no backward pass to wait for
    c.add(c.layer, c.sums.to(true));
    CHECK(c.sums.all() == GateSums<float>().all());
}

TEST_CASE("gradients of gates have the shapes of what is held", "[gradients][gate_gradients]") {
    Case c;
    const auto centroids = [&](std::size_t rows, std::size_t columns) {
        return moe::GateGradients<float>{.centroids = moe::view(c.sums.centroids.data(), rows, columns)};
    };
    c.check_refused({.per_expert_scale = std::span(c.sums.scale).first(4)}, ErrorCode::shape,
                    "4 gradients of per_expert_scale for 5 values");
    c.check_refused(centroids(4, 3), ErrorCode::shape, "centroids are 4 x 3, the centroids 5 x 3");
    c.check_refused(centroids(5, 2), ErrorCode::shape, "centroids are 5 x 2, the centroids 5 x 3");
    alignas(8) std::array<char, 32> bytes{};
    c.check_refused({.temperature = reinterpret_cast<float*>(bytes.data() + 1)}, ErrorCode::alignment, "temperature");
}

TEST_CASE("gradients of gates lie apart from what is read", "[gradients][gate_gradients]") {
    Case c;
    c.check_refused({.per_expert_scale = c.memory.positive}, ErrorCode::layout, "overlaps per_expert_scale");
    c.check_refused({.centroids = moe::view(c.memory.centroids.data(), n_experts, width)}, ErrorCode::layout,
                    "overlaps the centroids");
    c.check_refused({.temperature = c.tape.d_weights().data()}, ErrorCode::layout, "gradients of weights of the tape");
    c.check_refused({.per_expert_scale = std::span(c.sums.centroids).first(n_experts),
                     .centroids = moe::view(c.sums.centroids.data(), n_experts, width)},
                    ErrorCode::layout, "overlap");
    c.check_refused({.centroids = moe::view(c.sums.centroids.data(), n_experts, width),
                     .temperature = c.sums.centroids.data() + 14},
                    ErrorCode::layout, "overlap");
    c.check_refused({.per_expert_scale = c.sums.scale, .temperature = c.sums.scale.data()}, ErrorCode::layout,
                    "overlap");
}

TEST_CASE("gradients of what a gate does not hold are refused", "[gradients][gate_gradients]") {
    Case c;
    const GateNet<float> net(c.draw, n, n_experts, n_experts);
    const auto refused = [&](const auto& gate, const moe::GateGradients<float>& to, const std::string& text) {
        const auto layer = net.layer(gate);
        net.run(layer, c.tape, c.workspace, 0, n);
        check_refused([&] { c.add(layer, to); }, ErrorCode::missing, text);
        c.add(layer, {});
    };
    const moe::GateGradients<float> scale{.per_expert_scale = c.sums.scale};
    refused(moe::TokenChoice<>{}, scale, "gradients of per_expert_scale were asked for");
    refused(moe::TopP<>{}, scale, "gradients of per_expert_scale were asked for");
    refused(moe::Detached<Scaled>{gate_gradients::inner_gate(c.memory)}, scale, "holds none that gradients pass to");
    refused(moe::Numeric<Scaled>{gate_gradients::inner_gate(c.memory)}, scale, "holds none that gradients pass to");
    refused(gate_gradients::inner_gate(c.memory), {.temperature = &c.sums.temperature}, "gradients of a temperature");
    refused(moe::AnyGate(gate_gradients::inner_gate(c.memory)), c.sums.to(true), "gradients of centroids");
    refused(moe::TopKPerGroup<moe::Uniform>{.per_expert_scale = c.memory.scale}, scale, "the tape has no logits");
    CHECK(c.sums.all() == GateSums<float>().all());
    const std::vector<float> square(9, 1.0F);
    const moe::Cosine<moe::TokenChoice<>> inside{.centroids = moe::view(square.data(), 3, 3)};
    const moe::Cosine<moe::Cosine<moe::TokenChoice<>>> twice{.gate = inside, .centroids = inside.centroids};
    check_refused([&] { (void)moe::gate_parameters(twice); }, ErrorCode::missing, "centroids as well");
}

TEST_CASE("the weights of a given plan are no function of what the gate holds", "[gradients][gate_gradients]") {
    Case c;
    moe::RoutingPlan<float> plan;
    plan.assign(std::as_const(c.tape).plan());
    std::vector<float> y(n * c.net.d);
    moe::forward(c.layer, moe::view(std::as_const(c.net.x).data(), n, c.net.d), plan.view(),
                 moe::view(y.data(), n, c.net.d), c.tape, c.workspace);
    moe::backward(c.layer, c.tape, moe::view(std::as_const(c.net.dy).data(), n, c.net.d), {}, {}, c.workspace);
    c.check_refused(c.sums.to(true), ErrorCode::missing, "the plan was given");
}

TEST_CASE("only what is wanted of a gate is computed, with the same bits", "[gradients][gate_gradients]") {
    Case c;
    c.add(c.layer, c.sums.to(true));
    GateSums<float> one_by_one;
    const moe::GateGradients<float> to = one_by_one.to(true);
    c.add(c.layer, {.per_expert_scale = to.per_expert_scale});
    c.add(c.layer, {.centroids = to.centroids});
    c.add(c.layer, {.temperature = to.temperature});
    CHECK(same_bits(one_by_one.all(), c.sums.all()));
    CHECK(c.sums.temperature != 0);

    // rows of centroids with a stride leave what lies between them alone
    std::vector<float> wide(n_experts * 4, 0.0F);
    for (std::size_t e = 0; e < n_experts; ++e) {
        wide[4 * e + 3] = 9.0F;
    }
    c.add(c.layer, {.centroids = moe::view(wide.data(), n_experts, width, 4)});
    for (std::size_t e = 0; e < n_experts; ++e) {
        CHECK(wide[4 * e + 3] == 9.0F);
        CHECK(wide[4 * e] == c.sums.centroids[3 * e]);
    }
}

TEST_CASE("a NaN reaches the scales of the experts of its token alone", "[gradients][gate_gradients]") {
    Case c;
    GateNet<float> net(c.draw, n, n_experts, n_experts);
    const auto layer = net.layer(gate_gradients::inner_gate(c.memory, 2));
    net.dy[2 * net.d] = std::numeric_limits<float>::quiet_NaN();
    net.run(layer, c.tape, c.workspace, 0, n);
    c.add(layer, c.sums.to(false));
    const auto plan = std::as_const(c.tape).plan();
    std::vector<bool> reached(n_experts, false);
    for (std::size_t a = plan.token_offsets[2]; a < plan.token_offsets[3]; ++a) {
        reached[static_cast<std::size_t>(plan.experts[a])] = true;
    }
    for (std::size_t e = 0; e < n_experts; ++e) {
        CHECK(std::isnan(c.sums.scale[e]) == reached[e]);
    }
}

TEST_CASE("an expert that an adaptor took away adds nothing, were its weight NaN", "[gradients][gate_gradients]") {
    Case c;
    GateNet<float> net(c.draw, n, n_experts, n_experts);
    std::fill_n(net.router.begin() + static_cast<std::ptrdiff_t>(3 * net.d), net.d,
                std::numeric_limits<float>::quiet_NaN());
    const auto layer = net.layer(moe::WithoutNull<Scaled>{
        .gate = {.top_k = 5, .per_expert_scale = c.memory.positive}, .first_null = 3, .renormalize = false});
    net.run(layer, c.tape, c.workspace, 0, n);
    c.add(layer, c.sums.to(false));
    CHECK(all_finite(c.sums.scale));
    CHECK(c.sums.scale[2] != 0);
    CHECK(c.sums.scale[3] == 0);
}

TEST_CASE("a NaN in x reaches centroids and temperature", "[gradients][gate_gradients]") {
    Case c;
    c.net.x[2 * c.net.d] = std::numeric_limits<float>::quiet_NaN();
    c.net.run(c.layer, c.tape, c.workspace, 0, n);
    c.add(c.layer, c.sums.to(true));
    CHECK(std::isnan(c.sums.temperature));
    CHECK(std::isnan(c.sums.centroids[0]));
}

TEST_CASE("a projection or a centroid of norm 0 adds nothing to a Cosine", "[gradients][gate_gradients]") {
    Case c;
    std::fill_n(c.memory.centroids.begin() + 3, width, 0.0F);
    c.net.run(c.layer, c.tape, c.workspace, 0, n);
    c.add(c.layer, c.sums.to(true));
    CHECK(all_finite(c.sums.all()));
    CHECK(c.sums.centroids[0] != 0);
    for (std::size_t i = 0; i < width; ++i) {
        CHECK(c.sums.centroids[3 + i] == 0);
    }
    GateSums<float> of_zero;
    std::fill(c.net.router.begin(), c.net.router.end(), 0.0F);  // the layer views it
    c.net.run(c.layer, c.tape, c.workspace, 0, n);
    c.add(c.layer, of_zero.to(true));
    CHECK(of_zero.centroids == GateSums<float>().centroids);
    CHECK(of_zero.temperature == 0);
    CHECK_FALSE(of_zero.scale == GateSums<float>().scale);  // it went somewhere all the same
}

TEST_CASE("a token without experts and a layer of one expert", "[gradients][gate_gradients]") {
    Case c;
    const std::vector<float> one{0.5F};
    const GateNet<float> net(c.draw, n, 1, 1);
    const auto layer = net.layer(Scaled{.normalize = true, .scale = 3, .per_expert_scale = one});
    net.run(layer, c.tape, c.workspace, 0, n);
    float d_scale = 0;
    c.add(layer, {.per_expert_scale = std::span(&d_scale, 1)});
    float expected = 0;
    for (const float d_weight : std::as_const(c.tape).d_weights()) {
        expected += d_weight * 3;  // the share of a single normalised expert is 1
    }
    CHECK(same_bits(std::vector<float>{d_scale}, std::vector<float>{expected}));

    const std::vector<std::uint8_t> none(1, 0);
    const auto masked = net.layer(moe::Masked<Scaled>{.gate = {.per_expert_scale = one}, .allowed = none});
    net.run(masked, c.tape, c.workspace, 0, n);
    c.add(masked, {.per_expert_scale = std::span(&d_scale, 1)});
    CHECK(d_scale == expected);
}

TEST_CASE("a gate written for float has the gradients of its layer in double", "[gradients][gate_gradients]") {
    Draw draw(9);
    const HeldParameters memory(draw);
    const GateNet<double> net(draw, n, n_experts, n_experts);
    moe::Tape<double> tape;
    moe::Workspace workspace;
    const auto sums_of = [&](const auto& gate) {
        const auto layer = net.layer(gate);
        GateSums<double> sums;
        net.run(layer, tape, workspace, 0, n);
        moe::add_gate_gradients(layer, tape, sums.to(false), workspace);
        return sums.scale;
    };
    const std::vector<double> expected = sums_of(gate_gradients::inner_gate(memory));
    const double apart = nmse(sums_of(InFloat{gate_gradients::inner_gate(memory)}), expected);
    CHECK(apart > 0);
    CHECK(apart < 1e-11);
}

TEST_CASE("the router of a HierarchicalLayer may hold what is trained", "[gradients][gate_gradients]") {
    using Group = GateNet<double>;
    Draw draw(11);
    HeldParameters memory(draw);
    const Group net(draw, n, n_experts, n_experts);  // its router is that of the groups
    std::vector<Group> nets;
    std::vector<decltype(nets[0].layer(moe::TokenChoice<>{}))> groups;
    for (std::size_t g = 0; g < n_experts; ++g) {
        nets.emplace_back(draw, n, 3, 3);
    }
    for (const Group& group : nets) {
        groups.push_back(group.layer(moe::TokenChoice<>{.top_k = 2}));
    }
    const moe::HierarchicalLayer layer{
        moe::Router<double, Scaled>{moe::view(net.router.data(), n_experts, net.d),
                                    Scaled{.top_k = 2, .normalize = true, .per_expert_scale = memory.scale}},
        groups};
    moe::TapeOf<decltype(layer)> tape;
    moe::Workspace workspace;
    const auto x = moe::view(net.x.data(), n, net.d);
    std::vector<double> y(n * net.d);
    const auto forward = [&] { moe::forward(layer, x, moe::view(y.data(), n, net.d), tape, workspace); };
    forward();
    GateSums<double> sums;
    const auto add = [&] { moe::add_gate_gradients(layer, tape.outer(), sums.to(false), workspace); };
    check_refused(add, ErrorCode::state, "call backward with it first");
    moe::backward(layer, tape, moe::view(net.dy.data(), n, net.d), {}, {}, workspace);
    add();
    check_slopes(memory.scale, sums.scale, y, net.dy, forward);
}

TEST_CASE("the layer inside a LatentLayer may have a gate that is trained", "[gradients][gate_gradients]") {
    Draw draw(12);
    HeldParameters memory(draw);
    const GateNet<double> net(draw, n, n_experts, n_experts);
    const auto in = random_elements<double>(draw, net.d * net.d, 1);
    const auto out = random_elements<double>(draw, net.d * net.d, 1);
    const moe::LatentLayer layer{moe::Linear<double>(moe::stacked(in.data(), 1, net.d, net.d)),
                                 net.layer(Scaled{.top_k = 3, .normalize = true, .per_expert_scale = memory.scale}),
                                 moe::Linear<double>(moe::stacked(out.data(), 1, net.d, net.d))};
    moe::TapeOf<decltype(layer)> tape;
    moe::Workspace workspace;
    std::vector<double> y(n * net.d);
    const auto forward = [&] {
        moe::forward(layer, moe::view(net.x.data(), n, net.d), moe::view(y.data(), n, net.d), tape, workspace);
    };
    forward();
    moe::backward(layer, tape, moe::view(net.dy.data(), n, net.d), {}, {}, workspace);
    GateSums<double> sums;
    moe::add_gate_gradients(layer.inner(), tape.inner(), sums.to(false), workspace);
    check_slopes(memory.scale, sums.scale, y, net.dy, forward);
}

TEST_CASE("gradients of gates allocate nothing once the workspace has grown", "[gradients][gate_gradients]") {
    Case c;
    c.add(c.layer, c.sums.to(true));
    const moe::GateGradients<float> to = c.sums.to(true);
    const std::size_t before = allocations();
    c.add(c.layer, to);
    CHECK(allocations() == before);
}

}  // namespace moe_test::gate_gradients_calls_test
