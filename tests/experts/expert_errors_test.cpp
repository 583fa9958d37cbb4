#include <cstddef>
#include <utility>
#include <vector>

#include "moe/experts/expert.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/unaligned.hpp"

namespace moe_test::expert_errors_test {

using moe::ErrorCode;
using moe_test::contains;
using moe_test::error_of;

namespace {

constexpr std::size_t d = 3;
const std::vector<float> weights(d * 4, 0.5F);

moe::ExpertBank<float, moe::Plain<moe::Relu>> bank() {
    return {{}, {{}, moe::stacked(weights.data(), 1, 4, d), moe::stacked(weights.data(), 1, d, 4), {}, {}, {}}};
}

void forward(moe::MatrixView<const float> x, moe::MatrixView<float> y) {
    moe::Workspace workspace;
    moe::Expert{bank()}.forward(x, y, workspace);
}

}  // namespace

TEST_CASE("an expert refuses x and y that overlap, and leaves y alone", "[expert][errors]") {
    std::vector<float> memory(40, 7.0F);
    const float* const x = memory.data();
    for (const std::size_t behind : {0U, 1U, 14U}) {
        const auto error = error_of([&] { forward(moe::view(x, 5, d), moe::view(memory.data() + behind, 5, d)); });
        CHECK(error.code == ErrorCode::layout);
        CHECK_THAT(error.text, contains("Expert: x (5 x 3, row stride 3) and y (5 x 3, row stride 3, " +
                                        std::to_string(4 * behind) + " bytes behind it) overlap"));
    }
    CHECK(memory == std::vector<float>(40, 7.0F));
    CHECK_NOTHROW(forward(moe::view(x, 5, d), moe::view(memory.data() + 15, 5, d)));
}

TEST_CASE("an expert works from one column window of a matrix into another", "[expert]") {
    std::vector<float> memory(5 * 7, 2.0F);
    forward(moe::view(std::as_const(memory).data() + 4, 5, d, 7), moe::view(memory.data(), 5, d, 7));
    for (std::size_t i = 0; i < memory.size(); ++i) {
        CHECK(memory[i] == (i % 7 < d ? 6.0F : 2.0F));  // 4 hidden units of 3, halved and summed
    }
}

TEST_CASE("an expert's x and y must be aligned to their type", "[expert][errors]") {
    std::vector<float> memory(2 * d);
    const moe_test::Unaligned<float> odd(memory);
    auto error = error_of([&] { forward(moe::view(odd.data(), 2, d), moe::view(memory.data(), 2, d)); });
    CHECK(error.code == ErrorCode::alignment);
    CHECK_THAT(error.text, contains("Expert: x must be aligned to the 4 bytes"));
    error = error_of([&] {
        forward(moe::view(std::as_const(memory).data(), 2, d), moe::view(const_cast<float*>(odd.data()), 2, d));
    });
    CHECK(error.code == ErrorCode::alignment);
    CHECK_THAT(error.text, contains("Expert: y must be aligned to the 4 bytes"));
}

}  // namespace moe_test::expert_errors_test
