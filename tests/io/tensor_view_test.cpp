#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "io/support.hpp"
#include "moe/io/tensor_view.hpp"
#include "support/catch.hpp"

namespace moe_test::tensor_view_test {

namespace {

using moe::DType;
using moe::ErrorCode;
using moe::TensorView;
using moe_test::caught;

/// `values` stored `offset` bytes behind an address aligned to 16.
template <class T, std::size_t N>
struct Stored {
    alignas(16) std::array<std::byte, sizeof(T) * N + 16> memory{};
    TensorView view;

    Stored(std::array<T, N> values, std::size_t offset) {
        std::memcpy(memory.data() + offset, values.data(), sizeof(values));
        view = {"weight", moe::dtype_of<T>, {N}, std::span<const std::byte>(memory).subspan(offset, sizeof(values))};
    }
    Stored(const Stored&) = delete;
    Stored& operator=(const Stored&) = delete;
};

}  // namespace

TEST_CASE("elements are read from every alignment", "[io][tensor]") {
    const std::array<double, 3> doubles{1.0 / 3, -2.5, 1e300};
    const std::array<std::int32_t, 3> integers{-1, 0, 2147483647};
    for (std::size_t offset = 0; offset < 16; ++offset) {
        INFO("offset " << offset);
        const Stored<double, 3> real(doubles, offset);
        CHECK(real.view.to_vector<double>() == std::vector<double>(doubles.begin(), doubles.end()));
        CHECK(real.view.to_double_vector() == std::vector<double>(doubles.begin(), doubles.end()));
        CHECK(real.view.is_aligned<double>() == (offset % alignof(double) == 0));
        CHECK(static_cast<const void*>(real.view.data_as<double>()) == real.memory.data() + offset);
        const Stored<std::int32_t, 3> whole(integers, offset);
        std::array<std::int32_t, 3> copy{};
        whole.view.copy_to(std::span<std::int32_t>(copy));
        CHECK(copy == integers);
    }
}

TEST_CASE("the four float types convert to float and double", "[io][tensor]") {
    const Stored<float, 3> f32({1.5F, -0.1F, 3e38F}, 1);
    CHECK(f32.view.to_float_vector() == std::vector<float>{1.5F, -0.1F, 3e38F});
    CHECK(f32.view.to_double_vector() == std::vector<double>{1.5, double{-0.1F}, double{3e38F}});

    const Stored<double, 2> f64({0.1, -4.0}, 3);
    CHECK(f64.view.to_float_vector() == std::vector<float>{0.1F, -4.0F});

    const Stored<moe::bfloat16, 3> bf16({moe::bfloat16{0x3F80}, moe::bfloat16{0xC020}, moe::bfloat16{0x0001}}, 1);
    CHECK(bf16.view.to_float_vector() == std::vector<float>{1.0F, -2.5F, 0x1p-133F});
    CHECK(bf16.view.to_double_vector() == std::vector<double>{1.0, -2.5, 0x1p-133});

    const Stored<moe::float16, 3> f16({moe::float16{0x3C00}, moe::float16{0xFBFF}, moe::float16{0x0001}}, 1);
    CHECK(f16.view.to_float_vector() == std::vector<float>{1.0F, -65504.0F, 0x1p-24F});
    CHECK(f16.view.to_double_vector() == std::vector<double>{1.0, -65504.0, 0x1p-24});
}

TEST_CASE("a wrong element type is refused and both types are named", "[io][tensor]") {
    const Stored<moe::bfloat16, 2> stored({moe::bfloat16{1}, moe::bfloat16{2}}, 0);
    const auto check = [](const auto& error, const std::string& wanted) {
        REQUIRE(error.has_value());
        CHECK(static_cast<int>(error->code) == static_cast<int>(ErrorCode::unknown_type));
        CHECK_THAT(error->text, moe_test::contains("tensor 'weight' holds BF16, not " + wanted));
    };
    check(caught([&] { (void)stored.view.data_as<moe::float16>(); }), "F16");
    check(caught([&] { (void)stored.view.to_vector<float>(); }), "F32");
    check(caught([&] {
              std::array<std::uint16_t, 2> out{};
              stored.view.copy_to(std::span<std::uint16_t>(out));
          }),
          "U16");
    const Stored<std::int64_t, 1> ids({7}, 0);
    const auto error = caught([&] { (void)ids.view.to_float_vector(); });
    REQUIRE(error.has_value());
    CHECK_THAT(error->text, moe_test::contains("holds I64, not F32, F64, F16 or BF16"));
}

TEST_CASE("booleans are read as bytes", "[io][tensor]") {
    const std::array<std::byte, 3> bytes{std::byte{0}, std::byte{1}, std::byte{2}};
    const TensorView tensor{"mask", DType::boolean, {3}, bytes};
    CHECK(tensor.to_vector<std::uint8_t>() == std::vector<std::uint8_t>{0, 1, 2});
}

TEST_CASE("a destination of the wrong size is refused", "[io][tensor]") {
    const Stored<float, 3> stored({1, 2, 3}, 0);
    std::vector<float> out(2, -1.0F);
    const auto error = caught([&] { stored.view.copy_to(std::span<float>(out)); });
    REQUIRE(error.has_value());
    CHECK(static_cast<int>(error->code) == static_cast<int>(ErrorCode::shape));
    CHECK_THAT(error->text, moe_test::contains("3 elements do not fill a destination of 2"));
    CHECK(out == std::vector<float>{-1.0F, -1.0F});
}

TEST_CASE("an empty tensor reads as nothing", "[io][tensor]") {
    const TensorView tensor{"none", DType::f32, {0, 4}, {}};
    CHECK(tensor.element_count() == 0);
    CHECK(tensor.to_vector<float>().empty());
    CHECK(tensor.to_double_vector().empty());
}

}  // namespace moe_test::tensor_view_test
