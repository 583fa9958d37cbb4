#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "experts/bank_runner.hpp"
#include "moe/experts/packed_experts.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/computes.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::packed_memory_test {

namespace {

using Form = moe::Gated<moe::Silu>;
using Bank = moe::ExpertBank<float, Form>;
using moe::Compute;
using moe::ErrorCode;
using moe_test::contains;

struct Case {
    moe_test::Draw draw{11};
    moe_test::BankWeights<float> weights{draw, 3, 70, 45, true, true};
    Bank bank{Form{}, weights.stacks()};
    std::vector<float> x = moe_test::random_elements<float>(draw, 8 * 70, 1);
};

/// Packed by the library, into memory of the caller on any number of threads, and seen again: equal bytes, equal bits.
template <class F>
void check_memory() {
    using Packed = moe::PackedExperts<F, Form>;
    const Case c;
    const std::size_t bytes = Packed::bytes_for(c.bank);
    for (const Compute compute : moe_test::computes<F>()) {
        const Packed owned(c.bank, moe::SerialExecutor{}, compute);
        CHECK(owned.bytes() == bytes);
        CHECK(owned.data().size() == bytes);
        CHECK(owned.compute() == compute);
        const auto expected = moe_test::run_experts(owned, c.x);
        REQUIRE(moe_test::all_finite(expected));

        const moe::AlignedBuffer memory(bytes + 64);
        std::fill_n(memory.data(), memory.size(), std::byte{0xEE});
        const Packed given(c.bank, std::span(memory.data(), bytes), moe_test::ThreadExecutor(4), compute);
        CHECK(given.data().data() == memory.data());
        CHECK(std::equal(given.data().begin(), given.data().end(), owned.data().begin()));
        CHECK(std::all_of(memory.data() + bytes, memory.data() + memory.size(),
                          [](std::byte b) { return b == std::byte{0xEE}; }));
        CHECK(moe_test::same_bits(moe_test::run_experts(given, c.x), expected));

        const Packed other = Packed(c.bank, std::span(memory.data(), bytes)).with_compute(compute);
        CHECK(other.compute() == compute);
        CHECK(other.data().data() == memory.data());
        CHECK(moe_test::same_bits(moe_test::run_experts(other, c.x), expected));

        // a temporary hands over what it owns
        const Packed kept = Packed(c.bank).with_compute(compute);
        CHECK(kept.compute() == compute);
        CHECK(moe_test::same_bits(moe_test::run_experts(kept, c.x), expected));
        Packed named(c.bank, moe::SerialExecutor{}, compute);
        CHECK(moe_test::error_of([&] { (void)std::move(named).with_compute(static_cast<Compute>(9)); }).code ==
              ErrorCode::range);
        CHECK(moe_test::same_bits(moe_test::run_experts(named, c.x), expected));  // NOLINT: nothing was handed over

        const Packed seen(Form{}, owned.packed_layout(), owned.data(), compute);
        CHECK(seen.data().data() == owned.data().data());
        CHECK(seen.n_experts() == 3);
        CHECK(seen.d_model() == 70);
        CHECK(seen.d_ff() == 45);
        CHECK(moe_test::same_bits(moe_test::run_experts(seen, c.x), expected));
    }
}

template <class F>
void check_memory_errors() {
    using Packed = moe::PackedExperts<F, Form>;
    const Case c;
    const std::size_t bytes = Packed::bytes_for(c.bank);
    const moe::AlignedBuffer memory(bytes + 64);
    const auto needed = std::to_string(bytes) + " bytes are needed, the memory given holds ";
    auto error = moe_test::error_of([&] { Packed(c.bank, std::span(memory.data(), bytes - 1)); });
    CHECK(error.code == ErrorCode::capacity);
    CHECK_THAT(error.text, contains(needed + std::to_string(bytes - 1)));
    error = moe_test::error_of([&] { Packed(c.bank, std::span<std::byte>()); });
    CHECK(error.code == ErrorCode::capacity);
    CHECK_THAT(error.text, contains(needed + "0"));
    error = moe_test::error_of([&] { Packed(c.bank, std::span(memory.data() + 32, bytes)); });
    CHECK(error.code == ErrorCode::alignment);
    CHECK_THAT(error.text, contains("aligned to 64 bytes"));

    const Packed packed(c.bank, std::span(memory.data(), bytes));
    const moe::PackedLayout<F>& layout = packed.packed_layout();
    error = moe_test::error_of([&] { Packed(Form{}, layout, packed.data().first(bytes - 1)); });
    CHECK(error.code == ErrorCode::capacity);
    CHECK_THAT(error.text, contains(needed + std::to_string(bytes - 1)));
    error = moe_test::error_of([&] { Packed(Form{}, layout, std::span<const std::byte>(memory.data() + 8, bytes)); });
    CHECK(error.code == ErrorCode::alignment);
}

/// Sizes whose panels are full: weights alone decide the size.
template <class F>
double bytes_per_weight() {
    moe_test::Draw draw(1);
    const moe_test::BankWeights<float> weights(draw, 2, 256, 128, true, false);
    const std::size_t biases = 2 * (2 * 128 + 256) * sizeof(float);
    const std::size_t bytes = moe::PackedExperts<F, Form>::bytes_for(Bank(Form{}, weights.stacks()));
    return static_cast<double>(bytes - biases) / (2 * 3 * 256 * 128);
}

}  // namespace

TEST_CASE("packed into owned memory, memory of the caller, or seen again: equal bytes, equal bits", "[packed]") {
    check_memory<float>();
    check_memory<moe::bfloat16>();
    check_memory<moe::float16>();
    check_memory<moe::Int8>();
    check_memory<moe::Int4>();
}

