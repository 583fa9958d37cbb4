#include <cstddef>
#include <utility>
#include <vector>

#include "moe/moe.hpp"
#include "moe/reference/layer/layer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::other_compositions_test {

/// Architectures that take a piece more than a MoELayer, each held against the same in other words.
namespace {

namespace reference = moe::reference;
using moe::ErrorCode;
using moe_test::contains;
using moe_test::error_of;

constexpr std::size_t d = 37;
constexpr std::size_t n = 23;

reference::Vector wide(const std::vector<float>& values) { return {values.begin(), values.end()}; }

/// `count` rows of weights, small enough that sums stay near 1.
std::vector<float> matrix(std::uint64_t seed, std::size_t count) {
    moe_test::Draw draw(seed);
    return moe_test::random_elements<float>(draw, count, 0.3);
}

reference::Expert plain_expert(const std::vector<float>& up, const std::vector<float>& down, std::size_t e,
                               std::size_t d_model, std::size_t d_ff) {
    reference::Expert expert{.d_model = d_model, .d_ff = d_ff, .form = reference::Form::relu_squared};
    const auto part = [e, d_model, d_ff](const std::vector<float>& data) {
        const auto begin = data.begin() + static_cast<std::ptrdiff_t>(e * d_model * d_ff);
        return reference::Vector(begin, begin + static_cast<std::ptrdiff_t>(d_model * d_ff));
    };
    expert.up = part(up);
    expert.down = part(down);
    return expert;
}

}  // namespace

