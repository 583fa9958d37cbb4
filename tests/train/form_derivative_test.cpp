#include <cmath>
#include <cstddef>
#include <limits>

#include "moe/train/backward/form_derivative.hpp"
#include "support/catch.hpp"

namespace moe_test::form_derivative_test {

namespace {

/// Known to scalars only, with its derivative.
struct Cubic {
    double operator()(double x) const { return x * x * x; }
    double derivative(double x) const { return 3 * x * x; }
};

/// The largest error against central differences, relative to 1 + the derivative; of vectors against scalars, 1e-4.
template <class Form>
double worst_error(const Form& form) {
    double worst = 0;
    constexpr double h = 1e-6;
    const auto value = [&](double gate, double up) {
        if constexpr (Form::gated()) {
            return static_cast<double>(form(gate, up));
        } else {
            return static_cast<double>(form(up));
        }
    };
    for (double gate = -6.03; gate < 6; gate += 0.37) {
        for (double up = -8.01; up < 8; up += 0.53) {
            const auto d = moe::differentiate(form, gate, up);
            const double by_gate = (value(gate + h, up) - value(gate - h, up)) / (2 * h);
            const double by_up = (value(gate, up + h) - value(gate, up - h)) / (2 * h);
            const double error = std::max(std::abs(by_gate - d.by_gate), std::abs(by_up - d.by_up));
            worst = std::max(worst, error / (1 + std::abs(by_gate) + std::abs(by_up)));
            CHECK(d.value == value(gate, up));
            std::array<float, moe::lanes<float>> lanes;
            const auto v = moe::differentiate(form, moe::Vector<float>(static_cast<float>(gate)),
                                              moe::Vector<float>(static_cast<float>(up)));
            moe::store(lanes.data(), v.by_up);
            const bool close = std::abs(static_cast<double>(lanes[0]) - d.by_up) <= 1e-4 * (1 + std::abs(d.by_up));
            worst = close ? worst : 1.0;
        }
    }
    return worst;
}

}  // namespace

TEST_CASE("derivatives of all forms are their differences", "[gradients]") {
    for (int kind = 0; kind <= static_cast<int>(moe::FormKind::clamped_after); ++kind) {
        const moe::AnyForm any{.kind = static_cast<moe::FormKind>(kind), .limit = 2.3};
        INFO("form " << kind);
        CHECK(moe::visit_form(any, [](const auto& form) { return worst_error(form); }) <= 1e-8);
    }
    CHECK(worst_error(moe::Gated<Cubic>{}) <= 1e-7);
    CHECK(worst_error(moe::Plain<Cubic>{}) <= 1e-7);
}

TEST_CASE("kinks pass what PyTorch passes, and a NaN stays one", "[gradients]") {
    CHECK(moe::differentiate(moe::Plain<moe::Relu>{}, 0.0, 0.0).by_up == 0);
    CHECK(moe::differentiate(moe::Plain<moe::Relu>{}, 0.0, -std::numeric_limits<double>::infinity()).by_up == 0);
    const moe::SwiGLUOai clamped{.limit = 2, .alpha = 1.702};
    CHECK(moe::differentiate(clamped, 2.0, 2.0).by_gate != 0);
    CHECK(moe::differentiate(clamped, 2.0, 2.0).by_up != 0);
    CHECK(moe::differentiate(clamped, 2.0001, 1.0).by_gate == 0);
    CHECK(moe::differentiate(clamped, 1.0, -2.0001).by_up == 0);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    CHECK(std::isnan(moe::differentiate(moe::Plain<moe::Relu>{}, 0.0, nan).by_up));
    CHECK(std::isnan(moe::differentiate(moe::Gated<moe::Silu>{}, nan, 1.0).by_gate));
}

}  // namespace moe_test::form_derivative_test
