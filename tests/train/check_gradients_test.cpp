#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "layer/reference/cases.hpp"
#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"

namespace moe_test::check_gradients_test {

/// The check of gradients: right layers of every kind pass, planted mistakes do not, and what is wrong is named.
namespace {

using moe::ErrorCode;
using moe_test::contains;
using moe_test::error_of;

enum class Mistake { none, sign, factor, missing_term, one_expert, nan };

/// Top-2 of a softmax, normalised, whose gradient may be wrong.
struct PlantedGate {
    Mistake mistake = Mistake::none;
    moe::TokenChoice<moe::Softmax> right{.top_k = 2, .normalize = true};

    [[nodiscard]] int max_per_token(int) const { return 2; }
    int select(std::span<const double> logits, moe::BasicSelection<double> out) const {
        return right.select(logits, out);
    }
    void backward(std::span<const double> logits, const moe::Chosen<double>& chosen, std::span<const double> d_weights,
                  std::span<double> d_logits) const {
        std::vector<double> before(d_logits.begin(), d_logits.end());
        if (mistake == Mistake::missing_term) {  // the sum that divides is no constant
            moe::weigh_backward<double>(moe::Softmax{}, moe::Normalize::none(), 1, logits, chosen, d_weights, d_logits);
        } else {
            right.backward(logits, chosen, d_weights, d_logits);
        }
        for (std::size_t i = 0; i < d_logits.size(); ++i) {
            double& added = d_logits[i];
            added -= before[i];
            added *= mistake == Mistake::sign                   ? -1
                     : mistake == Mistake::factor               ? 1.0001
                     : mistake == Mistake::one_expert && i == 3 ? 1.01
                     : mistake == Mistake::nan && added > 0     ? std::numeric_limits<double>::quiet_NaN()
                                                                : 1;
            added += before[i];
        }
    }
};

/// x sigmoid(x), whose derivative may be wrong; only scalars.
struct PlantedActivation {
    Mistake mistake = Mistake::none;
    double operator()(double x) const { return x / (1 + std::exp(-x)); }
    [[nodiscard]] double derivative(double x) const {
        const double s = 1 / (1 + std::exp(-x));
        switch (mistake) {
            case Mistake::sign: return -s * (1 + x * (1 - s));
            case Mistake::factor: return 1.0001 * s * (1 + x * (1 - s));
            case Mistake::missing_term: return s;
            case Mistake::nan: return x > 0 ? std::numeric_limits<double>::quiet_NaN() : s;
            default: return s * (1 + x * (1 - s));
        }
    }
};

/// A gate for float alone, in a layer of double.
struct FloatGate {
    double factor = 1;
    [[nodiscard]] int max_per_token() const { return 2; }
    int select(std::span<const float> logits, moe::Selection out) const {
        return moe::TokenChoice<>{.top_k = 2}.select(logits, out);
    }
    void backward(std::span<const float> logits, const moe::Chosen<float>& chosen, std::span<const float> d_weights,
                  std::span<float> d_logits) const {
        moe::weigh_backward<float>(moe::Softmax{}, moe::Normalize::none(), factor, logits, chosen, d_weights, d_logits);
    }
};

constexpr std::size_t n_experts = 6;
constexpr std::size_t d = 7;
constexpr std::size_t d_ff = 11;
constexpr std::size_t n = 9;

/// Weights and tokens of a small layer, constants.
struct Data {
    const std::vector<double> router = numbers(n_experts * d, 1, 2);
    const std::vector<double> gate = numbers(n_experts * d_ff * d, 2, 1);
    const std::vector<double> up = numbers(n_experts * d_ff * d, 3, 1);
    const std::vector<double> down = numbers(n_experts * d * d_ff, 4, 1);
    const std::vector<double> bias = numbers(n_experts * d_ff, 5, 1);
    const std::vector<double> x = numbers(n * d, 6, 2);