TEST_CASE("memory for packed experts that is too small or not aligned is an error", "[packed]") {
    check_memory_errors<moe::bfloat16>();
    check_memory_errors<moe::Int8>();
    check_memory_errors<moe::Int4>();
}

TEST_CASE("packed experts take the size of their format", "[packed]") {
    CHECK(bytes_per_weight<float>() == 4);
    CHECK(bytes_per_weight<moe::bfloat16>() == 2);
    CHECK(bytes_per_weight<moe::float16>() == 2);
    CHECK(bytes_per_weight<moe::Int8>() == 1.0625);
    CHECK(bytes_per_weight<moe::Int4>() == 0.5625);
}

TEST_CASE("a compute the format has not is an error", "[packed]") {
    const Case c;
    auto error =
        moe_test::error_of([&] { moe::PackedExperts<float, Form>(c.bank, moe::SerialExecutor{}, Compute::int8); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("only Int8 and Int4 have Compute::int8"));
    error =
        moe_test::error_of([&] { moe::PackedExperts<float, Form>(c.bank, moe::SerialExecutor{}, Compute::bf16x3); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("only bfloat16 has Compute::bf16x3"));
    if (!moe::arch::MatrixUnit::request()) {
        error = moe_test::error_of(
            [&] { moe::PackedExperts<moe::bfloat16, Form>(c.bank, moe::SerialExecutor{}, Compute::bf16x3); });
        CHECK(error.code == ErrorCode::missing);
        CHECK_THAT(error.text, contains("needs a matrix unit (AMX)"));
    }
    error = moe_test::error_of(
        [&] { moe::PackedExperts<moe::float16, Form>(c.bank, moe::SerialExecutor{}, Compute::int8); });
    CHECK(error.code == ErrorCode::range);
    const auto none = static_cast<Compute>(7);
    error = moe_test::error_of([&] { moe::PackedExperts<moe::Int8, Form>(c.bank, moe::SerialExecutor{}, none); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("compute 7"));
    const moe::PackedExperts<float, Form> packed(c.bank);
    error = moe_test::error_of(
        [&] { moe::PackedExperts<float, Form>(Form{}, packed.packed_layout(), packed.data(), Compute::int8); });
    CHECK(error.code == ErrorCode::range);
}

TEST_CASE("a name for one of several computes is resolved when experts are packed, by format and processor",
          "[packed]") {
    const Case c;
    const auto compute_of = [&]<class F>(const F&, Compute compute) {
        return moe::PackedExperts<F, Form>(c.bank, moe::SerialExecutor{}, compute).compute();
    };
    CHECK(compute_of(float{}, Compute::by_format) == Compute::exact);
    CHECK(compute_of(moe::bfloat16{}, Compute::by_format) == Compute::exact);
    CHECK(compute_of(moe::Int8{}, Compute::by_format) == Compute::int8);
    CHECK(compute_of(moe::Int4{}, Compute::by_format) == Compute::int8);
    CHECK(moe::PackedExperts<moe::Int4, Form>(c.bank).compute() == Compute::int8);
    CHECK(compute_of(float{}, Compute::fastest) == Compute::exact);
    CHECK(compute_of(moe::Int8{}, Compute::fastest) == Compute::int8);
    const bool multiplies = moe_test::has_compute<moe::float16>(Compute::bf16);
    CHECK(compute_of(moe::float16{}, Compute::fastest) == (multiplies ? Compute::bf16 : Compute::exact));
    CHECK(compute_of(moe::bfloat16{}, Compute::fastest) == (multiplies ? Compute::bf16 : Compute::exact));
    if (multiplies || !moe::arch::MatrixUnit::present) {
        CHECK(compute_of(moe::Int4{}, Compute::bf16) == (multiplies ? Compute::bf16 : Compute::exact));
    }
    const auto error = moe_test::error_of([&] { (void)compute_of(float{}, Compute::bf16); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("floats have Compute::bf16 when they are packed as bfloat16"));
}

TEST_CASE("packed experts seen with a form of the other kind, or one without its limit, are an error", "[packed]") {
    const Case c;
    using Any = moe::PackedExperts<moe::Int8, moe::AnyForm>;
    const Any packed(moe::ExpertBank<float, moe::AnyForm>({}, c.weights.stacks()));
    auto error = moe_test::error_of([&] { Any({.kind = moe::FormKind::relu}, packed.packed_layout(), packed.data()); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("gated"));
    error = moe_test::error_of(
        [&] { Any({.kind = moe::FormKind::clamped_before}, packed.packed_layout(), packed.data()); });
    CHECK(error.code == ErrorCode::range);
}

TEST_CASE("a bank packed without naming a format keeps its own; moving it keeps the memory", "[packed]") {
    const Case c;
    moe::PackedExperts packed(c.bank);
    static_assert(std::is_same_v<decltype(packed), moe::PackedExperts<float, Form>>);
    const std::byte* const data = packed.data().data();
    const moe::PackedExperts moved = std::move(packed);
    CHECK(moved.data().data() == data);
    CHECK(moe_test::same_bits(moe_test::run_experts(moved, c.x), moe_test::run_experts(c.bank, c.x)));
    const moe::PackedExperts threaded(c.bank, moe_test::ThreadExecutor(3));
    CHECK(moe_test::same_bits(moe_test::run_experts(threaded, c.x), moe_test::run_experts(c.bank, c.x)));
}

}  // namespace moe_test::packed_memory_test
