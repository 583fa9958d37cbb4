#include <cstddef>
#include <limits>
#include <vector>

#include "moe/experts/expert_bank.hpp"
#include "moe/experts/packed_experts.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::weight_errors_test {

using moe::ErrorCode;
using moe::stacked;
using moe_test::contains;
using moe_test::error_of;

namespace {

constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
const std::vector<float> memory(4096);
const float* const data = memory.data();

using Swiglu = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Plain = moe::ExpertBank<float, moe::Plain<moe::Relu>>;

/// Weights of 2 experts, d_model 6, d_ff 5, with all biases.
moe::ExpertWeights<float> good_weights() {
    return {stacked(data, 2, 5, 6), stacked(data, 2, 5, 6), stacked(data, 2, 6, 5),
            stacked(data, 2, 5, 1), stacked(data, 2, 5, 1), stacked(data, 2, 6, 1)};
}

}  // namespace

TEST_CASE("a stack of matrices of one row may have any row stride", "[weights]") {
    const std::vector<float> values{1, 2, 3, 4, 5, 6};
    const moe::WeightStack<float> stack(values.data(), 2, 1, 3, 1, 3);
    const moe::WeightBlock<float> second = stack.block(1, 0, 1);
    CHECK(second.data[2 * second.input_stride] == 6);
    const moe::WeightBlock<float> turned = transpose(stack).block(1, 2, 1);
    CHECK(turned.data[0] == 6);
    CHECK(error_of([&] { (void)moe::WeightStack<float>(values.data(), 1, 2, 3, 1, 6); }).code == ErrorCode::stride);
}

TEST_CASE("stacks refuse null, empty and overlapping memory, and name the sizes", "[weights]") {
    auto error = error_of([] { (void)stacked(static_cast<const float*>(nullptr), 8, 5, 6); });
    CHECK(error.code == ErrorCode::null_pointer);
    CHECK_THAT(error.text, contains("8 experts of 5 x 6"));

    for (const auto& sizes : {std::array<std::size_t, 3>{0, 5, 6}, {3, 0, 6}, {3, 5, 0}}) {
        error = error_of([sizes] { (void)stacked(data, sizes[0], sizes[1], sizes[2]); });
        CHECK(error.code == ErrorCode::shape);
        CHECK_THAT(error.text, contains(std::to_string(sizes[0]) + " experts of " + std::to_string(sizes[1]) + " x " +
                                        std::to_string(sizes[2])));
    }
    error = error_of([] { (void)stacked(data, 2, 5, 6, 4, 100); });
    CHECK(error.code == ErrorCode::stride);
    CHECK_THAT(error.text, contains("row stride 4") && contains("6 columns"));

    error = error_of([] { (void)stacked(data, 2, 5, 6, 7, 33); });  // 4 * 7 + 6 = 34
    CHECK(error.code == ErrorCode::stride);
    CHECK_THAT(error.text, contains("expert stride 33") && contains("5 x 6") && contains("row stride 7"));
    CHECK_NOTHROW(stacked(data, 2, 5, 6, 7, 34));
    CHECK_NOTHROW(stacked(data, 1, 5, 6, 7, 0));
}

TEST_CASE("sizes whose product overflows are refused, for one expert too", "[weights]") {
    CHECK(error_of([] { (void)stacked(data, 2, most / 2, 3); }).code == ErrorCode::overflow);
    CHECK(error_of([] { (void)stacked(data, 1, most / 2, 3, 3, 0); }).code == ErrorCode::overflow);
    CHECK(error_of([] { (void)stacked(data, 1, most / 3, 3, 3, 0); }).code == ErrorCode::overflow);  // times 4 bytes
    CHECK(error_of([] { (void)stacked(data, 3, 1, 1, 1, most / 2); }).code == ErrorCode::overflow);
    CHECK(error_of([] { (void)stacked(data, most / 8, 8, 8); }).code == ErrorCode::overflow);
    const auto error = error_of([] { (void)moe::separate(std::vector<const float*>{data}, most / 2, 3); });
    CHECK(error.code == ErrorCode::overflow);
    CHECK_THAT(error.text, contains("9223372036854775806 x 3"));
}

TEST_CASE("a table of pointers names the expert that has none", "[weights]") {
    auto error = error_of([] { (void)moe::separate(std::vector<const float*>{data, data, nullptr, data}, 5, 6); });
    CHECK(error.code == ErrorCode::null_pointer);
    CHECK_THAT(error.text, contains("expert 2 of 4"));
    CHECK(error_of([] { (void)moe::separate(std::vector<const float*>{}, 5, 6); }).code == ErrorCode::shape);
    const std::vector<const float*> one{data};
    error = error_of([&] { (void)moe::separate(std::span<const float* const>(one), 5, 6, 5); });
    CHECK(error.code == ErrorCode::stride);
}

