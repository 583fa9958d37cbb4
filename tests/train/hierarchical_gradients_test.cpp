#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "layer/reference/cases.hpp"
#include "moe/reference/backward/layer/hierarchical.hpp"
#include "moe/reference/backward/layer/layer.hpp"
#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/counting_allocator.hpp"
#include "support/executors.hpp"
#include "train/gradient_memory.hpp"

namespace moe_test::hierarchical_gradients_test {

/// Mixtures of mixtures: gradients of both levels against the definition, and what the backward pass promises.
namespace {

using moe::ErrorCode;
using TopK = moe::TokenChoice<moe::Softmax>;
template <class T>
using Layer = moe::MoELayer<moe::Router<T, TopK>, moe::ExpertBank<T, moe::AnyForm>>;
template <class T>
using TwoLevels = moe::HierarchicalLayer<moe::Router<T, TopK>, Layer<T>>;
template <class T>
using ThreeLevels = moe::HierarchicalLayer<moe::Router<T, TopK>, TwoLevels<T>>;

/// Multiples of 1/8 in [-1, 1]: logits made of them are exact, and so is every choice.
template <class T>
std::vector<T> on_grid(Draw& draw, std::size_t count) {
    std::vector<T> values(count);
    for (T& value : values) {
        value = static_cast<T>(std::round(draw.value() * 8) / 8);
    }
    return values;
}

template <class T>
struct RouterCase {
    std::vector<T> rows;
    std::vector<T> gradient;
    std::size_t n;
    int top_k;
    bool normalize;

    RouterCase(Draw& draw, std::size_t n_choices, std::size_t d)
        : rows(on_grid<T>(draw, n_choices * d)),
          gradient(rows.size()),
          n(n_choices),
          top_k(static_cast<int>(draw.size(1, n_choices))),
          normalize(draw.coin()) {}

    [[nodiscard]] moe::Router<T, TopK> router() const {
        return {moe::view(rows.data(), n, rows.size() / n), TopK{.top_k = top_k, .normalize = normalize}};
    }
    [[nodiscard]] reference::TokenChoiceRule rule() const {
        reference::TokenChoiceRule rule;
        rule.top_k = static_cast<std::size_t>(top_k);
        rule.norm = normalize ? reference::Norm::sum : reference::Norm::none;
        return rule;
    }
    moe::MutableStack<T> to() { return gradient_stack(gradient, 1, n, rows.size() / n); }
};

/// A mixture, its gradients, and the definition of both.
template <class T>
struct LayerCase {
    RouterCase<T> router;
    moe::AnyForm form;
    BankWeights<T> weights;
    moe::ExpertBank<T, moe::AnyForm> bank;
    BankGradients<T> experts;
    reference::Layer definition;
    reference::LayerGradients expected;

    LayerCase(Draw& draw, std::size_t d)
        : router(draw, draw.size(1, 5), d),
          form{.kind = static_cast<moe::FormKind>(draw.size(0, 4))},
          weights(draw, router.n, d, draw.size(1, 30), true, true),
          bank(form, weights.stacks()) {
        definition.d_model = d;
        definition.router = to_vector(router.rows);
        definition.rule = router.rule();
        for (std::size_t e = 0; e < router.n; ++e) {
            definition.experts.push_back(reference_expert(bank, form, e));
        }
        expected = reference::zero_gradients(definition);
    }

    [[nodiscard]] Layer<T> layer() const { return {router.router(), bank}; }
    moe::LayerGradients<T> to() { return {.router = router.to(), .experts = experts.over(bank)}; }
    [[nodiscard]] reference::TokenLayer forward() const {
        return [this](const reference::Vector& x) {
            return reference::combine(definition, reference::route(definition, x), x);
        };
    }
    reference::TokenBackward backward() {
        return [this](const reference::Vector& x, const reference::Vector& dy) {
            const reference::LayerGradients token = reference::backward(definition, x, x, dy);
            reference::add_scaled(expected.router, 1, token.router);
            for (std::size_t e = 0; e < expected.experts.size(); ++e) {
                using E = reference::ExpertGradients;
                for (auto member : {&E::gate, &E::up, &E::down, &E::gate_bias, &E::up_bias, &E::down_bias}) {
                    reference::add_scaled(expected.experts[e].*member, 1, token.experts[e].*member);
                }
            }
            return token.x;
        };
    }
    void compare(GradientError& error) const {
        error.compare(router.gradient, expected.router);
        experts.compare(error, expected.experts);
    }
    void append_to(std::vector<T>& all) const {
        all.insert(all.end(), router.gradient.begin(), router.gradient.end());
        experts.append_to(all);
    }
};

/// One level over groups that are cases themselves.
template <class T, class Inner>
struct GroupsCase {
    RouterCase<T> router;
    std::vector<std::unique_ptr<Inner>> groups;
    reference::Hierarchical definition;
    reference::Vector expected;

