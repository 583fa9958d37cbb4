#include "moe/experts/activation.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <vector>

#include "moe/experts/form.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/lanes.hpp"

namespace moe_test::activation_test {

namespace {

using moe_test::map_scalars;
using moe_test::map_vectors;

/// The activation over vectors and over scalars against its definition, absolute below 1 and relative above.
template <class Activation, class Exact>
void check(const char* name, const Exact& exact) {
    INFO(name);
    const auto check_type = [&]<class T>(T epsilon) {
        const std::vector<T> x = moe_test::sample<T>(12);
        for (const std::vector<T>& y : {map_vectors(x, Activation{}), map_scalars(x, Activation{})}) {
            for (std::size_t i = 0; i < x.size(); ++i) {
                const long double expected = exact(static_cast<long double>(x[i]));
                const long double bound = 80 * static_cast<long double>(epsilon) * std::max(1.0L, std::abs(expected));
                INFO("x = " << x[i] << ", y = " << y[i]);
                REQUIRE(std::abs(static_cast<long double>(y[i]) - expected) <= bound);
            }
        }
    };
    check_type(std::numeric_limits<float>::epsilon());
    check_type(std::numeric_limits<double>::epsilon());
}

template <class Activation>
void check_nan() {
    const std::vector<float> x(moe::lanes<float> + 1, std::numeric_limits<float>::quiet_NaN());
    for (const std::vector<float>& y : {map_vectors(x, Activation{}), map_scalars(x, Activation{})}) {
        for (const float value : y) {
            CHECK(std::isnan(value));
        }
    }
}

/// A user's activation that knows scalars only.
struct Cubed {
    float operator()(float x) const { return x * x * x; }
};
/// One that knows scalars of every type.
struct Softsign {
    template <class T>
    requires std::is_floating_point_v<T> T operator()(T x) const { return x / (1 + std::abs(x)); }
};
/// One that chooses between two values, for scalars and vectors.
struct LeakyRelu {
    template <class V>
    V operator()(const V& x) const {
        return moe::math::select(x > moe::math::constant<V>(0), x, V(moe::math::constant<V>(0.125) * x));
    }
};

}  // namespace

TEST_CASE("activations match their definitions", "[activation]") {
    check<moe::Relu>("relu", [](long double x) { return x > 0 ? x : 0; });
    check<moe::ReluSquared>("relu squared", [](long double x) { return x > 0 ? x * x : 0; });
    check<moe::SigmoidActivation>("sigmoid", [](long double x) { return 1 / (1 + std::exp(-x)); });
    check<moe::Silu>("silu", [](long double x) { return x / (1 + std::exp(-x)); });
    check<moe::IdentityActivation>("identity", [](long double x) { return x; });
    check<moe::Gelu>("gelu", [](long double x) { return x / 2 * (1 + std::erf(x / std::sqrt(2.0L))); });
    check<moe::GeluTanh>("gelu, tanh", [](long double x) {
        const long double inner = std::sqrt(2 / std::numbers::pi_v<long double>) * (x + 0.044715L * x * x * x);
        return x / 2 * (1 + std::tanh(inner));
    });
}

TEST_CASE("activations let NaN through", "[activation]") {
    check_nan<moe::Relu>();
    check_nan<moe::ReluSquared>();
    check_nan<moe::SigmoidActivation>();
    check_nan<moe::Silu>();
    check_nan<moe::IdentityActivation>();
    check_nan<moe::Gelu>();
    check_nan<moe::GeluTanh>();
}

TEST_CASE("an activation that knows only scalars is called lane by lane", "[activation]") {
    const std::vector<float> x = moe_test::sample<float>(3);
    const auto through_vectors = map_vectors(x, [](const auto& v) { return moe::activate(Cubed{}, v); });
    CHECK(moe_test::same_bits(through_vectors, map_scalars(x, Cubed{})));
    const std::vector<double> wide = moe_test::sample<double>(3);
    const auto softsign = map_vectors(wide, [](const auto& v) { return moe::activate(Softsign{}, v); });
    CHECK(moe_test::same_bits(softsign, map_scalars(wide, Softsign{})));
}

TEST_CASE("an activation that chooses does so in each lane", "[activation]") {
    check<LeakyRelu>("leaky relu", [](long double x) { return x > 0 ? x : x / 8; });
    check_nan<LeakyRelu>();
}

TEST_CASE("the three clamps differ where they should", "[form]") {
    const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
    const auto close = [](double value) { return Approx(value).epsilon(1e-12); };
    // A: gate cut from above only, up on both sides, plus one
    const moe::SwiGLUOai a{.limit = 7.0, .alpha = 1.702};
    CHECK(a(9.0, 2.0) == close(3 * 7 / (1 + std::exp(-1.702 * 7))));
    CHECK(a(-9.0, 20.0) == close(8 * -9 / (1 + std::exp(1.702 * 9))));
    CHECK(a(1.0, -20.0) == close(-6 / (1 + std::exp(-1.702))));
    // B: the clamp before the activation, C: behind it
    const moe::ClampedBefore<> b{.limit = 2.0};
    CHECK(b(5.0, 5.0) == close(silu(2) * 2));
    CHECK(b(-5.0, -5.0) == close(silu(-5) * -2));
    const moe::ClampedAfter<> c{.limit = 2.0};
    CHECK(c(5.0, -5.0) == close(2 * -2));
    CHECK(c(1.0, 1.0) == close(silu(1)));
    CHECK(c(-5.0, 1.0) == close(silu(-5)));
}

}  // namespace moe_test::activation_test
