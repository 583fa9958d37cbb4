#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "moe/train/optimizer/adamw.hpp"
#include "moe/train/optimizer/sgd.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::optimizer_test {

/// AdamW and Sgd against their formulas in long double and in closed form, and what they promise beside values.
namespace {

using moe::ErrorCode;

/// A parameter with all that an optimiser keeps of it.
template <class T>
struct Memory {
    std::vector<T> value, gradient, mean, square, velocity;

    explicit Memory(std::size_t n, std::uint64_t seed = 1) : mean(n, T(0)), square(n, T(0)), velocity(n, T(0)) {
        moe_test::Draw draw(seed);
        value = moe_test::random_elements<T>(draw, n, 2);
        gradient.resize(n);
        next_gradient(draw);
    }
    /// Magnitudes in [0.5, 1): so bounds need no look at what cancels.
    void next_gradient(moe_test::Draw& draw) {
        for (T& g : gradient) {
            const float drawn = draw.value();
            g = static_cast<T>(drawn < 0 ? drawn / 2 - 0.5F : drawn / 2 + 0.5F);
        }
    }
    [[nodiscard]] moe::AdamState<T> adam(std::size_t first = 0, std::size_t count = std::dynamic_extent) {
        count = std::min(count, value.size() - first);
        return {std::span(value).subspan(first, count), std::span(gradient).subspan(first, count),
                std::span(mean).subspan(first, count), std::span(square).subspan(first, count)};
    }
    [[nodiscard]] moe::SgdState<T> sgd(std::size_t first = 0, std::size_t count = std::dynamic_extent) {
        count = std::min(count, value.size() - first);
        return {std::span(value).subspan(first, count), std::span(gradient).subspan(first, count),
                std::span(velocity).subspan(first, count)};
    }
    [[nodiscard]] std::vector<T> all() const {
        std::vector<T> result = value;
        for (const std::vector<T>* part : {&mean, &square, &velocity}) {
            result.insert(result.end(), part->begin(), part->end());
        }
        return result;
    }
};

using Exact = std::vector<long double>;

/// The formulas as they stand in the papers.
void adam_step(const moe::AdamW& adam, int step, Exact& p, const Exact& g, Exact& m, Exact& v) {
    const auto rate = static_cast<long double>(adam.rate);
    const auto beta1 = static_cast<long double>(adam.beta1);
    const auto beta2 = static_cast<long double>(adam.beta2);
    for (std::size_t i = 0; i < p.size(); ++i) {
        m[i] = beta1 * m[i] + (1 - beta1) * g[i];
        v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
        const long double mean = m[i] / (1 - std::pow(beta1, static_cast<long double>(step)));
        const long double square = v[i] / (1 - std::pow(beta2, static_cast<long double>(step)));
        p[i] -= rate * static_cast<long double>(adam.decay) * p[i] +
                rate * mean / (std::sqrt(square) + static_cast<long double>(adam.epsilon));
    }
}
void sgd_step(const moe::Sgd& sgd, Exact& p, const Exact& g, Exact& v) {
    const auto momentum = static_cast<long double>(sgd.momentum);
    for (std::size_t i = 0; i < p.size(); ++i) {
        const long double d = g[i] + static_cast<long double>(sgd.decay) * p[i];
        v[i] = momentum * v[i] + d;
        p[i] -= static_cast<long double>(sgd.rate) * (sgd.nesterov ? d + momentum * v[i] : v[i]);
    }
}

template <class T>
Exact exact(const std::vector<T>& values) {
    return {values.begin(), values.end()};
}

template <class T>
constexpr double unit = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;

}  // namespace

