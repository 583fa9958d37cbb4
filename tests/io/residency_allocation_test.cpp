#include <cstddef>
#include <utility>

#include "io/packed_support.hpp"
#include "layer/batch_runner.hpp"
#include "moe/gating/strategies/token_choice.hpp"
#include "moe/io/expert_residency.hpp"
#include "support/catch.hpp"
#include "support/counting_allocator.hpp"

namespace moe_test::residency_allocation_test {

TEST_CASE("a call that asks for experts, brings them and lets others go allocates nothing", "[residency][allocation]") {
    const moe_test::LayerCase<float> layer_case(moe_test::odd_shape(), 5);
    const moe_test::TemporaryDirectory directory;
    const std::string path = directory.file("experts.moe");
    moe::write_packed(path, moe::PackedExperts<moe::Int8, moe::AnyForm>(layer_case.bank()), moe::SerialExecutor{},
                      moe::PackedOrder::apart);
    const moe::PackedFile file = moe::PackedFile::open(path);
    const moe::MoELayer layer{layer_case.router(moe::TokenChoice<>{.top_k = 2}),
                              file.experts<moe::Int8>(moe::AnyForm{})};
    moe_test::Draw draw(3);
    moe_test::Batch<float> batch(draw, 20, layer.d_model());
    const auto x = [&](std::size_t n) { return moe::view(std::as_const(batch.x).data(), n, layer.d_model()); };
    const auto y = [&](std::size_t n) { return moe::view(batch.y.data(), n, layer.d_model()); };
    moe::ExpertResidency residency(file.expert_ranges(), {.wave_bytes = 0, .cool_after = 1, .look = false});
    moe::Workspace workspace;
    layer.forward(x(20), y(20), workspace);
    const std::size_t before = moe_test::allocations();
    for (const std::size_t n : {20U, 1U, 1U, 7U, 20U}) {
        layer.forward(x(n), y(n), workspace, moe::SerialExecutor{}, {.residency = &residency});
    }
    const std::size_t allocated = moe_test::allocations() - before;
    CHECK(allocated == 0);
}

}  // namespace moe_test::residency_allocation_test
