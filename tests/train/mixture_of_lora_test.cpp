#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "train/layer_gradients.hpp"

/// Mixtures of LoRA: routed experts of two thin matrices, whose router learns with them, beside a frozen network that
/// takes every token.
namespace moe_test::mixture_of_lora_test {

namespace {

constexpr std::size_t d = 37;
constexpr std::size_t d_ff = 50;
constexpr std::size_t n_experts = 6;
constexpr int top_k = 2;
constexpr std::size_t n = 19;
constexpr double alpha = 8;

template <class T>
struct Mixture {
    using Network = moe::ExpertBank<T, moe::Gated<moe::Silu>>;
    using Adapters = moe::ExpertBank<T, moe::Plain<moe::IdentityActivation>>;
    using Layer = moe::MoELayer<moe::Router<T, moe::TokenChoice<moe::Softmax>>, Adapters, moe::SharedExperts<Network>>;

    std::size_t rank;
    std::vector<T> router, a, b, gate, up, down, x, dy;
    std::vector<T> y, dx, d_router, d_a, d_b;
    std::vector<reference::Choice> choices;

    Mixture(std::uint64_t seed, std::size_t the_rank) : rank(the_rank) {
        Draw draw(seed);
        router = random_elements<T>(draw, n_experts * d, 0.2);
        a = random_elements<T>(draw, n_experts * rank * d, 0.2);
        b = random_elements<T>(draw, n_experts * d * rank, 0.5);
        gate = random_elements<T>(draw, d_ff * d, 0.2);
        up = random_elements<T>(draw, d_ff * d, 0.2);
        down = random_elements<T>(draw, d * d_ff, 0.2);
        x = random_elements<T>(draw, n * d, 1);
        dy = random_elements<T>(draw, n * d, 1);
    }

    [[nodiscard]] double scale() const { return alpha / static_cast<double>(rank); }
    [[nodiscard]] moe::SharedExperts<Network> network() const {
        return moe::SharedExperts<Network>(
            Network{moe::Gated<moe::Silu>{},
                    {moe::stacked(gate.data(), 1, d_ff, d), moe::stacked(up.data(), 1, d_ff, d),
                     moe::stacked(down.data(), 1, d, d_ff)}});
    }
    [[nodiscard]] Layer layer() const {
        return {moe::Router{moe::view(router.data(), n_experts, d),
                            moe::TokenChoice<moe::Softmax>{.top_k = top_k, .normalize = true, .scale = scale()}},
                Adapters{{},
                         {.up = moe::stacked(a.data(), n_experts, rank, d),
                          .down = moe::stacked(b.data(), n_experts, d, rank)}},
                network()};
    }

    /// y, and with it all gradients that learn: of the network there are none.
    void run() {
        const Layer mixture = layer();
        moe::Tape<T> tape;
        moe::Workspace workspace;
        for (std::vector<T>* const grown : {&y, &dx}) {
            grown->assign(n * d, T(0));
        }
        d_router.assign(router.size(), T(0));
        d_a.assign(a.size(), T(0));
        d_b.assign(b.size(), T(0));
        moe::LayerGradients<T> to;
        to.router = moe::stacked_gradients(d_router.data(), 1, n_experts, d);
        to.experts.up = moe::stacked_gradients(d_a.data(), n_experts, rank, d);
        to.experts.down = moe::stacked_gradients(d_b.data(), n_experts, d, rank);
        moe::forward(mixture, moe::view(std::as_const(x).data(), n, d), moe::view(y.data(), n, d), tape, workspace);
        const moe::PlanView<T> plan = std::as_const(tape).plan();
        for (std::size_t t = 0; t < n; ++t) {
            const auto chosen =
                plan.experts.subspan(plan.token_offsets[t], plan.token_offsets[t + 1] - plan.token_offsets[t]);
            choices.emplace_back().experts.assign(chosen.begin(), chosen.end());
        }
        moe::backward(mixture, tape, moe::view(std::as_const(dy).data(), n, d), moe::view(dx.data(), n, d), to,
                      workspace);
    }