TEMPLATE_TEST_CASE("AdamW has the values of the formula", "[optimizer]", float, double) {
    constexpr int steps = 20;
    for (const moe::AdamW adam :
         {moe::AdamW{}, moe::AdamW{.rate = 0.01, .beta1 = 0.8, .beta2 = 0.95, .decay = 0.1},
          moe::AdamW{.rate = 0.02, .epsilon = 0.125, .decay = 0}, moe::AdamW{.rate = 0.01, .beta1 = 0, .beta2 = 0}}) {
        for (const std::size_t n : {1U, 2U, 7U, 16U, 61U}) {
            Memory<TestType> memory(n, n);
            moe_test::Draw draw(n + 100);
            Exact p = exact(memory.value);
            Exact m(n);
            Exact v(n);
            for (int step = 1; step <= steps; ++step) {
                memory.next_gradient(draw);
                adam.update(static_cast<std::uint64_t>(step), memory.adam());
                adam_step(adam, step, p, exact(memory.gradient), m, v);
            }
            // A step rounds p (below 3) 4 times, with keep. Of the quotient, below 2: each step before left 6 roundings
            // in m, of what is at most 10 rate once it is scaled, and 4 in v; 10 are its own.
            const double bound = steps * unit<TestType> * (4 * 3 + 10 * adam.rate * 2 * (10 * steps + 10));
            CHECK(moe_test::difference(memory.value, p, bound) == "");
            CHECK(moe_test::difference(memory.mean, m, 6 * steps * unit<TestType>) == "");
            CHECK(moe_test::difference(memory.square, v, 6 * steps * unit<TestType>) == "");
        }
    }
}

TEST_CASE("AdamW in closed form: equal gradients move by the rate, zero gradients leave the decay", "[optimizer]") {
    constexpr std::size_t n = 11;
    const moe::AdamW adam{.rate = 0.125, .epsilon = 1e-3, .decay = 0};
    Memory<double> memory(n);
    const std::vector<double> start = memory.value;
    for (std::uint64_t step = 1; step <= 50; ++step) {
        adam.update(step, memory.adam());
    }
    for (std::size_t i = 0; i < n; ++i) {
        const double g = memory.gradient[i];
        const double expected = start[i] - 50 * 0.125 * g / (std::abs(g) + 1e-3);
        CHECK(std::abs(memory.value[i] - expected) <= 50 * 20 * unit<double> * 10);
    }

    Memory<double> still(n);
    std::fill(still.gradient.begin(), still.gradient.end(), 0.0);
    const moe::AdamW decays{.rate = 0.1, .decay = 0.5};
    for (std::uint64_t step = 1; step <= 10; ++step) {
        decays.update(step, still.adam());
    }
    const double kept = std::pow(1 - 0.1 * 0.5, 10);
    for (std::size_t i = 0; i < n; ++i) {
        CHECK(std::abs(still.value[i] - start[i] * kept) <= 40 * unit<double> * std::abs(start[i]));
        CHECK(std::abs(still.value[i]) < std::abs(start[i]));
    }
}

TEMPLATE_TEST_CASE("Sgd has the values of the formula", "[optimizer]", float, double) {
    constexpr int steps = 20;
    for (const moe::Sgd sgd : {moe::Sgd{}, moe::Sgd{.rate = 0.1, .decay = 0.1}, moe::Sgd{.momentum = 0.9},
                               moe::Sgd{.rate = 0.02, .momentum = 0.5, .decay = 0.2},
                               moe::Sgd{.rate = 0.02, .momentum = 0.75, .decay = 0.01, .nesterov = true}}) {
        for (const std::size_t n : {1U, 7U, 16U, 61U}) {
            Memory<TestType> memory(n, n);
            moe_test::Draw draw(n + 100);
            Exact p = exact(memory.value);
            Exact v(n);
            for (int step = 1; step <= steps; ++step) {
                memory.next_gradient(draw);
                sgd.update(memory.sgd());
                sgd_step(sgd, p, exact(memory.gradient), v);
            }
            // v stays below 1.4 / (1 - momentum) <= 14, p below 2 + 20 * 0.1 * 14 = 30: a step rounds each 3 times, and
            // an error of v stays in those of p
            const double bound = steps * 3 * unit<TestType> * (30 + steps * 14 * sgd.rate * 2);
            CHECK(moe_test::difference(memory.value, p, bound) == "");
        }
    }
}

