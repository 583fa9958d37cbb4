#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "moe/train/optimizer/gradients.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::gradient_helpers_test {

/// Norms, clipping and the rest over spans and over the gradients of a layer in any storage order.
namespace {

using moe::ErrorCode;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

template <class T>
std::vector<T> random_gradients(std::size_t n, std::uint64_t seed = 1) {
    moe_test::Draw draw(seed);
    return moe_test::random_elements<T>(draw, n, 3);
}

template <class T>
long double exact_squares(const std::vector<T>& values) {
    long double sum = 0;
    for (const T value : values) {
        sum += static_cast<long double>(value) * static_cast<long double>(value);
    }
    return sum;
}

/// Of a sum of squares of n values: see squared_norm. One more for a square that is not exact.
double norm_bound(std::size_t n) {
    const double terms = std::max(1024.0, static_cast<double>(n) / 4096) + 274;
    return terms * std::numeric_limits<double>::epsilon() / 2;
}

/// A layer's gradients in memory of many shapes, with a border between and behind, that must stay as it is.
struct LayerMemory {
    static constexpr std::size_t n_experts = 3;
    static constexpr std::size_t d = 5;
    static constexpr std::size_t d_ff = 7;
    std::vector<float> router, bias, gate_up, down, biases, shared, output, constants, input;
    moe::LayerGradients<float> to;

    LayerMemory() {
        auto fill = [seed = 1U](std::vector<float>& memory, std::size_t n) mutable {
            memory = random_gradients<float>(n, seed++);
        };
        fill(router, 4 * d);
        fill(bias, 4);
        fill(gate_up, n_experts * d * 2 * d_ff);  // (input, output), gate and up in turn
        fill(down, n_experts * d * d_ff);
        fill(biases, n_experts * 2 * d_ff);
        fill(shared, 2 * d * d_ff);
        fill(output, d);
        fill(constants, 2 * (d + 3));
        fill(input, 9 * d);
        to.router = moe::stacked_gradients(router.data(), 1, 4, d);
        to.router_bias = bias;
        const auto halves =
            moe::interleaved(moe::transpose(moe::stacked_gradients(gate_up.data(), n_experts, d, 2 * d_ff)));
        to.experts.gate = halves.gate;
        to.experts.up = halves.up;
        std::vector<float*> apart;
        for (std::size_t e = 0; e < n_experts; ++e) {
            apart.push_back(down.data() + (n_experts - 1 - e) * d * d_ff);
        }
        to.experts.down = moe::separate_gradients(apart, d, d_ff);
        const auto bias_halves = moe::concatenated(moe::stacked_gradients(biases.data(), n_experts, 2 * d_ff, 1));
        to.experts.gate_bias = bias_halves.gate;
        to.experts.up_bias = bias_halves.up;
        to.shared.resize(1);
        to.shared[0].up = moe::stacked_gradients(shared.data(), 1, d_ff, d);
        to.shared[0].down = moe::transpose(moe::stacked_gradients(shared.data() + d * d_ff, 1, d_ff, d));
        to.output_bias = output;
        to.constants = moe::view(constants.data(), 2, d, d + 3);
        to.router_input = moe::view(input.data(), 9, d);
    }
    LayerMemory(const LayerMemory&) = delete;
    LayerMemory& operator=(const LayerMemory&) = delete;

    [[nodiscard]] std::vector<std::vector<float>*> parts() {
        return {&router, &bias, &gate_up, &down, &biases, &shared, &output, &constants};
    }
    /// All that is a gradient.
    [[nodiscard]] std::vector<float> values() {
        std::vector<float> result;
        for (const std::vector<float>* part : parts()) {
            if (part != &constants) {
                result.insert(result.end(), part->begin(), part->end());
            }
        }
        for (std::size_t r = 0; r < 2; ++r) {
            const auto row = std::span(constants).subspan(r * (d + 3), d);
            result.insert(result.end(), row.begin(), row.end());
        }
        return result;
    }
};

}  // namespace

TEMPLATE_TEST_CASE("the squared norm is that of plain loops", "[gradients]", float, double) {
    for (const std::size_t n : {0U, 1U, 2U, 15U, 16U, 17U, 1009U, 70001U}) {
        std::vector<TestType> values = random_gradients<TestType>(n, n);
        const moe::GradientViews<TestType> gradients{std::span(values)};
        CHECK(gradients.size() == n);
        const auto expected = static_cast<double>(exact_squares(values));
        CHECK(std::abs(moe::squared_norm(gradients) - expected) <= norm_bound(n) * expected);
    }
    std::vector<float> huge(100, 3e38F);  // whose squares float does not hold
    const double norm = std::sqrt(moe::squared_norm(moe::GradientViews<float>{std::span(huge)}));
    CHECK(std::abs(norm / static_cast<double>(3e38F) - 10) <= 1e-12);
}

