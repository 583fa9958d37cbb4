#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/counting_allocator.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::repack_test {

/// Packed layers that are packed anew in place after an update: what pack() makes of the new weights, bit for bit.
namespace {

using moe::ErrorCode;

constexpr std::size_t d = 37;
constexpr std::size_t n = 9;

moe_test::LayerShape shape() {
    moe_test::LayerShape result;
    result.n_experts = 5;
    result.d_model = d;
    result.d_ff = 41;
    result.biases = true;
    result.shared_widths = {20, 3};
    result.shared_mode = moe::SharedMode::gated;
    return result;
}

constexpr moe::TokenChoice<> gate{.top_k = 2, .normalize = true};

template <class Layer>
std::vector<typename Layer::value_type> output_of(const Layer& layer) {
    using T = typename Layer::value_type;
    moe_test::Draw draw(9);
    const std::vector<T> x = moe_test::random_elements<T>(draw, n * d, 1);
    std::vector<T> y(n * d);
    moe::Workspace workspace;
    layer.forward(moe::view(x.data(), n, d), moe::view(y.data(), n, d), workspace);
    return y;
}

template <class Layer>
std::vector<std::byte> bytes_of_experts(const Layer& layer) {
    const auto routed = layer.experts().data();
    std::vector<std::byte> result(routed.begin(), routed.end());
    for (const auto& shared : layer.shared().experts()) {
        const auto data = shared.data();
        result.insert(result.end(), data.begin(), data.end());
    }
    return result;
}

/// `now` takes the place of `before` in what was packed.
template <class F, class W>
void repacks(moe::Compute compute = moe::Compute::exact) {
    const moe_test::LayerCase<W> before(shape(), 1);
    const moe_test::LayerCase<W> now(shape(), 2);
    const auto from = before.layer(gate);
    const auto to = now.layer(gate);
    const auto expected = moe::pack<F>(to, moe::SerialExecutor{}, compute);
    const auto check = [&](const auto& executor) {
        auto packed = moe::pack<F>(from, moe::SerialExecutor{}, compute);
        REQUIRE_FALSE(moe_test::same_bits(output_of(packed), output_of(expected)));
        packed.repack(to, executor);
        const bool same = bytes_of_experts(packed) == bytes_of_experts(expected);  // Catch would print all of them
        CHECK(same);
        CHECK(moe_test::same_bits(output_of(packed), output_of(expected)));
    };
    check(moe::SerialExecutor{});
    check(moe_test::ThreadExecutor(2));
    check(moe_test::ReversedExecutor(3));
    auto packed = moe::pack<F>(from, moe::SerialExecutor{}, compute);
    const std::size_t allocations = moe_test::allocations();
    packed.repack(to);
    CHECK(moe_test::allocations() == allocations);
}

}  // namespace

TEST_CASE("packed after an update is the pack of the new weights, in every format", "[repack]") {
    repacks<float, float>();
    repacks<double, double>();
    repacks<moe::bfloat16, moe::bfloat16>();
    repacks<moe::bfloat16, float>();
    repacks<moe::Int8, float>(moe::Compute::int8);
    repacks<moe::Int4, moe::float16>();
}

TEST_CASE("experts in memory of the caller are packed anew there", "[repack]") {
    const moe_test::LayerCase<float> before(shape(), 1);
    const moe_test::LayerCase<float> now(shape(), 2);
    using Packed = moe::PackedExperts<moe::bfloat16, moe::AnyForm>;
    moe::AlignedBuffer memory(Packed::bytes_for(before.bank()));
    Packed packed(before.bank(), std::span(memory.data(), memory.size()));
    Packed moved = std::move(packed);
    moved.repack(now.bank());
    const Packed expected(now.bank());
    const bool same = std::equal(expected.data().begin(), expected.data().end(), memory.data());
    CHECK(same);
}