TEST_CASE("the bits of an update depend neither on threads nor on how memory is cut", "[optimizer]") {
    constexpr std::size_t n = 3 * moe::detail::task_elements + 101;
    const moe::AdamW adam{.rate = 0.01, .decay = 0.1};
    const moe::Sgd sgd{.momentum = 0.9, .decay = 0.1, .nesterov = true};
    const auto steps = [&](const auto& executor, const std::vector<std::size_t>& cuts) {
        Memory<float> memory(n);
        moe_test::Draw draw(5);
        for (std::uint64_t step = 1; step <= 3; ++step) {
            memory.next_gradient(draw);
            for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
                adam.update(step, memory.adam(cuts[i], cuts[i + 1] - cuts[i]), executor);
                sgd.update(memory.sgd(cuts[i], cuts[i + 1] - cuts[i]), executor);
            }
        }
        return memory.all();
    };
    const std::vector<float> expected = steps(moe::SerialExecutor{}, {0, n});
    for (std::size_t workers = 1; workers <= moe_test::twice_the_threads(); ++workers) {
        CHECK(moe_test::same_bits(steps(moe_test::ThreadExecutor(workers), {0, n}), expected));
        CHECK(moe_test::same_bits(steps(moe_test::ReversedExecutor(workers), {0, n}), expected));
    }
    CHECK(moe_test::same_bits(steps(moe::SerialExecutor{}, {0, 0, 1, 2, 5, 101, 102, n - 1, n, n}), expected));
    CHECK(moe_test::same_bits(steps(moe_test::ThreadExecutor(2), {0, 17, n / 2, n}), expected));
}

TEST_CASE("rounded weights are the nearest of the new values, and masters have the same bits", "[optimizer]") {
    constexpr std::size_t n = moe::detail::task_elements + 37;
    const moe::AdamW adam{.rate = 0.1};
    Memory<float> plain(n);
    plain.gradient[5] = std::numeric_limits<float>::quiet_NaN();
    Memory<float> masters = plain;
    std::vector<moe::bfloat16> brain(n);
    std::vector<moe::float16> half(n);
    for (std::uint64_t step = 1; step <= 2; ++step) {
        adam.update(step, plain.adam());
        if (step == 1) {
            adam.update(step, masters.adam(), std::span(half));
            std::size_t differ = 0;
            for (std::size_t i = 0; i < n; ++i) {
                differ += half[i] == moe::to_float16(plain.value[i]) ? 0U : 1U;
            }
            CHECK(differ == 0);
        } else {
            adam.update(step, masters.adam(), std::span(brain), moe_test::ThreadExecutor(2));
        }
    }
    CHECK(moe_test::same_bits(masters.all(), plain.all(), moe_test::NonFinite::allow));
    std::size_t differ = 0;
    for (std::size_t i = 0; i < n; ++i) {
        differ += brain[i] == moe::to_bfloat16(plain.value[i]) ? 0U : 1U;
        CHECK(std::isnan(plain.value[i]) == (i == 5));  // a NaN stays in its element
    }
    CHECK(differ == 0);
}

TEST_CASE("experts without tokens decay, or stay as they are if that is asked for", "[optimizer]") {
    constexpr std::size_t n_experts = 5;
    constexpr std::size_t size = moe::detail::task_elements / 2 + 3;  // tasks end within experts
    const std::vector<std::uint64_t> tokens{3, 0, 0, 1, 0};
    const moe::AdamW adam{.rate = 0.1, .decay = 0.1};
    Memory<float> all(n_experts * size);
    std::fill(all.mean.begin(), all.mean.end(), 0.5F);
    for (std::size_t e = 0; e < n_experts; ++e) {
        if (tokens[e] == 0) {
            std::fill_n(all.gradient.begin() + static_cast<std::ptrdiff_t>(e * size), size, 0.0F);
        }
    }
    const std::vector<float> start = all.all();
    Memory<float> used = all;
    std::vector<moe::bfloat16> rounded(n_experts * size, moe::to_bfloat16(9.0F));
    adam.update(7, all.adam());
    moe::AdamState<float> state = used.adam();
    state.tokens = tokens;
    adam.update(7, state, std::span(rounded), moe_test::ThreadExecutor(2));
    const moe::Sgd sgd{.momentum = 0.5, .decay = 0.5};
    const Memory<float> before_sgd = used;
    moe::SgdState<float> sgd_state = used.sgd();
    sgd_state.tokens = tokens;
    sgd.update(sgd_state);
    for (std::size_t i = 0; i < n_experts * size; ++i) {
        const bool skipped = tokens[i / size] == 0;
        if (all.value[i] == start[i] || (used.mean[i] == 0.5F) != skipped ||
            before_sgd.value[i] != (skipped ? start[i] : all.value[i]) ||
            (rounded[i] == moe::to_bfloat16(9.0F)) != skipped || (used.value[i] == before_sgd.value[i]) != skipped) {
            FAIL("element " << i << " of expert " << i / size);
        }
    }
    state.tokens = std::span(tokens).first(3);
    const auto error = moe_test::error_of([&] { adam.update(7, state); });
    CHECK(error.code == ErrorCode::shape);
}

