#include <cstddef>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "moe/moe.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::memory_overlap_test {

/// One buffer that holds everything a call reads and writes, in which y, or x, or the workspace is put where it must
/// not be: an Error that names what it lies on, and nothing is written.
namespace {

using moe::ErrorCode;
using moe_test::contains;
using moe_test::error_of;

constexpr std::size_t d = 8;
constexpr std::size_t n = 4;
constexpr std::size_t n_experts = 3;

template <class Call>
void check_refused(Call&& call, const std::string& what, const std::string& name) {
    const auto error = error_of(call);
    INFO(error.text);
    CHECK(error.code == ErrorCode::layout);
    CHECK_THAT(error.text, contains(what + " overlaps " + name));
}

/// y over the last row of `data`, and just behind it.
void check_output(const moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, moe::ExpertBank<float, moe::AnyForm>,
                                      moe::SharedExperts<moe::ExpertBank<float, moe::AnyForm>>>& layer,
                  std::vector<float>& data, const std::string& name) {
    INFO(name);
    const std::vector<float> x(n * d, 0.5F);
    const std::vector<float> before = data;
    moe::Workspace workspace;
    check_refused(
        [&] { layer.forward(moe::view(x.data(), n, d), moe::view(data.data() + data.size() - 1, n, d), workspace); },
        "y", name);
    CHECK(data == before);
    CHECK(layer.overlapped(moe::bytes_of(moe::view(std::as_const(data).data(), 1, 1))) == name);
}

}  // namespace

TEST_CASE("y on anything a layer reads is refused, by its name", "[overlap]") {
    // every array has room behind it, so that a y that begins on its last element is memory of this test
    const auto made = [](std::size_t size) {
        std::vector<float> values(size, 0.25F);
        values.reserve(size + n * d);
        return values;
    };
    auto router = made(n_experts * d + 2 * d);
    auto router_bias = made(n_experts + 2);
    auto selection_bias = made(n_experts + 2);
    auto expert_scale = made(n_experts + 2);
    auto gate = made(n_experts * d * d);
    auto up = made(n_experts * d * d);
    auto down = made(n_experts * d * d);
    auto gate_bias = made(n_experts * d);
    auto up_bias = made(n_experts * d);
    auto down_bias = made(n_experts * d);
    auto shared = made(d * d);
    auto shared_down = made(d * d);
    auto shared_gate = made(d);
    auto output_bias = made(d);
    auto constants = made(2 * d);
    auto mixes = made(4 * d);
    using Bank = moe::ExpertBank<float, moe::AnyForm>;
    const auto stack = [](const std::vector<float>& data, std::size_t rows, std::size_t cols) {
        return moe::stacked(data.data(), n_experts, rows, cols);
    };
    moe::LayerOptions<float> options;
    options.output_bias = output_bias;
    options.null_experts.constants = moe::view(std::as_const(constants).data(), 2, d);
    options.null_experts.mixes = moe::view(std::as_const(mixes).data(), 4, d);
    std::vector<Bank> shared_banks;
    shared_banks.emplace_back(moe::AnyForm{},
                              moe::ExpertWeights<float>{.gate = moe::stacked(shared.data(), 1, d, d),
                                                        .up = moe::stacked(shared.data(), 1, d, d),
                                                        .down = moe::stacked(shared_down.data(), 1, d, d),
                                                        .gate_bias = {},
                                                        .up_bias = {},
                                                        .down_bias = {}});
    moe::TokenChoice<> choice{.top_k = 2};
    choice.selection_bias = selection_bias;
    choice.per_expert_scale = expert_scale;
    const moe::MoELayer layer{
        moe::Router<float, moe::TokenChoice<>>{moe::view(std::as_const(router).data(), n_experts + 2, d), router_bias,
                                               choice},
        Bank(moe::AnyForm{},
             moe::ExpertWeights<float>{stack(gate, d, d), stack(up, d, d), stack(down, d, d), stack(gate_bias, d, 1),
                                       stack(up_bias, d, 1), stack(down_bias, d, 1)}),
        moe::SharedExperts<Bank>(std::move(shared_banks), moe::stacked(shared_gate.data(), 1, 1, d)), options};

    check_output(layer, router, "the weights or biases of the router");
    check_output(layer, router_bias, "the weights or biases of the router");
    check_output(layer, selection_bias, "the selection bias");
    check_output(layer, expert_scale, "per_expert_scale");
    check_output(layer, gate, "the gate projections");
    check_output(layer, up, "the up projections");
    check_output(layer, down, "the down projections");
    check_output(layer, gate_bias, "the biases of the gate projections");
    check_output(layer, up_bias, "the biases of the up projections");
    check_output(layer, down_bias, "the biases of the down projections");
    check_output(layer, shared, "the weights of a shared expert");
    check_output(layer, shared_down, "the weights of a shared expert");
    check_output(layer, shared_gate, "the gate of the shared experts");
    check_output(layer, output_bias, "the output bias");
    check_output(layer, constants, "the constants");
    check_output(layer, mixes, "the mixes");
    std::vector<float> other(n * d);
    CHECK(layer.overlapped(moe::bytes_of(moe::view(std::as_const(other).data(), n, d))) == nullptr);
}

