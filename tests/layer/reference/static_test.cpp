#include "layer/reference/runner.hpp"

namespace moe_test::reference_static_test {

/// Forms and gates known when compiling, and an activation of the user's.
namespace {

/// x / (1 + |x|), for scalars alone.
struct Softsign {
    float operator()(float x) const { return x / (1 + std::abs(x)); }
};

template <class Form>
void check_form(const Form& form, const moe::AnyForm& any, const std::function<double(double)>& custom) {
    moe_test::Tally tally;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        moe_test::Draw draw(seed);
        moe_test::LayerShape shape = moe_test::random_layer_shape(draw, 40, 8);
        shape.form = any;
        const moe_test::ReferenceCase<float> layer_case(draw, shape, shape.d_model);
        moe_test::reference::Layer definition = layer_case.definition();
        definition.shared.clear();
        for (moe_test::reference::Expert& expert : definition.experts) {
            expert.custom = custom;
        }
        moe::TokenChoice<moe::Sigmoid> gate{.top_k = static_cast<int>(draw.size(1, shape.n_choices()))};
        gate.normalize = draw.coin();
        moe_test::RuntimeChoice same;
        same.score.kind = moe::ScoreKind::sigmoid;
        same.top_k = gate.top_k;
        same.normalize = gate.normalize;
        const moe_test::Call<float> call(draw, draw.size(1, 20), shape.d_model, shape.d_model);
        const moe::ExpertBank bank(form, layer_case.bank().weights());
        const auto outcome =
            moe_test::forward(moe::MoELayer{layer_case.router(gate), bank, layer_case.options()}, call);
        tally.add(moe_test::ReferenceCheck<float>(definition, call, outcome, tally).run(moe_test::choice_case(same)),
                  "seed " + std::to_string(seed));
    }
    INFO(tally.first_failure);
    CHECK(tally.failures == 0);
    CHECK(tally.cases == 200);
    CHECK(tally.whole > 100);
    CHECK(tally.error <= 1e-12 * tally.power);
    CHECK(tally.whole_error <= 1e-12 * tally.whole_power);
}

double softsign(double x) { return x / (1 + std::abs(x)); }

}  // namespace

TEST_CASE("static forms and a static gate compute what the definition says", "[reference]") {
    check_form(moe::Gated<moe::Silu>{}, {.kind = moe::FormKind::swiglu}, {});
    check_form(moe::ClampedAfter<moe::Silu>{.limit = 0.5}, {.kind = moe::FormKind::clamped_after, .limit = 0.5}, {});
}

TEST_CASE("an activation of the user's, gated and plain", "[reference]") {
    check_form(moe::Gated<Softsign>{}, {.kind = moe::FormKind::swiglu}, softsign);
    check_form(moe::Plain<Softsign>{}, {.kind = moe::FormKind::relu}, softsign);
}

}  // namespace moe_test::reference_static_test
