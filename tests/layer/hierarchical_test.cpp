#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "layer/reference/cases.hpp"
#include "moe/layer/hierarchical_layer.hpp"
#include "moe/layer/neuron_layer.hpp"
#include "moe/layer/pack.hpp"
#include "moe/layer/soft_moe_layer.hpp"
#include "moe/reference/layer/hierarchical.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"

namespace moe_test::hierarchical_test {

namespace {

using moe_test::Draw;
using moe_test::error_of;
using moe_test::random_elements;

using TopK = moe::TokenChoice<moe::Softmax>;
template <class W>
using Layer = moe::MoELayer<moe::Router<W, TopK>, moe::ExpertBank<W, moe::AnyForm>>;
template <class W>
using TwoLevels = moe::HierarchicalLayer<moe::Router<W, TopK>, Layer<W>>;
template <class W>
using ThreeLevels = moe::HierarchicalLayer<moe::Router<W, TopK>, TwoLevels<W>>;

static_assert(moe::ForwardLayer<Layer<float>> && moe::ForwardLayer<ThreeLevels<double>>);
static_assert(moe::ForwardLayer<moe::SoftMoELayer<float, moe::ExpertBank<float, moe::AnyForm>>>);
static_assert(moe::ForwardLayer<moe::NeuronLayer<moe::bfloat16>>);

/// Multiples of 1/8 in [-1, 1]: logits made of them are exact, and so is every choice.
template <class W>
std::vector<W> on_grid(Draw& draw, std::size_t count) {
    std::vector<W> values(count);
    for (W& value : values) {
        value = moe_test::to_element<W>(std::round(draw.value() * 8) / 8);
    }
    return values;
}

/// Random layers of one width, which keep their weights, and what the definition says of them.
template <class W>
class Cases {
public:
    using T = moe::ComputeType<W>;

    Cases(Draw& draw, std::size_t d_model) : draw_(draw), d_model_(d_model) {}

    Layer<W> layer(moe_test::reference::TokenLayer& definition) {
        const std::size_t n_experts = draw_.size(1, 6);
        const moe::AnyForm form{.kind = static_cast<moe::FormKind>(draw_.size(0, 4))};
        const auto& weights = weights_.emplace_back(
            std::make_unique<moe_test::BankWeights<W>>(draw_, n_experts, d_model_, draw_.size(1, 30), true, true));
        const moe::ExpertBank<W, moe::AnyForm> bank(form, weights->stacks());
        moe_test::reference::Layer layer;
        layer.d_model = d_model_;
        for (std::size_t e = 0; e < n_experts; ++e) {
            layer.experts.push_back(moe_test::reference_expert(bank, form, e));
        }
        const auto router = router_for(n_experts, layer.router, layer.rule);
        definition = [layer](const moe_test::reference::Vector& x) { return combine(layer, route(layer, x), x); };
        return {router, bank};
    }

    template <class Group, class MakeGroup>
    moe::HierarchicalLayer<moe::Router<W, TopK>, Group> over(MakeGroup&& make,
                                                             moe_test::reference::TokenLayer& definition) {
        const std::size_t n = draw_.size(1, 4);
        moe_test::reference::Hierarchical all;
        all.groups.resize(n);
        std::vector<Group> groups;
        for (std::size_t g = 0; g < n; ++g) {
            groups.push_back(make(all.groups[g]));
        }
        const auto router = router_for(n, all.router, all.rule);
        definition = all;
        return {router, std::move(groups)};
    }

    TwoLevels<W> two_levels(moe_test::reference::TokenLayer& definition) {
        return over<Layer<W>>([&](auto& inner) { return layer(inner); }, definition);
    }
    ThreeLevels<W> three_levels(moe_test::reference::TokenLayer& definition) {
        return over<TwoLevels<W>>([&](auto& inner) { return two_levels(inner); }, definition);
    }

private:
    moe::Router<W, TopK> router_for(std::size_t n, moe_test::reference::Vector& weights,
                                    moe_test::reference::TokenChoiceRule& rule) {
        const auto& rows = routers_.emplace_back(std::make_unique<std::vector<W>>(on_grid<W>(draw_, n * d_model_)));
        const std::size_t k = draw_.size(1, n);
        const bool normalize = draw_.coin();
        weights = moe_test::to_vector(*rows);
        rule.top_k = k;
        rule.norm = normalize ? moe_test::reference::Norm::sum : moe_test::reference::Norm::none;
        return {moe::view(std::as_const(*rows).data(), n, d_model_),
                TopK{.top_k = static_cast<int>(k), .normalize = normalize}};
    }

