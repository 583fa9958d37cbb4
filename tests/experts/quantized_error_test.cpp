#include <cmath>
#include <cstddef>
#include <vector>

#include "experts/packed_formats.hpp"

namespace moe_test::quantized_error_test {

/// The errors of quantised experts on normal weights and inputs, each apart: of the kernel, against the dequantised
/// weights, and of the format, against the weights as they were.
namespace {

using moe::Compute;

template <class Form>
struct NormalExperts {
    moe_test::BankWeights<float> weights;
    std::vector<float> x;
    moe::ExpertBank<float, Form> bank;

    NormalExperts(moe_test::Draw draw, Form form, std::size_t d_model, std::size_t d_ff, bool biases)
        : weights(normal_weights(draw, d_model, d_ff, biases)),
          x(moe_test::normals(draw, 64 * d_model, 1)),
          bank(form, weights.stacks()) {}

private:
    static moe_test::BankWeights<float> normal_weights(moe_test::Draw& draw, std::size_t d_model, std::size_t d_ff,
                                                       bool biases) {
        moe_test::BankWeights<float> w(draw, 1, d_model, d_ff, Form::gated(), biases);
        w.gate = moe_test::normals(draw, w.gate.size(), 1 / std::sqrt(static_cast<double>(d_model)));
        w.up = moe_test::normals(draw, w.up.size(), 1 / std::sqrt(static_cast<double>(d_model)));
        w.down = moe_test::normals(draw, w.down.size(), 1 / std::sqrt(static_cast<double>(d_ff)));
        return w;
    }
};

template <class F, class Form>
void check_errors(const Form& form, double format_error) {
    using Packed = moe::PackedExperts<F, Form>;
    for (const std::size_t d_model : {32U, 100U, 512U}) {
        for (const std::size_t d_ff : {64U, 75U, 384U}) {
            for (const bool biases : {false, true}) {
                const NormalExperts<Form> experts(moe_test::Draw(d_model + d_ff), form, d_model, d_ff, biases);
                const auto original = moe_test::run_experts(experts.bank, experts.x);
                const auto exact =
                    moe_test::run_experts(Packed(experts.bank, moe::SerialExecutor{}, Compute::exact), experts.x);
                const auto integer =
                    moe_test::run_experts(Packed(experts.bank, moe::SerialExecutor{}, Compute::int8), experts.x);
                INFO("d_model " << d_model << ", d_ff " << d_ff << ", biases " << biases);
                const double kernel_error = moe_test::nmse(integer, exact);
                CHECK(kernel_error <= 2e-4);
                CHECK(kernel_error >= 1e-5);
                CHECK(moe_test::nmse(exact, original) <= format_error);
            }
        }
    }
}

template <class F>
void check_forms(double format_error) {
    check_errors<F>(moe::Gated<moe::Silu>{}, format_error);
    check_errors<F>(moe::Plain<moe::Gelu>{}, format_error);
    check_errors<F>(moe::ClampedBefore<moe::Silu>{.limit = 2.0}, format_error);
}

}  // namespace

TEST_CASE("8-bit activations cost at most 2e-4 on normal inputs; the format costs what it costs: Int8", "[quantized]") {
    check_forms<moe::Int8>(1.5e-4);
}
TEST_CASE("8-bit activations cost at most 2e-4 on normal inputs; the format costs what it costs: Int4", "[quantized]") {
    check_forms<moe::Int4>(4e-2);
}

}  // namespace moe_test::quantized_error_test
