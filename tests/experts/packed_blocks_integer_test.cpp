#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "experts/bank_runner.hpp"
#include "experts/block_cases.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/computes.hpp"
#include "support/errors.hpp"

namespace moe_test::packed_blocks_integer_test {

namespace {

using Form = moe::Plain<moe::Relu>;
using moe::Compute;

/// Sum of squared differences over the sum of squares; NaN where anything is.
double error_of_product(const std::vector<float>& y, const std::vector<double>& expected) {
    double difference = 0;
    double size = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
        difference += (static_cast<double>(y[i]) - expected[i]) * (static_cast<double>(y[i]) - expected[i]);
        size += expected[i] * expected[i];
    }
    return difference / size;
}

/// relu(x up) down, in double.
std::vector<double> plain_experts(const moe_test::BlockBank& bank, const std::vector<float>& x) {
    const std::size_t n = x.size() / bank.d_model;
    std::vector<double> y(bank.n_experts * x.size());
    std::vector<double> hidden(bank.d_ff);
    for (std::size_t e = 0; e < bank.n_experts; ++e) {
        for (std::size_t t = 0; t < n; ++t) {
            for (std::size_t h = 0; h < bank.d_ff; ++h) {
                double sum = 0;
                for (std::size_t i = 0; i < bank.d_model; ++i) {
                    sum += static_cast<double>(x[t * bank.d_model + i]) *
                           static_cast<double>(bank.values[1][(e * bank.d_ff + h) * bank.d_model + i]);
                }
                hidden[h] = std::max(0.0, sum);
            }
            for (std::size_t o = 0; o < bank.d_model; ++o) {
                double sum = 0;
                for (std::size_t h = 0; h < bank.d_ff; ++h) {
                    sum += hidden[h] * static_cast<double>(bank.values[2][(e * bank.d_model + o) * bank.d_ff + h]);
                }
                y[(e * n + t) * bank.d_model + o] = sum;
            }
        }
    }
    return y;
}

}  // namespace

/// `all` is what `bank` makes of x (70 rows): each row as it is in any smaller batch.
void check_any_number_of_rows(const moe::PackedBlocks<Form>& bank, const std::vector<float>& x,
                              const std::vector<float>& all) {
    const std::size_t d = bank.d_model();
    for (std::size_t n = 1; n < 70; n += n < 9 ? 1 : 12) {
        const std::vector<float> some(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(n * d));
        const std::vector<float> y = moe_test::run_experts(bank, some);
        for (std::size_t e = 0; e < 2; ++e) {
            REQUIRE(
                moe_test::same_bits(std::span(y).subspan(e * n * d, n * d), std::span(all).subspan(e * 70 * d, n * d)));
        }
    }
}

TEST_CASE("products of blocks against double, exact and rounded, for any number of rows", "[quantized]") {
    std::uint64_t seed = 60;
    for (const std::string& name : moe_test::block_names()) {
        const moe::BlockType& type = moe_test::block_type(name);
        if (type.block_values == 1) {
            continue;
        }
        INFO(name);
        moe_test::Draw draw(seed++);
        const std::size_t unit = std::max<std::size_t>(type.block_values, 32);
        const moe_test::BlockBank bank(draw, "", name, name, 2, unit == 256 ? 256 : 7 * unit,
                                       unit == 256 ? 512 : 5 * unit);
        const moe::PackedBlocks<Form> exact(Form{}, bank.blocks, moe::SerialExecutor{}, Compute::exact);
        const std::vector<float> x = moe_test::random_elements<float>(draw, 70 * bank.d_model, 1);
        const std::vector<double> expected = plain_experts(bank, x);
        CHECK(error_of_product(moe_test::run_experts(exact, x), expected) <= 1e-12);

        const moe::PackedBlocks<Form> integers = exact.with_compute(Compute::int8);
        CHECK(integers.compute() == Compute::int8);
        CHECK(integers.data().data() == exact.data().data());
        const std::vector<float> all = moe_test::run_experts(integers, x);
        // 127 steps of a group's largest value, which is uniform here: a third of 1/127^2 over a third, twice
        const double error = error_of_product(all, expected);
        CHECK(error <= 2e-4);
        CHECK(error >= 1e-7);  // or the floats were multiplied after all
        check_any_number_of_rows(integers, x, all);

        if (moe_test::has_compute<moe::bfloat16>(Compute::bf16)) {
            const moe::PackedBlocks<Form> rounded = exact.with_compute(Compute::bf16);
            CHECK(rounded.compute() == Compute::bf16);
            const std::vector<float> y = moe_test::run_experts(rounded, x);
            CHECK(error_of_product(y, expected) <= 2e-5);
            CHECK(error_of_product(y, expected) >= 1e-7);
            check_any_number_of_rows(rounded, x, y);
        }
    }
}

