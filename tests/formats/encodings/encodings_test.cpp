#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "formats/encodings/encoding_cases.hpp"
#include "moe/core/half.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::encodings_test {

namespace {

/// Every row whole, and random parts of rows between values that must stay.
template <class M>
bool decodes(const EncodedMatrix<M>& encoded, Draw& draw) {
    const std::size_t inputs = encoded.matrix.inputs();
    const std::size_t outputs = encoded.matrix.outputs();
    if (encoded.values.size() != outputs * inputs) {
        return false;
    }
    const auto part = [&](std::size_t o, std::size_t first, std::size_t n) {
        std::vector<float> values(n + 2, 5.0F);
        encoded.matrix.decode(o, first, n, values.data() + 1);
        return values.front() == 5.0F && values.back() == 5.0F &&
               same_bits(std::span(values).subspan(1, n), std::span(encoded.values).subspan(o * inputs + first, n));
    };
    for (std::size_t o = 0; o < outputs; ++o) {
        const std::size_t first = draw.size(0, inputs - 1);
        if (!part(o, 0, inputs) || !part(o, first, draw.size(0, inputs - first))) {
            return false;
        }
    }
    return true;
}

}  // namespace

TEST_CASE("all codes of 8 bits are the floats they name", "[encodings]") {
    for (const enc::Float8 type : {enc::Float8::e4m3, enc::Float8::e5m2}) {
        for (unsigned code = 0; code < 256; ++code) {
            INFO(static_cast<int>(type) << ": " << code);
            const float value = enc::values_of(type)[code];
            const double expected = float8_value(type, code);
            CHECK(std::isnan(value) == std::isnan(expected));
            CHECK((std::isnan(value) || static_cast<double>(value) == expected));
            CHECK(std::signbit(value) == (code >= 128));
            if (type == enc::Float8::e5m2 && !std::isnan(value)) {  // the high byte of a binary16
                CHECK(value == moe::to_float(moe::float16{static_cast<std::uint16_t>(code << 8U)}));
            }
        }
    }
    // what the Open Compute Project's OFP8 specification, 1.0, has in its tables of limits
    const auto& e4m3 = enc::values_of(enc::Float8::e4m3);
    CHECK((e4m3[0x7E] == 448.0F && e4m3[0x08] == 0x1p-6F && e4m3[0x07] == 0x1.Cp-7F && e4m3[0x01] == 0x1p-9F));
    const auto& e5m2 = enc::values_of(enc::Float8::e5m2);
    CHECK((e5m2[0x7B] == 57344.0F && e5m2[0x04] == 0x1p-14F && e5m2[0x03] == 0x1.8p-15F && e5m2[0x01] == 0x1p-16F));
}

TEST_CASE("8-bit floats are scaled by block, by output and as a whole", "[encodings]") {
    Draw draw(1);
    for (const enc::Float8 type : {enc::Float8::e4m3, enc::Float8::e5m2}) {
        for (const auto& [outputs, inputs] :
             {std::pair<std::size_t, std::size_t>{1, 1}, {5, 127}, {129, 130}, {257, 256}, {128, 385}}) {
            INFO(outputs << " x " << inputs);
            CHECK(decodes(random_fp8(draw, type, outputs, inputs, 128, 128), draw));
            CHECK(decodes(random_fp8(draw, type, outputs, inputs, 1, inputs), draw));
            CHECK(decodes(random_fp8(draw, type, outputs, inputs, outputs, inputs), draw));
            CHECK(decodes(random_fp8(draw, type, outputs, inputs, 3, 7), draw));
        }
    }
}

TEST_CASE("4-bit floats with powers of two, as GPT-OSS has them", "[encodings]") {
    Draw draw(2);
    for (const auto& [outputs, inputs] : {std::pair<std::size_t, std::size_t>{1, 32}, {7, 96}, {67, 256}}) {
        CHECK(decodes(random_mxfp4(draw, outputs, inputs), draw));
    }
    // the smallest, a subnormal power, and the largest
    const std::vector<std::byte> blocks(16, std::byte{0x71});
    std::vector<float> values(2);
    const auto first_two = [&](unsigned char exponent) {
        const std::vector<std::byte> scale(1, std::byte{exponent});
        enc::Mxfp4Matrix(blocks, scale, 1, 32).decode(0, 0, 2, values.data());
    };
    first_two(0);
    CHECK((values[0] == 0x1p-128F && values[1] == 0x1.8p-125F));
    first_two(252);
    CHECK((values[0] == 0x1p124F && values[1] == 0x1.8p127F));
    first_two(254);
    CHECK((values[0] == 0x1p126F && std::isinf(values[1])));
}