TEST_CASE("Nemotron-H: routed experts in a latent space, router and shared experts outside", "[composition]") {
    constexpr std::size_t latent = 12;
    constexpr std::size_t d_ff = 20;
    constexpr std::size_t shared_ff = 31;
    constexpr std::size_t n_experts = 5;
    const auto router = matrix(1, n_experts * d);
    const auto in = matrix(2, latent * d);
    const auto out = matrix(3, d * latent);
    const auto up = matrix(4, n_experts * d_ff * latent);
    const auto down = matrix(5, n_experts * latent * d_ff);
    const auto shared_up = matrix(6, shared_ff * d);
    const auto shared_down = matrix(7, d * shared_ff);
    const std::vector<float> bias{0.1F, -0.2F, 0.3F, 0, 0.5F};
    using Form = moe::Plain<moe::ReluSquared>;
    using Bank = moe::ExpertBank<float, Form>;
    const moe::MoELayer inner{
        moe::Router{moe::view(router.data(), n_experts, d),
                    moe::TokenChoice<moe::Sigmoid>{
                        .top_k = 2, .normalize = moe::Normalize::sum(1e-20), .scale = 2.5, .selection_bias = bias}},
        Bank{Form{},
             {.up = moe::stacked(up.data(), n_experts, d_ff, latent),
              .down = moe::stacked(down.data(), n_experts, latent, d_ff)}}};
    const Bank shared{Form{},
                      {.up = moe::stacked(shared_up.data(), 1, shared_ff, d),
                       .down = moe::stacked(shared_down.data(), 1, d, shared_ff)}};
    const moe::LatentLayer layer{moe::Linear<float>(moe::stacked(in.data(), 1, latent, d)), inner,
                                 moe::Linear<float>(moe::stacked(out.data(), 1, d, latent)),
                                 moe::SharedExperts{shared}};
    CHECK(layer.d_model() == d);
    CHECK(layer.d_latent() == latent);

    const auto x = matrix(8, n * d);
    reference::Layer definition{.d_model = latent,
                                .router = wide(router),
                                .rule = {.top_k = 2,
                                         .score = reference::Score::sigmoid,
                                         .selection_bias = wide(bias),
                                         .norm = reference::Norm::sum,
                                         .norm_value = 1e-20,
                                         .scale = 2.5}};
    for (std::size_t e = 0; e < n_experts; ++e) {
        definition.experts.push_back(plain_expert(up, down, e, latent, d_ff));
    }
    const reference::Expert outside = plain_expert(shared_up, shared_down, 0, d, shared_ff);
    reference::Vector expected;
    for (std::size_t t = 0; t < n; ++t) {
        const reference::Vector token(x.begin() + static_cast<std::ptrdiff_t>(t * d),
                                      x.begin() + static_cast<std::ptrdiff_t>((t + 1) * d));
        const reference::Vector compressed = reference::linear(wide(in), {}, token, latent);
        const reference::Vector routed =
            reference::combine(definition, reference::route(definition, token), compressed);
        reference::Vector y = reference::linear(wide(out), {}, routed, d);
        reference::add_scaled(y, 1, reference::run(outside, token));
        expected.insert(expected.end(), y.begin(), y.end());
    }
    const auto run = [&](std::size_t workers, bool accumulate) {
        std::vector<float> y(n * d, 0.5F);
        moe::Workspace workspace;
        moe::ForwardOptions<float> options;
        options.accumulate = accumulate;
        layer.forward(moe::view(x.data(), n, d), moe::view(y.data(), n, d), workspace,
                      moe_test::ThreadExecutor(workers), options);
        CHECK(workspace.capacity() == layer.workspace_bytes(n, workers));
        return y;
    };
    const std::vector<float> y = run(1, false);
    CHECK(moe_test::nmse(y, expected) <= 1e-12);
    CHECK(moe_test::same_bits(run(3, false), y));
    std::vector<float> added = run(2, true);
    for (float& value : added) {
        value -= 0.5F;
    }
    CHECK(moe_test::nmse(added, expected) <= 1e-12);
    // one token alone
    std::vector<float> alone(d);
    moe::Workspace workspace;
    layer.forward(moe::view(x.data() + 3 * d, 1, d), moe::view(alone.data(), 1, d), workspace);
    CHECK(moe_test::same_bits(alone, std::vector<float>(y.begin() + 3 * d, y.begin() + 4 * d)));

    const auto wrong = error_of([&] {
        (void)moe::LatentLayer(moe::Linear<float>(moe::stacked(in.data(), 1, latent - 1, d)), inner,
                               moe::Linear<float>(moe::stacked(out.data(), 1, d, latent)));
    });
    CHECK(wrong.code == ErrorCode::shape);
    CHECK_THAT(wrong.text, contains("d_model 12") && contains("go to 11"));
    CHECK(error_of([&] {
              (void)moe::LatentLayer(moe::Linear<float>(moe::stacked(in.data(), 1, latent, d)), inner,
                                     moe::Linear<float>(moe::stacked(out.data(), 1, d - 1, latent)));
          }).code == ErrorCode::shape);
    CHECK(error_of([&] {
              (void)moe::LatentLayer(moe::Linear<float>(moe::stacked(in.data(), 1, latent, d)), inner,
                                     moe::Linear<float>(moe::stacked(out.data(), 1, d, latent)),
                                     moe::SharedExperts(shared, moe::SharedMode::average));
          }).code == ErrorCode::range);
}

