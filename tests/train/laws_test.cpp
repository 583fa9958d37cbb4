#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <type_traits>
#include <vector>

#include "layer/reference/cases.hpp"
#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "train/gradients.hpp"
#include "train/open_layer.hpp"

/// What the gradients of a layer have in common with those of the same layer in another batch, order or memory, over
/// random layers.
namespace moe_test::laws_test {

namespace {

/// Two ways to sum: their NMSE is at most what the gradients have against the definition (layer_gradients_test).
template <class T>
inline constexpr double equal_but_for_rounding = std::is_same_v<T, double> ? 1e-24 : 1e-10;

template <class T>
struct Case {
    Draw draw;
    OpenLayer<T> open;
    std::size_t n;
    GateMemory memory;
    RuntimeChoice gate;
    std::vector<T> x;
    std::vector<T> dy;

    explicit Case(std::uint64_t seed, std::size_t max_size = 40)
        : draw(seed),
          open(draw, random_layer_shape(draw, max_size, 9)),
          n(draw.size(1, 12)),
          gate(random_choice(draw, open.shape.n_choices(), memory)),
          x(random_elements<T>(draw, n * d(), 1)),
          dy(random_elements<T>(draw, n * d(), 1)) {}
    Case(const Case&) = delete;
    Case& operator=(const Case&) = delete;

    [[nodiscard]] std::size_t d() const { return open.shape.d_model; }
    [[nodiscard]] auto layer() const { return open.layer(gate); }
    [[nodiscard]] std::vector<T> of(const std::vector<T>& rows, const std::vector<std::size_t>& tokens) const {
        std::vector<T> result;
        for (const std::size_t t : tokens) {
            const auto first = rows.begin() + static_cast<std::ptrdiff_t>(t * d());
            result.insert(result.end(), first, first + static_cast<std::ptrdiff_t>(d()));
        }
        return result;
    }
    [[nodiscard]] std::vector<moe::ExpertId> route() const {
        moe::RoutingPlan<T> plan;
        moe::Workspace workspace;
        layer().route(moe::view(x.data(), n, d()), plan, workspace);
        const moe::PlanView<T> routed = plan;
        return {routed.experts.begin(), routed.experts.end()};
    }
};

template <class T>
double dot(const std::vector<T>& a, const std::vector<T>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    }
    return sum;
}

std::vector<std::size_t> shuffled(Draw& draw, std::size_t n) {
    std::vector<std::size_t> order(n);
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (std::size_t i = n; i > 1; --i) {
        std::swap(order[i - 1], order[draw.size(0, i - 1)]);
    }
    return order;
}

constexpr std::uint64_t n_cases = 400;

}  // namespace

TEMPLATE_TEST_CASE("gradients are linear in dy", "[gradients]", float, double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < n_cases; ++seed) {
        Case<T> c(seed);
        const std::vector<T> other = random_elements<T>(c.draw, c.dy.size(), 1);
        std::vector<T> both(other.size());
        for (std::size_t i = 0; i < both.size(); ++i) {
            both[i] = 2 * c.dy[i] - 3 * other[i];
        }
        const auto layer = c.layer();
        Gradients<T> a(layer, c.n), b(layer, c.n), sum(layer, c.n);
        run_backward(layer, c.x, c.dy, a);
        run_backward(layer, c.x, other, b);
        run_backward(layer, c.x, both, sum);
        const std::vector<T> of_a = a.all();
        const std::vector<T> of_b = b.all();
        std::vector<double> expected(of_a.size());
        for (std::size_t i = 0; i < expected.size(); ++i) {
            expected[i] = 2 * static_cast<double>(of_a[i]) - 3 * static_cast<double>(of_b[i]);
        }
        INFO("seed " << seed);
        REQUIRE(nmse(sum.all(), expected) <= equal_but_for_rounding<T>);
    }
}

