#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "formats/encodings/encoding_cases.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::encoding_errors_test {

namespace {

using moe::ErrorCode;
using Bytes = std::span<const std::byte>;

struct Mistake {
    ErrorCode code;
    std::string text;
    std::function<void()> make;
};

void check_all(const std::vector<Mistake>& mistakes) {
    for (const Mistake& mistake : mistakes) {
        INFO(mistake.text);
        const CaughtError error = error_of(mistake.make);
        CHECK(static_cast<int>(error.code) == static_cast<int>(mistake.code));
        CHECK_THAT(error.text, contains(mistake.text));
    }
}

/// Memory of zeros, cut to what a tensor should have and, in each mistake, should not.
Bytes zeros(std::size_t n) {
    static const std::vector<std::byte> memory(4096);
    return Bytes(memory).first(n);
}

/// `n` scales of 1, of which one is something else.
template <class N>
FileTensor ones_but(std::size_t n, N one, std::size_t at, N other) {
    FileTensor tensor(n * sizeof(N));
    for (std::size_t i = 0; i < n; ++i) {
        tensor.put(i, i == at ? other : one);
    }
    return tensor;
}

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr std::size_t huge = std::numeric_limits<std::size_t>::max() / 2;

}  // namespace

TEST_CASE("malformed 8-bit floats", "[encodings]") {
    const auto make = [](Bytes weight, const enc::Scales& scales, std::size_t outputs, std::size_t inputs,
                         std::size_t block_outputs = 128, std::size_t block_inputs = 128) {
        return [=] {
            (void)enc::Fp8Matrix(enc::Float8::e4m3, weight, scales, outputs, inputs, block_outputs, block_inputs);
        };
    };
    const enc::Scales two(zeros(8), enc::ScaleType::float32);
    const FileTensor with_nan = ones_but(2, 1.0F, 1, nan);
    const FileTensor with_infinity = ones_but(2, moe::to_bfloat16(1), 0, moe::to_bfloat16(-infinity));
    const FileTensor with_half = ones_but(2, moe::to_float16(1), 1, moe::to_float16(infinity));
    make(zeros(5 * 130), two, 5, 130)();  // none
    check_all({
        {ErrorCode::shape, "0 x 130", make(zeros(0), two, 0, 130)},
        {ErrorCode::shape, "5 x 0", make(zeros(0), two, 5, 0)},
        {ErrorCode::shape, "weight has 649 bytes, not those of 5 x 130", make(zeros(649), two, 5, 130)},
        {ErrorCode::shape, "weight has 651 bytes", make(zeros(651), two, 5, 130)},
        {ErrorCode::overflow, "", make(zeros(650), two, huge, 130)},
        {ErrorCode::shape, "the scale has 8 bytes, not those of 1 x 3", make(zeros(5 * 257), two, 5, 257)},
        {ErrorCode::shape, "the scale has 8 bytes, not those of 2 x 2", make(zeros(258), two, 2, 129, 1, 128)},
        {ErrorCode::shape, "the scale has 8 bytes, not those of 1 x 2 elements of 2",
         make(zeros(650), {zeros(8), enc::ScaleType::bfloat16}, 5, 130)},
        {ErrorCode::range, "blocks of 0 x 128", make(zeros(650), two, 5, 130, 0, 128)},
        {ErrorCode::range, "blocks of 128 x 0", make(zeros(650), two, 5, 130, 128, 0)},
        {ErrorCode::range, "the scale 0, 1 is nan",
         make(zeros(650), {with_nan.bytes(), enc::ScaleType::float32}, 5, 130)},
        {ErrorCode::range, "the scale 0, 0 is -inf",
         make(zeros(650), {with_infinity.bytes(), enc::ScaleType::bfloat16}, 5, 130)},
        {ErrorCode::range, "the scale 1, 0 is inf",
         make(zeros(650), {with_half.bytes(), enc::ScaleType::float16}, 2, 325, 1, 325)},
        {ErrorCode::range, "no type of scales has the number 7",
         make(zeros(650), {zeros(8), static_cast<enc::ScaleType>(7)}, 5, 130)},
        {ErrorCode::range, "no type has the number 2",
         [&] { (void)enc::Fp8Matrix(static_cast<enc::Float8>(2), zeros(650), two, 5, 130, 128, 128); }},
    });
}