    [[nodiscard]] reference::Layer definition() const {
        const auto wide = [](const std::vector<T>& values, std::size_t first, std::size_t count) {
            const auto begin = values.begin() + static_cast<std::ptrdiff_t>(first);
            return reference::Vector(begin, begin + static_cast<std::ptrdiff_t>(count));
        };
        reference::Layer layer{.d_model = d};
        layer.router = wide(router, 0, router.size());
        layer.rule = {.top_k = top_k, .norm = reference::Norm::sum, .scale = scale()};
        for (std::size_t e = 0; e < n_experts; ++e) {
            layer.experts.push_back({.d_model = d,
                                     .d_ff = rank,
                                     .form = reference::Form::identity,
                                     .up = wide(a, e * rank * d, rank * d),
                                     .down = wide(b, e * d * rank, d * rank)});
        }
        layer.shared.push_back({.d_model = d,
                                .d_ff = d_ff,
                                .gate = wide(gate, 0, gate.size()),
                                .up = wide(up, 0, up.size()),
                                .down = wide(down, 0, down.size())});
        return layer;
    }
};

/// Outputs by what the paper writes: network(x) + sum of w_e alpha / rank B_e (A_e x), in plain loops.
template <class T>
reference::Vector outputs(const Mixture<T>& m, const reference::Layer& definition) {
    reference::Vector all;
    for (std::size_t t = 0; t < n; ++t) {
        const reference::Vector token = reference::row_of(reference::Vector(m.x.begin(), m.x.end()), t, d);
        reference::Vector y = reference::run(definition.shared[0], token);
        for (std::size_t slot = 0; slot < m.choices[t].experts.size(); ++slot) {
            const auto e = static_cast<std::size_t>(m.choices[t].experts[slot]);
            for (std::size_t o = 0; o < d; ++o) {
                for (std::size_t j = 0; j < m.rank; ++j) {
                    double low = 0;
                    for (std::size_t i = 0; i < d; ++i) {
                        low += static_cast<double>(m.a[(e * m.rank + j) * d + i]) * token[i];
                    }
                    y[o] += m.choices[t].weights[slot] * static_cast<double>(m.b[(e * d + o) * m.rank + j]) * low;
                }
            }
        }
        all.insert(all.end(), y.begin(), y.end());
    }
    return all;
}

template <class T>
void check(std::uint64_t seed, std::size_t rank, double bound) {
    Mixture<T> m(seed, rank);
    m.run();
    const reference::Layer definition = m.definition();
    const reference::Vector x(m.x.begin(), m.x.end());
    for (std::size_t t = 0; t < n; ++t) {
        REQUIRE(m.choices[t].experts.size() == top_k);
        m.choices[t] = reference::weighed(
            definition.rule, reference::router_logits(definition, reference::row_of(x, t, d)), m.choices[t].experts);
    }
    INFO("rank " << rank);
    CHECK(nmse(m.y, outputs(m, definition)) <= bound);
    const reference::LayerGradients expected =
        reference::backward(definition, x, x, reference::Vector(m.dy.begin(), m.dy.end()), m.choices,
                            [&](std::size_t t, const reference::Vector& logits, const reference::Vector& d_weights) {
                                return reference::gate_backward(definition.rule, logits, m.choices[t], d_weights);
                            });
    CHECK(nmse(m.dx, expected.x) <= bound);
    CHECK(nmse(m.d_router, expected.router) <= bound);
    reference::Vector of_a;
    reference::Vector of_b;
    for (const reference::ExpertGradients& expert : expected.experts) {
        of_a.insert(of_a.end(), expert.up.begin(), expert.up.end());
        of_b.insert(of_b.end(), expert.down.begin(), expert.down.end());
    }
    CHECK(nmse(m.d_a, of_a) <= bound);
    CHECK(nmse(m.d_b, of_b) <= bound);
}

}  // namespace

TEST_CASE("a mixture of LoRA has the outputs and gradients of its definition, beside a frozen network", "[lora]") {
    for (const std::size_t rank : {1U, 3U, 8U, 40U}) {
        check<double>(rank, rank, 1e-24);
        check<float>(rank, rank, 1e-12);
    }
}

TEST_CASE("a mixture of LoRA begins as the network it adapts", "[lora]") {
    Mixture<float> m(5, 4);
    std::fill(m.b.begin(), m.b.end(), 0.0F);
    m.run();
    const reference::Expert network = m.definition().shared[0];
    reference::Vector expected;
    for (std::size_t t = 0; t < n; ++t) {
        const reference::Vector row =
            reference::run(network, reference::row_of(reference::Vector(m.x.begin(), m.x.end()), t, d));
        expected.insert(expected.end(), row.begin(), row.end());
    }
    CHECK(nmse(m.y, expected) <= 1e-12);
    CHECK(std::ranges::all_of(m.d_a, [](float value) { return value == 0; }));
    CHECK(std::ranges::any_of(m.d_b, [](float value) { return value != 0; }));
}

}  // namespace moe_test::mixture_of_lora_test
