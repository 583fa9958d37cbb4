#include <cstddef>
#include <utility>
#include <vector>

#include "experts/encoded/encoded_case.hpp"
#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::encoded_gradients_test {

namespace {

constexpr std::size_t n = 13;
constexpr std::size_t d = 256;

/// All gradients of a layer after one pass, and the derivative of x behind them.
template <class Bank>
std::vector<float> gradients_with(Draw draw, Bank bank) {
    const std::vector<float> router = random_elements<float>(draw, 4 * d, 0.1);
    const std::vector<float> x = random_elements<float>(draw, n * d, 1);
    const std::vector<float> dy = random_elements<float>(draw, n * d, 1);
    const moe::MoELayer layer(
        moe::Router<float, moe::TokenChoice<>>(moe::view(router.data(), 4, d), {}, moe::TokenChoice<>{.top_k = 2}),
        std::move(bank));
    moe::OwnedGradients<float> gradients = moe::gradients_of(layer);
    moe::Tape<float> tape;
    moe::Workspace workspace;
    std::vector<float> y(n * d);
    std::vector<float> dx(n * d);
    moe::forward(layer, moe::view(x.data(), n, d), moe::view(y.data(), n, d), tape, workspace);
    moe::backward(layer, tape, moe::view(dy.data(), n, d), moe::view(dx.data(), n, d), gradients, workspace);
    std::vector<float> all(gradients.all().begin(), gradients.all().end());
    all.insert(all.end(), dx.begin(), dx.end());
    return all;
}

}  // namespace

TEST_CASE("a backward pass through encoded experts has the bits of one through their values", "[encoded]") {
    Draw draw(1);
    for (const BlockTypes& types : {BlockTypes{"Q4_K", "Q6_K", "Q8_0"}, {"MXFP4", "F16", "Q5_1"}}) {
        const EncodedCase c(draw, types, moe::AnyForm{}, 4, d, 96, true);
        CHECK(same_bits(gradients_with(draw, c.bank()), gradients_with(draw, c.floats())));
    }
}

}  // namespace moe_test::encoded_gradients_test