TEST_CASE("malformed 4-bit floats", "[encodings]") {
    const auto mx = [](Bytes blocks, Bytes scales, std::size_t outputs, std::size_t inputs) {
        return [=] { (void)enc::Mxfp4Matrix(blocks, scales, outputs, inputs); };
    };
    const FileTensor with_255 = ones_but<unsigned char>(6, 127, 4, 255);
    mx(zeros(96), zeros(6), 3, 64)();
    const auto nv = [](Bytes weight, Bytes scales, float global, std::size_t outputs, std::size_t inputs) {
        return [=] { (void)enc::Nvfp4Matrix(weight, scales, global, enc::GlobalScale::divides, outputs, inputs); };
    };
    const FileTensor with_nan = ones_but<unsigned char>(6, 0x38, 5, 0x7F);
    const FileTensor with_minus_nan = ones_but<unsigned char>(6, 0x38, 0, 0xFF);
    nv(zeros(48), zeros(6), 1, 3, 32)();
    check_all({
        {ErrorCode::shape, "3 x 48; outputs come in multiples of 1, inputs of 32", mx(zeros(72), zeros(3), 3, 48)},
        {ErrorCode::shape, "MXFP4: 0 x 64", mx(zeros(0), zeros(0), 0, 64)},
        {ErrorCode::shape, "MXFP4: blocks has 95 bytes", mx(zeros(95), zeros(6), 3, 64)},
        {ErrorCode::shape, "MXFP4: scales has 5 bytes, not those of 3 x 2", mx(zeros(96), zeros(5), 3, 64)},
        {ErrorCode::range, "scale 2, 0 is 255", mx(zeros(96), with_255.bytes(), 3, 64)},
        {ErrorCode::overflow, "", mx(zeros(96), zeros(6), huge, 64)},
        {ErrorCode::shape, "NVFP4: 3 x 24", nv(zeros(36), zeros(6), 1, 3, 24)},
        {ErrorCode::shape, "NVFP4: weight has 49 bytes", nv(zeros(49), zeros(6), 1, 3, 32)},
        {ErrorCode::shape, "NVFP4: weight_scale has 3 bytes", nv(zeros(48), zeros(3), 1, 3, 32)},
        {ErrorCode::range, "weight_scale 2, 1 is NaN", nv(zeros(48), with_nan.bytes(), 1, 3, 32)},
        {ErrorCode::range, "weight_scale 0, 0 is NaN", nv(zeros(48), with_minus_nan.bytes(), 1, 3, 32)},
        {ErrorCode::range, "the global scale is nan", nv(zeros(48), zeros(6), nan, 3, 32)},
        {ErrorCode::range, "the global scale is inf", nv(zeros(48), zeros(6), infinity, 3, 32)},
        {ErrorCode::range, "the global scale is 0", nv(zeros(48), zeros(6), 0, 3, 32)},
        {ErrorCode::range, "the global scale is -2", nv(zeros(48), zeros(6), -2, 3, 32)},
        {ErrorCode::range, "global scale has the number 9",
         [] { (void)enc::Nvfp4Matrix(zeros(48), zeros(6), 1, static_cast<enc::GlobalScale>(9), 3, 32); }},
    });
}

