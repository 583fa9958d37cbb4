#include <cstddef>
#include <span>
#include <vector>

#include "moe/train/optimizer/adamw.hpp"
#include "moe/train/optimizer/gradients.hpp"
#include "moe/train/optimizer/sgd.hpp"
#include "support/catch.hpp"
#include "support/counting_allocator.hpp"
#include "support/executors.hpp"

namespace moe_test::optimizer_allocation_test {

TEST_CASE("updates and gradient helpers allocate nothing", "[optimizer]") {
    constexpr std::size_t n = 9 * moe::detail::task_elements;  // enough for a parallel region
    std::vector<float> value(n, 1.0F);
    std::vector<float> gradient(n, 2.0F);
    std::vector<float> mean(n);
    std::vector<float> square(n);
    std::vector<moe::bfloat16> rounded(n);
    const moe::AdamState<float> state{value, gradient, mean, square};
    const moe::GradientViews<float> gradients{std::span(gradient)};
    const moe_test::ReversedExecutor executor(3);
    const std::size_t before = moe_test::allocations();
    moe::AdamW{}.update(1, state);
    moe::AdamW{}.update(2, state, std::span(rounded), executor);
    moe::Sgd{.momentum = 0.5}.update(moe::SgdState<float>{value, gradient, mean}, executor);
    const bool clipped = moe::clip_by_global_norm(gradients, 1e-3, executor).factor < 1;
    const bool finite = moe::all_finite(gradients, executor);
    moe::add_gradients(std::span(gradient), value, executor);
    moe::zero_gradients(gradients, executor);
    CHECK(moe_test::allocations() == before);
    CHECK(clipped);
    CHECK(finite);
    CHECK(moe::squared_norm(gradients, executor) == 0);
}

}  // namespace moe_test::optimizer_allocation_test