TEMPLATE_TEST_CASE("a norm has the same bits for any threads and any cut of the sequence", "[gradients]", float,
                   double) {
    using T = TestType;
    constexpr std::size_t n = 5 * moe::detail::task_elements + 77;
    std::vector<T> values = random_gradients<T>(n);
    const std::vector<double> expected{moe::squared_norm(moe::GradientViews<T>{std::span(values)})};
    for (std::size_t workers = 1; workers <= moe_test::twice_the_threads(); ++workers) {
        const moe::GradientViews<T> gradients{std::span(values)};
        const std::vector<double> threads{moe::squared_norm(gradients, moe_test::ThreadExecutor(workers))};
        const std::vector<double> reversed{moe::squared_norm(gradients, moe_test::ReversedExecutor(workers))};
        CHECK(moe_test::same_bits(threads, expected));
        CHECK(moe_test::same_bits(reversed, expected));
    }
    // the same values one after the other, in memory of their own each, some with holes
    moe_test::Draw draw(3);
    for (int trial = 0; trial < 5; ++trial) {
        std::vector<std::vector<T>> pieces;
        moe::GradientViews<T> gradients;
        pieces.reserve(n);
        for (std::size_t first = 0; first < n;) {
            const std::size_t count = std::min(n - first, draw.size(1, trial == 0 ? 40 : 30000));
            const std::size_t stride = draw.size(1, 3);
            std::vector<T>& piece = pieces.emplace_back(count * stride, std::numeric_limits<T>::quiet_NaN());
            for (std::size_t i = 0; i < count; ++i) {
                piece[i * stride] = values[first + i];
            }
            gradients.add(moe::view(piece.data(), count, 1, stride));
            first += count;
        }
        const std::vector<double> cut{moe::squared_norm(gradients, moe_test::ThreadExecutor(2))};
        CHECK(gradients.size() == n);
        CHECK(moe_test::same_bits(cut, expected));
        CHECK(moe::all_finite(gradients));
    }
}

TEST_CASE("all gradients of a layer are found, once, in any storage order", "[gradients]") {
    LayerMemory memory;
    const moe::GradientViews<float> gradients(memory.to);
    const std::vector<float> before = memory.values();
    REQUIRE(gradients.size() == before.size());
    const auto expected = static_cast<double>(exact_squares(before));
    CHECK(std::abs(moe::squared_norm(gradients) - expected) <= norm_bound(before.size()) * expected);

    const std::vector<float> border = memory.constants;
    const std::vector<float> input = memory.input;
    moe::scale_gradients(gradients, -0.5);
    std::vector<float> halves = before;
    for (float& value : halves) {
        value *= -0.5F;
    }
    CHECK(moe_test::same_bits(memory.values(), halves));
    // each one by itself is seen by all_finite
    CHECK(moe::all_finite(gradients));
    for (std::vector<float>* part : memory.parts()) {
        for (float& value : *part) {
            const std::size_t at = static_cast<std::size_t>(&value - part->data());
            const bool hole = part == &memory.constants && at % (LayerMemory::d + 3) >= LayerMemory::d;
            const float kept = value;
            for (const float wrong : {nan, infinity, -infinity}) {
                value = wrong;
                CHECK(moe::all_finite(gradients) == hole);
            }
            value = kept;
        }
    }
    memory.gate_up[3] = nan;
    moe::zero_gradients(gradients, moe_test::ReversedExecutor(2));
    CHECK(moe_test::same_bits(memory.values(), std::vector<float>(before.size(), 0.0F)));
    for (std::size_t i = 0; i < border.size(); ++i) {
        CHECK((memory.constants[i] == border[i]) == (i % (LayerMemory::d + 3) >= LayerMemory::d));
    }
    CHECK(moe_test::same_bits(memory.input, input));
}

TEST_CASE("memory that is there already is refused, what lies beside it is not", "[gradients]") {
    LayerMemory memory;
    moe::GradientViews<float> gradients(memory.to);
    const std::size_t size = gradients.size();
    const auto refused = [&](auto&& call) {
        const auto error = moe_test::error_of(call);
        INFO(error.text);
        CHECK(error.code == ErrorCode::layout);
        CHECK_THAT(error.text, moe_test::contains("each counts once"));
        CHECK(gradients.size() == size);
    };
    refused([&] { gradients.add(memory.to); });
    refused([&] { gradients.add(std::span(memory.bias).last(1)); });
    refused([&] { gradients.add(memory.to.experts.up); });
    refused([&] { gradients.add(moe::view(memory.down.data() + 3, 2, 2)); });
    refused([&] { (void)moe::GradientViews<float>{std::span(memory.bias), std::span(memory.bias)}; });
    gradients.add(moe::view(memory.constants.data() + LayerMemory::d, 2, 3, LayerMemory::d + 3));  // the border
    CHECK(gradients.size() == size + 6);
}

