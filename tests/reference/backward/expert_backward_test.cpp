// One expert: the derivative of every form, at its corners too, and the gradients of all it has.

#include <moe/reference/backward/expert.hpp>

#include <cmath>
#include <limits>

#include "reference/backward/random_cases.hpp"
#include "support/catch.hpp"

namespace moe_test::expert_backward_test {

namespace reference = moe::reference;
using moe_test::Differences;
using moe_test::Numbers;
using reference::Form;
using reference::Vector;

namespace {

reference::Slopes slopes(Form form, double g, double u) {
    reference::Expert expert{.form = form, .limit = 2, .alpha = 1};
    return reference::hidden_slopes(expert, g, u);
}

}  // namespace

TEST_CASE("the derivative of every form is that of central differences", "[reference]") {
    Numbers draw(1);
    Differences differences(2);
    for (std::size_t form = 0; form < moe_test::n_forms; ++form) {
        const reference::Expert expert = moe_test::random_expert(draw, 1, 1, form, false);
        for (int i = 0; i < 200; ++i) {
            Vector v{2 * draw.normal(), 2 * draw.normal()};
            const reference::Slopes exact = reference::hidden_slopes(expert, v[0], v[1]);
            differences.hold("form " + std::to_string(form), v, {exact.gate, exact.up},
                             [&] { return reference::hidden_value(expert, v[0], v[1]); });
        }
    }
    CHECK(differences.problem(6000) == "");
}

TEST_CASE("silu has a negative slope below -1.278", "[reference]") {
    CHECK(reference::silu_slope(-1.2) > 0);
    CHECK(reference::silu_slope(-1.3) < 0);
    CHECK(reference::silu_slope(-6) < 0);
    CHECK(reference::silu_slope(0) == 0.5);
}

TEST_CASE("at its corners a form has the derivative of one side", "[reference]") {
    CHECK(slopes(Form::relu, 0, 0).up == 0);
    CHECK(slopes(Form::relu_squared, 0, 0).up == 0);
    CHECK(slopes(Form::reglu, 0, 3).gate == 0);
    const double beyond = std::nextafter(2.0, 3.0);
    for (const Form form : {Form::clamp_a, Form::clamp_b}) {
        CHECK(slopes(form, 2, 1).gate != 0);
        CHECK(slopes(form, beyond, 1).gate == 0);
        CHECK(slopes(form, beyond, 1).up == slopes(form, 2, 1).up);
        CHECK(slopes(form, -9, 1).gate != 0);
    }
    for (const Form form : {Form::clamp_a, Form::clamp_b, Form::clamp_c}) {
        CHECK(slopes(form, 1, 2).up != 0);
        CHECK(slopes(form, 1, -2).up != 0);
        CHECK(slopes(form, 1, beyond).up == 0);
        CHECK(slopes(form, 1, -beyond).up == 0);
        CHECK(slopes(form, 1, beyond).gate == slopes(form, 1, 2).gate);
    }
    CHECK(slopes(Form::clamp_c, 2.3, 1).gate == 0);  // silu(2.3) > 2
    CHECK(slopes(Form::clamp_c, 2.3, 1).up == 2);
    CHECK(slopes(Form::clamp_c, 2.1, 1).gate != 0);  // silu(2.1) < 2
    CHECK(std::isnan(slopes(Form::clamp_a, std::numeric_limits<double>::quiet_NaN(), 1).up));
}

TEST_CASE("the gradients of an expert are those of central differences", "[reference]") {
    Numbers draw(3);
    Differences differences(4);
    for (std::size_t i = 0; i < 40 * moe_test::n_forms; ++i) {
        const std::size_t d_model = draw.size(1, 5);
        const std::size_t d_ff = draw.size(1, 5);
        reference::Expert expert = moe_test::random_expert(draw, d_model, d_ff, i % moe_test::n_forms, draw.coin());
        Vector x = draw.normals(d_model);
        Vector w{draw.normal()};
        const Vector dy = draw.normals(d_model);
        const bool at_input = draw.coin();
        const auto f = [&] {
            Vector scaled = x;
            for (double& v : scaled) {
                v *= at_input ? w[0] : 1;
            }
            return (at_input ? 1 : w[0]) * moe_test::sum_of_products(reference::run(expert, scaled), dy);
        };
        reference::ExpertGradients gradients = reference::zero_gradients(expert);
        const reference::ChoiceGradient choice = reference::backward_weighted(expert, w[0], at_input, x, dy, gradients);
        const std::string what = "form " + std::to_string(i % moe_test::n_forms) + (at_input ? ", input: " : ": ");
        differences.hold(what + "w", w, {choice.weight}, f);
        differences.hold(what + "x", x, choice.x, f);
        differences.hold(what + "gate", expert.gate, gradients.gate, f);
        differences.hold(what + "up", expert.up, gradients.up, f);
        differences.hold(what + "down", expert.down, gradients.down, f);
        differences.hold(what + "gate bias", expert.gate_bias, gradients.gate_bias, f);
        differences.hold(what + "up bias", expert.up_bias, gradients.up_bias, f);
        differences.hold(what + "down bias", expert.down_bias, gradients.down_bias, f);
    }
    CHECK(differences.problem(6000) == "");
}

TEST_CASE("at weight 0 the weight of an expert still has its gradient", "[reference]") {
    Numbers draw(5);
    for (const bool at_input : {false, true}) {
        const reference::Expert expert = moe_test::random_expert(draw, 3, 3, 0, false);
        const Vector x = draw.normals(3);
        const Vector dy = draw.normals(3);
        reference::ExpertGradients gradients = reference::zero_gradients(expert);
        const auto choice = reference::backward_weighted(expert, 0, at_input, x, dy, gradients);
        // SwiGLU of w x is quadratic in w near 0: its gradient there is 0, that of a weight outside is not.
        CHECK((choice.weight != 0) == !at_input);
        CHECK(choice.x == Vector(3, 0.0));
        CHECK(gradients.up == Vector(9, 0.0));
    }
}

}  // namespace moe_test::expert_backward_test
