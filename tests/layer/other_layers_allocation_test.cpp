#include <cstddef>
#include <string>
#include <thread>
#include <vector>

#include "moe/gating/any_gate.hpp"
#include "moe/gating/strategies/token_choice.hpp"
#include "moe/layer/hierarchical_layer.hpp"
#include "moe/layer/neuron_layer.hpp"
#include "moe/layer/soft_moe_layer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/counting_allocator.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::other_layers_allocation_test {

/// What layers that are no MoELayer promise of memory and of callers that share them. No assertion stands where
/// allocations are counted: Catch2 allocates.
namespace {

constexpr std::size_t d_model = 37;

/// One call's matrices; some tokens are padding.
struct Call {
    std::vector<float> x;
    std::vector<float> y;
    std::vector<std::int32_t> ids;
    std::vector<std::uint8_t> valid;
    moe::ForwardOptions<float> options;

    explicit Call(std::size_t n_tokens) : ids(n_tokens, 1), valid(n_tokens, 1) {
        moe_test::Draw draw(n_tokens);
        x = moe_test::random_elements<float>(draw, n_tokens * d_model, 1);
        y = moe_test::random_elements<float>(draw, n_tokens * d_model, 1);
        for (std::size_t t = 2; t < n_tokens; t += 5) {
            valid[t] = 0;
        }
        options.token_ids = ids;
        options.valid = valid;
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    template <class Layer, class Executor>
    void run(const Layer& layer, moe::Workspace& workspace, const Executor& executor) {
        layer.forward(moe::view(static_cast<const float*>(x.data()), ids.size(), d_model),
                      moe::view(y.data(), ids.size(), d_model), workspace, executor, options);
    }
};

template <class Layer>
void check_no_allocation(const Layer& layer) {
    for (const std::size_t workers : {1U, 4U}) {
        const moe_test::ReversedExecutor executor(workers);
        Call call(50);
        Call smaller(17);
        moe::Workspace workspace;
        call.run(layer, workspace, executor);
        const std::size_t before = moe_test::allocations();
        for (int repeat = 0; repeat < 3; ++repeat) {
            call.run(layer, workspace, executor);
            smaller.run(layer, workspace, executor);
        }
        CHECK(moe_test::allocations() == before);
    }
}

template <class Layer>
void check_exact_memory(const Layer& layer) {
    for (const std::size_t n_tokens : {0U, 1U, 5U, 200U}) {
        for (const std::size_t workers : {1U, 3U}) {
            INFO(n_tokens << " tokens, " << workers << " workers");
            const moe_test::ReversedExecutor executor(workers);
            Call expected(n_tokens);
            moe::Workspace grown;
            expected.run(layer, grown, executor);
            const std::size_t bytes = layer.workspace_bytes(n_tokens, workers);
            CHECK(grown.capacity() == bytes);
            const moe::AlignedBuffer memory(bytes);
            Call call(n_tokens);
            const std::vector<float> before = call.y;
            moe::Workspace small(std::span(memory.data(), bytes - 1));
            CHECK(moe_test::error_of([&] { call.run(layer, small, executor); }).code == moe::ErrorCode::capacity);
            CHECK(call.y == before);
            moe::Workspace exact(std::span(memory.data(), bytes));
            call.run(layer, exact, executor);
            CHECK(moe_test::same_bits(call.y, expected.y));
        }
    }
    CHECK(moe_test::error_of([&] { (void)layer.workspace_bytes(static_cast<std::size_t>(-1) / 16, 1); }).code ==
          moe::ErrorCode::overflow);
    CHECK(moe_test::error_of([&] { (void)layer.workspace_bytes(4, 0); }).code == moe::ErrorCode::range);
}

/// Several callers at once, each with a workspace of its own.
template <class Layer>
void check_callers(const Layer& layer) {
    Call expected(60);
    moe::Workspace first;
    expected.run(layer, first, moe::SerialExecutor{});
    std::vector<std::vector<float>> results(4);
    std::vector<std::thread> callers;
    for (std::vector<float>& result : results) {
        callers.emplace_back([&layer, &result] {
            moe::Workspace workspace;
            Call call(60);
            for (int repeat = 0; repeat < 5; ++repeat) {
                call.run(layer, workspace, moe_test::ThreadExecutor(2));
            }
            result = call.y;
        });
    }
    for (std::thread& caller : callers) {
        caller.join();
    }
    for (const std::vector<float>& result : results) {
        CHECK(moe_test::same_bits(result, expected.y));
    }
}

template <class Layer>
void check(const Layer& layer) {
    check_no_allocation(layer);
    check_exact_memory(layer);
    check_callers(layer);
}

/// Every expert takes the first half of the tokens, or the second.
struct Halves {
    static constexpr bool needs_logits = false;
    [[nodiscard]] static int max_per_token(int /*n_tokens*/, int n_experts) { return n_experts; }
    [[nodiscard]] static int max_assignments(int n_tokens, int n_experts) { return (n_tokens + 1) / 2 * n_experts; }
    void select(moe::MatrixView<const float>, moe::BatchSelection<float> out) const {
        const std::size_t half = out.experts.rows() / 2;
        for (std::size_t t = 0; t < out.experts.rows(); ++t) {
            std::size_t slot = 0;
            for (std::size_t e = t < half ? 0 : 1; e < out.n_experts; e += 2) {
                out.experts(t, slot) = static_cast<moe::ExpertId>(e);
                out.weights(t, slot++) = 0.5F;
            }
        }
    }
};

moe_test::LayerShape shape_of(std::size_t n_experts) {
    moe_test::LayerShape shape;
    shape.n_experts = n_experts;
    shape.d_model = d_model;
    shape.d_ff = 29;
    shape.biases = true;
    return shape;
}

}  // namespace

TEST_CASE("Soft MoE: memory and callers", "[allocation][soft_moe]") {
    const moe_test::LayerCase<float> experts(shape_of(5), 1);
    moe_test::Draw draw(2);
    const std::vector<float> slots = moe_test::random_elements<float>(draw, 15 * d_model, 1);
    check(moe::SoftMoELayer{moe::view(slots.data(), 15, d_model), experts.bank(), moe::SoftMoEOptions{}});
    check(moe::SoftMoELayer{moe::view(slots.data(), 5, d_model), moe_test::LayerCase<float>::Packed(experts.bank())});
}

TEST_CASE("one-neuron experts: memory and callers", "[allocation][neuron_layer]") {
    moe_test::Draw draw(3);
    const std::vector<float> queries = moe_test::random_elements<float>(draw, 6 * 5 * d_model, 1);
    const std::vector<float> keys = moe_test::random_elements<float>(draw, 6 * 70 * d_model, 1);
    const std::vector<float> neurons = moe_test::random_elements<float>(draw, 4900 * d_model, 1);
    const auto layer = [&](const moe::ProductKeyRouter<float>& router) {
        return moe::NeuronLayer{router, moe::ProductKeys{7}, moe::view(neurons.data(), 4900, d_model),
                                moe::view(neurons.data(), 4900, d_model), moe::Silu{}};
    };
    check(layer({moe::view(keys.data(), 6 * 70, d_model), 3}));
    check(layer({moe::view(queries.data(), 30, d_model), moe::view(keys.data(), 6 * 70, 5), 3}));
}

TEST_CASE("a mixture of mixtures: memory and callers", "[allocation][hierarchical]") {
    const moe::TokenChoice<moe::Softmax> top_2{.top_k = 2};
    const moe_test::LayerCase<float> router(shape_of(3), 4);
    const moe_test::LayerCase<float> inner(shape_of(5), 5);
    moe::HierarchicalLayer two{router.router(top_2),
                               std::vector{inner.layer(top_2), inner.layer(top_2), inner.layer(top_2)}};
    check(two);
    check(moe::HierarchicalLayer{router.router(top_2), std::vector{two, two, two}});
    const moe_test::LayerCase<float> even(shape_of(4), 6);
    check(moe::HierarchicalLayer{router.router(top_2),
                                 std::vector{even.layer(Halves{}), even.layer(Halves{}), even.layer(Halves{})}});
    check(moe::HierarchicalLayer{moe::Router(2, moe::AnyGate(Halves{})),
                                 std::vector{inner.layer(top_2), inner.layer(top_2)}});
}

}  // namespace moe_test::other_layers_allocation_test