TEST_CASE("4-bit floats with 8-bit scales, of both makers", "[encodings]") {
    Draw draw(3);
    for (const enc::GlobalScale does : {enc::GlobalScale::multiplies, enc::GlobalScale::divides}) {
        for (const auto& [outputs, inputs] : {std::pair<std::size_t, std::size_t>{1, 16}, {7, 48}, {67, 272}}) {
            CHECK(decodes(random_nvfp4(draw, does, outputs, inputs), draw));
        }
    }
}

TEST_CASE("GPTQ: groups, act-order and both ways to store zeros", "[encodings]") {
    Draw draw(4);
    for (const enc::GptqZeros zeros : {enc::GptqZeros::less_one, enc::GptqZeros::as_they_are}) {
        for (const bool act_order : {false, true}) {
            for (const auto& [outputs, inputs] : {std::pair<std::size_t, std::size_t>{8, 8}, {24, 136}, {72, 256}}) {
                for (const std::size_t group : {std::size_t{32}, std::size_t{64}, std::size_t{128}, inputs}) {
                    INFO(outputs << " x " << inputs << " in groups of " << group);
                    CHECK(decodes(random_gptq(draw, zeros, act_order, outputs, inputs, std::min(group, inputs)), draw));
                }
            }
        }
    }
}

TEST_CASE("AWQ: groups, and codes in their own order", "[encodings]") {
    Draw draw(5);
    for (const auto& [outputs, inputs] : {std::pair<std::size_t, std::size_t>{8, 1}, {24, 131}, {72, 256}}) {
        for (const std::size_t group : {std::size_t{32}, std::size_t{64}, std::size_t{128}, inputs}) {
            INFO(outputs << " x " << inputs << " in groups of " << group);
            CHECK(decodes(random_awq(draw, outputs, inputs, std::min(group, inputs)), draw));
        }
    }
}

TEST_CASE("compressed-tensors: groups, zero points and act-order of odd matrices", "[encodings]") {
    Draw draw(6);
    for (const auto& [outputs, inputs] : {std::pair<std::size_t, std::size_t>{1, 1}, {13, 131}, {67, 256}}) {
        for (const std::size_t group : {std::size_t{32}, std::size_t{64}, std::size_t{128}, inputs}) {
            for (const bool zeros : {false, true}) {
                INFO(outputs << " x " << inputs << " in groups of " << group);
                CHECK(decodes(random_compressed(draw, zeros, draw.coin(), outputs, inputs, std::min(group, inputs)),
                              draw));
            }
        }
    }
}

TEST_CASE("an encoding knows the memory of all its tensors", "[encodings]") {
    Draw draw(7);
    const auto knows = [](const auto& encoded) {
        const std::byte elsewhere{};
        bool all = !encoded.matrix.overlaps(moe::bytes_of(std::span(&elsewhere, 1)));
        for (const FileTensor& tensor : encoded.memory) {
            all = all && (tensor.bytes().empty() || (encoded.matrix.overlaps(moe::bytes_of(tensor.bytes().first(1))) &&
                                                     encoded.matrix.overlaps(moe::bytes_of(tensor.bytes().last(1)))));
        }
        return all;
    };
    CHECK(knows(random_fp8(draw, enc::Float8::e4m3, 3, 130, 128, 128)));
    CHECK(knows(random_mxfp4(draw, 3, 64)));
    CHECK(knows(random_nvfp4(draw, enc::GlobalScale::divides, 3, 32)));
    CHECK(knows(random_gptq(draw, enc::GptqZeros::less_one, true, 8, 64, 32)));
    CHECK(knows(random_awq(draw, 8, 64, 32)));
    CHECK(knows(random_compressed(draw, true, true, 3, 64, 32)));
}

}  // namespace moe_test::encodings_test
