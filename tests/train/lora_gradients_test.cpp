#include <cstddef>
#include <cstdint>
#include <vector>

#include "train/lora_case.hpp"

/// LoRA over frozen experts of any format against the definition of the merged layer.
namespace moe_test::lora_gradients_test {

namespace {

/// y; dx and the gradients of the router in `all`, those of the adapters in the case.
template <class W, class Layer, class T>
std::vector<T> run(LoraCase<W>& c, const Layer& layer, Gradients<T>& all, std::size_t workers, moe::TapeKeeps keeps,
                   bool frozen = true) {
    moe::Tape<T> tape(keeps);
    moe::Workspace workspace;
    std::vector<T> y(c.n * c.d());
    moe::ForwardOptions<T> options;
    options.valid = c.valid;
    moe::forward(layer, moe::view(c.x.data(), c.n, c.d()), moe::view(y.data(), c.n, c.d()), tape, workspace,
                 ThreadExecutor(workers), options);
    moe::backward(layer, tape, moe::view(c.dy.data(), c.n, c.d()), moe::view(all.dx.data(), c.n, c.d()),
                  c.to(all, frozen), workspace, ReversedExecutor(workers));
    return y;
}

/// What the gate chose of each token, weighed as the definition does; nothing where rounding decides on a corner.
template <class T, class W>
std::vector<reference::Choice> choices_of(const LoraCase<W>& c, const reference::Layer& definition) {
    std::vector<reference::Choice> choices;
    moe::RoutingPlan<T> plan;
    moe::Workspace workspace;
    moe::ForwardOptions<T> options;
    options.valid = c.valid;
    c.base().route(moe::view(c.x.data(), c.n, c.d()), plan, workspace, moe::SerialExecutor{}, options);
    const moe::PlanView<T> routed = plan;
    const reference::Vector wide(c.x.begin(), c.x.end());
    for (std::size_t t = 0; t < c.n; ++t) {
        reference::Choice choice;
        const auto chosen =
            routed.experts.subspan(routed.token_offsets[t], routed.token_offsets[t + 1] - routed.token_offsets[t]);
        choice.experts.assign(chosen.begin(), chosen.end());
        const auto row = reference::row_of(wide, t, c.d());
        if (c.valid[t] != 0) {
            choice = reference::weighed(definition.rule, reference::router_logits(definition, row), choice.experts);
        }
        if (near_corner<T>(definition, choice, row)) {
            return {};
        }
        choices.push_back(choice);
    }
    return choices;
}

/// False where a corner is too near. `make` makes the layer whose base keeps its weights as F.
template <class W, class F, class Make>
bool check(std::uint64_t seed, double bound, const Make& make) {
    using T = moe::ComputeType<W>;
    LoraCase<W> c(seed);
    const reference::Layer definition = c.template definition<F>();
    const std::vector<reference::Choice> choices = choices_of<T>(c, definition);
    if (choices.size() != c.n) {
        return false;
    }
    const auto layer = make(c);
    Gradients<T> all(c.base(), c.n);
    const std::vector<T> y = run(c, layer, all, 1 + seed % 3, moe::TapeKeeps::products);

    const reference::Vector wide(c.x.begin(), c.x.end());
    const reference::Vector wide_dy(c.dy.begin(), c.dy.end());
    const reference::LayerGradients expected = reference::backward(
        definition, wide, wide, wide_dy, choices,
        [&](std::size_t t, const reference::Vector& logits, const reference::Vector& d_weights) {
            return reference::gate_backward(definition.rule, logits, choices[t], d_weights);
        },
        {}, std::vector<bool>(c.valid.begin(), c.valid.end()));
    reference::LayerGradients others = expected;  // all but those of the base, which is frozen
    others.experts.clear();
    others.shared.clear();
    GradientError error = compare_gradients(all, others);
    c.routed.compare(error, expected.experts);
    for (std::size_t s = 0; s < c.always.size(); ++s) {
        c.always[s].compare(error, {expected.shared[s]});
    }
    INFO("seed " << seed << ", " << c.n << " tokens, ranks " << c.routed.gate.rank << ", " << c.routed.up.rank << ", "
                 << c.routed.down.rank);
    REQUIRE(error.nmse() <= bound);

    const std::vector<T> gradients = c.take_gradients();
    if (seed % 3 == 0) {  // whatever is kept, whoever computes, and with the gradients of the base beside them
        Gradients<T> again(c.base(), c.n);
        REQUIRE(same_bits(run(c, layer, again, 2, moe::TapeKeeps::routing, false), y));
        REQUIRE(same_bits(again.dx, all.dx));
        REQUIRE(same_bits(again.router, all.router));
        REQUIRE(same_bits(c.take_gradients(), gradients));
        REQUIRE(compare_gradients(again, expected).nmse() <= bound);
    }
    return true;
}

template <class W, class F = W, class Make>
void check_many(std::uint64_t first, std::size_t count, double bound, const Make& make) {
    std::size_t compared = 0;
    for (std::uint64_t seed = first; compared < count; ++seed) {
        compared += check<W, F>(seed, bound, make) ? 1U : 0U;
        REQUIRE(seed - first < count + count / 4);  // corners are rare
    }
}

constexpr double float_bound = 1e-11;  // that of layer_gradients_test

}  // namespace

TEST_CASE("LoRA over views in double has the gradients of the merged layer", "[lora]") {
    check_many<double>(0, 1000, 1e-24, [](const auto& c) { return c.layer(); });
}

TEST_CASE("LoRA over views in float has the gradients of the merged layer", "[lora]") {
    check_many<float>(10000, 600, float_bound, [](const auto& c) { return c.layer(); });
    check_many<moe::bfloat16>(20000, 200, float_bound, [](const auto& c) { return c.layer(); });
}

TEST_CASE("LoRA over packed experts has the gradients of the merged layer, as the format keeps its weights", "[lora]") {
    check_many<double, double>(30000, 200, 1e-24, [](const auto& c) { return c.template packed<double>(); });
    check_many<float, float>(40000, 200, float_bound, [](const auto& c) { return c.template packed<float>(); });
    check_many<float, moe::bfloat16>(50000, 200, float_bound,
                                     [](const auto& c) { return c.template packed<moe::bfloat16>(); });
    check_many<float, moe::Int4>(60000, 200, float_bound, [](const auto& c) { return c.template packed<moe::Int4>(); });
}

}  // namespace moe_test::lora_gradients_test
