#include "moe/kernels/pack.hpp"

#include <cstddef>
#include <string>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"
#include "support/layer_cases.hpp"
#include "support/unaligned.hpp"

namespace moe_test::pack_test {

namespace {

/// Where output o and input k of a test's matrix stand.
struct Order {
    std::size_t output_stride;
    std::size_t input_stride;
};

/// Rows, transposed, both with gaps, and neither stride 1 (transposed and interleaved).
std::vector<Order> orders(std::size_t outputs, std::size_t inputs) {
    return {{inputs, 1},      {inputs + 3, 1},  {2 * inputs, 1},     {1, outputs},
            {1, outputs + 5}, {2, 2 * outputs}, {3, 3 * outputs + 1}};
}

template <class Target, class W>
Target as(W value) {
    if constexpr (std::is_same_v<Target, W>) {
        return value;
    } else {
        return moe::load_element(&value);
    }
}

/// Packs inputs [first, first + depth) and compares every element of the target, the padding and the gap behind it.
template <class Target, class W>
int wrong_elements(const std::vector<W>& source, Order order, std::size_t outputs, std::size_t first,
                   std::size_t depth) {
    const std::size_t padded = outputs + outputs % 3;
    const std::size_t target_stride = padded + 2;
    const Target untouched = as<Target>(moe_test::to_element<W>(77.0F));
    std::vector<Target> target(depth * target_stride, untouched);
    const moe_test::Unaligned<W> unaligned(source);
    moe::pack_block(moe::WeightBlock<W>{unaligned.data(), outputs, order.output_stride, order.input_stride}, first,
                    depth, padded, target.data(), target_stride);
    int wrong = 0;
    for (std::size_t k = 0; k < depth; ++k) {
        for (std::size_t o = 0; o < target_stride; ++o) {
            Target expected = untouched;
            if (o < outputs) {
                expected = as<Target>(source[o * order.output_stride + (first + k) * order.input_stride]);
            } else if (o < padded) {
                expected = Target{};
            }
            wrong += !(target[k * target_stride + o] == expected);
        }
    }
    return wrong;
}

template <class W>
void check_all_orders() {
    moe_test::Draw draw(3);
    for (std::size_t outputs = 1; outputs <= 70; outputs += outputs < 18 || outputs > 61 ? 1 : 7) {
        for (std::size_t inputs = 1; inputs <= 70; inputs += inputs < 18 || inputs > 61 ? 1 : 7) {
            for (const Order& order : orders(outputs, inputs)) {
                const std::size_t size = (outputs - 1) * order.output_stride + (inputs - 1) * order.input_stride + 1;
                const std::vector<W> source = moe_test::random_elements<W>(draw, size, 1);
                const std::size_t first = draw.size(0, inputs - 1);
                INFO(outputs << " outputs, " << inputs << " inputs, strides " << order.output_stride << " and "
                             << order.input_stride << ", from " << first);
                REQUIRE(wrong_elements<W>(source, order, outputs, 0, inputs) == 0);
                REQUIRE(wrong_elements<moe::ComputeType<W>>(source, order, outputs, first, inputs - first) == 0);
            }
        }
    }
}

}  // namespace

TEST_CASE("pack_block packs every order of storage, unaligned, and writes nothing else: float", "[pack]") {
    check_all_orders<float>();
}
TEST_CASE("pack_block packs every order of storage, unaligned, and writes nothing else: double", "[pack]") {
    check_all_orders<double>();
}
TEST_CASE("pack_block packs every order of storage, unaligned, and writes nothing else: bfloat16", "[pack]") {
    check_all_orders<moe::bfloat16>();
}
TEST_CASE("pack_block packs every order of storage, unaligned, and writes nothing else: float16", "[pack]") {
    check_all_orders<moe::float16>();
}

TEST_CASE("pack_block of no outputs is all padding", "[pack]") {
    const float source = 5;
    std::vector<float> target(4 * 8, 7.0F);
    moe::pack_block(moe::WeightBlock<float>{&source, 0, 3, 1}, 0, 4, 8, target.data(), 8);
    CHECK(target == std::vector<float>(4 * 8, 0.0F));
}

}  // namespace moe_test::pack_test
