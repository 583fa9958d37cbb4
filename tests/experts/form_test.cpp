#include "moe/experts/any_form.hpp"

#include <cmath>
#include <cstddef>
#include <vector>

#include "experts/bank_runner.hpp"
#include "moe/experts/packed_experts.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::form_test {

using moe::AnyForm;
using moe::FormKind;
using moe_test::run_experts;

namespace {

/// The bits of a bank whose form is known when compiling, against those of AnyForm, viewed and packed.
template <class W, class Form>
void check(FormKind kind, const Form& form) {
    using T = moe::ComputeType<W>;
    INFO("form " << static_cast<int>(kind));
    moe_test::Draw draw(static_cast<std::uint64_t>(kind) + 1);
    const moe_test::BankWeights<W> weights(draw, 2, 37, 41, Form::gated(), true);
    const std::vector<T> x = moe_test::random_elements<T>(draw, 5 * weights.d_model, 2);
    const moe::ExpertBank<W, Form> fixed(form, weights.stacks());
    const moe::ExpertBank<W, AnyForm> any({kind, 0.75, 1.5}, weights.stacks());
    const std::vector<T> expected = run_experts(fixed, x);
    REQUIRE(moe_test::all_finite(expected));
    REQUIRE(moe_test::same_bits(run_experts(any, x), expected));
    REQUIRE(moe_test::same_bits(run_experts(moe::PackedExperts(any), x), expected));
    REQUIRE(moe_test::same_bits(run_experts(moe::PackedExperts(fixed), x), expected));
}

template <class W>
void check_all() {
    check<W>(FormKind::swiglu, moe::Gated<moe::Silu>{});
    check<W>(FormKind::geglu, moe::Gated<moe::Gelu>{});
    check<W>(FormKind::geglu_tanh, moe::Gated<moe::GeluTanh>{});
    check<W>(FormKind::reglu, moe::Gated<moe::Relu>{});
    check<W>(FormKind::sigmoid_glu, moe::Gated<moe::SigmoidActivation>{});
    check<W>(FormKind::relu, moe::Plain<moe::Relu>{});
    check<W>(FormKind::relu_squared, moe::Plain<moe::ReluSquared>{});
    check<W>(FormKind::gelu, moe::Plain<moe::Gelu>{});
    check<W>(FormKind::gelu_tanh, moe::Plain<moe::GeluTanh>{});
    check<W>(FormKind::silu, moe::Plain<moe::Silu>{});
    check<W>(FormKind::identity, moe::Plain<moe::IdentityActivation>{});
    check<W>(FormKind::swiglu_oai, moe::SwiGLUOai{.limit = 0.75, .alpha = 1.5});
    check<W>(FormKind::clamped_before, moe::ClampedBefore<>{.limit = 0.75});
    check<W>(FormKind::clamped_after, moe::ClampedAfter<>{.limit = 0.75});
}

/// A user's activation, for scalars only.
struct Softsign {
    float operator()(float x) const { return x / (1 + std::abs(x)); }
};
/// The same with a state: its members are part of the form.
struct Leaky {
    float slope = 0.25F;
    float operator()(float x) const { return x < 0 ? slope * x : x; }
};

/// One plain expert without biases in double, from its definition.
template <class Activation>
std::vector<double> defined(const moe_test::BankWeights<float>& w, const std::vector<float>& x,
                            const Activation& activation) {
    std::vector<double> y;
    for (std::size_t row = 0; row < x.size() / w.d_model; ++row) {
        std::vector<double> hidden(w.d_ff);
        for (std::size_t f = 0; f < w.d_ff; ++f) {
            double sum = 0;
            for (std::size_t k = 0; k < w.d_model; ++k) {
                sum += static_cast<double>(w.up[f * w.d_model + k]) * static_cast<double>(x[row * w.d_model + k]);
            }
            hidden[f] = static_cast<double>(activation(static_cast<float>(sum)));
        }
        for (std::size_t m = 0; m < w.d_model; ++m) {
            double sum = 0;
            for (std::size_t f = 0; f < w.d_ff; ++f) {
                sum += static_cast<double>(w.down[m * w.d_ff + f]) * hidden[f];
            }
            y.push_back(sum);
        }
    }
    return y;
}

}  // namespace

TEST_CASE("AnyForm gives the bits of the form it names", "[form]") {
    check_all<float>();
    check_all<double>();
    check_all<moe::bfloat16>();
}

TEST_CASE("AnyForm knows which forms are gated", "[form]") {
    for (int kind = 0; kind <= static_cast<int>(FormKind::clamped_after); ++kind) {
        const AnyForm any{static_cast<FormKind>(kind)};
        moe::visit_form(any, [&](const auto& form) { CHECK(any.gated() == form.gated()); });
    }
}

TEST_CASE("AnyForm of no kind names the number", "[form]") {
    const auto error =
        moe_test::error_of([] { moe::visit_form(AnyForm{static_cast<FormKind>(77)}, [](const auto&) {}); });
    CHECK(error.code == moe::ErrorCode::range);
    CHECK_THAT(error.text, moe_test::contains("77"));
}

TEST_CASE("a user's activation for scalars makes an expert", "[form]") {
    moe_test::Draw draw(11);
    const moe_test::BankWeights<float> weights(draw, 1, 21, 45, false, false);
    const std::vector<float> x = moe_test::random_elements<float>(draw, 4 * weights.d_model, 1);
    const moe::ExpertBank<float, moe::Plain<Softsign>> bank({}, weights.stacks());
    CHECK(moe_test::nmse(run_experts(bank, x), defined(weights, x, Softsign{})) <= 1e-12);
    CHECK(moe_test::same_bits(run_experts(moe::PackedExperts(bank), x), run_experts(bank, x)));

    const moe::ExpertBank<float, moe::Plain<Leaky>> leaky({.activation = {.slope = 0.5F}}, weights.stacks());
    CHECK(moe_test::nmse(run_experts(leaky, x), defined(weights, x, Leaky{0.5F})) <= 1e-12);
    CHECK_FALSE(moe_test::nmse(run_experts(leaky, x), defined(weights, x, Leaky{0.25F})) <= 1e-6);
}

}  // namespace moe_test::form_test
