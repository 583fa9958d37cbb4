#include "moe/routing/linear.hpp"

#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"
#include "support/panel_scratch.hpp"

namespace moe_test::linear_test {

namespace {

/// All outputs of some rows, panel by panel.
template <class Linear, class T>
std::vector<T> product(const Linear& linear, const std::vector<T>& x) {
    const std::size_t n_rows = x.size() / linear.inputs();
    std::vector<const std::byte*> rows;
    for (std::size_t r = 0; r < n_rows; ++r) {
        rows.push_back(reinterpret_cast<const std::byte*>(&x[r * linear.inputs()]));
    }
    const OwnedScratch<T> scratch;
    std::vector<T> y(n_rows * linear.outputs(), T(7));
    for (std::size_t panel = 0; panel < linear.panels(); ++panel) {
        linear.compute_panels({panel, 1}, rows, y.data(), linear.outputs(), *scratch);
    }
    return y;
}

template <class W>
void check_ref() {
    using T = moe::ComputeType<W>;
    constexpr std::size_t outputs = 2 * moe::Panel<T>::width + 5;
    constexpr std::size_t inputs = 37;
    Draw draw(11);
    const std::vector<W> weight = random_elements<W>(draw, outputs * inputs, 1);
    const std::vector<W> bias = random_elements<W>(draw, outputs, 1);
    const std::vector<T> x = random_elements<T>(draw, 3 * inputs, 1);
    const moe::Linear<W> linear(moe::stacked(weight.data(), 1, outputs, inputs), bias);
    const moe::Linear<W> packed = linear.packed(moe::SerialExecutor{});
    const moe::LinearRef<T> of_views(linear);
    const moe::LinearRef<T> of_panels(packed);
    CHECK(of_views.outputs() == outputs);
    CHECK(of_views.inputs() == inputs);
    CHECK(of_views.panels() == linear.panels());
    CHECK(!of_views.is_packed());
    CHECK(of_panels.is_packed());
    const std::vector<T> expected = product(linear, x);
    CHECK(same_bits(product(of_views, x), expected));
    CHECK(same_bits(product(of_panels, x), expected));
}

}  // namespace

TEST_CASE("a linear map by reference has the facts and the bits of the map", "[linear]") {
    check_ref<float>();
    check_ref<double>();
    check_ref<moe::bfloat16>();
    check_ref<moe::float16>();
}

TEST_CASE("a reference to no linear map has no outputs", "[linear]") {
    const moe::LinearRef<float> none;
    CHECK(none.outputs() == 0);
    CHECK(none.panels() == 0);
    CHECK(moe::LinearRef<float>(moe::Linear<float>()).outputs() == 0);
}

}  // namespace moe_test::linear_test