TEST_CASE("x, y, the plan and what options point to lie outside a workspace of the caller", "[overlap]") {
    moe_test::LayerShape shape;
    shape.d_model = d;
    const moe_test::LayerCase<float> layer_case(shape, 1);
    const auto layer = layer_case.layer(moe::TokenChoice<>{.top_k = 2});
    const std::size_t bytes = layer.workspace_bytes(n, 1);
    moe::AlignedBuffer memory(bytes + 4096);
    std::memset(memory.data(), 0, memory.size());
    const std::span<std::byte> all(memory.data(), memory.size());
    moe::Workspace workspace(all.first(bytes));
    const std::vector<float> x(n * d, 0.5F);
    std::vector<float> y(n * d, 7.0F);
    const auto x_view = moe::view(x.data(), n, d);
    const auto y_view = moe::view(y.data(), n, d);
    auto* const last = reinterpret_cast<float*>(memory.data() + bytes - sizeof(float));
    auto* const behind = reinterpret_cast<float*>(memory.data() + bytes);
    const auto in_workspace = moe::view(static_cast<const float*>(last), n, d);

    check_refused([&] { layer.forward(in_workspace, y_view, workspace); }, "the workspace", "x");
    check_refused([&] { layer.forward(x_view, moe::view(last, n, d), workspace); }, "the workspace", "y");
    check_refused(
        [&] { layer.forward(x_view, y_view, workspace, moe::SerialExecutor{}, {.router_input = in_workspace}); },
        "the workspace", "the router input");
    moe::ForwardOptions<float> options;
    options.token_ids = {reinterpret_cast<const std::int32_t*>(last), n};
    check_refused([&] { layer.forward(x_view, y_view, workspace, moe::SerialExecutor{}, options); }, "the workspace",
                  "token_ids");
    options = {};
    options.valid = {reinterpret_cast<const std::uint8_t*>(last), n};
    check_refused([&] { layer.forward(x_view, y_view, workspace, moe::SerialExecutor{}, options); }, "the workspace",
                  "valid");
    std::vector<std::uint64_t> numbers(n * d);
    options = {};
    options.positions = std::span<const std::uint64_t>(numbers).first(n);
    check_refused(
        [&] {
            layer.forward(x_view, moe::view(reinterpret_cast<float*>(numbers.data()), n, d), workspace,
                          moe::SerialExecutor{}, options);
        },
        "y", "positions");
    CHECK(y == std::vector<float>(n * d, 7.0F));
    CHECK_NOTHROW(layer.forward(x_view, moe::view(behind, n, d), workspace));

    moe::Workspace routing;
    moe::RoutingPlan<float> plan;
    {
        auto pass = layer.prepare_route(x_view, routing, 1);
        pass.run(moe::SerialExecutor{}, moe::Phase::logits, moe::Phase::plan);
        plan.assign(pass.plan());
        const moe::PlanView<float> in_use = pass.plan();
        CHECK_NOTHROW(layer.forward(x_view, in_use, y_view, workspace));
        CHECK(error_of([&] { layer.forward(x_view, in_use, y_view, routing); }).code == ErrorCode::layout);
    }
    moe::PlanView<float> on_y = plan;
    std::vector<float> weights(n * d);
    std::copy(on_y.weights.begin(), on_y.weights.end(), weights.begin());
    on_y.weights = std::span<const float>(weights).first(on_y.weights.size());
    check_refused([&] { layer.forward(x_view, on_y, moe::view(weights.data(), n, d), workspace); }, "y", "the plan");
}