    Draw& draw_;
    std::size_t d_model_;
    std::vector<std::unique_ptr<moe_test::BankWeights<W>>> weights_;
    std::vector<std::unique_ptr<std::vector<W>>> routers_;
};

template <class Any, class T, class Executor = moe::SerialExecutor>
std::vector<T> forward(const Any& layer, const std::vector<T>& x, std::vector<T> y, const Executor& executor = {},
                       const moe::ForwardOptions<T>& options = {}) {
    moe::Workspace workspace;
    const std::size_t d = layer.d_model();
    layer.forward(moe::view(x.data(), x.size() / d, d), moe::view(y.data(), y.size() / d, d), workspace, executor,
                  options);
    return y;
}

/// The error of all cases together, against what the library promises of a layer.
template <class W, class Make>
void check_random(std::uint64_t seed, std::size_t n_cases, Make&& make) {
    using T = moe::ComputeType<W>;
    Draw draw(seed);
    double error = 0;
    double power = 0;
    for (std::size_t c = 0; c < n_cases; ++c) {
        const std::size_t d = draw.size(1, 40);
        Cases<W> cases(draw, d);
        moe_test::reference::TokenLayer definition;
        const auto layer = make(cases, definition);
        const std::size_t n_tokens = std::array<std::size_t, 6>{0, 1, 2, 7, 19, 60}.at(draw.size(0, 5));
        const std::vector<T> x = on_grid<T>(draw, n_tokens * d);
        const std::vector<T> before = random_elements<T>(draw, n_tokens * d, 1);
        moe::ForwardOptions<T> options;
        options.accumulate = draw.coin();
        const std::vector<T> y = forward(layer, x, before, moe_test::ReversedExecutor(draw.size(1, 3)), options);
        double worst = 0;
        for (std::size_t t = 0; t < n_tokens; ++t) {
            const auto expected = definition(moe_test::to_vector(std::span(x).subspan(t * d, d)));
            for (std::size_t i = 0; i < d; ++i) {
                const double held = options.accumulate ? static_cast<double>(before[t * d + i]) : 0;
                const double difference = static_cast<double>(y[t * d + i]) - (held + expected[i]);
                worst = std::max(worst, std::abs(difference));
                error += difference * difference;
                power += held * held + expected[i] * expected[i];
            }
        }
        INFO("case " << c);
        // weights are below 2, activations of the order of 10: rounding is far below, a wrong choice far above
        CHECK(worst <= (std::is_same_v<T, double> ? 1e-11 : 1e-3));
    }
    CHECK(error <= (std::is_same_v<T, double> ? 1e-24 : 1e-12) * power);
    CHECK(power > 1);
}

/// Chooses expert (position / divisor mod n).
struct ByPosition {
    std::uint64_t divisor;
    std::uint64_t n;
    static constexpr bool needs_logits = false;
    [[nodiscard]] static int max_per_token() { return 1; }
    int select(std::span<const float>, moe::TokenContext context, moe::Selection out) const {
        out.experts[0] = static_cast<moe::ExpertId>(context.position / divisor % n);
        out.weights[0] = 1;
        return 1;
    }
};

/// Group p mod 3 of five experts, and of it expert p / 3 mod 5, for position p.
struct Flat {
    static constexpr bool needs_logits = false;
    [[nodiscard]] static int max_per_token() { return 1; }
    static int select(std::span<const float>, moe::TokenContext context, moe::Selection out) {
        out.experts[0] = static_cast<moe::ExpertId>(context.position % 3 * 5 + context.position / 3 % 5);
        out.weights[0] = 1;
        return 1;
    }
};

constexpr std::size_t width = 21;

moe_test::LayerShape shape_of(std::size_t n_experts) {
    moe_test::LayerShape shape;
    shape.n_experts = n_experts;
    shape.d_model = width;
    shape.d_ff = 13;
    return shape;
}

}  // namespace

TEST_CASE("a mixture of mixtures computes what the definition says", "[hierarchical]") {
    const auto two = [](auto& cases, auto& definition) { return cases.two_levels(definition); };
    check_random<float>(1, 60, two);
    check_random<double>(2, 60, two);
    check_random<moe::bfloat16>(3, 30, two);
}

TEST_CASE("three levels deep", "[hierarchical]") {
    const auto three = [](auto& cases, auto& definition) { return cases.three_levels(definition); };
    check_random<float>(4, 30, three);
    check_random<double>(5, 30, three);
}

TEST_CASE("one group of weight 1 is that group, bit for bit", "[hierarchical]") {
    const moe_test::LayerCase<float> layer_case(shape_of(5), 6);
    Draw draw(7);
    const std::vector<float> x = random_elements<float>(draw, 23 * width, 1);
    const auto flat = layer_case.layer(TopK{.top_k = 2});
    std::vector<std::remove_const_t<decltype(flat)>> groups{flat};
    const moe::HierarchicalLayer layer{moe::Router(1, moe::Dense<moe::Uniform>{}), groups};
    CHECK(moe_test::same_bits(forward(layer, x, x, moe_test::ThreadExecutor(3)), forward(flat, x, x)));
    const std::vector<float> many = random_elements<float>(draw, 6500 * width, 1);  // so many that rows are shared out
    CHECK(moe_test::same_bits(forward(layer, many, many, moe_test::ThreadExecutor(3)), forward(flat, many, many)));
    const moe::HierarchicalLayer again{moe::Router(1, moe::Dense<moe::Uniform>{}), std::vector{layer}};
    CHECK(moe_test::same_bits(forward(again, x, x, moe_test::ThreadExecutor(3)), forward(flat, x, x)));
}

TEST_CASE("groups are told token ids and the positions of the batch", "[hierarchical]") {
    const moe_test::LayerCase<float> all(shape_of(15), 8);
    const auto bank = all.bank();
    const auto part = [&](std::size_t g) {
        moe::ExpertWeights<float> weights;
        const std::size_t first = g * 5;
        const auto of = [&](const moe::WeightStack<float>& stack) {
            return moe::stacked(stack.block(first, 0, 1).data, 5, stack.outputs(), stack.inputs());
        };
        weights.gate = of(bank.weights().gate);
        weights.up = of(bank.weights().up);
        weights.down = of(bank.weights().down);
        return moe::MoELayer{moe::Router(5, ByPosition{3, 5}), moe::ExpertBank(bank.form(), weights)};
    };
    const moe::MoELayer flat{moe::Router(15, Flat{}), bank};
    const moe::HierarchicalLayer layer{moe::Router(3, ByPosition{1, 3}), std::vector{part(0), part(1), part(2)}};
    Draw draw(9);
    const std::vector<float> x = random_elements<float>(draw, 40 * width, 1);
    moe::ForwardOptions<float> options;
    options.first_position = 7;
    CHECK(moe_test::same_bits(forward(layer, x, x, moe_test::ThreadExecutor(2), options),
                              forward(flat, x, x, moe::SerialExecutor{}, options)));
    std::vector<std::uint64_t> positions(40);
    for (std::size_t t = 0; t < 40; ++t) {
        positions[t] = t * t + 5;
    }
    options.positions = positions;
    CHECK(moe_test::same_bits(forward(layer, x, x, moe_test::ThreadExecutor(2), options),
                              forward(flat, x, x, moe::SerialExecutor{}, options)));

    const std::vector<std::int32_t> table{0, 1, 2, 3, 4, 0, 2, 4, 1, 3};
    const moe::Hash<> hash{.table = moe::view(table.data(), 10, 1)};
    const moe_test::LayerCase<float> five(shape_of(5), 10);
    const moe::MoELayer by_id{moe::Router(5, hash), five.bank()};
    const moe::HierarchicalLayer ids{moe::Router(2, ByPosition{1, 2}), std::vector{by_id, by_id}};
    std::vector<std::int32_t> token_ids(40);
    for (std::size_t t = 0; t < 40; ++t) {
        token_ids[t] = static_cast<std::int32_t>(t * 7 % 10);
    }
    options = {};
    options.token_ids = token_ids;
    CHECK(moe_test::same_bits(forward(ids, x, x, moe::SerialExecutor{}, options),
                              forward(by_id, x, x, moe::SerialExecutor{}, options)));
}

TEST_CASE("a mixture of mixtures gives a token the same bits in any batch, on any threads, packed or not",
          "[hierarchical]") {
    Draw draw(11);
    Cases<float> cases(draw, 37);
    moe_test::reference::TokenLayer definition;
    const auto layer = cases.three_levels(definition);
    const std::vector<float> x = random_elements<float>(draw, 150 * 37, 1);
    const std::vector<float> y = forward(layer, x, x);
    REQUIRE(moe_test::all_finite(y));
    for (const std::size_t threads : {2U, 3U, 8U}) {
        CHECK(moe_test::same_bits(forward(layer, x, x, moe_test::ThreadExecutor(threads)), y));
        CHECK(moe_test::same_bits(forward(layer, x, x, moe_test::ReversedExecutor(threads)), y));
    }
    for (std::size_t t = 0; t < 150; t += 17) {
        const std::vector<float> alone(&x[t * 37], &x[t * 37] + 37);
        CHECK(moe_test::same_bits(forward(layer, alone, alone, moe_test::ThreadExecutor(2)),
                                  std::span<const float>(y).subspan(t * 37, 37)));
    }
    const auto& inner = layer.groups()[0];
    std::vector<decltype(moe::pack(inner.groups()[0]))> packed;
    for (const auto& group : inner.groups()) {
        packed.push_back(moe::pack(group));
    }
    const moe::HierarchicalLayer packed_inner{inner.router(), std::move(packed)};
    CHECK(moe_test::same_bits(forward(packed_inner, x, x, moe_test::ThreadExecutor(3)), forward(inner, x, x)));
}

TEST_CASE("padding reaches no group", "[hierarchical]") {
    Draw draw(12);
    Cases<float> cases(draw, width);
    moe_test::reference::TokenLayer definition;
    const auto layer = cases.two_levels(definition);
    std::vector<float> x = random_elements<float>(draw, 9 * width, 1);
    const std::vector<float> clean = forward(layer, x, x);
    const std::vector<std::uint8_t> valid{0, 1, 1, 0, 0, 1, 1, 1, 0};
    moe::ForwardOptions<float> options;
    options.valid = valid;
    for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = valid[i / width] != 0 ? x[i] : std::numeric_limits<float>::quiet_NaN();
    }
    const std::vector<float> y =
        forward(layer, x, std::vector<float>(x.size(), 5.0F), moe_test::ThreadExecutor(2), options);
    for (std::size_t i = 0; i < x.size(); ++i) {
        CHECK(y[i] == (valid[i / width] != 0 ? clean[i] : 0.0F));
    }
}