TEST_CASE("Q8_0 and Q4_0 have the integer products of Int8 and Int4", "[quantized]") {
    moe_test::Draw draw(4);
    const moe_test::BlockBank bank(draw, "", "Q8_0", "Q4_0", 1, 96, 160);
    const auto integers = moe::PackedBlocks<Form>(Form{}, bank.blocks).with_compute(Compute::int8);
    const std::vector<float> x = moe_test::random_elements<float>(draw, 3 * 160, 1);
    const moe::QuantizedRows layout{160};
    std::vector<std::byte> rows(3 * layout.stride());
    std::vector<std::byte> others(rows.size());
    std::vector<const std::byte*> pointers;
    std::vector<const std::byte*> other_pointers;
    for (std::size_t r = 0; r < 3; ++r) {
        pointers.push_back(&rows[r * layout.stride()]);
        other_pointers.push_back(&others[r * layout.stride()]);
        moe::quantize_row(layout, &x[r * 160], 1, &rows[r * layout.stride()]);
        moe::quantize_row(layout, &x[r * 160], 128, &others[r * layout.stride()]);
    }
    moe::Arena measure;
    (void)moe::PanelScratch<float>::take(measure);
    moe::Workspace workspace;
    workspace.reserve(measure.used());
    moe::Arena arena = workspace.arena();
    const auto scratch = moe::PanelScratch<float>::take(arena);
    integers.multiply_hidden(0, {0, 2}, pointers, scratch);
    const std::vector<float> mine(scratch.sums.begin(), scratch.sums.begin() + 2 * 3 * 64);
    moe::multiply_quantized<moe::Int8>(
        other_pointers, 160, {integers.data().data(), 2, moe::QuantizedPanel<moe::Int8>::bytes(160)}, scratch);
    CHECK(moe_test::same_bits(mine, std::span<const float>(scratch.sums.data(), mine.size())));
}

TEST_CASE("blocks without codes are multiplied in bfloat16, too", "[quantized]") {
    if (!moe_test::has_compute<moe::bfloat16>(Compute::bf16)) {
        return;
    }
    for (const std::string name : {"BF16", "F16", "F32"}) {
        INFO(name);
        moe_test::Draw draw(9);
        const moe_test::BlockBank bank(draw, "", name, name, 2, 45, 70);
        const moe::PackedBlocks<Form> rounded(Form{}, bank.blocks, moe::SerialExecutor{}, Compute::bf16);
        const std::vector<float> x = moe_test::random_elements<float>(draw, 70 * bank.d_model, 1);
        const std::vector<float> y = moe_test::run_experts(rounded, x);
        CHECK(error_of_product(y, plain_experts(bank, x)) <= 2e-5);
        check_any_number_of_rows(rounded, x, y);
    }
}

TEST_CASE("integer products need codes in all projections", "[quantized]") {
    moe_test::Draw draw(2);
    const moe_test::BlockBank bank(draw, "", "Q8_0", "BF16", 1, 32, 64);
    const moe::PackedBlocks<Form> packed(Form{}, bank.blocks);
    CHECK(packed.compute() == Compute::exact);
    CHECK(moe_test::error_of([&] { (void)packed.with_compute(Compute::int8); }).code == moe::ErrorCode::range);
    CHECK(moe_test::error_of([&] {
              moe::PackedBlocks<Form>(Form{}, bank.blocks, moe::SerialExecutor{}, Compute::int8);
          }).code == moe::ErrorCode::range);
}

}  // namespace moe_test::packed_blocks_integer_test