    GroupsCase(Draw& draw, std::size_t d) : router(draw, draw.size(1, 4), d) {
        definition.router = to_vector(router.rows);
        definition.rule = router.rule();
        for (std::size_t g = 0; g < router.n; ++g) {
            groups.push_back(std::make_unique<Inner>(draw, d));
            definition.groups.push_back(groups.back()->forward());
        }
        expected.assign(router.rows.size(), 0.0);
    }

    using Group = decltype(std::declval<const Inner&>().layer());
    [[nodiscard]] moe::HierarchicalLayer<moe::Router<T, TopK>, Group> layer() const {
        std::vector<Group> layers;
        for (const auto& group : groups) {
            layers.push_back(group->layer());
        }
        return {router.router(), std::move(layers)};
    }
    moe::HierarchicalGradients<T, moe::GradientsOf<Group>> to() {
        moe::HierarchicalGradients<T, moe::GradientsOf<Group>> result;
        result.router = router.to();
        for (const auto& group : groups) {
            result.groups.push_back(group->to());
        }
        return result;
    }
    [[nodiscard]] reference::TokenLayer forward() const { return definition; }
    reference::TokenBackward backward() {
        return [this](const reference::Vector& x, const reference::Vector& dy) {
            std::vector<reference::TokenBackward> inner;
            for (const auto& group : groups) {
                inner.push_back(group->backward());
            }
            return reference::backward(definition, inner, x, dy, expected);
        };
    }
    void compare(GradientError& error) const {
        error.compare(router.gradient, expected);
        for (const auto& group : groups) {
            group->compare(error);
        }
    }
    void append_to(std::vector<T>& all) const {
        all.insert(all.end(), router.gradient.begin(), router.gradient.end());
        for (const auto& group : groups) {
            group->append_to(all);
        }
    }
};

template <class T>
using TwoCase = GroupsCase<T, LayerCase<T>>;
template <class T>
using ThreeCase = GroupsCase<T, TwoCase<T>>;

/// Over all cases together: what the library promises of a layer.
template <class T, class Case>
double check_random(std::uint64_t seed, std::size_t n_cases) {
    Draw draw(seed);
    GradientError all;
    std::size_t far = 0;
    for (std::size_t i = 0; i < n_cases; ++i) {
        const std::size_t d = draw.size(1, 40);
        Case c(draw, d);
        const auto layer = c.layer();
        const auto to = c.to();
        const std::size_t n = std::array<std::size_t, 5>{0, 1, 2, 7, 23}.at(draw.size(0, 4));
        const std::vector<T> x = on_grid<T>(draw, n * d);
        const std::vector<T> dy = random_elements<T>(draw, n * d, 1);
        std::vector<T> y(n * d);
        std::vector<T> plain(n * d);
        std::vector<T> dx(n * d, T(7));
        moe::TapeOf<decltype(layer)> tape;
        moe::Workspace workspace;
        moe::forward(layer, moe::view(x.data(), n, d), moe::view(y.data(), n, d), tape, workspace,
                     ThreadExecutor(1 + i % 3));
        layer.forward(moe::view(x.data(), n, d), moe::view(plain.data(), n, d), workspace);
        REQUIRE(same_bits(y, plain));
        moe::backward(layer, tape, moe::view(dy.data(), n, d), moe::view(dx.data(), n, d), to, workspace,
                      ReversedExecutor(1 + i % 3));
        const auto backward = c.backward();
        reference::Vector expected;
        for (std::size_t t = 0; t < n; ++t) {
            const auto row = [t, d](const std::vector<T>& all_rows) {
                return to_vector(std::span(all_rows).subspan(t * d, d));
            };
            const reference::Vector token = backward(row(x), row(dy));
            expected.insert(expected.end(), token.begin(), token.end());
        }
        GradientError error;
        error.compare(dx, expected);
        c.compare(error);
        // a case alone may cancel; it must still be right to three digits less
        far += error.nmse() <= (std::is_same_v<T, double> ? 1e-21 : 1e-9) ? 0U : 1U;
        all.error += error.error;
        all.power += error.power;
        REQUIRE(error.sizes_differ == 0);
    }
    CHECK(far == 0);
    CHECK(all.power > 1);
    return all.nmse();
}

constexpr std::size_t d = 61;
constexpr std::size_t n = 151;

struct Fixed {
    Draw draw{5};
    TwoCase<float> c{draw, d};
    TwoLevels<float> layer = c.layer();
    moe::GradientsOf<TwoLevels<float>> to = c.to();
    std::vector<float> x = on_grid<float>(draw, n* d);
    std::vector<float> dy = random_elements<float>(draw, n* d, 1);
    std::vector<float> dx = std::vector<float>(n * d, 7.0F);
    std::vector<float> y = std::vector<float>(n * d);
    moe::TapeOf<TwoLevels<float>> tape;
    moe::Workspace workspace;