TEST_CASE("Inkling: shared experts in a bank of their own, weighed by the router beside the routed ones",
          "[composition]") {
    constexpr std::size_t d_ff = 11;
    constexpr std::size_t routed = 4;
    constexpr std::size_t n_shared = 2;
    const auto router = matrix(11, (routed + n_shared) * d);
    const auto up = matrix(12, routed * d_ff * d);
    const auto down = matrix(13, routed * d_ff * d);
    const auto shared_up = matrix(14, n_shared * d_ff * d);
    const auto shared_down = matrix(15, n_shared * d_ff * d);
    const std::vector<float> bias{0.3F, 0, -0.1F, 0.2F};
    using Form = moe::Plain<moe::ReluSquared>;
    using Bank = moe::ExpertBank<float, Form>;
    const auto bank = [&](const std::vector<float>& first, const std::vector<float>& second, std::size_t count) {
        return Bank{
            Form{},
            {.up = moe::stacked(first.data(), count, d_ff, d), .down = moe::stacked(second.data(), count, d, d_ff)}};
    };
    const moe::MoELayer layer{
        moe::Router{moe::view(router.data(), routed + n_shared, d),
                    moe::WithShared{moe::TokenChoice<moe::Sigmoid>{
                                        .top_k = 2, .normalize = true, .scale = 1.5, .selection_bias = bias},
                                    n_shared}},
        moe::JoinedExperts{bank(up, down, routed), bank(shared_up, shared_down, n_shared)}};
    const auto x = matrix(16, n * d);
    reference::Vector expected;
    for (std::size_t t = 0; t < n; ++t) {
        const reference::Vector token(x.begin() + static_cast<std::ptrdiff_t>(t * d),
                                      x.begin() + static_cast<std::ptrdiff_t>((t + 1) * d));
        const reference::Vector logits = reference::linear(wide(router), {}, token, routed + n_shared);
        reference::Vector score;
        for (const double l : logits) {
            score.push_back(reference::sigmoid(l));
        }
        reference::Vector choice;
        for (std::size_t e = 0; e < routed; ++e) {
            choice.push_back(score[e] + static_cast<double>(bias[e]));
        }
        std::vector<moe::ExpertId> taken = reference::top_k(choice, 2);
        taken.push_back(routed);
        taken.push_back(routed + 1);
        double sum = 0;
        for (const moe::ExpertId e : taken) {
            sum += score[static_cast<std::size_t>(e)];
        }
        reference::Vector y(d, 0.0);
        for (const moe::ExpertId id : taken) {
            const auto e = static_cast<std::size_t>(id);
            const reference::Expert expert = e < routed ? plain_expert(up, down, e, d, d_ff)
                                                        : plain_expert(shared_up, shared_down, e - routed, d, d_ff);
            reference::add_scaled(y, 1.5 * score[e] / sum, reference::run(expert, token));
        }
        expected.insert(expected.end(), y.begin(), y.end());
    }
    std::vector<float> y(n * d);
    moe::Workspace workspace;
    layer.forward(moe::view(x.data(), n, d), moe::view(y.data(), n, d), workspace);
    CHECK(moe_test::nmse(y, expected) <= 1e-12);

    CHECK(error_of([&] {
              (void)moe::JoinedExperts(bank(up, down, 1), Bank{Form{},
                                                               {.up = moe::stacked(up.data(), 1, d_ff - 1, d),
                                                                .down = moe::stacked(down.data(), 1, d, d_ff - 1)}});
          }).code == ErrorCode::shape);
    std::vector<float> over(shared_up);
    over.resize(over.size() + n * d);
    const moe::MoELayer views{moe::Router{moe::view(router.data(), routed + 1, d), moe::TokenChoice<>{}},
                              moe::JoinedExperts{bank(up, down, routed), bank(over, shared_down, 1)}};
    CHECK(error_of([&] { views.forward(moe::view(x.data(), n, d), moe::view(over.data(), n, d), workspace); }).code ==
          ErrorCode::layout);
}

TEST_CASE("one gated shared expert is a bank and a row of weights", "[composition]") {
    moe_test::LayerShape shape;
    shape.d_model = d;
    shape.d_ff = 9;
    shape.shared_widths = {17};
    shape.shared_mode = moe::SharedMode::gated;
    const moe_test::LayerCase<float> layer_case(shape, 5);
    const auto given = layer_case.layer(moe::TokenChoice<>{.top_k = 2});
    const auto gate = matrix(21, d);
    const auto bank = given.shared().experts().front();
    std::vector<moe_test::LayerCase<float>::Bank> list{bank};
    const moe::MoELayer expected{layer_case.router(moe::TokenChoice<>{.top_k = 2}), layer_case.bank(),
                                 moe::SharedExperts(list, moe::stacked(gate.data(), 1, 1, d))};
    const auto x = matrix(22, n * d);
    const auto run = [&](const auto& layer) {
        std::vector<float> y(n * d);
        moe::Workspace workspace;
        layer.forward(moe::view(x.data(), n, d), moe::view(y.data(), n, d), workspace);
        return y;
    };
    const moe::MoELayer by_stack{layer_case.router(moe::TokenChoice<>{.top_k = 2}), layer_case.bank(),
                                 moe::SharedExperts{bank, moe::stacked(gate.data(), 1, 1, d)}};
    const moe::MoELayer by_view{layer_case.router(moe::TokenChoice<>{.top_k = 2}), layer_case.bank(),
                                moe::SharedExperts{bank, moe::view(gate.data(), 1, d)}};
    CHECK(by_stack.shared().mode() == moe::SharedMode::gated);
    CHECK(moe_test::same_bits(run(by_stack), run(expected)));
    CHECK(moe_test::same_bits(run(by_view), run(expected)));
    const auto two_rows = error_of([&] { (void)moe::SharedExperts(bank, moe::view(gate.data(), 2, d / 2)); });
    CHECK(two_rows.code == ErrorCode::shape);
}

