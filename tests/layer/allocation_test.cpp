#include <cstddef>
#include <limits>
#include <new>
#include <vector>

#include "layer/batch_runner.hpp"
#include "moe/parallel/openmp.hpp"
#include "support/catch.hpp"
#include "support/counting_allocator.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"

namespace moe_test::allocation_test {

/// No assertion stands where allocations are counted: Catch2 allocates.

namespace {

/// A layer with everything in it.
moe_test::LayerShape rich_shape() {
    moe_test::LayerShape shape;
    shape.n_experts = 5;
    shape.d_model = 37;
    shape.d_ff = 29;
    shape.biases = true;
    shape.shared_widths = {11, 40};
    shape.shared_mode = moe::SharedMode::gated;
    shape.n_zero = 1;
    shape.n_identity = 1;
    shape.n_constant = 1;
    shape.mixes = true;
    shape.output_bias = true;
    return shape;
}

/// One call's matrices.
template <class T>
struct Call {
    moe_test::Batch<T> batch;
    moe::ForwardOptions<T> options;

    Call(std::size_t n_tokens, std::size_t d_model) : Call(moe_test::Draw(n_tokens), n_tokens, d_model) {}
    Call(moe_test::Draw draw, std::size_t n_tokens, std::size_t d_model) : batch(draw, n_tokens, d_model) {
        options.token_ids = batch.ids;
    }