    static std::vector<double> numbers(std::size_t count, std::uint64_t seed, double size) {
        moe_test::Draw draw(seed);
        return moe_test::random_elements<double>(draw, count, size);
    }
    [[nodiscard]] auto x_view() const { return moe::view(x.data(), n, d); }
    template <class Gate>
    [[nodiscard]] auto router_with(Gate choose) const {
        return moe::Router{moe::view(router.data(), n_experts, d), std::move(choose)};
    }
    [[nodiscard]] moe::ExpertWeights<double> weights() const {
        return {.gate = moe::stacked(gate.data(), n_experts, d_ff, d),
                .up = moe::stacked(up.data(), n_experts, d_ff, d),
                .down = moe::stacked(down.data(), n_experts, d, d_ff),
                .up_bias = moe::stacked(bias.data(), n_experts, d_ff, 1)};
    }
    template <class Form>
    [[nodiscard]] moe::ExpertBank<double, Form> bank(Form form) const {
        return {form, weights()};
    }
};

const moe::GradientCheck::Group& group_of(const moe::GradientCheck& check, const std::string& name) {
    for (const auto& group : check.groups) {
        if (group.name == name) {
            return group;
        }
    }
    FAIL("there is no group " << name);
    return check.groups.front();
}

}  // namespace

TEST_CASE("right layers pass: random ones of every form, option and rule", "[check_gradients]") {
    double worst = 0;
    std::size_t checked = 0;
    std::size_t skipped = 0;
    for (std::uint64_t seed = 0; seed < 120; ++seed) {
        Draw draw(seed);
        const LayerShape shape = random_layer_shape(draw, 20, 6);
        const std::size_t width = shape.d_model;
        const std::size_t router_inputs = seed % 4 == 0 ? width + 3 : width;
        const ReferenceCase<double> c(draw, shape, router_inputs);
        GateMemory memory;
        const moe::MoELayer layer{c.router(random_choice(draw, shape.n_choices(), memory)), c.bank(), c.shared(),
                                  c.options()};
        const std::size_t tokens = std::vector<std::size_t>{1, 2, 7}[seed % 3];
        const auto x = random_elements<double>(draw, tokens * width, 1);
        const auto own = random_elements<double>(draw, tokens * router_inputs, 1);
        moe::GradientCheckOptions options{.samples = 6, .directions = 2, .seed = seed};
        std::vector<std::uint8_t> valid(tokens, 1);
        if (seed % 4 == 0) {
            options.forward.router_input = moe::view(own.data(), tokens, router_inputs);
        }
        if (seed % 5 == 0) {
            valid.back() = 0;
            options.forward.valid = valid;
        }
        const moe::GradientCheck check = moe::check_gradients(layer, moe::view(x.data(), tokens, width), options);
        INFO("seed " << seed << "\n" << check.text());
        const moe::OwnedGradients gradients = moe::gradients_of(layer);
        REQUIRE(check.groups.size() == gradients.groups().size() + (seed % 4 == 0 ? 2 : 1));
        for (const auto& group : check.groups) {
            REQUIRE((group.passed() || group.skipped > 0));  // undecided: a choice between equals
            REQUIRE(group.error <= 1e-6);
            worst = std::max(worst, group.error);
            checked += group.checked;
            skipped += group.skipped;
        }
    }
    INFO(worst << ", " << checked << " differences, " << skipped << " skipped");
    CHECK(worst <= 7.5e-7);  // where rounding is all there is, its bound is 1e-6
    CHECK(checked > 5000);
    CHECK(skipped < checked / 50);
}

TEST_CASE("planted mistakes of a gate are found, in the router and in x and nowhere else", "[check_gradients]") {
    const Data data;
    for (const Mistake mistake :
         {Mistake::none, Mistake::sign, Mistake::factor, Mistake::missing_term, Mistake::one_expert, Mistake::nan}) {
        const moe::MoELayer layer{data.router_with(PlantedGate{mistake}), data.bank(moe::Gated<moe::Silu>{})};
        const moe::GradientCheck check = moe::check_gradients(layer, data.x_view());
        INFO(static_cast<int>(mistake) << "\n" << check.text());
        const bool right = mistake == Mistake::none;
        CHECK(check.passed() == right);
        CHECK(group_of(check, "router").passed() == right);
        CHECK(group_of(check, "x").passed() == right);
        CHECK(group_of(check, "experts.gate").passed());
        CHECK(group_of(check, "experts.down").passed());
        CHECK(check.skipped() == 0);
        CHECK((check.text().find("WRONG") == std::string::npos) == right);
    }
}

TEST_CASE("planted mistakes of an activation are found", "[check_gradients]") {
    const Data data;
    for (const Mistake mistake : {Mistake::none, Mistake::sign, Mistake::factor, Mistake::missing_term, Mistake::nan}) {
        const moe::MoELayer layer{data.router_with(PlantedGate{}), data.bank(moe::Gated<PlantedActivation>{{mistake}})};
        const moe::GradientCheck check = moe::check_gradients(layer, data.x_view());
        INFO(static_cast<int>(mistake) << "\n" << check.text());
        const bool right = mistake == Mistake::none;
        CHECK(check.passed() == right);
        CHECK(group_of(check, "experts.gate").passed() == right);
        CHECK(group_of(check, "experts.up").passed());  // its derivative is the activation
        CHECK(group_of(check, "experts.up_bias").passed());
        CHECK(group_of(check, "x").passed() == right);
    }
}

TEST_CASE("what is wrong in one place is named, with directions alone", "[check_gradients]") {
    const Data data;
    const moe::MoELayer layer{data.router_with(PlantedGate{Mistake::one_expert}), data.bank(moe::Gated<moe::Silu>{})};
    const moe::GradientCheck check = moe::check_gradients(layer, data.x_view(), {.samples = 0, .directions = 2});
    const auto& router = group_of(check, "router");
    INFO(check.text());
    CHECK_FALSE(router.passed());
    CHECK(router.worst.substr(0, 9) == "router(3,");
    CHECK(std::abs(router.gradient / router.difference - 1.01) < 1e-6);
    CHECK_FALSE(check.passed());
    CHECK(check.passed(0.02));
    CHECK((check.worst().name == "router" || check.worst().name == "x"));
    CHECK_THAT(check.text(), contains("WRONG") && contains("most at router(3, "));
}

TEST_CASE("a choice between equals is skipped, and said so", "[check_gradients]") {
    Data data;
    std::vector<double> router = data.router;
    std::copy_n(router.begin(), d, router.begin() + d);  // experts 0 and 1 have equal logits, always
    const moe::MoELayer layer{moe::Router{moe::view(router.data(), n_experts, d), moe::TokenChoice<>{.top_k = 1}},
                              data.bank(moe::Gated<moe::Silu>{})};
    const moe::GradientCheck check =
        moe::check_gradients(layer, data.x_view(), {.samples = n_experts * d, .directions = 0});
    INFO(check.text());
    CHECK(group_of(check, "router").skipped > 0);
    CHECK(group_of(check, "router").passed());
    CHECK(check.skipped() == group_of(check, "router").skipped);
    CHECK_THAT(check.text(), contains(" skipped: the routing changes"));
    const moe::GradientCheck only = moe::check_gradients(layer, data.x_view(), {.samples = 0, .directions = 1});
    INFO(only.text());
    CHECK(group_of(only, "router").checked == 0);
    CHECK_FALSE(group_of(only, "router").passed());
    CHECK_FALSE(only.passed());
    CHECK_THAT(only.text(), contains("NOT CHECKED"));
}

TEST_CASE("a step across another choice is halved, one across a kink is made smaller", "[check_gradients]") {
    const Data data;
    std::vector<double> router(n_experts * d);
    for (std::size_t i = 0; i < d; ++i) {  // the first token is for expert 0, and for 1 almost as much
        router[i] = data.x[i];
        router[d + i] = data.x[i] - (data.x[i] > 0 ? 1e-7 : -1e-7);
    }
    const auto plain = data.bank(moe::Gated<moe::Silu>{});
    const moe::MoELayer undecided{moe::Router{moe::view(router.data(), n_experts, d), moe::TokenChoice<>{.top_k = 1}},
                                  plain};
    const moe::GradientCheck choice = moe::check_gradients(undecided, moe::view(data.x.data(), 1, d), {.samples = 50});
    INFO(choice.text());
    CHECK(choice.passed());
    CHECK(choice.skipped() == 0);

    std::vector<double> up = data.up;
    double sum = 0;
    for (std::size_t i = 0; i + 1 < d; ++i) {
        sum += up[i] * data.x[i];
    }
    up[d - 1] = (1e-7 - sum) / data.x[d - 1];  // the first hidden value of expert 0 for the first token is 1e-7
    std::copy_n(data.router.begin(), d, router.begin() + d);
    const moe::MoELayer kinked{
        moe::Router{moe::view(router.data(), n_experts, d), moe::TokenChoice<>{.top_k = 1}},
        moe::ExpertBank<double, moe::Plain<moe::Relu>>(
            {}, {.up = moe::stacked(up.data(), n_experts, d_ff, d), .down = data.weights().down})};
    const moe::GradientCheck kink =
        moe::check_gradients(kinked, moe::view(data.x.data(), 1, d), {.samples = n_experts * d_ff * d});
    INFO(kink.text());
    CHECK(kink.passed());
    CHECK(group_of(kink, "experts.up").largest > 0.1);
}

TEST_CASE("a router that learns nothing is told by its gradient, 0", "[check_gradients]") {
    const Data data;
    const moe::MoELayer layer{data.router_with(moe::TokenChoice<>{.top_k = 1, .normalize = true}),
                              data.bank(moe::Gated<moe::Silu>{})};
    const moe::GradientCheck check = moe::check_gradients(layer, data.x_view());
    INFO(check.text());
    CHECK(check.passed());
    CHECK(group_of(check, "router").largest < 1e-9);
    CHECK(group_of(check, "experts.up").largest > 0.01);
}

TEST_CASE("gates for float, any gate, no router, another gate, a gate that hides its gradient", "[check_gradients]") {
    const Data data;
    const auto bank = data.bank(moe::Gated<moe::Silu>{});
    const auto check = [&](const auto& gate) {
        const moe::MoELayer layer{data.router_with(gate), bank};
        return moe::check_gradients(layer, data.x_view());
    };
    const moe::GradientCheck narrow = check(FloatGate{});
    INFO(narrow.text());
    CHECK(narrow.passed());
    CHECK(group_of(narrow, "router").error > 1e-9);  // it is no double
    CHECK(group_of(narrow, "experts.up").error < 1e-7);
    CHECK_FALSE(check(FloatGate{1.02}).passed());
    CHECK(check(moe::AnyGate(moe::TokenChoice<>{.top_k = 2})).passed());
    CHECK(check(moe::Numeric{PlantedGate{}.right}).passed());
    CHECK_FALSE(group_of(check(moe::Detached{PlantedGate{}}), "router").passed());
    CHECK(
        check(moe::Capacity<moe::TokenChoice<>>{.gate = {.top_k = 2}, .limit = moe::CapacityLimit::fixed(3)}).passed());

    const moe::MoELayer scattered{moe::Router<double, moe::RoundRobin>(n_experts, moe::RoundRobin{.top_k = 2}), bank};
    const moe::GradientCheck without = moe::check_gradients(scattered, data.x_view());
    CHECK(without.passed());
    CHECK(without.groups.front().name == "experts.gate");
}

TEST_CASE("the weights of the layer stay as they are, and joined banks are checked as one", "[check_gradients]") {
    const Data data;
    const std::vector<double> before = data.up;
    using Bank = moe::ExpertBank<double, moe::Plain<moe::Relu>>;
    const auto stack = [&](std::size_t first, std::size_t count, std::size_t rows, std::size_t cols) {
        return moe::stacked(data.up.data() + first * d_ff * d, count, rows, cols);
    };
    const Bank two({}, {.up = stack(0, 2, d_ff, d), .down = stack(1, 2, d, d_ff)});
    const Bank four({}, {.up = stack(2, 4, d_ff, d),
                         .down = moe::transpose(stack(0, 4, d_ff, d)),
                         .down_bias = moe::stacked(data.bias.data(), 4, d, 1)});
    const moe::MoELayer layer{data.router_with(moe::TokenChoice<>{.top_k = 3}), moe::JoinedExperts{two, four},
                              moe::SharedExperts<Bank>(two.expert(1), moe::stacked(data.router.data(), 1, 1, d))};
    const moe::GradientCheck check = moe::check_gradients(layer, data.x_view(), {.samples = 40});
    INFO(check.text());
    CHECK(check.passed());
    CHECK(group_of(check, "experts.down_bias").checked == 44);
    CHECK(group_of(check, "shared_gate").checked == d + 4);
    CHECK(moe_test::same_bits(data.up, before));
    const auto other = layer.with_gate(moe::TopP<>{.mass = 0.5});
    CHECK(moe::check_gradients(other, data.x_view()).passed());
}

TEST_CASE("the same seed gives the same check; settings and calls that cannot be are refused", "[check_gradients]") {
    const Data data;
    const moe::MoELayer layer{data.router_with(moe::TokenChoice<>{.top_k = 2}), data.bank(moe::Gated<moe::Silu>{})};
    const auto check = [&](const moe::GradientCheckOptions& options) {
        return moe::check_gradients(layer, data.x_view(), options);
    };
    CHECK(check({.seed = 5}).text() == check({.seed = 5}).text());
    CHECK(check({.seed = 5}).text() != check({.seed = 6}).text());
    CHECK(check({.step = 1e-4}).passed(1e-5));
    CHECK_FALSE(check({.step = 0.5}).passed());  // too long for a difference to be a derivative
    CHECK(error_of([&] { (void)check({.step = -1}); }).code == ErrorCode::range);
    CHECK(error_of([&] { (void)check({.samples = 0, .directions = 0}); }).code == ErrorCode::range);
    CHECK(error_of([&] { (void)moe::check_gradients(layer, moe::view(data.x.data(), 0, d)); }).code ==
          ErrorCode::shape);
    CHECK(error_of([&] { (void)moe::check_gradients(layer, moe::view(data.x.data(), n, d - 1)); }).code ==
          ErrorCode::shape);
    const moe::MoELayer packed{layer.router().packed(), layer.experts()};
    CHECK(error_of([&] { (void)moe::check_gradients(packed, data.x_view()); }).code == ErrorCode::state);
}

}  // namespace moe_test::check_gradients_test
