#include <cstddef>
#include <span>
#include <vector>

#include "moe/gating/any_gate.hpp"
#include "moe/gating/strategies/hash.hpp"
#include "moe/gating/strategies/token_choice.hpp"
#include "moe/routing/router.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"
#include "support/layer_cases.hpp"
#include "support/panel_scratch.hpp"

namespace moe_test::packed_router_test {

namespace {

/// All logits of a linear map, panel by panel in blocks of at most `block` rows.
template <class W, class T = moe::ComputeType<W>>
std::vector<T> logits(const moe::Linear<W>& linear, const std::vector<T>& x, std::size_t block) {
    const std::size_t n_rows = x.size() / linear.inputs();
    std::vector<T> y(n_rows * linear.outputs() + 1, T(99));
    const moe_test::OwnedScratch<T> scratch;
    for (std::size_t first = 0; first < n_rows; first += block) {
        std::vector<const std::byte*> rows;
        for (std::size_t r = first; r < std::min(first + block, n_rows); ++r) {
            rows.push_back(reinterpret_cast<const std::byte*>(&x[r * linear.inputs()]));
        }
        for (std::size_t panel = 0; panel < linear.panels(); ++panel) {
            linear.compute_panels({panel, 1}, rows, &y[first * linear.outputs()], linear.outputs(), *scratch);
        }
    }
    CHECK(y.back() == T(99));
    y.pop_back();
    return y;
}

/// The same in `parts` parts along the inputs, the last one first.
template <class W, class T = moe::ComputeType<W>>
std::vector<T> logits_by_blocks(const moe::Linear<W>& linear, std::span<const T> x, std::size_t parts) {
    const std::size_t n_rows = x.size() / linear.inputs();
    const std::size_t n_blocks = moe::divide_up(linear.inputs(), moe::Panel<T>::depth);
    const std::size_t block = n_rows * moe::Panel<T>::width;
    std::vector<T> y(n_rows * linear.outputs());
    std::vector<T> sums(n_blocks * block);
    const moe_test::OwnedScratch<T> scratch;
    std::vector<const std::byte*> rows;
    for (std::size_t r = 0; r < n_rows; ++r) {
        rows.push_back(reinterpret_cast<const std::byte*>(&x[r * linear.inputs()]));
    }
    for (std::size_t panel = 0; panel < linear.panels(); ++panel) {
        for (std::size_t part = parts; part-- > 0;) {
            const std::size_t first = n_blocks * part / parts;
            linear.compute_blocks(panel, first, n_blocks * (part + 1) / parts, rows, sums.data() + first * block,
                                  *scratch);
        }
        linear.add_blocks(panel, n_blocks, n_rows, sums.data(), y.data(), linear.outputs());
    }
    return y;
}

using Gate = moe::TokenChoice<moe::Softmax>;

template <class W>
void check_router() {
    using T = moe::ComputeType<W>;
    for (const std::size_t n_experts : {1U, 7U, 31U, 32U, 33U, 64U, 65U, 130U}) {
        for (const std::size_t d_model : {1U, 5U, 64U, 129U, 300U}) {
            for (const bool has_bias : {false, true}) {
                moe_test::Draw draw(n_experts * d_model);
                const auto weights = moe_test::random_elements<W>(draw, n_experts * d_model, 1);
                const auto bias = moe_test::random_elements<W>(draw, has_bias ? n_experts : 0, 1);
                const auto x = moe_test::random_elements<T>(draw, 14 * d_model, 1);
                const moe::Router router(moe::view(weights.data(), n_experts, d_model), bias, Gate{.top_k = 1});
                const moe::Router packed = router.packed(moe_test::ThreadExecutor(3));
                const moe::Router copy = packed;
                INFO(n_experts << " experts, d_model " << d_model);
                CHECK(packed.n_experts() == n_experts);
                CHECK(packed.has_logits());
                const std::vector<T> expected = logits(router.linear(), x, 14);
                for (const std::size_t block : {1U, 4U, 6U, 7U, 14U}) {
                    REQUIRE(moe_test::same_bits(logits(copy.linear(), x, block), expected));
                }
                for (const std::size_t n_rows : {std::size_t{1}, std::size_t{3}, moe::few_linear_rows}) {
                    const auto few = logits_by_blocks(copy.linear(), std::span(x).first(n_rows * d_model), 2);
                    REQUIRE(moe_test::same_bits(few, std::span(expected).first(n_rows * n_experts)));
                }
            }
        }
    }
}

}  // namespace

TEST_CASE("a packed router computes the bits of the plain one, for any number of rows: float, double", "[router]") {
    check_router<float>();
    check_router<double>();
}
TEST_CASE("a packed router computes the bits of the plain one, for any number of rows: 16 bits", "[router]") {
    check_router<moe::bfloat16>();
    check_router<moe::float16>();
}

TEST_CASE("weights in another storage order are packed alike", "[router]") {
    moe_test::Draw draw(3);
    const auto weights = moe_test::random_elements<float>(draw, 70 * 40, 1);
    const auto x = moe_test::random_elements<float>(draw, 5 * 40, 1);
    const moe::Router router(moe::transpose(moe::stacked(weights.data(), 1, 40, 70)), Gate{.top_k = 1});
    CHECK(moe_test::same_bits(logits(router.packed().linear(), x, 5), logits(router.linear(), x, 5)));
}

TEST_CASE("copies of a packed router share its panels, which outlive it and the weights", "[router]") {
    moe_test::Draw draw(4);
    auto weights = moe_test::random_elements<float>(draw, 9 * 40, 1);
    const auto x = moe_test::random_elements<float>(draw, 5 * 40, 1);
    const auto make = [&] { return moe::Router(moe::view(weights.data(), 9, 40), Gate{.top_k = 1}); };
    const std::vector<float> expected = logits(make().linear(), x, 5);
    const moe::Router kept = make().packed();
    weights.assign(weights.size(), 0.0F);
    CHECK(moe_test::same_bits(logits(kept.linear(), x, 5), expected));
}

TEST_CASE("a router without weights packs to itself", "[router]") {
    const std::vector<std::int32_t> table{0, 1, 2};
    const moe::Router hash(std::size_t{3},
                           moe::Hash<>{.table = moe::view(static_cast<const std::int32_t*>(table.data()), 3, 1)});
    const auto packed = hash.packed();
    CHECK_FALSE(packed.has_logits());
    CHECK(packed.linear().empty());
    CHECK(packed.n_experts() == 3);
}

}  // namespace moe_test::packed_router_test