TEST_CASE("what cannot be packed anew is an error before anything is written", "[repack]") {
    const moe_test::LayerCase<float> before(shape(), 1);
    const auto layer = before.layer(gate);
    auto packed = moe::pack(layer);
    const std::vector<std::byte> bytes = bytes_of_experts(packed);
    const std::vector<float> output = output_of(packed);
    const auto refused = [&](auto&& call, ErrorCode code, const std::string& text) {
        const auto error = moe_test::error_of(call);
        INFO(error.text);
        CHECK(error.code == code);
        CHECK_THAT(error.text, moe_test::contains(text));
        const bool same = bytes_of_experts(packed) == bytes;
        CHECK(same);
        CHECK(moe_test::same_bits(output_of(packed), output));
    };
    moe_test::LayerShape other = shape();
    other.d_ff = 40;
    const moe_test::LayerCase<float> narrower(other, 2);
    refused([&] { packed.repack(narrower.layer(gate)); }, ErrorCode::shape, "5 experts of 40 x 37");
    other = shape();
    other.n_experts = 4;
    const moe_test::LayerCase<float> fewer(other, 2);
    refused([&] { packed.repack(fewer.layer(gate)); }, ErrorCode::shape, "4 x 37 cannot take the place of 5 x 37");
    other = shape();
    other.shared_widths = {20, 4};
    const moe_test::LayerCase<float> wider(other, 2);
    refused([&] { packed.repack(wider.layer(gate)); }, ErrorCode::shape, "1 experts of 4 x 37");
    other.shared_widths = {20};
    const moe_test::LayerCase<float> alone(other, 2);
    refused([&] { packed.repack(alone.layer(gate)); }, ErrorCode::shape, "1 cannot take the place of 2");
    auto viewing = packed.experts().with_compute(moe::Compute::exact);
    refused([&] { viewing.repack(before.bank()); }, ErrorCode::state, "packed elsewhere");
    auto taken = moe::pack(layer);
    const auto taker = std::move(taken);
    refused([&] { taken.repack(layer); }, ErrorCode::shape, "cannot take the place of 0");
}

TEST_CASE("float32 masters: rounded weights, and panels packed of the masters, compute the same bits", "[repack]") {
    constexpr std::size_t n_experts = 3;
    constexpr std::size_t d_ff = 20;
    constexpr std::size_t size = n_experts * d_ff * d;
    moe_test::Draw draw(4);
    std::vector<float> masters = moe_test::random_elements<float>(draw, 3 * size, 0.5);
    const std::vector<float> gradient = moe_test::random_elements<float>(draw, 3 * size, 1);
    const std::vector<float> router = moe_test::random_elements<float>(draw, n_experts * d, 1);
    std::vector<float> mean(3 * size);
    std::vector<float> square(3 * size);
    std::vector<moe::bfloat16> rounded(3 * size);
    const auto layer_of = [&](const auto* weights) {
        return moe::MoELayer{
            moe::Router{moe::view(router.data(), n_experts, d), gate},
            moe::SwiGLU{moe::stacked(weights, n_experts, d_ff, d), moe::stacked(weights + size, n_experts, d_ff, d),
                        moe::stacked(weights + 2 * size, n_experts, d, d_ff)}};
    };
    const auto from_masters = layer_of(masters.data());
    const auto in_16_bits = layer_of(rounded.data());
    auto packed = moe::pack<moe::bfloat16>(from_masters);
    std::vector<float> last = output_of(packed);
    for (std::uint64_t step = 1; step <= 3; ++step) {
        moe::AdamW{.rate = 0.01}.update(step, moe::AdamState<float>{masters, gradient, mean, square},
                                        std::span(rounded));
        packed.repack(from_masters);
        const std::vector<float> output = output_of(packed);
        CHECK_FALSE(moe_test::same_bits(output, last));
        CHECK(moe_test::same_bits(output, output_of(in_16_bits)));
        CHECK(moe_test::same_bits(output, output_of(moe::pack(in_16_bits))));
        last = output;
    }
}

}  // namespace moe_test::repack_test