TEST_CASE("a stack knows its memory: separate, transposed, interleaved, strided", "[overlap]") {
    std::vector<float> data(6 * 5 * 7, 0.0F);
    const auto byte_at = [&](std::size_t i) { return moe::bytes_of(moe::view(std::as_const(data).data() + i, 1, 1)); };
    // 2 experts of 3 x 5 in rows of 7, 50 elements apart
    const moe::WeightStack<float> strided = moe::stacked(std::as_const(data).data(), 2, 3, 5, 7, 50);
    const std::vector<const float*> pointers{data.data() + 100, data.data()};
    const moe::WeightStack<float> apart = moe::separate(pointers, 3, 5);
    for (std::size_t i = 0; i < data.size(); ++i) {
        const auto in_matrix = [](std::size_t at) { return at < 2 * 7 + 5 && at % 7 < 5; };
        INFO("element " << i);
        REQUIRE(strided.overlaps(byte_at(i)) == (in_matrix(i) || (i >= 50 && in_matrix(i - 50))));
        REQUIRE(moe::transpose(strided).overlaps(byte_at(i)) == strided.overlaps(byte_at(i)));
        REQUIRE(apart.overlaps(byte_at(i)) == (i < 15 || (i >= 100 && i < 115)));
    }
    const auto both = moe::interleaved(moe::stacked(std::as_const(data).data(), 2, 6, 5));
    const auto across = moe::interleaved(moe::transpose(moe::stacked(std::as_const(data).data(), 1, 5, 6)));
    for (std::size_t i = 0; i < 60; ++i) {
        INFO("element " << i);
        REQUIRE(both.gate.overlaps(byte_at(i)) == (i / 5 % 2 == 0));
        REQUIRE(both.up.overlaps(byte_at(i)) == (i / 5 % 2 == 1));
        REQUIRE(moe::transpose(both.up).overlaps(byte_at(i)) == (i / 5 % 2 == 1));
        if (i < 30) {  // between its columns, too: what is compared is the extent of a row
            REQUIRE(across.gate.overlaps(byte_at(i)) == (i % 6 < 5));
            REQUIRE(across.up.overlaps(byte_at(i)) == (i % 6 > 0));
        }
    }
    CHECK_FALSE(moe::WeightStack<float>().overlaps(byte_at(0)));
    const moe::WeightStack<float> column = moe::stacked(std::as_const(data).data(), 1, 4, 1);
    CHECK(column.overlaps(byte_at(3)));
    CHECK_FALSE(moe::transpose(column).overlaps(byte_at(4)));
}