TEST_CASE("odd outputs cannot be halves or pairs", "[weights]") {
    auto error = error_of([] { (void)moe::concatenated(stacked(data, 2, 7, 6)); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("7 outputs"));
    error = error_of([] { (void)moe::interleaved(stacked(data, 2, 9, 6)); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("9 outputs"));
    const auto stack = stacked(data, 2, 7, 6);
    error = error_of([&] { (void)stack.outputs_slice(3, 2, 3); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("3 outputs from 3 in steps of 2") && contains("7"));
    CHECK(error_of([&] { (void)stack.outputs_slice(0, 1, 0); }).code == ErrorCode::range);
    error = error_of([&] { (void)stack.outputs_slice(1, 0, 3); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("3 outputs in steps of 0"));
    error = error_of([&] { (void)stack.outputs_slice(1, most / 2 + 1, 3); });  // 1 + 2 * step wraps to 1
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("3 outputs from 1 in steps of 9223372036854775808 leave a matrix of 7"));
    CHECK(error_of([&] { (void)stack.outputs_slice(most, 1, 2); }).code == ErrorCode::range);
    CHECK(error_of([&] { (void)stack.outputs_slice(7, 1, 1); }).code == ErrorCode::range);
    CHECK(stack.outputs_slice(0, 3, 3).outputs() == 3);
    CHECK(stack.outputs_slice(6, most, 1).outputs() == 1);
    error = error_of([&] { (void)stack.expert(2); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("expert 2 of 2"));
}

TEST_CASE("a bank says which matrix is missing or does not belong", "[weights]") {
    const auto missing = [](auto clear, const char* text) {
        moe::ExpertWeights<float> weights = good_weights();
        clear(weights);
        const auto error = error_of([&] { Swiglu(moe::Gated<moe::Silu>{}, weights); });
        CHECK(error.code == ErrorCode::missing);
        CHECK_THAT(error.text, contains(text));
    };
    missing([](auto& w) { w.up = {}; }, "up projection is missing");
    missing([](auto& w) { w.down = {}; }, "down projection is missing");
    missing([](auto& w) { w.gate = {}; }, "gate projection, which is missing");
    auto error = error_of([] { Plain({}, good_weights()); });
    CHECK(error.code == ErrorCode::missing);
    CHECK_THAT(error.text, contains("plain form has no gate"));
    error = error_of([] {
        moe::ExpertWeights<float> weights = good_weights();
        weights.gate = {};
        Plain({}, weights);
    });
    CHECK_THAT(error.text, contains("gate bias was given to a plain form"));
}

TEST_CASE("a bank names both shapes that disagree", "[weights]") {
    const auto wrong = [](auto change, const char* is, const char* must_be) {
        moe::ExpertWeights<float> weights = good_weights();
        change(weights);
        const auto error = error_of([&] { Swiglu(moe::Gated<moe::Silu>{}, weights); });
        CHECK(error.code == ErrorCode::shape);
        CHECK_THAT(error.text, contains(is) && contains(must_be) && contains("up is 2 x 5 x 6"));
    };
    wrong([](auto& w) { w.gate = stacked(data, 2, 4, 6); }, "gate is 2 x 4 x 6", "must be 2 x 5 x 6");
    wrong([](auto& w) { w.gate = stacked(data, 3, 5, 6); }, "gate is 3 x 5 x 6", "must be 2 x 5 x 6");
    wrong([](auto& w) { w.down = stacked(data, 2, 5, 6); }, "down is 2 x 5 x 6", "must be 2 x 6 x 5");
    wrong([](auto& w) { w.gate_bias = stacked(data, 2, 6, 1); }, "gate bias is 2 x 6 x 1", "must be 2 x 5 x 1");
    wrong([](auto& w) { w.up_bias = stacked(data, 2, 5, 2); }, "up bias is 2 x 5 x 2", "must be 2 x 5 x 1");
    wrong([](auto& w) { w.down_bias = stacked(data, 1, 6, 1); }, "down bias is 1 x 6 x 1", "must be 2 x 6 x 1");
}

TEST_CASE("packed experts own about the size of the weights and refuse an expert beyond the last", "[weights]") {
    const Swiglu bank(moe::Gated<moe::Silu>{}, good_weights());
    const moe::PackedExperts packed(bank);
    CHECK(packed.n_experts() == 2);
    CHECK(packed.d_model() == 6);
    CHECK(packed.d_ff() == 5);
    CHECK(packed.bytes() >= 2 * 3 * 5 * 6 * sizeof(float));
    CHECK(error_of([&] { (void)bank.expert(2); }).code == ErrorCode::range);
}

}  // namespace moe_test::weight_errors_test
