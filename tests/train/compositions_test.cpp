#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "train/gradients.hpp"
#include "train/open_layer.hpp"

/// Layers that are composed otherwise and compute the same have the same gradients.
namespace moe_test::compositions_test {

namespace {

/// As in laws_test.cpp.
template <class T>
inline constexpr double equal_but_for_rounding = std::is_same_v<T, double> ? 1e-24 : 1e-10;

template <class T>
struct Case {
    Draw draw;
    OpenLayer<T> open;
    std::size_t n;
    std::vector<T> x;
    std::vector<T> dy;

    explicit Case(std::uint64_t seed) : Case(seed, drawn_shape(seed)) {}
    Case(std::uint64_t seed, LayerShape shape)
        : draw(seed + 1),
          open(draw, std::move(shape)),
          n(draw.size(1, 15)),
          x(random_elements<T>(draw, n * open.shape.d_model, 1)),
          dy(random_elements<T>(draw, n * open.shape.d_model, 1)) {}

    /// All gradients of `layer` for these tokens.
    template <class Layer>
    [[nodiscard]] std::vector<T> of(const Layer& layer) const {
        Gradients<T> g(layer, n);
        run_backward(layer, x, dy, g);
        return g.all();
    }

    static LayerShape drawn_shape(std::uint64_t seed) {
        Draw draw(seed);
        LayerShape shape = random_layer_shape(draw, 40, 9);
        shape.n_experts += 1;  // of which some may be left out
        return shape;
    }
};

/// f(v) = v.
struct Same {
    template <class V>
    V operator()(const V& v) const {
        return v;
    }
    template <class V>
    V derivative(const V&) const {
        return moe::math::constant<V>(1);
    }
};

/// What each token chose, (n_tokens, max_per_token), by a gate that always chooses as many.
template <class T, class Layer>
std::vector<moe::ExpertId> choices_of(const Layer& layer, const std::vector<T>& x) {
    const std::size_t d = layer.d_model();
    moe::Tape<T> tape;
    moe::Workspace workspace;
    std::vector<T> y(x.size());
    moe::forward(layer, moe::view(x.data(), x.size() / d, d), moe::view(y.data(), x.size() / d, d), tape, workspace);
    const auto choices = std::as_const(tape).choices();
    return {choices.data(), choices.data() + choices.rows() * choices.cols()};
}

constexpr std::uint64_t n_cases = 200;

}  // namespace

TEMPLATE_TEST_CASE("a constant added to all selection biases changes no gradient", "[gradients]", float, double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < n_cases; ++seed) {
        Case<T> c(seed);
        std::vector<float> bias = random_elements<float>(c.draw, c.open.shape.n_choices(), 0.3);
        moe::TokenChoice<moe::Sigmoid> gate{.top_k = 2, .normalize = true, .selection_bias = bias};
        const auto before = c.of(c.open.layer(gate));
        for (float& value : bias) {
            value += 0.25F;
        }
        INFO("seed " << seed);
        REQUIRE(same_bits(c.of(c.open.layer(gate)), before));
    }
}

TEMPLATE_TEST_CASE("all experts by softmax are the dense mixture", "[gradients]", float, double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < n_cases; ++seed) {
        const Case<T> c(seed);
        const int all = static_cast<int>(c.open.shape.n_choices());
        INFO("seed " << seed);
        REQUIRE(nmse(c.of(c.open.layer(moe::TokenChoice<moe::Softmax>{.top_k = all})),
                     c.of(c.open.layer(moe::Dense<moe::Softmax>{}))) <= equal_but_for_rounding<T>);
    }
}

TEMPLATE_TEST_CASE("a scale of the gate is a scale of the layer", "[gradients]", float, double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < n_cases; ++seed) {
        Case<T> c(seed);
        c.open.shape.weight_at = moe::WeightAt::output;
        c.open.shape.routed_scale = 1;
        const auto in_gate = c.of(c.open.layer(moe::TokenChoice<moe::Sigmoid>{.top_k = 2, .scale = 2.5}));
        c.open.shape.routed_scale = 2.5;
        INFO("seed " << seed);
        REQUIRE(nmse(c.of(c.open.layer(moe::TokenChoice<moe::Sigmoid>{.top_k = 2})), in_gate) <=
                equal_but_for_rounding<T>);
    }
}