TEST_CASE("a plan of the groups may be given; a group named twice counts with both weights", "[hierarchical]") {
    const moe_test::LayerCase<float> first(shape_of(3), 13);
    const moe_test::LayerCase<float> second(shape_of(3), 14);
    const std::vector groups{first.layer(TopK{.top_k = 2}), second.layer(TopK{.top_k = 1})};
    const moe::HierarchicalLayer layer{moe::Router(2, ByPosition{1, 2}), groups};
    Draw draw(15);
    const std::vector<float> x = random_elements<float>(draw, 4 * width, 1);
    const std::vector<moe::ExpertId> experts{0, 1, 0, -1, -1, -1, 1, -1, 1, 0, 0, 0};
    const std::vector<float> weights{0.5F, 1, 0.25F, 9, 9, 9, 2, 9, 1, 1, 1, 2};
    moe::RoutingPlan<float> plan;
    plan.assign(moe::view(experts.data(), 4, 3), moe::view(weights.data(), 4, 3), 2);
    const std::array<std::array<float, 2>, 4> expected{{{0.75F, 1}, {0, 0}, {0, 3}, {4, 0}}};
    const std::vector<float> a = forward(groups[0], x, x);
    const std::vector<float> b = forward(groups[1], x, x);
    std::vector<float> y(x.size(), 9.0F);
    moe::Workspace workspace;
    layer.forward(moe::view(x.data(), 4, width), plan, moe::view(y.data(), 4, width), workspace);
    for (std::size_t i = 0; i < x.size(); ++i) {
        const auto w = expected.at(i / width);
        CHECK(std::abs(y[i] - (w[0] * a[i] + w[1] * b[i])) <= 1e-6F * (std::abs(w[0] * a[i]) + std::abs(w[1] * b[i])));
    }
    const auto other =
        error_of([&] { layer.forward(moe::view(x.data(), 3, width), plan, moe::view(y.data(), 3, width), workspace); });
    CHECK(other.text == "HierarchicalLayer: the plan is for 4 tokens and 2 groups, the call for 3 tokens and 2 groups");
}

