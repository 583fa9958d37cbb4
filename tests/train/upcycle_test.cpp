// A mixture made of a dense network gives what that gave, and one with copies of its experts what it gave without.

#include <moe/reference/layer/layer.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"
#include "train/gradient_memory.hpp"

namespace moe_test::upcycle_test {

namespace reference = moe::reference;

namespace {

using moe::ErrorCode;
using moe::Upcycling;

constexpr std::size_t n_tokens = 5;

template <class T>
reference::Vector wide(const std::vector<T>& values) {
    reference::Vector result;
    for (const T& value : values) {
        result.push_back(static_cast<double>(moe::load_element(&value)));
    }
    return result;
}

/// Memory for experts and router, full of NaN until it is written.
template <class T>
struct Target {
    std::size_t n, d_model, d_ff;
    bool gated, biases;
    std::vector<T> gate, up, down, gate_bias, up_bias, down_bias, router;

    template <class W>
    Target(const BankWeights<W>& from, std::size_t experts, std::size_t ff)
        : n(experts), d_model(from.d_model), d_ff(ff), gated(from.gated), biases(from.biases) {}

    moe::ExpertGradients<T> experts() {
        const auto stack = [](std::vector<T>& memory, std::size_t count, std::size_t rows, std::size_t columns) {
            return gradient_stack(memory, count, rows, columns, std::numeric_limits<T>::quiet_NaN());
        };
        return {.gate = stack(gate, gated ? n : 0, d_ff, d_model),
                .up = stack(up, n, d_ff, d_model),
                .down = stack(down, n, d_model, d_ff),
                .gate_bias = stack(gate_bias, gated && biases ? n : 0, d_ff, 1),
                .up_bias = stack(up_bias, biases ? n : 0, d_ff, 1),
                .down_bias = stack(down_bias, biases ? n : 0, d_model, 1)};
    }
    moe::MutableStack<T> routers() {
        return gradient_stack(router, 1, n, d_model, std::numeric_limits<T>::quiet_NaN());
    }
    [[nodiscard]] moe::ExpertWeights<T> stacks() const {
        const auto stack = [this](const std::vector<T>& data, std::size_t rows, std::size_t cols) {
            return data.empty() ? moe::WeightStack<T>() : moe::stacked(data.data(), n, rows, cols);
        };
        return {stack(gate, d_ff, d_model), stack(up, d_ff, d_model), stack(down, d_model, d_ff),
                stack(gate_bias, d_ff, 1),  stack(up_bias, d_ff, 1),  stack(down_bias, d_model, 1)};
    }
};

template <class T, class Form, class Gate>
std::vector<T> output(const moe::ExpertWeights<T>& weights, const Form& form, const std::vector<T>& router,
                      const Gate& gate, const std::vector<T>& x) {
    const std::size_t d = weights.up.inputs();
    const moe::MoELayer layer{moe::Router{moe::view(router.data(), router.size() / d, d), gate},
                              moe::ExpertBank<T, Form>(form, weights)};
    std::vector<T> y(x.size(), std::numeric_limits<T>::quiet_NaN());
    moe::Workspace workspace;
    layer.forward(moe::view(x.data(), x.size() / d, d), moe::view(y.data(), x.size() / d, d), workspace);
    return y;
}

/// What the dense network gives, by the definition.
template <class W, class T>
reference::Vector dense_output(const BankWeights<W>& dense, reference::Form form, const std::vector<T>& x) {
    const reference::Expert expert{.d_model = dense.d_model,
                                   .d_ff = dense.d_ff,
                                   .form = form,
                                   .gate = wide(dense.gate),
                                   .up = wide(dense.up),
                                   .down = wide(dense.down),
                                   .gate_bias = wide(dense.gate_bias),
                                   .up_bias = wide(dense.up_bias),
                                   .down_bias = wide(dense.down_bias)};
    const reference::Vector all = wide(x);
    reference::Vector y;
    for (std::size_t t = 0; t < x.size() / dense.d_model; ++t) {
        const auto row = all.begin() + static_cast<std::ptrdiff_t>(t * dense.d_model);
        const reference::Vector of_token =
            reference::run(expert, reference::Vector(row, row + static_cast<std::ptrdiff_t>(dense.d_model)));
        y.insert(y.end(), of_token.begin(), of_token.end());
    }
    return y;
}

/// Rounding of a chain of k operations in T, squared.
template <class T>
double rounding(std::size_t k) {
    const double error = static_cast<double>(std::numeric_limits<T>::epsilon()) * static_cast<double>(k);
    return error * error;
}

struct Sizes {
    std::size_t g, n, top_k, d_model, width;
};

template <class W, class Form>
double error_of(const Sizes& s, const Form& form, reference::Form name, bool biases, std::uint64_t seed) {
    using T = moe::ComputeType<W>;
    Draw draw{seed};
    const BankWeights<W> dense(draw, 1, s.d_model, s.g * s.width, reference::is_gated(name), biases);
    const std::vector<T> x = random_elements<T>(draw, n_tokens * s.d_model, 1);
    const Upcycling how{.granularity = s.g, .expansion = s.n, .top_k = s.top_k, .router_deviation = 0.5, .seed = seed};
    Target<T> to(dense, how.n_experts(), s.width);
    const auto experts = to.experts();
    moe::upcycle(dense.stacks(), how, experts, to.routers());
    const auto error = [&](const auto& gate) {
        return nmse(output<T>(to.stacks(), form, to.router, gate, x), dense_output(dense, name, x));
    };
    const int k = static_cast<int>(s.top_k);
    const double of_softmax = error(moe::TokenChoice<>{.top_k = k, .normalize = true});
    const double of_sigmoid = error(moe::TokenChoice<moe::Sigmoid>{.top_k = k, .normalize = true});
    CHECK(of_softmax <= rounding<T>(s.d_model + s.g * s.width + 2 * s.top_k + 8));
    CHECK(of_sigmoid <= rounding<T>(s.d_model + s.g * s.width + 2 * s.top_k + 8));
    return of_softmax;
}

}  // namespace

TEST_CASE("an upcycled network of normalised weights is the dense one", "[upcycle]") {
    double worst = 0;
    std::uint64_t seed = 0;
    for (const Sizes& s : {Sizes{1, 1, 1, 1, 1}, Sizes{1, 4, 2, 7, 13}, Sizes{2, 1, 2, 5, 1}, Sizes{2, 4, 6, 17, 3},
                           Sizes{3, 3, 3, 8, 11}, Sizes{4, 2, 8, 31, 16}, Sizes{8, 8, 16, 40, 5}}) {
        for (const bool biases : {false, true}) {
            INFO(s.g << " slices, " << s.n << " copies, top " << s.top_k);
            ++seed;
            worst =
                std::max(worst, error_of<double>(s, moe::Gated<moe::Silu>{}, reference::Form::swiglu, biases, seed));
            worst = std::max(worst, error_of<double>(s, moe::Plain<moe::Relu>{}, reference::Form::relu, biases, seed));
            (void)error_of<float>(s, moe::Gated<moe::Silu>{}, reference::Form::swiglu, biases, seed);
            (void)error_of<moe::bfloat16>(s, moe::Gated<moe::Silu>{}, reference::Form::swiglu, biases, seed);
        }
    }
    CHECK(worst > 0);  // it is computed another way
    CHECK(worst < 1e-28);
}

TEST_CASE("without normalisation it is the dense one times n g / K of the weights", "[upcycle]") {
    constexpr std::size_t d = 9;
    for (const double deviation : {0.0, 0.7}) {
        for (const bool biases : {false, true}) {
            Draw draw{static_cast<std::uint64_t>(7 + biases)};
            const BankWeights<double> dense(draw, 1, d, 12, true, biases);
            const std::vector<double> x = random_elements<double>(draw, n_tokens * d, 1);
            const Upcycling how{.granularity = 3,
                                .expansion = 5,
                                .top_k = 6,
                                .normalized = false,
                                .router_deviation = deviation,
                                .seed = 3};
            Target<double> to(dense, 15, 4);
            const auto experts = to.experts();
            moe::upcycle(dense.stacks(), how, experts, to.routers());
            CHECK(how.down_scale() == 5.0 * 9 / 6);
            reference::Vector expected = dense_output(dense, reference::Form::swiglu, x);
            for (std::size_t t = 0; t < n_tokens; ++t) {
                const auto row = x.begin() + static_cast<std::ptrdiff_t>(t * d);
                const reference::Vector logits =
                    reference::linear(to.router, {}, reference::Vector(row, row + static_cast<std::ptrdiff_t>(d)), 15);
                double sum = 0;
                for (const double weight : reference::route({.top_k = 6}, logits).weights) {
                    sum += weight;
                }
                CHECK((deviation == 0 ? std::abs(sum - 0.4) < 1e-14 : sum > 0.42));
                for (std::size_t i = 0; i < d; ++i) {
                    expected[t * d + i] *= 15 / 6.0 * sum;
                }
            }
            const auto y =
                output<double>(to.stacks(), moe::Gated<moe::Silu>{}, to.router, moe::TokenChoice<>{.top_k = 6}, x);
            CHECK(nmse(y, expected) < rounding<double>(60));
            if (deviation == 0) {  // all logits are equal
                CHECK(nmse(y, dense_output(dense, reference::Form::swiglu, x)) < rounding<double>(60));
            }
        }
    }
}

TEST_CASE("the rows of the router are normal and those of a copy are equal", "[upcycle]") {
    constexpr std::size_t d = 4001;
    Draw draw{1};
    const BankWeights<float> dense(draw, 1, d, 3, false, false);
    Target<float> to(dense, 6, 1);
    const auto experts = to.experts();
    Upcycling how{.granularity = 3, .expansion = 2, .top_k = 3, .router_deviation = 0.02, .seed = 4};
    moe::upcycle(dense.stacks(), how, experts, to.routers());
    const auto row = [&](std::size_t e) { return std::span(to.router).subspan(e * d, d); };
    for (const std::size_t e : {1U, 2U, 4U, 5U}) {
        CHECK(same_bits(row(e), row(e / 3 * 3)));
    }
    CHECK_FALSE(same_bits(row(0), row(3)));
    double sum = 0;
    double squares = 0;
    for (const std::size_t e : {0U, 3U}) {
        for (const float value : row(e)) {
            sum += static_cast<double>(value);
            squares += static_cast<double>(value) * static_cast<double>(value);
        }
    }
    const double count = 2.0 * d;  // within 5 standard errors
    CHECK(std::abs(sum / count) < 5 * 0.02 / std::sqrt(count));
    CHECK(std::abs(squares / count / (0.02 * 0.02) - 1) < 5 * std::sqrt(2 / count));

    const std::vector<float> first = to.router;
    how.seed = 5;
    moe::upcycle(dense.stacks(), how, experts, to.routers());
    CHECK_FALSE(same_bits(to.router, first));
}

TEST_CASE("experts are written in any storage order", "[upcycle]") {
    constexpr std::size_t d = 5;
    constexpr std::size_t ff = 3;
    Draw draw{2};
    const BankWeights<double> dense(draw, 1, d, 2 * ff, true, false);
    const Upcycling how{.granularity = 2, .expansion = 2, .top_k = 2};
    Target<double> to(dense, 4, ff);
    const auto experts = to.experts();
    moe::upcycle(dense.stacks(), how, experts, to.routers());

    std::vector<double> both, turned, rows;
    const auto pair = moe::interleaved(gradient_stack(both, 4, 2 * ff, d, 7.0));
    const moe::ExpertGradients<double> stored{
        .gate = pair.gate, .up = pair.up, .down = moe::transpose(gradient_stack(turned, 4, ff, d, 7.0))};
    moe::upcycle(dense.stacks(), how, stored, moe::transpose(gradient_stack(rows, 1, d, 4, 7.0)));
    std::size_t differ = 0;
    for (std::size_t e = 0; e < 4; ++e) {
        for (std::size_t i = 0; i < d; ++i) {
            for (std::size_t f = 0; f < ff; ++f) {
                differ += both[(e * 2 * ff + 2 * f) * d + i] != to.gate[(e * ff + f) * d + i];
                differ += both[(e * 2 * ff + 2 * f + 1) * d + i] != to.up[(e * ff + f) * d + i];
                differ += turned[(e * ff + f) * d + i] != to.down[(e * d + i) * ff + f];
            }
            differ += rows[i * 4 + e] != to.router[e * d + i];
        }
    }
    CHECK(differ == 0);
}

TEST_CASE("m copies of each expert and m top_k give what there was", "[upcycle]") {
    constexpr std::size_t d = 11;
    for (const std::size_t m : {1U, 2U, 3U}) {
        Draw draw{m};
        const BankWeights<double> weights(draw, 5, d, 7, true, true);
        const std::vector<double> router = random_elements<double>(draw, 5 * d, 1);
        const std::vector<double> x = random_elements<double>(draw, n_tokens * d, 1);
        Target<double> to(weights, 5 * m, 7);
        const auto experts = to.experts();
        moe::upcycle_experts(weights.stacks(), moe::stacked(router.data(), 1, 5, d),
                             {.copies = m, .router_deviation = 0}, experts, to.routers());
        const auto hold = [&](const auto& before, const auto& after) {
            const moe::Gated<moe::Silu> form{};
            CHECK(nmse(output<double>(to.stacks(), form, to.router, after, x),
                       output<double>(weights.stacks(), form, router, before, x)) < rounding<double>(60));
        };
        const int k = static_cast<int>(m);
        hold(moe::TokenChoice<>{.top_k = 2}, moe::TokenChoice<>{.top_k = 2 * k});
        hold(moe::TokenChoice<>{.top_k = 3, .normalize = true}, moe::TokenChoice<>{.top_k = 3 * k, .normalize = true});
        // one expert a token, as before: the first copy of the same one
        hold(moe::TokenChoice<>{.top_k = 1, .normalize = true}, moe::TokenChoice<>{.top_k = 1, .normalize = true});
    }
}

TEST_CASE("copies of experts differ by the noise of their rows", "[upcycle]") {
    constexpr std::size_t d = 3001;
    Draw draw{3};
    const BankWeights<moe::bfloat16> weights(draw, 2, d, 1, false, false);
    const std::vector<moe::bfloat16> router = random_elements<moe::bfloat16>(draw, 2 * d, 1);
    Target<float> to(weights, 6, 1);
    const auto experts = to.experts();
    moe::upcycle_experts(weights.stacks(), moe::stacked(router.data(), 1, 2, d),
                         {.copies = 3, .router_deviation = 0.1, .seed = 9}, experts, to.routers());
    const reference::Vector old = wide(router);
    for (std::size_t e = 0; e < 6; ++e) {
        double squares = 0;
        for (std::size_t i = 0; i < d; ++i) {
            const double noise = static_cast<double>(to.router[e * d + i]) - old[e / 3 * d + i];
            squares += noise * noise;
        }
        const double variance = squares / d / (0.1 * 0.1);
        CHECK((e % 3 == 0 ? variance == 0 : std::abs(variance - 1) < 5 * std::sqrt(2.0 / d)));
    }
    CHECK(to.router[d] != to.router[2 * d]);
    const reference::Vector up = wide(weights.up);
    for (std::size_t e = 0; e < 6; ++e) {
        const auto first = up.begin() + static_cast<std::ptrdiff_t>(e / 3 * d);
        const std::vector<float> expected(first, first + static_cast<std::ptrdiff_t>(d));
        CHECK(same_bits(std::span<const float>(to.up).subspan(e * d, d), std::span<const float>(expected)));
    }
}

TEST_CASE("upcycling refuses what does not fit, and writes nothing", "[upcycle]") {
    Draw draw{4};
    const BankWeights<float> dense(draw, 1, 5, 6, true, true);
    const BankWeights<float> two(draw, 2, 5, 6, true, true);
    const Upcycling how{.granularity = 2, .expansion = 2, .top_k = 2};
    Target<float> to(dense, 4, 3);
    const auto experts = to.experts();
    const auto router = to.routers();
    const auto refused = [&](const auto& weights, const Upcycling& by, const moe::ExpertGradients<float>& target,
                             ErrorCode code, const std::string& text) {
        check_refused([&] { moe::upcycle(weights.stacks(), by, target, router); }, code, text);
    };
    refused(two, how, experts, ErrorCode::shape, "the dense network has 2 experts");
    refused(dense, {.granularity = 4, .expansion = 1, .top_k = 4}, experts, ErrorCode::shape,
            "6 hidden values cannot be cut into 4 slices");
    refused(dense, {.granularity = 2, .expansion = 2, .top_k = 3}, experts, ErrorCode::range,
            "top_k is 3, it must be a multiple of the 2 slices, at most 4");
    refused(dense, {.granularity = 2, .expansion = 2, .top_k = 6}, experts, ErrorCode::range, "top_k is 6");
    refused(dense, {.granularity = 0}, experts, ErrorCode::range, "0 slices, 1 copies");
    refused(dense, {.router_deviation = -1}, experts, ErrorCode::range, "router_deviation is -1");
    refused(dense, {.granularity = 2, .expansion = 3, .top_k = 2}, experts, ErrorCode::shape,
            "gate is 4 x 3 x 5, it must be 6 x 3 x 5");
    auto target = experts;
    target.down_bias = {};
    refused(dense, how, target, ErrorCode::missing, "down bias has nowhere to go");
    const BankWeights<float> bare(draw, 1, 5, 6, true, false);
    refused(bare, how, experts, ErrorCode::missing, "gate bias is to be written, but there is none");
    std::vector<float> other;
    target = experts;
    target.down = gradient_stack(other, 4, 3, 5);
    refused(dense, how, target, ErrorCode::shape, "down is 4 x 3 x 5, it must be 4 x 5 x 3");
    check_refused([&] { moe::upcycle(dense.stacks(), how, experts, gradient_stack(other, 1, 5, 4)); }, ErrorCode::shape,
                  "the router is 1 x 5 x 4, it must be 1 x 4 x");
    check_refused([&] { moe::upcycle(dense.stacks(), how, experts, moe::MutableStack<float>()); }, ErrorCode::missing,
                  "the router has nowhere to go");
    std::vector<float> memory(100);
    auto stacks = dense.stacks();
    stacks.up = moe::stacked(memory.data(), 1, 6, 5);
    target = experts;
    target.down = moe::stacked_gradients(memory.data() + 29, 4, 5, 3);
    check_refused([&] { moe::upcycle(stacks, how, target, router); }, ErrorCode::layout,
                  "down overlaps the up projections");

    const auto more = [&](const moe::WeightStack<float>& from, const moe::ExpertCopies& by, ErrorCode code,
                          const std::string& text) {
        check_refused([&] { moe::upcycle_experts(two.stacks(), from, by, experts, router); }, code, text);
    };
    more(moe::stacked(memory.data(), 1, 3, 5), {}, ErrorCode::shape, "the router is 1 x 3 x 5, it must be 1 x 2");
    more(moe::stacked(memory.data(), 1, 2, 5), {.copies = 0}, ErrorCode::range, "copies is 0");
    more(moe::stacked(memory.data(), 1, 2, 5), {.router_deviation = std::nan("")}, ErrorCode::range,
         "router_deviation is nan");
    more(moe::stacked(memory.data(), 1, 2, 4), {}, ErrorCode::shape, "gate is 4 x 3 x 5, it must be 4 x 6 x 5");

    for (const std::vector<float>* part : {&to.gate, &to.up, &to.down, &to.down_bias, &to.router}) {
        for (const float value : *part) {
            REQUIRE(std::isnan(value));
        }
    }
}

}  // namespace moe_test::upcycle_test
