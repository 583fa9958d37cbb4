#include "moe/routing/router.hpp"

#include <array>
#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include "moe/gating/any_gate.hpp"
#include "moe/gating/strategies/hash.hpp"
#include "moe/gating/strategies/token_choice.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::router_test {

using moe::ErrorCode;
using moe_test::contains;
using moe_test::error_of;

namespace {

const std::vector<float> weight(1000, 0.5F);
using TopK = moe::TokenChoice<moe::Softmax>;

moe_test::CaughtError router_error(const TopK& gate, std::size_t n_experts = 8) {
    return error_of([&] { moe::Router(moe::view(weight.data(), n_experts, 4), gate); });
}

}  // namespace

TEST_CASE("a router knows its sizes and whether it computes logits", "[router]") {
    const moe::Router router(moe::view(weight.data(), 8, 4), TopK{.top_k = 2});
    CHECK(router.n_experts() == 8);
    CHECK(router.linear().inputs() == 4);
    CHECK(router.has_logits());
    CHECK(router.gate().top_k == 2);
    const std::vector<std::int32_t> table{0, 1, 2};
    const moe::Router hash(std::size_t{3}, moe::Hash<>{.table = moe::view(table.data(), 3, 1)});
    CHECK_FALSE(hash.has_logits());
    CHECK(hash.linear().empty());
}

TEST_CASE("a router deduces its type whatever range holds the bias", "[router]") {
    const std::vector<float> bias(8, 1.0F);
    using FloatRouter = moe::Router<float, TopK>;
    const moe::Router of_vector(moe::view(weight.data(), 8, 4), bias, TopK{.top_k = 2});
    static_assert(std::is_same_v<decltype(of_vector), const FloatRouter>);
    const moe::Router of_stack(moe::stacked(weight.data(), 1, 8, 4), bias, TopK{.top_k = 2});
    static_assert(std::is_same_v<decltype(of_stack), const FloatRouter>);
    const moe::Router of_span(moe::view(weight.data(), 8, 4), std::span(bias), TopK{.top_k = 2});
    static_assert(std::is_same_v<decltype(of_span), const FloatRouter>);
    std::array<double, 8> weights{};
    const std::array<double, 2> biases{1, 2};
    const moe::Router of_array(moe::view(weights.data(), 2, 4), biases, TopK{.top_k = 2});
    static_assert(std::is_same_v<decltype(of_array), const moe::Router<double, TopK>>);
    CHECK(of_vector.n_experts() + of_stack.n_experts() + of_span.n_experts() + of_array.n_experts() == 26);

    const std::vector<float> short_bias(7);
    const auto error = error_of([&] { moe::Router(moe::view(weight.data(), 8, 4), short_bias, TopK{}); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("7 biases for 8 outputs"));
}

TEST_CASE("a gate that reads logits needs weights", "[router]") {
    auto error = error_of([] { moe::Router(std::size_t{8}, TopK{.top_k = 2}); });
    CHECK(error.code == ErrorCode::missing);
    CHECK_THAT(error.text, contains("needs weights"));
    error = error_of([] { moe::Router(std::size_t{8}, moe::AnyGate(TopK{.top_k = 2})); });
    CHECK(error.code == ErrorCode::missing);
}

TEST_CASE("a router refuses top_k beyond the experts, and groups that do not divide", "[router]") {
    auto error = router_error({.top_k = 9});
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("top_k 9") && contains("8 experts"));
    error = router_error({.top_k = 0});
    CHECK_THAT(error.text, contains("top_k is 0"));
    error = router_error({.top_k = -4});
    CHECK_THAT(error.text, contains("top_k is -4"));
    error = router_error({.top_k = 2, .groups = {.n_groups = 3}});
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("3 groups do not divide 8"));
    error = router_error({.top_k = 5, .groups = {.n_groups = 4, .kept = 2}});
    CHECK_THAT(error.text, contains("top_k 5") && contains("4 experts of the 2 groups"));
    error = router_error({.top_k = 2, .selection_bias = std::span(weight).first(7)});
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("7 values for 8"));
    CHECK_NOTHROW(moe::Router(moe::view(weight.data(), 8, 4), TopK{.top_k = 8}));
}

TEST_CASE("a router refuses weights that are none, null, or of the wrong bias", "[router]") {
    auto error = error_of([] { moe::Router(moe::view(weight.data(), 0, 4), TopK{}); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("0 x 4"));
    error = error_of([] { moe::Router(moe::view(static_cast<const float*>(nullptr), 8, 4), TopK{}); });
    CHECK(error.code == ErrorCode::null_pointer);
    CHECK_THAT(error.text, contains("8 x 4"));
    error = error_of([] { moe::Router(moe::view(weight.data(), 8, 4), std::span(weight).first(7), TopK{}); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("7 biases for 8 outputs"));
    error = error_of([] { moe::Router(moe::stacked(weight.data(), 2, 8, 4), std::span<const float>(), TopK{}); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("a stack of 2"));
    error = error_of([] { moe::Router(moe::view(weight.data(), 8, 4, 3), TopK{}); });
    CHECK(error.code == ErrorCode::stride);
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    error = error_of([] { moe::Router(moe::view(weight.data(), most / 2, 4), TopK{}); });
    CHECK(error.code == ErrorCode::overflow);
}

TEST_CASE("a hash table that names experts that are not there is found at set-up", "[router]") {
    const std::vector<std::int32_t> table{0, 1, 2, 8};
    const auto error =
        error_of([&] { moe::Router(std::size_t{8}, moe::Hash<>{.table = moe::view(table.data(), 2, 2)}); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("token id 1") && contains("expert 8"));
}

}  // namespace moe_test::router_test