/// Central differences of sum of <dy, y> along a random direction of one parameter, or of x. Their error is the third
/// derivative times h^2, far below 1e-7 of the gradient, and the rounding of the two sums over 2h. Where they disagree
/// a corner of a form may lie within h: h / 8 decides.
TEST_CASE("the difference of y along a direction is the gradient along it: x and every parameter", "[gradients]") {
    constexpr double h = 1e-6;
    constexpr double epsilon = std::numeric_limits<double>::epsilon();
    std::size_t compared = 0;
    std::size_t skipped = 0;
    std::size_t repeated = 0;
    for (std::uint64_t seed = 0; seed < 150; ++seed) {
        Case<double> c(seed, 12);
        const auto layer = c.layer();
        Gradients<double> g(layer, c.n);
        const std::vector<double> y = run_backward(layer, c.x, c.dy, g);
        double magnitude = 0;
        for (std::size_t i = 0; i < y.size(); ++i) {
            magnitude += std::abs(y[i] * c.dy[i]);
        }
        const std::vector<moe::ExpertId> chosen = c.route();
        const auto check = [&](const std::string& name, std::vector<double>& values,
                               const std::vector<double>& gradient) {
            const std::vector<double> at = values;
            const std::vector<double> direction = random_elements<double>(c.draw, values.size(), 1);
            std::size_t moved = 0;
            const auto sum = [&](double step) {
                for (std::size_t i = 0; i < values.size(); ++i) {
                    values[i] = at[i] + step * direction[i];
                }
                moved += c.route() != chosen ? 1U : 0U;
                std::vector<double> out(y.size());
                moe::Workspace workspace;
                layer.forward(moe::view(std::as_const(c.x).data(), c.n, c.d()), moe::view(out.data(), c.n, c.d()),
                              workspace);
                return dot(out, c.dy);
            };
            const double wanted = dot(gradient, direction);
            const double slope = std::sqrt(dot(gradient, gradient) * dot(direction, direction));
            double difference = 0;
            double bound = 0;
            for (const double step : {h, h / 8}) {
                difference = (sum(step) - sum(-step)) / (2 * step);
                bound = 1e-7 * slope + 64 * epsilon * magnitude / step;
                if (std::abs(difference - wanted) <= bound) {
                    break;
                }
                ++repeated;
            }
            values = at;
            if (moved > 0) {
                ++skipped;
                return;
            }
            ++compared;
            INFO("seed " << seed << ", " << name << ": " << difference << " and " << wanted);
            REQUIRE(std::abs(difference - wanted) <= bound);
        };
        check("x", c.x, g.dx);
        c.open.for_each_parameter(g, check);
    }
    CHECK(compared > 1000);
    CHECK(skipped < compared / 50);
    CHECK(repeated < compared / 100);
}

TEMPLATE_TEST_CASE("the gradients of a softmax's logits sum to 0, and a constant added to all changes nothing",
                   "[gradients]", float, double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < n_cases; ++seed) {
        Case<T> c(seed);
        c.gate.score.kind = moe::ScoreKind::softmax;
        c.gate.weight_from = seed % 2 == 0 ? moe::WeightFrom::score : moe::WeightFrom::softmax_of_selected;
        c.gate.select_on = moe::SelectOn::logits;
        c.gate.groups = {};
        c.gate.selection_bias = {};
        c.gate.logit_softcap = 0;
        const auto layer = c.layer();
        INFO("seed " << seed);
        for (std::size_t t = 0; t < c.n; ++t) {  // alone: the gradients of the biases are those of its logits
            Gradients<T> alone(layer, 1);
            moe::Tape<T> tape;
            moe::Workspace workspace;
            const std::vector<T> x = c.of(c.x, {t});
            const std::vector<T> dy = c.of(c.dy, {t});
            std::vector<T> y(c.d());
            moe::forward(layer, moe::view(x.data(), 1, c.d()), moe::view(y.data(), 1, c.d()), tape, workspace);
            moe::backward(layer, tape, moe::view(dy.data(), 1, c.d()), moe::view(alone.dx.data(), 1, c.d()), alone.to,
                          workspace);
            double sum = 0;
            double worth = 0;  // of the weights: dl_e = p_e (dS_e - <dS, p>)
            for (const T value : alone.router_bias) {
                sum += static_cast<double>(value);
            }
            for (const T value : std::as_const(tape).d_weights()) {
                worth += std::abs(static_cast<double>(value));
            }
            worth *= 5 * (c.gate.normalize.kind == moe::Normalize::Kind::none ? 1 : 8);  // scales, divisors
            REQUIRE(std::abs(sum) <= rounding_bound<T>(16 * c.open.shape.n_choices(), worth));
        }
        Gradients<T> before(layer, c.n), after(layer, c.n);
        run_backward(layer, c.x, c.dy, before);
        const std::vector<moe::ExpertId> chosen = c.route();
        for (T& bias : c.open.router_bias) {
            bias += T(0.5);
        }
        run_backward(layer, c.x, c.dy, after);
        REQUIRE(c.route() == chosen);
        REQUIRE(nmse(after.all(), before.all()) <= equal_but_for_rounding<T>);
    }
}

TEMPLATE_TEST_CASE("experts in another order have their gradients in that order", "[gradients]", float, double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < n_cases; ++seed) {
        Case<T> c(seed);
        c.gate.groups = {};
        c.gate.selection_bias = {};
        c.gate.per_expert_scale = {};
        const std::vector<std::size_t> order = shuffled(c.draw, c.open.shape.n_experts);
        const auto layer = c.layer();
        Gradients<T> g(layer, c.n), permuted(layer, c.n);
        run_backward(layer, c.x, c.dy, g);
        c.open.permute(order);
        run_backward(layer, c.x, c.dy, permuted);
        std::vector<std::size_t> all = order;
        for (std::size_t e = order.size(); e < c.open.shape.n_choices(); ++e) {
            all.push_back(e);
        }
        OpenLayer<T>::permute_blocks(g.router, all);
        OpenLayer<T>::permute_blocks(g.router_bias, all);
        for (std::vector<T>* const part : {&g.gate, &g.up, &g.down, &g.gate_bias, &g.up_bias, &g.down_bias}) {
            OpenLayer<T>::permute_blocks(*part, order);
        }
        INFO("seed " << seed);
        REQUIRE(nmse(permuted.all(), g.all()) <= equal_but_for_rounding<T>);
    }
}