TEST_CASE("malformed integers of 4 bits", "[encodings]") {
    // 8 x 64 in groups of 32: 8 words a tensor row of 8 inputs, 2 groups
    const auto scales = [](std::size_t n) { return enc::Scales(zeros(n * 2), enc::ScaleType::float16); };
    const auto gptq = [](const enc::GptqTensors& tensors, std::size_t outputs, std::size_t inputs, std::size_t group) {
        return [=] { (void)enc::GptqMatrix(tensors, outputs, inputs, group); };
    };
    FileTensor g_idx(64 * 4);
    gptq({zeros(256), zeros(8), scales(16), g_idx.bytes()}, 8, 64, 32)();
    FileTensor above = g_idx;
    above.put(63, std::int32_t{2});
    FileTensor below = g_idx;
    below.put(5, std::int32_t{-1});
    const FileTensor with_nan = ones_but(16, moe::to_float16(1), 9, moe::to_float16(nan));
    check_all({
        {ErrorCode::shape, "GPTQ: 12 x 64; outputs come in multiples of 8",
         gptq({zeros(384), zeros(12), scales(24)}, 12, 64, 32)},
        {ErrorCode::shape, "GPTQ: 8 x 60", gptq({zeros(240), zeros(8), scales(16)}, 8, 60, 32)},
        {ErrorCode::range, "groups of 0 of 64 inputs", gptq({zeros(256), zeros(8), scales(16)}, 8, 64, 0)},
        {ErrorCode::range, "groups of 128 of 64 inputs", gptq({zeros(256), zeros(4), scales(8)}, 8, 64, 128)},
        {ErrorCode::range, "groups of 32 of 0 inputs", gptq({zeros(0), zeros(0), scales(0)}, 8, 0, 32)},
        {ErrorCode::shape, "qweight has 255 bytes, not those of 8 x 8 elements of 4",
         gptq({zeros(255), zeros(8), scales(16)}, 8, 64, 32)},
        {ErrorCode::shape, "qzeros has 4 bytes", gptq({zeros(256), zeros(4), scales(16)}, 8, 64, 32)},
        {ErrorCode::shape, "scales has 64 bytes, not those of 2 x 8",
         gptq({zeros(256), zeros(8), scales(32)}, 8, 64, 32)},
        {ErrorCode::shape, "g_idx has 252 bytes", gptq({zeros(256), zeros(8), scales(16), zeros(252)}, 8, 64, 32)},
        {ErrorCode::range, "g_idx 63 is 2, there are 2 groups",
         gptq({zeros(256), zeros(8), scales(16), above.bytes()}, 8, 64, 32)},
        {ErrorCode::range, "g_idx 5 is -1", gptq({zeros(256), zeros(8), scales(16), below.bytes()}, 8, 64, 32)},
        {ErrorCode::range, "GPTQ: scales 1, 1 is nan",
         gptq({zeros(256), zeros(8), {with_nan.bytes(), enc::ScaleType::float16}}, 8, 64, 32)},
        {ErrorCode::overflow, "", gptq({zeros(256), zeros(8), scales(16)}, huge - 7, 64, 32)},
        {ErrorCode::range, "no way to store zeros has the number 2",
         [&] {
             (void)enc::GptqMatrix({zeros(256), zeros(8), scales(16)}, 8, 64, 32, static_cast<enc::GptqZeros>(2));
         }},
    });

    const auto awq = [](const enc::AwqTensors& tensors, std::size_t outputs, std::size_t inputs, std::size_t group) {
        return [=] { (void)enc::AwqMatrix(tensors, outputs, inputs, group); };
    };
    awq({zeros(256), zeros(8), scales(16)}, 8, 64, 32)();
    check_all({
        {ErrorCode::shape, "AWQ: 9 x 64", awq({zeros(288), zeros(9), scales(18)}, 9, 64, 32)},
        {ErrorCode::shape, "AWQ: qweight has 252 bytes, not those of 64 x 1",
         awq({zeros(252), zeros(8), scales(16)}, 8, 64, 32)},
        {ErrorCode::shape, "AWQ: qzeros has 12 bytes", awq({zeros(256), zeros(12), scales(16)}, 8, 64, 32)},
        {ErrorCode::shape, "AWQ: scales has 16 bytes", awq({zeros(256), zeros(8), scales(8)}, 8, 64, 32)},
        {ErrorCode::range, "AWQ: groups of 65", awq({zeros(256), zeros(8), scales(16)}, 8, 64, 65)},
        {ErrorCode::range, "AWQ: scales 1, 1 is nan",
         awq({zeros(256), zeros(8), {with_nan.bytes(), enc::ScaleType::float16}}, 8, 64, 32)},
    });

    // 3 x 20 in groups of 16: rows of 3 words, 2 groups, one word of zero points a group
    const auto compressed = [](const enc::CompressedInt4Tensors& tensors, std::size_t outputs, std::size_t inputs,
                               std::size_t group) {
        return [=] { (void)enc::CompressedInt4Matrix(tensors, outputs, inputs, group); };
    };
    compressed({zeros(36), scales(6), zeros(8), zeros(80)}, 3, 20, 16)();
    FileTensor index(80);
    index.put(19, std::int32_t{7});
    check_all({
        {ErrorCode::shape, "compressed-tensors int4: 0 x 20", compressed({zeros(0), scales(0)}, 0, 20, 16)},
        {ErrorCode::shape, "weight_packed has 30 bytes, not those of 3 x 3",
         compressed({zeros(30), scales(6)}, 3, 20, 16)},
        {ErrorCode::shape, "weight_scale has 6 bytes, not those of 3 x 2",
         compressed({zeros(36), scales(3)}, 3, 20, 16)},
        {ErrorCode::shape, "weight_zero_point has 12 bytes, not those of 1 x 2",
         compressed({zeros(36), scales(6), zeros(12)}, 3, 20, 16)},
        {ErrorCode::shape, "g_idx has 76 bytes", compressed({zeros(36), scales(6), {}, zeros(76)}, 3, 20, 16)},
        {ErrorCode::range, "g_idx 19 is 7", compressed({zeros(36), scales(6), {}, index.bytes()}, 3, 20, 16)},
        {ErrorCode::range, "groups of 0", compressed({zeros(36), scales(6)}, 3, 20, 0)},
        {ErrorCode::range, "weight_scale 4, 1 is nan",
         compressed({zeros(96), {with_nan.bytes(), enc::ScaleType::float16}}, 8, 20, 16)},
    });
}

}  // namespace moe_test::encoding_errors_test