TEST_CASE("an expert adds to y, and weighs its tokens", "[composition]") {
    moe_test::LayerShape shape;
    shape.d_model = d;
    shape.d_ff = 50;
    const moe_test::LayerCase<float> layer_case(shape, 6);
    const moe::Expert expert{layer_case.bank().expert(1)};
    const auto x = matrix(31, n * d);
    const auto weights = matrix(32, n);
    const auto before = matrix(33, n * d);
    const auto run = [&](const moe::ExpertOptions<float>& options, std::size_t workers) {
        std::vector<float> y = before;
        moe::Workspace workspace;
        expert.forward(moe::view(x.data(), n, d), moe::view(y.data(), n, d), workspace,
                       moe_test::ThreadExecutor(workers), options);
        CHECK(workspace.capacity() == expert.workspace_bytes(n, workers));
        return y;
    };
    const std::vector<float> alone = run({}, 1);
    reference::Vector expected;
    for (std::size_t i = 0; i < n * d; ++i) {
        expected.push_back(static_cast<double>(before[i]) +
                           static_cast<double>(weights[i / d]) * static_cast<double>(alone[i]));
    }
    for (const std::size_t workers : {1U, 3U}) {
        CHECK(moe_test::nmse(run({.accumulate = true, .weights = weights}, workers), expected) <= 1e-13);
    }
    for (std::size_t i = 0; i < n * d; ++i) {
        expected[i] -= static_cast<double>(before[i]);
    }
    CHECK(moe_test::nmse(run({.weights = weights}, 1), expected) <= 1e-13);
    const std::vector<float> few(n - 1);
    const auto error = error_of([&] { (void)run({.weights = few}, 1); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("22 weights for 23 tokens"));
}

TEST_CASE("a plain product: rows times a matrix, a bias, in any storage", "[composition]") {
    for (const std::size_t outputs : {1U, 7U, 64U, 200U}) {
        const auto weight = matrix(41, outputs * d);
        const auto bias = matrix(42, outputs);
        const auto x = matrix(43, n * d);
        const moe::Linear<float> linear(moe::stacked(weight.data(), 1, outputs, d), bias);
        reference::Vector expected;
        for (std::size_t t = 0; t < n; ++t) {
            const reference::Vector y =
                reference::linear(wide(weight), wide(bias),
                                  reference::Vector(x.begin() + static_cast<std::ptrdiff_t>(t * d),
                                                    x.begin() + static_cast<std::ptrdiff_t>((t + 1) * d)),
                                  outputs);
            expected.insert(expected.end(), y.begin(), y.end());
        }
        const auto run = [&](const moe::Linear<float>& map, std::size_t workers) {
            std::vector<float> y(n * (outputs + 3), 7.0F);  // rows apart
            moe::Workspace workspace;
            map.forward(moe::view(x.data(), n, d), moe::view(y.data(), n, outputs, outputs + 3), workspace,
                        moe_test::ThreadExecutor(workers));
            std::vector<float> dense;
            for (std::size_t t = 0; t < n; ++t) {
                const auto row = y.begin() + static_cast<std::ptrdiff_t>(t * (outputs + 3));
                dense.insert(dense.end(), row, row + static_cast<std::ptrdiff_t>(outputs));
                CHECK(std::vector<float>(row + static_cast<std::ptrdiff_t>(outputs),
                                         row + static_cast<std::ptrdiff_t>(outputs + 3)) ==
                      std::vector<float>(3, 7.0F));
            }
            return dense;
        };
        const std::vector<float> y = run(linear, 1);
        CHECK(moe_test::nmse(y, expected) <= 1e-12);
        CHECK(moe_test::same_bits(run(linear.packed(moe::SerialExecutor{}), 3), y));
        std::vector<float> wrong(n * outputs);
        moe::Workspace workspace;
        const auto error = error_of(
            [&] { linear.forward(moe::view(x.data(), n, d - 1), moe::view(wrong.data(), n, outputs), workspace); });
        CHECK(error.code == ErrorCode::shape);
        CHECK_THAT(error.text, contains("23 x 36"));
    }
    moe::Workspace workspace;
    std::vector<float> y(d);
    const auto none = error_of([&] {
        moe::Linear<float>().forward(moe::view(std::as_const(y).data(), 1, d), moe::view(y.data(), 1, d), workspace);
    });
    CHECK(none.code == ErrorCode::state);
}

TEST_CASE("mixture of depths: a block sees the tokens that a gate takes, the others pass", "[composition]") {
    const auto row = matrix(51, d);
    const auto x = matrix(52, n * d);
    const auto logits = [&] {
        reference::Vector result;
        for (std::size_t t = 0; t < n; ++t) {
            result.push_back(reference::linear(wide(row), {},
                                               reference::Vector(x.begin() + static_cast<std::ptrdiff_t>(t * d),
                                                                 x.begin() + static_cast<std::ptrdiff_t>((t + 1) * d)),
                                               1)[0]);
        }
        return result;
    }();
    // a block that mixes its tokens, as attention does: every row becomes the sum of those up to it
    const auto block = [](moe::MatrixView<const float> taken, moe::MatrixView<float> out,
                          std::span<const moe::Index> tokens) {
        REQUIRE(taken.rows() == tokens.size());
        for (std::size_t r = 0; r < taken.rows(); ++r) {
            for (std::size_t i = 0; i < taken.cols(); ++i) {
                out(r, i) = (r > 0 ? out(r - 1, i) : 0.0F) + taken(r, i);
            }
        }
    };
    const auto check = [&](const auto& gate, const std::vector<bool>& takes) {
        const moe::MixtureOfDepths depths{moe::Router{moe::view(row.data(), 1, d), gate}};
        reference::Vector expected = wide(x);
        reference::Vector sum(d, 0.0);
        for (std::size_t t = 0; t < n; ++t) {
            for (std::size_t i = 0; i < d && takes[t]; ++i) {
                sum[i] += static_cast<double>(x[t * d + i]);
                expected[t * d + i] += logits[t] * sum[i];
            }
        }
        for (const std::size_t workers : {1U, 3U}) {
            std::vector<float> y(n * d);
            moe::Workspace workspace;
            depths.forward(moe::view(x.data(), n, d), moe::view(y.data(), n, d), workspace, block,
                           moe_test::ThreadExecutor(workers));
            CHECK(moe_test::nmse(y, expected) <= 1e-11);
            CHECK(workspace.capacity() == depths.workspace_bytes(n, d, workers));
        }
    };
    std::vector<bool> best(n, false);
    for (const moe::ExpertId t : reference::top_k(logits, 6)) {
        best[static_cast<std::size_t>(t)] = true;
    }
    check(moe::ExpertChoice<moe::Identity>{.capacity_factor = 6.0 / n}, best);  // of a batch
    std::vector<bool> above(n);
    for (std::size_t t = 0; t < n; ++t) {
        above[t] = logits[t] > 0.1;
    }
    check(moe::Threshold<moe::Identity>{.threshold = 0.1}, above);  // causal: each token by itself
    check(moe::Threshold<moe::Identity>{.threshold = 1e9}, std::vector<bool>(n, false));

    const auto two = matrix(53, 2 * d);
    const auto error = error_of([&] {
        (void)moe::MixtureOfDepths(moe::Router{moe::view(two.data(), 2, d), moe::Threshold<moe::Identity>{}});
    });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("not 2"));
}

}  // namespace moe_test::other_compositions_test
