#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"
#include "train/gradients.hpp"

/// What a tape keeps, and that it makes no difference to the gradients.
namespace moe_test::tape_test {

namespace {

constexpr std::size_t d = 40;
constexpr std::size_t n = 31;

LayerShape shape_of(std::size_t d_ff) {
    LayerShape shape;
    shape.n_experts = 6;
    shape.d_model = d;
    shape.d_ff = d_ff;
    shape.shared_widths = {20, 70};
    return shape;
}

/// dx and the gradients of the router and of one projection, which all others flow through.
template <class Layer>
std::vector<float> gradients(const Layer& layer, const std::vector<float>& x, moe::Tape<float>& tape) {
    moe::Workspace workspace;
    const std::size_t rows = x.size() / d;
    std::vector<float> y(x.size()), dx(x.size());
    std::vector<float> router(layer.n_experts() * d), up(layer.n_experts() * layer.experts().d_ff() * d);
    moe::LayerGradients<float> to;
    to.router = moe::stacked_gradients(router.data(), 1, layer.n_experts(), d);
    to.experts.up = moe::stacked_gradients(up.data(), layer.n_experts(), layer.experts().d_ff(), d);
    moe::forward(layer, moe::view(x.data(), rows, d), moe::view(y.data(), rows, d), tape, workspace);
    moe::backward(layer, tape, moe::view(std::as_const(y).data(), rows, d), moe::view(dx.data(), rows, d), to,
                  workspace);
    dx.insert(dx.end(), router.begin(), router.end());
    dx.insert(dx.end(), up.begin(), up.end());
    return dx;
}

}  // namespace

TEST_CASE("a tape keeps top_k * 2 d_ff products a token, and those of shared experts", "[tape]") {
    Draw draw(1);
    for (const std::size_t d_ff : {1U, 33U, 64U, 90U}) {
        const LayerCase<float> c(shape_of(d_ff), 2);
        const auto layer = c.layer(moe::TokenChoice<>{.top_k = 3});
        const auto x = random_elements<float>(draw, n * d, 1);
        std::vector<float> y(n * d);
        moe::Workspace workspace;
        moe::Tape<float> tape;
        moe::forward(layer, moe::view(x.data(), n, d), moe::view(y.data(), n, d), tape, workspace);
        CHECK(tape.products().routed.size() == n * 3 * 2 * d_ff);
        CHECK(tape.products().shared.size() == n * 2 * (20 + 70));
        moe::Tape<float> nothing(moe::TapeKeeps::routing);
        moe::forward(layer, moe::view(x.data(), n, d), moe::view(y.data(), n, d), nothing, workspace);
        CHECK(nothing.products().routed.empty());
        CHECK(nothing.products().shared.empty());
    }
}

TEST_CASE("what is made again has the bits of what is kept, where all logits are equal too", "[tape]") {
    Draw draw(3);
    for (const bool ties : {false, true}) {
        LayerCase<float> c(shape_of(70), 4);
        const auto layer = c.layer(moe::TokenChoice<>{.top_k = 2, .normalize = true});
        const auto x = ties ? std::vector<float>(n * d, 0.0F) : random_elements<float>(draw, n * d, 1);
        moe::Tape<float> keeps;
        moe::Tape<float> again(moe::TapeKeeps::routing);
        CHECK(same_bits(gradients(layer, x, keeps), gradients(layer, x, again)));
    }
}

TEST_CASE("a tape serves batches of any size and any layer, one after the other", "[tape]") {
    Draw draw(5);
    const LayerCase<float> wide(shape_of(90), 6);
    const LayerCase<float> narrow(shape_of(17), 7);
    const auto first = wide.layer(moe::TokenChoice<>{.top_k = 2});
    const auto second = narrow.layer(moe::TokenChoice<>{.top_k = 1});
    moe::Tape<float> used;
    for (const std::size_t rows : {5U, 31U, 0U, 2U}) {
        const auto x = random_elements<float>(draw, rows * d, 1);
        moe::Tape<float> fresh;
        moe::Tape<float> other;
        CHECK(same_bits(gradients(first, x, used), gradients(first, x, fresh)));
        CHECK(same_bits(gradients(second, x, used), gradients(second, x, other)));
    }
}

TEST_CASE("products of integers are not kept: gradients are those of the exact product", "[tape]") {
    Draw draw(8);
    const LayerCase<float> c(shape_of(64), 9);
    const auto layer = c.layer(moe::TokenChoice<>{.top_k = 2, .normalize = true});
    const auto exact = moe::pack<moe::Int8>(layer, moe::SerialExecutor{}, moe::Compute::exact);
    const auto quick = moe::pack<moe::Int8>(layer, moe::SerialExecutor{}, moe::Compute::int8);
    const auto x = random_elements<float>(draw, n * d, 1);
    std::vector<float> y(n * d), dy(n * d, 1.0F), dx(n * d), expected(n * d);
    moe::Workspace workspace;
    moe::Tape<float> tape;
    const auto run = [&](const auto& packed, std::vector<float>& to) {
        moe::forward(packed, moe::view(x.data(), n, d), moe::view(y.data(), n, d), tape, workspace);
        const bool kept = !tape.products().routed.empty();
        moe::backward(packed, tape, moe::view(std::as_const(dy).data(), n, d), moe::view(to.data(), n, d), {},
                      workspace);
        return kept;
    };
    CHECK(run(exact, expected));
    CHECK_FALSE(run(quick, dx));
    CHECK(same_bits(dx, expected));
}

namespace {

/// A gate that never chooses twice the same, and counts.
struct Moody {
    std::size_t* asked;
    int max_per_token() const { return 2; }
    template <std::floating_point T>
    int select(std::span<const T> logits, moe::BasicSelection<T> out) const {
        const std::size_t first = (*asked)++ % logits.size();
        const std::size_t second = (first + 3) % logits.size();
        out.experts[0] = static_cast<moe::ExpertId>(first);
        out.experts[1] = static_cast<moe::ExpertId>(second);
        out.weights[0] = logits[first];
        out.weights[1] = logits[second];
        return 2;
    }
    template <std::floating_point T>
    void backward(std::span<const T>, const moe::Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        for (std::size_t slot = 0; slot < d_weights.size(); ++slot) {
            d_logits[static_cast<std::size_t>(chosen.experts[slot])] += d_weights[slot];
        }
    }
};

struct CountPlans final : moe::Observer<float> {
    int plans = 0;
    void on_plan(const moe::RoutingRecord<float>&) override { ++plans; }
};

}  // namespace

TEST_CASE("what is made again is not routed again: no gate is asked, no observer counts twice", "[tape]") {
    const LayerCase<float> c(shape_of(70), 10);
    Draw draw(11);
    const auto x = random_elements<float>(draw, n * d, 1);
    std::vector<std::vector<float>> all;
    for (const moe::TapeKeeps keeps : {moe::TapeKeeps::products, moe::TapeKeeps::routing}) {
        std::size_t asked = 0;
        CountPlans counter;
        PassOptions<float> options;
        options.keeps = keeps;
        options.forward.observer = &counter;
        const auto layer = c.layer(Moody{&asked});
        Gradients<float> g(layer, n);
        run_backward(layer, x, x, g, options);
        all.push_back(g.all());
        CHECK(asked == n);
        CHECK(counter.plans == 1);
    }
    CHECK(same_bits(all[0], all[1]));
}

TEST_CASE("what is made again is what was read: every projection of every form, by bits", "[tape]") {
    Draw draw(13);
    for (int kind = 0; kind <= static_cast<int>(moe::FormKind::clamped_after); ++kind) {
        for (const auto weight_at : {moe::WeightAt::output, moe::WeightAt::input}) {
            LayerShape shape = shape_of(70);
            shape.biases = kind % 2 == 0;
            shape.form = {.kind = static_cast<moe::FormKind>(kind), .limit = 1};
            shape.weight_at = weight_at;
            const LayerCase<float> c(shape, 12);
            const auto layer = c.layer(moe::TokenChoice<>{.top_k = 2});
            const auto x = random_elements<float>(draw, n * d, 1);
            Gradients<float> kept(layer, n), again(layer, n);
            PassOptions<float> options;
            run_backward(layer, x, x, kept, options);
            options.keeps = moe::TapeKeeps::routing;
            run_backward(layer, x, x, again, options);
            INFO("form " << kind);
            CHECK(same_bits(again.all(), kept.all()));
        }
    }
}

}  // namespace moe_test::tape_test
