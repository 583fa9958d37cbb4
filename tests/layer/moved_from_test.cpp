#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "moe/moe.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::moved_from_test {

/// What was moved from is empty and says so: no use after free, no crash.
namespace {

using moe::ErrorCode;
using moe_test::contains;
using moe_test::error_of;

constexpr std::size_t n = 5;

moe_test::LayerShape shape() {
    moe_test::LayerShape result;
    result.n_experts = 4;
    result.d_model = 8;
    result.d_ff = 12;
    result.biases = true;
    result.shared_widths = {8};
    return result;
}

template <class Layer>
std::vector<float> run(const Layer& layer, std::size_t d) {
    const std::vector<float> x(n * d, 0.25F);
    std::vector<float> y(n * d, 7.0F);
    moe::Workspace workspace;
    layer.forward(moe::view(x.data(), n, d), moe::view(y.data(), n, d), workspace);
    return y;
}

/// A layer that is moved gives its bits, and leaves one whose every call is refused.
template <class Layer>
void check_layer(Layer layer) {
    const std::size_t d = layer.d_model();
    const std::vector<float> expected = run(layer, d);
    const Layer moved(std::move(layer));
    CHECK(moe_test::same_bits(run(moved, d), expected));
    const auto error = error_of([&] { (void)run(layer, d); });  // NOLINT: what was moved from is what is tested
    CHECK(error.code == ErrorCode::state);
    CHECK_THAT(error.text, contains("moved from"));
    if constexpr (requires {
                      layer.route(moe::MatrixView<const float>(), *static_cast<moe::RoutingPlan<float>*>(nullptr),
                                  *static_cast<moe::Workspace*>(nullptr));
                  }) {
        moe::RoutingPlan<float> plan;
        moe::Workspace workspace;
        const std::vector<float> x(n * d, 0.25F);
        CHECK(error_of([&] { layer.route(moe::view(x.data(), n, d), plan, workspace); }).code == ErrorCode::state);
        CHECK(error_of([&] { (void)layer.workspace_bytes(n, 1); }).code == ErrorCode::state);
    }
}

}  // namespace

TEST_CASE("layers over views and over packed experts", "[moved]") {
    const moe_test::LayerCase<float> layer_case(shape(), 1);
    check_layer(layer_case.layer(moe::TokenChoice<>{.top_k = 2}));
    check_layer(layer_case.layer(moe::AnyGate(moe::TokenChoice<>{.top_k = 2})));
    check_layer(layer_case.packed_layer(moe::TokenChoice<>{.top_k = 2}));
    check_layer(moe::pack<moe::Int8>(layer_case.layer(moe::TokenChoice<>{.top_k = 2})));
    check_layer(moe::pack<moe::Int4>(layer_case.layer(moe::AnyGate(moe::TokenChoice<>{.top_k = 2}))));
}

TEST_CASE("layers that are no MoELayer", "[moved]") {
    const moe_test::LayerCase<float> layer_case(shape(), 2);
    const std::vector<float> rows(8 * 8, 0.5F);
    check_layer(moe::SoftMoELayer{moe::view(rows.data(), 4, 8), layer_case.bank()});
    check_layer(moe::NeuronLayer{moe::ProductKeyRouter{moe::view(rows.data(), 4, 8), 1}, moe::ProductKeys{.top_k = 1},
                                 moe::view(rows.data(), 4, 8), moe::view(rows.data(), 4, 8)});
    std::vector<decltype(layer_case.layer(moe::TokenChoice<>{}))> groups;
    groups.push_back(layer_case.layer(moe::TokenChoice<>{}));
    check_layer(moe::HierarchicalLayer{moe::Router{moe::view(rows.data(), 1, 8), moe::TokenChoice<>{.top_k = 1}},
                                       std::move(groups)});
}

TEST_CASE("stacks, banks, packed experts, single experts and plans", "[moved]") {
    const moe_test::LayerCase<float> layer_case(shape(), 3);
    const std::vector<float> data(2 * 3 * 4, 0.5F);
    auto stack = moe::stacked(data.data(), 2, 3, 4);
    const auto taken = std::move(stack);
    CHECK(taken.n_experts() == 2);
    CHECK(stack.empty());  // NOLINT: so for all below
    CHECK(error_of([&] { (void)stack.expert(0); }).code == ErrorCode::range);
    stack = taken;
    CHECK(stack.n_experts() == 2);

    auto bank = layer_case.bank();
    const auto bank_taken = std::move(bank);
    CHECK(bank_taken.n_experts() == 4);
    CHECK(bank.n_experts() == 0);
    const auto not_packed = error_of([&] { (void)moe::PackedExperts(bank); });
    CHECK(not_packed.code == ErrorCode::state);
    CHECK_THAT(not_packed.text, contains("moved from"));

    moe::PackedExperts packed(bank_taken);
    const std::size_t bytes = packed.bytes();
    moe::PackedExperts packed_taken(std::move(packed));
    CHECK(packed_taken.bytes() == bytes);
    CHECK(packed_taken.n_experts() == 4);
    CHECK(packed.n_experts() == 0);
    CHECK(packed.data().empty());
    CHECK(packed.bytes() == 0);
    packed = std::move(packed_taken);
    CHECK(packed.n_experts() == 4);
    CHECK(packed_taken.n_experts() == 0);

    moe::Expert expert{bank_taken.expert(1)};
    const moe::Expert expert_taken(std::move(expert));
    CHECK_FALSE(run(expert_taken, 8).empty());
    const auto no_expert = error_of([&] { (void)run(expert, 8); });
    CHECK(no_expert.code == ErrorCode::state);
    CHECK_THAT(no_expert.text, contains("moved from"));

    moe::RoutingPlan<float> plan;
    moe::Workspace workspace;
    const std::vector<float> x(n * 8, 0.25F);
    const auto layer = layer_case.layer(moe::TokenChoice<>{.top_k = 2});
    layer.route(moe::view(x.data(), n, 8), plan, workspace);
    const moe::RoutingPlan<float> plan_taken(std::move(plan));
    CHECK(moe::PlanView<float>(plan_taken).n_tokens == n);
    CHECK(moe::PlanView<float>(plan).n_tokens == 0);
    std::vector<float> y(n * 8);
    CHECK(error_of([&] {
              layer.forward(moe::view(x.data(), n, 8), plan, moe::view(y.data(), n, 8), workspace);
          }).code == ErrorCode::shape);

    moe::Workspace grown;
    grown.reserve(1000);
    const moe::Workspace grown_taken(std::move(grown));
    CHECK(grown_taken.capacity() == 1000);
    CHECK(grown.capacity() == 0);
    grown.reserve(10);
    CHECK(grown.capacity() == 10);
}

TEST_CASE("a shared expert that was moved from", "[moved]") {
    const moe_test::LayerCase<float> layer_case(shape(), 4);
    auto bank = layer_case.bank().expert(0);
    const auto taken = std::move(bank);
    const auto error = error_of([&] { (void)moe::SharedExperts<moe_test::LayerCase<float>::Bank>(bank); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("not of 0"));
}

}  // namespace moe_test::moved_from_test