TEMPLATE_TEST_CASE("for linear experts the weight is the same at either end", "[gradients]", float, double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < n_cases; ++seed) {
        LayerShape shape = Case<T>::drawn_shape(seed);
        shape.form.kind = moe::FormKind::relu;  // not gated; what stands in for it is below
        shape.biases = false;
        shape.shared_widths.clear();
        const Case<T> c(seed, shape);
        const moe::TokenChoice<moe::Softmax> gate{.top_k = 2};
        const auto at = [&](moe::WeightAt end) {
            moe::LayerOptions<T> options = c.open.options();
            options.weight_at = end;
            const moe::MoELayer layer{c.open.routed_by(gate),
                                      moe::ExpertBank<T, moe::Plain<Same>>(moe::Plain<Same>{}, c.open.experts.stacks()),
                                      options};
            Gradients<T> g(layer, c.n);
            g.to.experts.up_bias = {};  // there are none: those of an addition behind the weight, or before it
            g.to.experts.down_bias = {};
            run_backward(layer, c.x, c.dy, g);
            return g.all();
        };
        INFO("seed " << seed);
        REQUIRE(nmse(at(moe::WeightAt::input), at(moe::WeightAt::output)) <= equal_but_for_rounding<T>);
    }
}

TEMPLATE_TEST_CASE("equal experts with equal rows of the router have equal gradients", "[gradients]", float, double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < n_cases; ++seed) {
        Case<T> c(seed);
        std::vector<std::size_t> order(c.open.shape.n_experts);
        for (std::size_t e = 0; e < order.size(); ++e) {
            order[e] = e == 1 ? 0 : e;
        }
        c.open.permute(order);
        const auto layer = c.open.layer(moe::Dense<moe::Softmax>{});
        Gradients<T> g(layer, c.n);
        run_backward(layer, c.x, c.dy, g);
        INFO("seed " << seed);
        for (const std::vector<T>* const part : {&g.gate, &g.up, &g.down, &g.gate_bias, &g.up_bias, &g.down_bias}) {
            const std::size_t size = part->size() / order.size();
            REQUIRE(same_bits(std::span(*part).first(size), std::span(*part).subspan(size, size)));
        }
        const std::span<const T> router(g.router);
        REQUIRE(
            same_bits(router.first(c.open.shape.d_model), router.subspan(c.open.shape.d_model, c.open.shape.d_model)));
        REQUIRE(same_bits(std::span(g.router_bias).first(1), std::span(g.router_bias).subspan(1, 1)));
    }
}

TEMPLATE_TEST_CASE("experts that were recorded and are forced have the bits of the gradients of the choice",
                   "[gradients]", float, double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < n_cases; ++seed) {
        const Case<T> c(seed);
        using Gate = moe::TokenChoice<moe::SqrtSoftplus>;
        const auto layer = c.open.layer(Gate{.top_k = 2, .normalize = true, .scale = 1.5});
        const std::vector<moe::ExpertId> choices = choices_of(layer, c.x);
        const auto forced = layer.with_gate(
            moe::Forced<Gate>{.gate = layer.router().gate(), .experts = moe::view(choices.data(), c.n, 2)});
        Gradients<T> g(layer, c.n);
        Gradients<T> again(layer, c.n);
        run_backward(layer, c.x, c.dy, g);
        run_backward(forced, c.x, c.dy, again);
        INFO("seed " << seed);
        REQUIRE(same_bits(again.all(), g.all()));
    }
}

TEMPLATE_TEST_CASE("a choice that finds no place counts as if it had not been made", "[gradients]", float, double) {
    using T = TestType;
    std::size_t n_dropped = 0;
    for (std::uint64_t seed = 0; seed < n_cases; ++seed) {
        const Case<T> c(seed);
        using Gate = moe::TokenChoice<moe::Sigmoid>;
        const Gate gate{.top_k = 2};
        const auto limited = c.open.layer(moe::Capacity<Gate>{.gate = gate,
                                                              .limit = moe::CapacityLimit::fixed(2),
                                                              .renormalize = true,
                                                              .renormalize_over = moe::RenormalizeOver::kept});
        std::vector<moe::ExpertId> kept;
        const std::vector<moe::ExpertId> choices = choices_of(limited, c.x);
        for (std::size_t t = 0; t < c.n; ++t) {
            for (std::size_t slot = 0; slot < 2; ++slot) {
                if (const moe::ExpertId e = choices[2 * t + slot]; e >= 0) {
                    kept.push_back(e);
                }
            }
            n_dropped += 2 * (t + 1) - kept.size();
            kept.resize(2 * (t + 1), moe::no_expert);
        }
        Gate normalized = gate;
        normalized.normalize = true;
        const auto forced = limited.with_gate(
            moe::Forced<Gate>{.gate = normalized, .experts = moe::view(std::as_const(kept).data(), c.n, 2)});
        Gradients<T> g(limited, c.n);
        Gradients<T> of_kept(limited, c.n);
        run_backward(limited, c.x, c.dy, g);
        run_backward(forced, c.x, c.dy, of_kept);
        INFO("seed " << seed);
        REQUIRE(nmse(g.all(), of_kept.all()) <= equal_but_for_rounding<T>);
    }
    CHECK(n_dropped > n_cases);
}

}  // namespace moe_test::compositions_test
