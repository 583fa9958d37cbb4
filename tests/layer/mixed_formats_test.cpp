#include <cstddef>
#include <utility>
#include <vector>

#include "experts/bank_runner.hpp"
#include "layer/batch_runner.hpp"
#include "moe/gating/strategies/token_choice.hpp"
#include "moe/layer/moe_layer.hpp"
#include "support/catch.hpp"
#include "support/computes.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"

namespace moe_test::mixed_formats_test {

/// Layers put together of experts in several formats.
namespace {

using moe::Compute;
using Form = moe::Gated<moe::Silu>;
using Gate = moe::TokenChoice<moe::Softmax>;

constexpr std::size_t d_model = 70;

/// Experts of one shape, and the memory of their weights.
struct Experts {
    moe_test::Draw draw;
    moe_test::BankWeights<float> weights;
    moe::ExpertBank<float, Form> bank;

    Experts(std::size_t n_experts, std::size_t d_ff)
        : draw(d_ff), weights(draw, n_experts, d_model, d_ff, true, true), bank(Form{}, weights.stacks()) {}

    template <class F>
    [[nodiscard]] moe::PackedExperts<F, Form> packed(Compute compute) const {
        return moe::PackedExperts<F, Form>(bank, moe::SerialExecutor{}, compute);
    }
};

template <class Layer>
std::vector<float> run(const Layer& layer, const moe_test::Batch<float>& batch) {
    moe::Workspace workspace;
    return moe_test::run_tokens(layer, batch, moe_test::first_tokens(batch.n_tokens()), false, workspace,
                                moe_test::ReversedExecutor(3));
}

/// Routed experts of one format and compute beside shared ones of another: what each gives alone, added.
template <class Routed, class Shared>
void check_mixed(Compute routed_compute, Compute shared_compute) {
    const Experts routed(4, 45);
    const Experts shared(1, 33);
    moe_test::Draw draw(3);
    const std::vector<float> router_weights = moe_test::random_elements<float>(draw, 4 * d_model, 1);
    const moe::Router router{moe::view(router_weights.data(), 4, d_model), Gate{.top_k = 2}};
    const moe_test::Batch<float> batch(draw, 40, d_model);
    auto always = shared.packed<Shared>(shared_compute);
    std::vector<float> expected = run(moe::MoELayer{router, routed.packed<Routed>(routed_compute)}, batch);
    const std::vector<float> added = moe_test::run_experts(always, batch.x);
    for (std::size_t i = 0; i < expected.size(); ++i) {
        expected[i] += added[i];
    }
    const moe::MoELayer both{router, routed.packed<Routed>(routed_compute), moe::SharedExperts(std::move(always))};
    INFO("computes " << static_cast<int>(routed_compute) << ", " << static_cast<int>(shared_compute));
    REQUIRE(moe_test::same_bits(run(both, batch), expected));
}

}  // namespace

TEST_CASE("routed and shared experts may have different formats and computes", "[packed]") {
    for (const Compute one : moe_test::computes<moe::Int8>()) {
        for (const Compute other : moe_test::computes<moe::Int8>()) {
            check_mixed<moe::Int8, moe::Int8>(one, other);
            check_mixed<moe::Int8, moe::Int4>(one, other);
        }
        check_mixed<moe::Int4, moe::bfloat16>(one, Compute::exact);
        check_mixed<moe::bfloat16, moe::Int4>(Compute::exact, one);
    }
}

TEST_CASE("shared experts that compute in two ways are an error", "[packed]") {
    const Experts experts(1, 33);
    std::vector<moe::PackedExperts<moe::Int8, Form>> shared;
    shared.push_back(experts.packed<moe::Int8>(Compute::int8));
    shared.push_back(experts.packed<moe::Int8>(Compute::exact));
    const auto error = moe_test::error_of([&] { moe::SharedExperts both(std::move(shared)); });
    CHECK(error.code == moe::ErrorCode::range);
    CHECK_THAT(error.text, moe_test::contains("exact, int8 or bf16"));
}

}  // namespace moe_test::mixed_formats_test