namespace {

struct Plans : moe::Observer<float> {
    std::string phases;
    std::vector<std::size_t> n_experts;
    void on_phase_end(moe::Phase phase) override { phases += moe::phase_name(phase); }
    void on_plan(const moe::RoutingRecord<float>& record) override { n_experts.push_back(record.plan.n_experts); }
};

}  // namespace

TEST_CASE("an observer sees the plan of the groups", "[hierarchical]") {
    const moe_test::LayerCase<float> inner(shape_of(5), 16);
    const moe::HierarchicalLayer layer{moe::Router(2, ByPosition{1, 2}),
                                       std::vector{inner.layer(TopK{}), inner.layer(TopK{})}};
    Plans plans;
    moe::ForwardOptions<float> options;
    options.observer = &plans;
    const std::vector<float> x(3 * width, 0.5F);
    (void)forward(layer, x, x, moe::SerialExecutor{}, options);
    CHECK(plans.phases == "logitsgatingplan");
    CHECK(plans.n_experts == std::vector<std::size_t>{2});
}

TEST_CASE("groups, routers and matrices that do not fit are refused", "[hierarchical][errors]") {
    const moe_test::LayerCase<float> inner(shape_of(5), 17);
    moe_test::LayerShape wide = shape_of(5);
    wide.d_model = 22;
    const moe_test::LayerCase<float> other(wide, 18);
    const auto make = [](std::size_t n, auto groups) {
        return error_of([&] { (void)moe::HierarchicalLayer(moe::Router(n, ByPosition{1, n}), groups); }).text;
    };
    const auto group = inner.layer(TopK{});
    CHECK(make(3, std::vector{group, group}) == "HierarchicalLayer: the router chooses among 3 groups but there are 2");
    CHECK(make(2, std::vector{group, other.layer(TopK{})}) ==
          "HierarchicalLayer: group 1 has d_model 22, group 0 has 21");

    const moe::HierarchicalLayer layer{moe::Router(2, ByPosition{1, 2}), std::vector{group, group}};
    std::vector<float> y(100, 3.0F);
    const std::vector<float> x(100, 1.0F);
    moe::Workspace workspace;
    CHECK(error_of([&] {
              layer.forward(moe::view(x.data(), 2, width), moe::view(y.data(), 3, width), workspace);
          }).text == "HierarchicalLayer: x is 2 x 21 and y is 3 x 21, both must be n_tokens x 21");
    CHECK(error_of([&] {
              layer.forward(moe::view(std::as_const(y).data(), 2, width), moe::view(y.data() + 3, 2, width), workspace);
          }).code == moe::ErrorCode::layout);
    moe::ForwardOptions<float> options;
    const std::vector<std::uint64_t> positions(3);
    options.positions = positions;
    const auto call = [&] {
        layer.forward(moe::view(x.data(), 2, width), moe::view(y.data(), 2, width), workspace, moe::SerialExecutor{},
                      options);
    };
    CHECK_THAT(error_of(call).text, moe_test::contains("3 positions for 2 tokens"));
    CHECK(y == std::vector<float>(100, 3.0F));
}

}  // namespace moe_test::hierarchical_test