TEMPLATE_TEST_CASE("tokens in another order keep the bits of dx, and parameters but for rounding", "[gradients]", float,
                   double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < n_cases; ++seed) {
        Case<T> c(seed);
        const std::vector<std::size_t> order = shuffled(c.draw, c.n);
        const auto layer = c.layer();
        Gradients<T> g(layer, c.n), permuted(layer, c.n);
        run_backward(layer, c.x, c.dy, g);
        run_backward(layer, c.of(c.x, order), c.of(c.dy, order), permuted);
        INFO("seed " << seed);
        REQUIRE(same_bits(permuted.dx, c.of(g.dx, order)));
        REQUIRE(nmse(permuted.parameters(), g.parameters()) <= equal_but_for_rounding<T>);
    }
}

TEMPLATE_TEST_CASE("dx of a token alone has the bits it has in a batch, and the batch is the sum of its tokens",
                   "[gradients]", float, double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < n_cases; ++seed) {
        Case<T> c(seed);
        const auto layer = c.layer();
        Gradients<T> g(layer, c.n);
        run_backward(layer, c.x, c.dy, g);
        std::vector<double> sum(g.parameters().size(), 0.0);
        INFO("seed " << seed);
        for (std::size_t t = 0; t < c.n; ++t) {
            Gradients<T> alone(layer, 1);
            run_backward(layer, c.of(c.x, {t}), c.of(c.dy, {t}), alone);
            REQUIRE(same_bits(alone.dx, c.of(g.dx, {t})));
            const std::vector<T> parameters = alone.parameters();
            for (std::size_t i = 0; i < sum.size(); ++i) {
                sum[i] += static_cast<double>(parameters[i]);
            }
        }
        REQUIRE(nmse(g.parameters(), sum) <= equal_but_for_rounding<T>);
    }
}

TEMPLATE_TEST_CASE("parts that are frozen leave the bits of the rest", "[gradients]", float, double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < n_cases; ++seed) {
        Case<T> c(seed);
        const auto layer = c.layer();
        Gradients<T> all(layer, c.n), some(layer, c.n);
        run_backward(layer, c.x, c.dy, all);
        auto& to = some.to;
        const auto freeze = [&](auto& view, std::vector<T>& mine, std::vector<T>& of_all) {
            if (c.draw.coin()) {
                view = {};
                REQUIRE(mine == std::vector<T>(mine.size(), T(0)));
                mine = of_all;  // not expected to be made
            }
        };
        freeze(to.router, some.router, all.router);
        freeze(to.router_bias, some.router_bias, all.router_bias);
        freeze(to.experts.gate, some.gate, all.gate);
        freeze(to.experts.up, some.up, all.up);
        freeze(to.experts.down, some.down, all.down);
        freeze(to.experts.gate_bias, some.gate_bias, all.gate_bias);
        freeze(to.experts.up_bias, some.up_bias, all.up_bias);
        freeze(to.experts.down_bias, some.down_bias, all.down_bias);
        freeze(to.shared_gate, some.shared_gate, all.shared_gate);
        freeze(to.output_bias, some.output_bias, all.output_bias);
        freeze(to.constants, some.constants, all.constants);
        freeze(to.mixes, some.mixes, all.mixes);
        if (c.draw.coin()) {
            to.shared.clear();
            some.shared = all.shared;
        }
        run_backward(layer, c.x, c.dy, some);
        INFO("seed " << seed);
        REQUIRE(same_bits(some.all(), all.all()));
    }
}

TEMPLATE_TEST_CASE("packed experts and views give gradients of the same bits", "[gradients]", float, double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < n_cases; ++seed) {
        Case<T> c(seed);
        const auto layer = c.layer();
        Gradients<T> views(layer, c.n), packed(layer, c.n);
        run_backward(layer, c.x, c.dy, views);
        run_backward(moe::pack(layer), c.x, c.dy, packed);
        INFO("seed " << seed);
        REQUIRE(same_bits(packed.all(), views.all()));
    }
}

TEMPLATE_TEST_CASE("dx is added to what is there if asked for", "[gradients]", float, double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < n_cases; ++seed) {
        Case<T> c(seed);
        const auto layer = c.layer();
        Gradients<T> g(layer, c.n), added(layer, c.n);
        run_backward(layer, c.x, c.dy, g);
        added.dx = random_elements<T>(c.draw, c.n * c.d(), 1);
        std::vector<double> expected;
        for (std::size_t i = 0; i < g.dx.size(); ++i) {
            expected.push_back(static_cast<double>(added.dx[i]) + static_cast<double>(g.dx[i]));
        }
        PassOptions<T> options;
        options.backward.accumulate_dx = true;
        run_backward(layer, c.x, c.dy, added, options);
        INFO("seed " << seed);
        REQUIRE(nmse(added.dx, expected) <= equal_but_for_rounding<T>);
        REQUIRE(same_bits(added.parameters(), g.parameters()));
    }
}

}  // namespace moe_test::laws_test