TEST_CASE("updates that cannot be are errors before anything is written", "[optimizer]") {
    Memory<float> memory(10);
    const std::vector<float> before = memory.all();
    const auto refused = [&](auto&& call, ErrorCode code, const std::string& text) {
        const auto error = moe_test::error_of(call);
        INFO(error.text);
        CHECK(error.code == code);
        CHECK_THAT(error.text, moe_test::contains(text));
    };
    const auto bad = [&](const moe::AdamW& adam, const std::string& text) {
        refused([&] { adam.update(1, memory.adam()); }, ErrorCode::range, text);
    };
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const double infinity = std::numeric_limits<double>::infinity();
    bad({.rate = nan}, "rate is nan");
    bad({.rate = infinity}, "rate is inf");
    bad({.rate = -1}, "rate is -1");
    bad({.rate = 1e300}, "rate is 1e+300");
    bad({.beta1 = 1}, "beta1 is 1");
    bad({.beta1 = nan}, "beta1 is nan");
    bad({.beta2 = 1}, "beta2 is 1");
    bad({.beta2 = -0.1}, "beta2 is -0.1");
    bad({.epsilon = 0}, "epsilon is 0");
    bad({.epsilon = 1e-50}, "epsilon is 1e-50");
    bad({.decay = -1}, "decay is -1");
    bad({.rate = 2, .decay = 1}, "rate * decay is 2");
    refused([&] { moe::AdamW{}.update(0, memory.adam()); }, ErrorCode::range, "step is 0");
    moe::AdamState<float> state = memory.adam();
    state.gradient = state.gradient.first(9);
    refused([&] { moe::AdamW{}.update(1, state); }, ErrorCode::shape, "gradient has 9 values, value has 10");
    state = memory.adam();
    state.square = state.mean;
    refused([&] { moe::AdamW{}.update(1, state); }, ErrorCode::layout, "square overlaps mean");
    std::vector<moe::bfloat16> rounded(9);
    refused([&] { moe::AdamW{}.update(1, memory.adam(), std::span(rounded)); }, ErrorCode::shape,
            "rounded has 9 values, value has 10");

    const auto bad_sgd = [&](const moe::Sgd& sgd, ErrorCode code, const std::string& text) {
        refused([&] { sgd.update(memory.sgd()); }, code, text);
    };
    bad_sgd({.rate = nan}, ErrorCode::range, "rate is nan");
    bad_sgd({.momentum = 1}, ErrorCode::range, "momentum is 1");
    bad_sgd({.decay = -1}, ErrorCode::range, "decay is -1");
    bad_sgd({.nesterov = true}, ErrorCode::missing, "needs a momentum");
    moe::SgdState<float> without = memory.sgd();
    without.velocity = {};
    refused([&] { moe::Sgd{.momentum = 0.5}.update(without); }, ErrorCode::shape, "velocity has 0 values");
    CHECK(moe_test::same_bits(memory.all(), before));
    moe::Sgd{}.update(without);  // needs none
    CHECK_FALSE(moe_test::same_bits(memory.all(), before));
}

TEST_CASE("of nothing updates do nothing", "[optimizer]") {
    moe::AdamW{}.update(1, moe::AdamState<double>{});
    moe::Sgd{.momentum = 0.5}.update(moe::SgdState<double>{});
    Memory<float> memory(3);
    const std::vector<float> before = memory.all();
    moe::AdamW{.rate = 0}.update(1, memory.adam());
    CHECK(moe_test::same_bits(memory.value, std::vector<float>(before.begin(), before.begin() + 3)));
    CHECK_FALSE(moe_test::same_bits(memory.all(), before));  // the moments move
}

}  // namespace moe_test::optimizer_test