    void clear() {
        to = c.to();
        dx.assign(n * d, 7.0F);
    }
    template <class E = moe::SerialExecutor>
    void run(std::size_t first = 0, std::size_t count = n, const E& executor = {},
             const moe::BackwardOptions& options = {}) {
        forward(first, count, executor);
        backward(first, count, executor, options);
    }
    template <class E = moe::SerialExecutor>
    void forward(std::size_t first = 0, std::size_t count = n, const E& executor = {}) {
        moe::forward(layer, moe::view(std::as_const(x).data() + first * d, count, d), moe::view(y.data(), count, d),
                     tape, workspace, executor);
    }
    template <class E = moe::SerialExecutor>
    void backward(std::size_t first = 0, std::size_t count = n, const E& executor = {},
                  const moe::BackwardOptions& options = {}) {
        moe::backward(layer, tape, moe::view(std::as_const(dy).data() + first * d, count, d),
                      moe::view(dx.data() + first * d, count, d), to, workspace, executor, options);
    }
    [[nodiscard]] std::vector<float> all() const {
        std::vector<float> result = dx;
        c.append_to(result);
        return result;
    }
};

}  // namespace

TEST_CASE("gradients of mixtures of mixtures are those of the definition", "[gradients][hierarchical]") {
    CHECK(check_random<double, TwoCase<double>>(1, 120) <= 1e-24);
    CHECK(check_random<float, TwoCase<float>>(2, 120) <= 1e-12);
    CHECK(check_random<double, ThreeCase<double>>(3, 30) <= 1e-24);
}

TEST_CASE("gradients of groups have the same bits for any threads and any cut of a batch",
          "[gradients][hierarchical]") {
    Fixed f;
    f.run();
    const std::vector<float> expected = f.all();
    for (const std::size_t workers : {2U, 3U, 8U}) {
        f.clear();
        f.run(0, n, ThreadExecutor(workers));
        REQUIRE(same_bits(f.all(), expected));
    }
    for (const std::size_t piece : {1U, 50U, 100U}) {
        f.clear();
        for (std::size_t first = 0; first < n; first += piece) {
            f.run(first, std::min<std::size_t>(piece, n - first));
        }
        REQUIRE(same_bits(f.all(), expected));
    }
}

TEST_CASE("a NaN stays in its token's dx, groups apart or not", "[gradients][hierarchical]") {
    Fixed f;
    f.run();
    const std::vector<float> expected = f.dx;
    f.clear();
    f.x[5 * d + 2] = std::numeric_limits<float>::quiet_NaN();
    f.run();
    for (std::size_t i = 0; i < n * d; ++i) {
        CHECK((i / d == 5 ? std::isnan(f.dx[i]) : f.dx[i] == expected[i]));
    }
}

TEST_CASE("dx is added to or not wanted; groups without gradients leave the rest as it is",
          "[gradients][hierarchical]") {
    Fixed f;
    f.run();
    const std::vector<float> dx = f.dx;
    const std::vector<float> router = f.c.router.gradient;
    f.to = {};
    f.to.router = f.c.router.to();
    f.run(0, n, moe::SerialExecutor{}, {.accumulate_dx = true});
    CHECK(same_bits(f.c.router.gradient, router));
    for (std::size_t i = 0; i < dx.size(); ++i) {
        CHECK(std::abs(f.dx[i] - 2 * dx[i]) <= 1e-4F * (1 + std::abs(dx[i])));
    }
    f.clear();
    f.forward();
    moe::backward(f.layer, f.tape, moe::view(std::as_const(f.dy).data(), n, d), moe::MatrixView<float>(), f.to,
                  f.workspace);
    CHECK(f.dx == std::vector<float>(n * d, 7.0F));
    CHECK(same_bits(f.c.router.gradient, router));
}

TEST_CASE("a plan of groups that was given: duplicates count together, weights are told their worth",
          "[gradients][hierarchical]") {
    Fixed f;
    const std::vector<moe::ExpertId> chosen(2 * n, 0);
    std::vector<float> weights(2 * n, 0.25F);
    moe::RoutingPlan<float> plan;
    plan.assign(moe::view(chosen.data(), n, 2), moe::view(std::as_const(weights).data(), n, 2), f.layer.n_groups());
    moe::forward(f.layer, moe::view(std::as_const(f.x).data(), n, d), plan, moe::view(f.y.data(), n, d), f.tape,
                 f.workspace);
    f.to.router = {};
    f.backward();
    for (std::size_t t = 0; t < n; ++t) {  // y is half of the group, and so is <y, dy> of the worth of a weight
        double worth = 0;
        for (std::size_t i = t * d; i < (t + 1) * d; ++i) {
            worth += 2 * static_cast<double>(f.y[i]) * static_cast<double>(f.dy[i]);
        }
        for (const std::size_t a : {2 * t, 2 * t + 1}) {
            CHECK(std::abs(static_cast<double>(f.tape.outer().d_weights()[a]) - worth) <= 1e-4 * (1 + std::abs(worth)));
        }
    }
}

TEST_CASE("calls of a mixture of mixtures that cannot be are errors before anything is written",
          "[gradients][hierarchical]") {
    Fixed f;
    const auto dy = moe::view(std::as_const(f.dy).data(), n, d);
    const auto dx = moe::view(f.dx.data(), n, d);
    check_refused([&] { f.backward(); }, ErrorCode::state, "holds no forward pass");
    f.forward();
    const auto other = f.c.layer();
    check_refused([&] { moe::backward(other, f.tape, dy, dx, f.to, f.workspace); }, ErrorCode::state, "another layer");
    check_refused([&] { moe::backward(f.layer, f.tape, dy, moe::view(f.dx.data(), n - 1, d), f.to, f.workspace); },
                  ErrorCode::shape, "dx is 150 x 61");
    check_refused([&] { moe::backward(f.layer, f.tape, dy, moe::view(f.x.data(), n, d), f.to, f.workspace); },
                  ErrorCode::layout, "x (151 x 61");
    auto wrong = f.to;
    wrong.groups.pop_back();
    check_refused([&] { moe::backward(f.layer, f.tape, dy, dx, wrong, f.workspace); }, ErrorCode::shape, "groups");
    wrong = f.to;
    wrong.groups.back().router = wrong.groups.back().experts.up;
    check_refused([&] { moe::backward(f.layer, f.tape, dy, dx, wrong, f.workspace); }, ErrorCode::shape,
                  "the router are");
    wrong = f.to;
    wrong.groups.back().router = moe::stacked_gradients(f.dx.data(), 1, f.c.groups.back()->router.n, d);
    check_refused([&] { moe::backward(f.layer, f.tape, dy, dx, wrong, f.workspace); }, ErrorCode::layout,
                  "overlaps dx");
    CHECK(f.dx == std::vector<float>(n * d, 7.0F));
    CHECK(f.c.groups.front()->experts.up == std::vector<float>(f.c.groups.front()->experts.up.size()));
    f.backward();
    check_refused([&] { f.backward(); }, ErrorCode::state, "used up");
}

TEST_CASE("groups: nothing is allocated once tape and workspace have grown", "[gradients][hierarchical]") {
    Fixed f;
    f.run();
    const std::size_t before = allocations();
    f.run();
    CHECK(allocations() == before);
}

}  // namespace moe_test::hierarchical_gradients_test