TEST_CASE("packed experts, packed routers and single experts know theirs", "[overlap]") {
    moe_test::LayerShape shape;
    shape.d_model = d;
    const moe_test::LayerCase<float> layer_case(shape, 1);
    const auto bank = layer_case.bank();
    moe::AlignedBuffer memory(moe::PackedExperts<moe::Int8, moe::AnyForm>::bytes_for(bank) + n * d * sizeof(float));
    std::memset(memory.data(), 0, memory.size());
    const moe::MoELayer layer{
        layer_case.router(moe::TokenChoice<>{.top_k = 2}).packed(),
        moe::PackedExperts<moe::Int8, moe::AnyForm>(bank, std::span(memory.data(), memory.size()))};
    const std::vector<float> x(n * d, 0.5F);
    moe::Workspace workspace;
    const auto y = moe::view(reinterpret_cast<float*>(memory.data()), n, d);
    check_refused([&] { layer.forward(moe::view(x.data(), n, d), y, workspace); }, "y", "the packed experts");

    std::vector<float> weights(3 * d * d + n * d, 0.5F);
    const auto square = moe::stacked(std::as_const(weights).data(), 1, d, d);
    const moe::Expert expert{moe::SwiGLU{square, square, moe::stacked(std::as_const(weights).data() + d * d, 1, d, d)}};
    check_refused(
        [&] { expert.forward(moe::view(x.data(), n, d), moe::view(weights.data() + 2 * d * d - 1, n, d), workspace); },
        "y", "the down projections");
    moe::AlignedBuffer scratch(1 << 16U);
    moe::Workspace fixed(std::span(scratch.data(), scratch.size()));
    check_refused(
        [&] {
            expert.forward(moe::view(x.data(), n, d), moe::view(reinterpret_cast<float*>(scratch.data()), n, d), fixed);
        },
        "workspace", "y");
}

TEST_CASE("layers that are no MoELayer refuse the same", "[overlap]") {
    moe_test::LayerShape shape;
    shape.d_model = d;
    shape.n_experts = 2;
    const moe_test::LayerCase<float> layer_case(shape, 1);
    std::vector<float> slots(4 * d + n * d, 0.5F);
    const std::vector<float> x(n * d, 0.5F);
    moe::AlignedBuffer scratch(1 << 18U);
    moe::Workspace fixed(std::span(scratch.data(), scratch.size()));
    const auto in_scratch = moe::view(reinterpret_cast<float*>(scratch.data()), n, d);
    const auto x_view = moe::view(x.data(), n, d);
    moe::Workspace workspace;

    const moe::SoftMoELayer soft{moe::view(std::as_const(slots).data(), 4, d), layer_case.bank()};
    check_refused([&] { soft.forward(x_view, moe::view(slots.data() + 4 * d - 1, n, d), workspace); }, "y",
                  "the slots");
    check_refused([&] { soft.forward(x_view, in_scratch, fixed); }, "the workspace", "y");

    std::vector<float> neurons(4 * d + n * d, 0.5F);
    const moe::NeuronLayer neuron{moe::ProductKeyRouter{moe::view(std::as_const(slots).data(), 4, d), 1},
                                  moe::ProductKeys{.top_k = 1}, moe::view(std::as_const(neurons).data(), 4, d),
                                  moe::view(std::as_const(neurons).data(), 4, d)};
    check_refused([&] { neuron.forward(x_view, moe::view(slots.data(), n, d), workspace); }, "y",
                  "the weights of the router");
    check_refused([&] { neuron.forward(x_view, moe::view(neurons.data() + d, n, d), workspace); }, "y",
                  "the rows of down");
    check_refused([&] { neuron.forward(x_view, in_scratch, fixed); }, "the workspace", "y");

    std::vector<decltype(layer_case.layer(moe::TokenChoice<>{}))> groups;
    groups.push_back(layer_case.layer(moe::TokenChoice<>{}));
    const moe::HierarchicalLayer deep{
        moe::Router{moe::view(std::as_const(slots).data(), 1, d), moe::TokenChoice<>{.top_k = 1}}, std::move(groups)};
    check_refused([&] { deep.forward(x_view, moe::view(slots.data(), n, d), workspace); }, "y",
                  "the weights or biases of the router");
    check_refused([&] { deep.forward(x_view, in_scratch, fixed); }, "the workspace", "y");
}

}  // namespace moe_test::memory_overlap_test