TEMPLATE_TEST_CASE("clipping scales all by the same factor, or none", "[gradients]", float, double) {
    using T = TestType;
    constexpr std::size_t n = moe::detail::task_elements + 11;
    std::vector<T> a = random_gradients<T>(n, 1);
    std::vector<T> b = random_gradients<T>(13, 2);
    const std::vector<T> a_before = a;
    const std::vector<T> b_before = b;
    const moe::GradientViews<T> gradients{std::span(a), std::span(b)};
    const auto norm = static_cast<double>(std::sqrt(exact_squares(a) + exact_squares(b)));

    const moe::ClippedNorm none = moe::clip_by_global_norm(gradients, norm * 1.5);
    CHECK(std::abs(none.norm - norm) <= norm_bound(n) * norm);
    CHECK(none.factor == 1);
    CHECK(moe_test::same_bits(a, a_before));
    (void)moe::clip_by_global_norm(gradients, std::numeric_limits<double>::infinity());
    CHECK(moe_test::same_bits(a, a_before));

    const moe::ClippedNorm clipped = moe::clip_by_global_norm(gradients, 0.75, moe_test::ThreadExecutor(2));
    CHECK(clipped.finite());
    CHECK(clipped.norm == none.norm);
    CHECK(std::abs(clipped.factor - 0.75 / (norm + 1e-6)) <= 1e-12 * clipped.factor);
    const T factor = static_cast<T>(clipped.factor);
    std::size_t differ = 0;
    for (std::size_t i = 0; i < n; ++i) {
        differ += a[i] == a_before[i] * factor ? 0U : 1U;
    }
    for (std::size_t i = 0; i < b.size(); ++i) {
        differ += b[i] == b_before[i] * factor ? 0U : 1U;
    }
    CHECK(differ == 0);
    CHECK(std::sqrt(moe::squared_norm(gradients)) <=
          0.75 * (1 + 4 * static_cast<double>(std::numeric_limits<T>::epsilon())));
}

TEST_CASE("a norm that is not finite is told, and nothing is written", "[gradients]") {
    std::vector<float> a = random_gradients<float>(100);
    std::vector<float> b = random_gradients<float>(3);
    const moe::GradientViews<float> gradients{std::span(a), std::span(b)};
    for (const float wrong : {nan, infinity}) {
        b[1] = wrong;
        const std::vector<float> before = a;
        const moe::ClippedNorm clipped = moe::clip_by_global_norm(gradients, 1e-3);
        CHECK_FALSE(clipped.finite());
        CHECK(clipped.factor == 1);
        CHECK(moe_test::same_bits(a, before));
        CHECK_FALSE(moe::all_finite(gradients));
    }
    for (const double limit : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
        const auto error = moe_test::error_of([&] { (void)moe::clip_by_global_norm(gradients, limit); });
        CHECK(error.code == ErrorCode::range);
    }
}

TEST_CASE("gradients of several parts of a batch are added", "[gradients]") {
    constexpr std::size_t n = 2 * moe::detail::task_elements + 3;
    std::vector<float> to = random_gradients<float>(n, 1);
    const std::vector<float> from = random_gradients<float>(n, 2);
    std::vector<float> expected = to;
    for (std::size_t i = 0; i < n; ++i) {
        expected[i] += from[i];
    }
    moe::add_gradients(std::span(to), from, moe_test::ThreadExecutor(2));
    CHECK(moe_test::same_bits(to, expected));
    auto error = moe_test::error_of([&] { moe::add_gradients(std::span(to), std::span(from).first(n - 1)); });
    CHECK(error.code == ErrorCode::shape);
    error = moe_test::error_of([&] { moe::add_gradients(std::span(to).first(9), std::span(to).subspan(8, 9)); });
    CHECK(error.code == ErrorCode::layout);
    CHECK(moe_test::same_bits(to, expected));
}

TEST_CASE("of no gradients the norm is 0", "[gradients]") {
    const moe::GradientViews<float> none;
    moe::zero_gradients(none);
    CHECK(moe::squared_norm(none) == 0);
    CHECK(moe::all_finite(none));
    CHECK(moe::clip_by_global_norm(none, 1).factor == 1);
    CHECK(moe::GradientViews<float>(moe::LayerGradients<float>{}).size() == 0);
}

}  // namespace moe_test::gradient_helpers_test