    [[nodiscard]] moe::MatrixView<const T> x() const {
        return moe::view(batch.x.data(), batch.n_tokens(), batch.d_model);
    }
    [[nodiscard]] moe::MatrixView<T> y() { return moe::view(batch.y.data(), batch.n_tokens(), batch.d_model); }
};

template <class Work>
std::size_t allocations_of(Work&& work) {
    const std::size_t before = moe_test::allocations();
    work();
    return moe_test::allocations() - before;
}

template <class Layer, class Executor>
std::size_t allocations_once_grown(const Layer& layer, const Executor& executor, std::size_t workers) {
    using T = typename Layer::value_type;
    Call<T> call(50, layer.d_model());
    Call<T> smaller(17, layer.d_model());
    moe::Workspace workspace;
    layer.forward(call.x(), call.y(), workspace, executor, call.options);
    moe::RoutingPlan<T> plan;
    layer.route(call.x(), plan, workspace, executor, call.options);
    layer.forward(call.x(), plan, call.y(), workspace, executor, call.options);
    return allocations_of([&] {
        for (int repeat = 0; repeat < 3; ++repeat) {
            layer.forward(call.x(), call.y(), workspace, executor, call.options);
            layer.forward(smaller.x(), smaller.y(), workspace, executor, smaller.options);
            layer.forward(call.x(), plan, call.y(), workspace, executor, call.options);
            layer.route(call.x(), plan, workspace, executor, call.options);
            auto pass = layer.prepare(call.x(), call.y(), workspace, workers, call.options);
            for (int phase = 0; phase < moe::n_phases; ++phase) {
                pass.run_phase(static_cast<moe::Phase>(phase), 0, 1);
            }
        }
    });
}

template <class W>
void check_all_gates() {
    const moe_test::LayerCase<W> layer_case(rich_shape(), 5);
    moe_test::Draw draw(6);
    const moe_test::GateCases gates(draw, layer_case.shape().n_choices());
    for (std::size_t g = 0; g < gates.gates().size(); ++g) {
        INFO("gate " << g);
        CHECK(allocations_once_grown(layer_case.layer(gates.gates()[g]), moe::SerialExecutor{}, 1) == 0);
        CHECK(allocations_once_grown(layer_case.layer(gates.gates()[g]), moe_test::ReversedExecutor(4), 4) == 0);
        CHECK(allocations_once_grown(layer_case.packed_layer(gates.gates()[g]), moe::SerialExecutor{}, 1) == 0);
#if defined(_OPENMP)
        CHECK(allocations_once_grown(layer_case.layer(gates.gates()[g]), moe::OpenMpExecutor(3), 3) == 0);
#endif
    }
}

auto simple_layer(const moe_test::LayerCase<float>& layer_case) {
    return layer_case.layer(moe::TokenChoice<moe::Softmax>{.top_k = 2, .normalize = true});
}

}  // namespace

TEST_CASE("the counter counts", "[allocation]") {
    CHECK(allocations_of([] { ::operator delete(::operator new(100)); }) == 1);  // a new-expression might be left out
    CHECK(allocations_of([] { const moe::AlignedBuffer one(100); }) == 1);
    const std::ptrdiff_t live = moe_test::live_blocks();
    moe_test::fail_allocation(1);
    CHECK_THROWS_AS(moe::AlignedBuffer(100), std::bad_alloc);
    CHECK(moe_test::live_blocks() == live);
}

TEST_CASE("a large buffer is one allocation, and one of an impossible size is std::bad_alloc", "[allocation]") {
    CHECK(allocations_of([] { const moe::AlignedBuffer one(moe::huge_page_threshold); }) == 1);
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    for (const std::size_t bytes : {most, most - 62, most - 63, most - moe::huge_page, most / 2 + 1, most / 2}) {
        INFO(bytes << " bytes");
        CHECK_THROWS_AS(moe::AlignedBuffer(bytes), std::bad_alloc);
    }
}

TEST_CASE("a workspace that cannot grow keeps what it had", "[allocation]") {
    moe::Workspace workspace;
    workspace.reserve(1000);
    const std::span<char> before = workspace.arena().take<char>(10);
    moe_test::fail_allocation(1);
    CHECK_THROWS_AS(workspace.reserve(2000), std::bad_alloc);
    CHECK(workspace.capacity() == 1000);
    CHECK(workspace.arena().take<char>(10).data() == before.data());
}

TEST_CASE("nothing is allocated once the workspace has grown", "[allocation]") {
    check_all_gates<float>();
    check_all_gates<double>();
    check_all_gates<moe::bfloat16>();
}

TEST_CASE("memory of exactly workspace_bytes suffices; one byte less is an error that leaves y alone", "[allocation]") {
    const moe_test::LayerCase<float> layer_case(rich_shape(), 7);
    const auto layer = simple_layer(layer_case);
    for (const std::size_t n_tokens : {1U, 5U, 192U, 200U}) {
        for (const std::size_t workers : {1U, 3U}) {
            Call<float> call(n_tokens, layer.d_model());
            Call<float> expected(n_tokens, layer.d_model());
            const moe_test::ReversedExecutor executor(workers);
            moe::Workspace grown;
            layer.forward(expected.x(), expected.y(), grown, executor, expected.options);

            const std::size_t bytes = layer.workspace_bytes(n_tokens, workers);
            CHECK(grown.capacity() == bytes);
            const moe::AlignedBuffer memory(bytes);
            const std::vector<float> before = call.batch.y;
            moe::Workspace small(std::span(memory.data(), bytes - 1));
            const auto error =
                moe_test::error_of([&] { layer.forward(call.x(), call.y(), small, executor, call.options); });
            CHECK(error.code == moe::ErrorCode::capacity);
            CHECK_THAT(error.text, moe_test::contains(std::to_string(bytes) + " bytes are needed"));
            CHECK(call.batch.y == before);

            moe::Workspace exact(std::span(memory.data(), bytes));
            const std::size_t made =
                allocations_of([&] { layer.forward(call.x(), call.y(), exact, executor, call.options); });
            CHECK(made == 0);
            CHECK(moe_test::same_bits(call.batch.y, expected.batch.y));
        }
    }
}

TEST_CASE("memory of exactly workspace_bytes of a plan suffices for it; one byte less does not", "[allocation]") {
    const moe_test::LayerCase<float> layer_case(rich_shape(), 7);
    const auto layer = simple_layer(layer_case);
    for (const std::size_t n_tokens : {0U, 1U, 200U}) {
        for (const std::size_t workers : {1U, 3U}) {
            INFO(n_tokens << " tokens, " << workers << " workers");
            Call<float> call(n_tokens, layer.d_model());
            Call<float> expected(n_tokens, layer.d_model());
            const moe_test::ReversedExecutor executor(workers);
            moe::Workspace grown;
            layer.forward(expected.x(), expected.y(), grown, executor, expected.options);
            moe::RoutingPlan<float> plan;
            layer.route(call.x(), plan, grown, executor, call.options);

            const std::size_t bytes = layer.workspace_bytes(plan, workers);
            CHECK(bytes < layer.workspace_bytes(n_tokens, workers));
            const moe::AlignedBuffer memory(bytes);
            const std::vector<float> before = call.batch.y;
            moe::Workspace small(std::span(memory.data(), bytes - 1));
            const auto error =
                moe_test::error_of([&] { layer.forward(call.x(), plan, call.y(), small, executor, call.options); });
            CHECK(error.code == moe::ErrorCode::capacity);
            CHECK(call.batch.y == before);

            moe::Workspace exact(std::span(memory.data(), bytes));
            layer.forward(call.x(), plan, call.y(), exact, executor, call.options);
            CHECK(moe_test::same_bits(call.batch.y, expected.batch.y));
        }
    }
}

TEST_CASE("whichever allocation of set-up or first use fails, nothing leaks and the next try works", "[allocation]") {
    const moe_test::LayerCase<float> layer_case(rich_shape(), 8);
    Call<float> call(20, layer_case.shape().d_model);
    Call<float> expected(20, layer_case.shape().d_model);
    std::size_t failures = 0;
    const auto use = [&](Call<float>& on, moe::Workspace& workspace, moe::RoutingPlan<float>& plan) {
        const auto layer =
            layer_case.packed_layer(moe::AnyGate(moe::TokenChoice<moe::Softmax>{.top_k = 2, .normalize = true}));
        layer.forward(on.x(), on.y(), workspace, moe::SerialExecutor{}, on.options);
        layer.route(on.x(), plan, workspace, moe::SerialExecutor{}, on.options);
    };
    moe::Workspace first;
    moe::RoutingPlan<float> first_plan;
    use(expected, first, first_plan);
    for (std::size_t n = 1;; ++n) {
        const std::ptrdiff_t live = moe_test::live_blocks();
        bool failed = false;
        {
            moe::Workspace workspace;
            moe::RoutingPlan<float> plan;
            const std::ptrdiff_t held = moe_test::live_blocks();
            moe_test::fail_allocation(n);
            try {
                use(call, workspace, plan);
            } catch (const std::bad_alloc&) {
                failed = true;
            }
            moe_test::fail_allocation(0);
            bool plan_holds = true;
            try {
                moe::check_plan(plan.view());
            } catch (const moe::Error&) {
                plan_holds = false;
            }
            CHECK(plan_holds);
            CHECK(moe_test::live_blocks() >= held);
            use(call, workspace, plan);
            CHECK(moe_test::same_bits(call.batch.y, expected.batch.y));
        }
        CHECK(moe_test::live_blocks() == live);
        if (!failed) {
            break;
        }
        ++failures;
    }
    CHECK(failures > 10);
}

TEST_CASE("a layer and workspace whose growth failed serve the next call", "[allocation]") {
    const moe_test::LayerCase<float> layer_case(rich_shape(), 9);
    const auto layer = simple_layer(layer_case);
    Call<float> call(30, layer.d_model());
    Call<float> expected(30, layer.d_model());
    moe::Workspace other;
    layer.forward(expected.x(), expected.y(), other);
    moe::Workspace workspace;
    const std::vector<float> before = call.batch.y;
    moe_test::fail_allocation(1);
    CHECK_THROWS_AS(layer.forward(call.x(), call.y(), workspace), std::bad_alloc);
    moe_test::fail_allocation(0);
    CHECK(call.batch.y == before);
    layer.forward(call.x(), call.y(), workspace);
    CHECK(moe_test::same_bits(call.batch.y, expected.batch.y));
}

}  // namespace moe_test::allocation_test
