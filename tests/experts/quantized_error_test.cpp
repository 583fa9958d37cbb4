#include <cmath>
#include <cstddef>
#include <vector>

#include "experts/packed_formats.hpp"

/// The errors of quantised experts on normal weights and inputs, each apart: of the kernel, against the dequantised
/// weights, and of the format, against the weights as they were.
namespace {

using moe::Compute;
using moe::FormKind;

struct NormalExperts {
    moe_test::BankWeights<float> weights;
    std::vector<float> x;

    NormalExperts(moe_test::Draw draw, const moe::AnyForm& form, std::size_t d_model, std::size_t d_ff, bool biases)
        : weights(draw, 1, d_model, d_ff, form.gated(), biases), x(moe_test::normals(draw, 64 * d_model, 1)) {
        for (auto* const matrix : {&weights.gate, &weights.up}) {
            *matrix = moe_test::normals(draw, matrix->size(), 1 / std::sqrt(static_cast<double>(d_model)));
        }
        weights.down = moe_test::normals(draw, weights.down.size(), 1 / std::sqrt(static_cast<double>(d_ff)));
    }
};

struct Errors {
    double kernel;
    double format;
};

template <class F>
Errors errors_of(const NormalExperts& experts, const moe::AnyForm& form, Compute compute) {
    const moe::ExpertBank<float, moe::AnyForm> bank(form, experts.weights.stacks());
    const auto original = moe_test::run_experts(bank, experts.x);
    const auto exact = moe_test::run_experts(moe::PackedExperts<F, moe::AnyForm>(bank), experts.x);
    const auto computed =
        moe_test::run_experts(moe::PackedExperts<F, moe::AnyForm>(bank, moe::SerialExecutor{}, compute), experts.x);
    return {moe_test::nmse(computed, exact), moe_test::nmse(exact, original)};
}

template <class F>
void check_errors(double format_error) {
    for (int kind = 0; kind <= static_cast<int>(FormKind::clamped_after); ++kind) {
        for (const std::size_t d_model : {32U, 100U, 512U}) {
            for (const std::size_t d_ff : {64U, 75U, 384U}) {
                const moe::AnyForm form{.kind = static_cast<FormKind>(kind), .limit = 2.0};
                const NormalExperts experts(moe_test::Draw(d_model + d_ff), form, d_model, d_ff, kind % 2 == 1);
                const Errors errors = errors_of<F>(experts, form, Compute::int8);
                INFO("form " << kind << ", d_model " << d_model << ", d_ff " << d_ff);
                CHECK(errors.kernel <= 2e-4);
                CHECK(errors.kernel >= 1e-5);
                CHECK(errors.format <= format_error);
            }
        }
    }
}

}  // namespace

TEST_CASE("8-bit activations cost at most 2e-4 on normal inputs; the format costs what it costs: Int8", "[quantized]") {
    check_errors<moe::Int8>(1.5e-4);
}
TEST_CASE("8-bit activations cost at most 2e-4 on normal inputs; the format costs what it costs: Int4", "[quantized]") {
    check_errors<moe::Int4>(4e-2);
}
